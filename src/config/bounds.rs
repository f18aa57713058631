//! The keys that bound a node (INV-8): what it takes from clients, and what it holds for peers.

use serde::{Deserialize, Serialize};

use crate::transport::options::PeerOptions;
use crate::types::limits;

/// Connections to other nodes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Peer {
    /// Longest wait for a connection to stand, milliseconds, 10..=60000. Default 1000.
    pub connect_timeout_ms: u64,
    /// Wait before connecting again, milliseconds, 1..=`backoff_ms_max`; it doubles with each
    /// failure. Default 10.
    pub backoff_ms_min: u64,
    /// Longest such wait, milliseconds, at most 60000. Default 500.
    pub backoff_ms_max: u64,
    /// A silent connection is asked for a sign of life after this many milliseconds, 10..=60000.
    /// Default 500.
    pub keepalive_interval_ms: u64,
    /// And given up when none came within this many milliseconds, 10..=60000. Default 1000.
    pub keepalive_timeout_ms: u64,
    /// Frames queued for one node before senders are refused, 64..=1048576. Default 8192.
    pub queue_frames_max: usize,
    /// Bytes queued for one node before senders are refused, 16 MiB..=1 GiB. Default 64 MiB.
    pub queue_bytes_max: usize,
}

impl Default for Peer {
    fn default() -> Self {
        let own = PeerOptions::default();
        // Defaults are small: see `PeerOptions`.
        let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Peer {
            connect_timeout_ms: ms(own.connect_timeout),
            backoff_ms_min: ms(own.backoff_min),
            backoff_ms_max: ms(own.backoff_max),
            keepalive_interval_ms: ms(own.keepalive_interval),
            keepalive_timeout_ms: ms(own.keepalive_timeout),
            queue_frames_max: own.queue_frames_max,
            queue_bytes_max: own.queue_bytes_max,
        }
    }
}

/// Bounds of one node; `types::limits` has the ceilings.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Longest key, bytes, 1..=4096. Default 4096.
    pub key_bytes_max: usize,
    /// Longest value, bytes, 1..=1048576. A shard also refuses a value above 1/64 of its own
    /// limit. Default 1048576.
    pub value_bytes_max: usize,
    /// Longest time to live, milliseconds, 1..=315360000000 (ten years). Default ten years.
    pub ttl_ms_max: u64,
    /// Operations of one request of several, 1..=1024. Default 1024.
    pub transaction_operations_max: usize,
    /// Bytes of keys and values of one request of several, 1..=1572864. Default 1.5 MiB.
    pub transaction_bytes_max: usize,
    /// Keys that one call of a scan looks at in a shard, 1..=4096. Default 4096.
    pub scan_keys_max: u32,
    /// Locks of one shard, 0..=1048576; they are never evicted. Their bytes are bounded as well, by a
    /// quarter of the shard's limit. The limit of the node that takes a lock counts. Default 16384.
    pub locks_max: u32,
    /// How long a token to fill a key is good, milliseconds, 10..=600000; then another caller gets
    /// one. Default 10000.
    pub lease_token_ms: u64,
    /// Tokens to fill keys that are out at once for one shard, 1..=1048576. Default 65536.
    pub lease_tokens_max: usize,
    /// Bytes of the keys that are filled or waited for at one shard, 1..=1073741824; beyond them no
    /// more tokens are given. Default 16 MiB.
    pub lease_keys_bytes_max: usize,
    /// Callers that wait for the fill of one key, 0..=`lease_waiters_max`. Default 4096.
    pub lease_waiters_key_max: usize,
    /// Callers that wait for fills of one shard, 0..=1048576. Default 16384.
    pub lease_waiters_max: usize,
    /// Largest gRPC message, and largest JSON body of HTTP, bytes: above key plus value, at most
    /// 8 MiB. Default 4 MiB.
    pub message_bytes_max: usize,
    /// Bodies of HTTP requests that a node is reading, bytes of all together: at least
    /// `message_bytes_max`, at most 1 TiB. Default 256 MiB.
    pub http_bodies_bytes_max: usize,
    /// Open client connections at one door, 1..=1000000. Default 10000.
    pub connections_max: usize,
    /// Open client connections from one address at one door, 1..=1000000. Default 10000.
    pub connections_per_address_max: usize,
    /// Bytes of replies that their clients have not taken, over all connections of the gRPC port, and
    /// the same of the HTTP port: at least `connection_replies_bytes_max`, at most 1 TiB. Default
    /// 256 MiB.
    pub replies_bytes_max: usize,
    /// The same on one connection, not counting a reply that is more by itself, 1..=1 TiB.
    /// Default 64 MiB.
    pub connection_replies_bytes_max: usize,
    /// HTTP/2 streams open on one client connection, 1..=65536. Default 1024.
    pub streams_per_connection_max: u32,
    /// Requests in flight on one client connection, over all its streams, 1..=1048576.
    /// Default 8192.
    pub connection_in_flight_max: usize,
    /// Requests being worked on, 1..=1048576. Default 65536.
    pub requests_in_flight_max: usize,
    /// Bytes of keys and values of requests being worked on, not counting the request that crosses
    /// the line, 1..=1 TiB. Default 256 MiB.
    pub bytes_in_flight_max: usize,
    /// Requests in flight on one `Pipeline` stream, 1..=65536, at most `requests_in_flight_max`
    /// and `connection_in_flight_max`. Default 1024.
    pub pipeline_in_flight_max: usize,
    /// Bytes of keys and values in flight on one `Pipeline` stream, not counting the request that
    /// crosses the line, 1..=1073741824. Default 8 MiB.
    pub pipeline_bytes_max: usize,
    /// Operations queued at one group, 1024..=1048576: at least what one forwarded frame may hold.
    /// Default 16384.
    pub group_queue_max: usize,
    /// Bytes of operations queued at one group, not counting the unit that crosses the line,
    /// at least `batch_bytes_max`, at most 1 GiB. Default 32 MiB.
    pub group_queue_bytes_max: usize,
    /// Operations in one Raft entry and in one forwarded frame, 1..=1024. Default 1024.
    pub batch_writes_max: usize,
    /// Their bytes, not counting the one that crosses the line, 1..=262144. Default 262144.
    pub batch_bytes_max: usize,
    /// Operations on their way to one other node, in all and for one group and kind, 1..=1048576.
    /// Default 16384.
    pub forward_queue_max: usize,
    /// Bytes of operations on their way to one other node, not counting the one that crosses the
    /// line, 1..=1 GiB. Default 64 MiB.
    pub forward_queue_bytes_max: usize,
    /// Callers that wait at other nodes for another caller's fill, 1..=4096. Default 4096.
    pub forward_waiting_max: usize,
    /// Wait in a group's queue, or on the way to another node, that is nobody's concern,
    /// milliseconds, 1..=60000. When every operation waited longer for an interval, those that
    /// waited twice as long are refused. Default 50.
    pub queue_delay_target_ms: u64,
    /// How long waits must have been above their target before anyone is refused, milliseconds,
    /// 1..=60000. Default 100.
    pub queue_delay_interval_ms: u64,
    /// The same target for what waits at the door for a turn on a processor, milliseconds,
    /// 1..=60000. Default 20.
    pub door_delay_target_ms: u64,
    /// A connection that has not made itself understood (an HTTP/2 preface, a first HTTP request)
    /// within this time is closed, milliseconds, 10..=600000. Default 10000.
    pub handshake_timeout_ms: u64,
    /// A connection without a request for this long is closed, milliseconds, 10..=86400000.
    /// Default 600000.
    pub idle_timeout_ms: u64,
    /// A connection whose client takes nothing of its answers, or sends nothing more of half a command
    /// of Redis, for this long is closed, milliseconds, 10..=600000. Default 20000.
    pub stall_timeout_ms: u64,
    /// A silent gRPC connection is asked for a sign of life after this many milliseconds,
    /// 10..=3600000. Default 30000.
    pub keepalive_interval_ms: u64,
    /// And closed when none came within this many milliseconds, 10..=600000. Default 20000.
    pub keepalive_timeout_ms: u64,
    /// Arguments of one command of Redis, its name among them, 1..=1048576. Default 65536.
    pub resp_arguments_max: usize,
    /// Bytes of one argument of a command of Redis, above `value_bytes_max`, at most 512 MiB. A
    /// longer one costs the connection. Default 4 MiB.
    pub resp_bulk_bytes_max: usize,
    /// Bytes of all arguments of one command of Redis, `resp_bulk_bytes_max`..=512 MiB. Default
    /// 16 MiB.
    pub resp_request_bytes_max: usize,
    /// Bytes of a command of Redis that is written as a line, 64..=1048576. Default 65536.
    pub resp_inline_bytes_max: usize,
    /// Commands of one connection to the Redis port that are worked on together, 1..=65536, at most
    /// `requests_in_flight_max`. Default 1024.
    pub resp_pipeline_max: usize,
    /// Bytes of answers that wait to be taken on one connection to the Redis port before nothing
    /// more is read from it, 1..=1 GiB. Default 16 MiB.
    pub resp_output_bytes_max: usize,
    /// Bytes that half commands and answers not taken hold, over all connections to the Redis port,
    /// at least `resp_request_bytes_max` and `resp_output_bytes_max`, at most 1 TiB. Default
    /// 256 MiB.
    pub resp_buffers_bytes_max: usize,
    /// Bytes of keys in one answer of `KEYS`, counting 32 for each, 1..=1 GiB. Default 32 MiB.
    pub resp_keys_bytes_max: usize,
    /// Bytes of values that the reads of one request, or of one pipeline's part of RESP, answer before
    /// the rest is refused, 1..=1 GiB. Default 64 MiB.
    pub reads_reply_bytes_max: usize,
    /// Deadline of a request that brings none, milliseconds, 1..=`deadline_ms_max`. Default 5000.
    pub deadline_ms_default: u64,
    /// Longest deadline honoured, milliseconds, at most 600000; a longer one is cut. Default 60000.
    pub deadline_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            key_bytes_max: limits::KEY_BYTES_MAX,
            value_bytes_max: limits::VALUE_BYTES_MAX,
            ttl_ms_max: limits::TTL_MS_MAX,
            transaction_operations_max: limits::TRANSACTION_OPERATIONS_MAX,
            transaction_bytes_max: limits::TRANSACTION_BYTES_MAX,
            scan_keys_max: limits::SCAN_KEYS_MAX,
            locks_max: limits::LOCKS_MAX,
            lease_token_ms: limits::LEASE_TOKEN_MS,
            lease_tokens_max: limits::LEASE_TOKENS_MAX,
            lease_keys_bytes_max: limits::LEASE_KEYS_BYTES_MAX,
            lease_waiters_key_max: limits::LEASE_WAITERS_KEY_MAX,
            lease_waiters_max: limits::LEASE_WAITERS_MAX,
            message_bytes_max: limits::MESSAGE_BYTES_MAX,
            http_bodies_bytes_max: limits::HTTP_BODIES_BYTES_MAX,
            connections_max: limits::CONNECTIONS_MAX,
            connections_per_address_max: limits::CONNECTIONS_PER_ADDRESS_MAX,
            replies_bytes_max: limits::REPLIES_BYTES_MAX,
            connection_replies_bytes_max: limits::CONNECTION_REPLIES_BYTES_MAX,
            streams_per_connection_max: limits::STREAMS_PER_CONNECTION_MAX,
            connection_in_flight_max: limits::CONNECTION_IN_FLIGHT_MAX,
            requests_in_flight_max: limits::REQUESTS_IN_FLIGHT_MAX,
            bytes_in_flight_max: limits::BYTES_IN_FLIGHT_MAX,
            pipeline_in_flight_max: limits::PIPELINE_IN_FLIGHT_MAX,
            pipeline_bytes_max: limits::PIPELINE_BYTES_MAX,
            group_queue_max: limits::GROUP_QUEUE_MAX,
            group_queue_bytes_max: limits::GROUP_QUEUE_BYTES_MAX,
            batch_writes_max: limits::BATCH_WRITES_MAX,
            batch_bytes_max: limits::BATCH_BYTES_MAX,
            forward_queue_max: limits::FORWARD_QUEUE_MAX,
            forward_queue_bytes_max: limits::FORWARD_QUEUE_BYTES_MAX,
            forward_waiting_max: limits::FORWARD_WAITING_MAX,
            queue_delay_target_ms: limits::QUEUE_DELAY_TARGET_MS,
            queue_delay_interval_ms: limits::QUEUE_DELAY_INTERVAL_MS,
            door_delay_target_ms: limits::DOOR_DELAY_TARGET_MS,
            handshake_timeout_ms: limits::HANDSHAKE_MS_MAX,
            idle_timeout_ms: limits::IDLE_MS_MAX,
            stall_timeout_ms: limits::STALL_MS_MAX,
            keepalive_interval_ms: limits::KEEPALIVE_INTERVAL_MS,
            keepalive_timeout_ms: limits::KEEPALIVE_TIMEOUT_MS,
            resp_arguments_max: limits::RESP_ARGUMENTS_MAX,
            resp_bulk_bytes_max: limits::RESP_BULK_BYTES_MAX,
            resp_request_bytes_max: limits::RESP_REQUEST_BYTES_MAX,
            resp_inline_bytes_max: limits::RESP_INLINE_BYTES_MAX,
            resp_pipeline_max: limits::RESP_PIPELINE_MAX,
            resp_output_bytes_max: limits::RESP_OUTPUT_BYTES_MAX,
            resp_buffers_bytes_max: limits::RESP_BUFFERS_BYTES_MAX,
            resp_keys_bytes_max: limits::RESP_KEYS_BYTES_MAX,
            reads_reply_bytes_max: limits::READS_REPLY_BYTES_MAX,
            deadline_ms_default: limits::DEADLINE_MS_DEFAULT,
            deadline_ms_max: limits::DEADLINE_MS_MAX,
        }
    }
}
