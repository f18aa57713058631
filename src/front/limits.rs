//! The limits of the doors; defaults come from `types::limits`.

use std::time::Duration;

use super::resp::options::RespLimits;
use crate::types::limits;

/// What a door accepts and how long it waits. Filled from the config.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrontLimits {
    /// Longest key, bytes.
    pub key_bytes_max: usize,
    /// Longest value, bytes.
    pub value_bytes_max: usize,
    /// Longest time to live, milliseconds.
    pub ttl_ms_max: u64,
    /// Largest gRPC message, and largest JSON body of HTTP, bytes.
    pub message_bytes_max: usize,
    /// Bodies of HTTP requests that are being read, bytes of all together.
    pub http_bodies_bytes_max: usize,
    /// Operations in flight on one `Pipeline` stream.
    pub pipeline_in_flight_max: usize,
    /// Bytes of keys and values in flight on one `Pipeline` stream, not counting the request that
    /// crosses the line.
    pub pipeline_bytes_max: usize,
    /// Deadline of a request that brings none, milliseconds.
    pub deadline_ms_default: u64,
    /// A longer deadline is shortened to this, milliseconds.
    pub deadline_ms_max: u64,
    /// Open connections at one door.
    pub connections_max: usize,
    /// Open connections from one address at one door.
    pub connections_per_address_max: usize,
    /// Bytes of replies that their clients have not taken, over all connections of a door.
    pub replies_bytes_max: usize,
    /// The same on one connection, not counting a reply that is more by itself.
    pub connection_replies_bytes_max: usize,
    /// HTTP/2 streams open on one connection.
    pub streams_per_connection_max: u32,
    /// Operations in flight on one connection, over all its streams.
    pub connection_in_flight_max: usize,
    /// A connection that has not made itself understood by then is closed, milliseconds.
    pub handshake_timeout_ms: u64,
    /// A connection without a request for this long is closed, milliseconds.
    pub idle_timeout_ms: u64,
    /// A connection whose client takes nothing of its answers for this long is closed,
    /// milliseconds.
    pub stall_timeout_ms: u64,
    /// A silent gRPC connection is asked for a sign of life after this long, milliseconds.
    pub keepalive_interval_ms: u64,
    /// And closed when none came within this, milliseconds.
    pub keepalive_timeout_ms: u64,
    /// How long a stopping door waits for requests in flight, milliseconds.
    pub shutdown_grace_ms: u64,
    /// What the door for clients of Redis accepts beside.
    pub resp: RespLimits,
}

impl Default for FrontLimits {
    fn default() -> Self {
        FrontLimits {
            key_bytes_max: limits::KEY_BYTES_MAX,
            value_bytes_max: limits::VALUE_BYTES_MAX,
            ttl_ms_max: limits::TTL_MS_MAX,
            message_bytes_max: limits::MESSAGE_BYTES_MAX,
            http_bodies_bytes_max: limits::HTTP_BODIES_BYTES_MAX,
            pipeline_in_flight_max: limits::PIPELINE_IN_FLIGHT_MAX,
            pipeline_bytes_max: limits::PIPELINE_BYTES_MAX,
            deadline_ms_default: limits::DEADLINE_MS_DEFAULT,
            deadline_ms_max: limits::DEADLINE_MS_MAX,
            connections_max: limits::CONNECTIONS_MAX,
            connections_per_address_max: limits::CONNECTIONS_PER_ADDRESS_MAX,
            replies_bytes_max: limits::REPLIES_BYTES_MAX,
            connection_replies_bytes_max: limits::CONNECTION_REPLIES_BYTES_MAX,
            streams_per_connection_max: limits::STREAMS_PER_CONNECTION_MAX,
            connection_in_flight_max: limits::CONNECTION_IN_FLIGHT_MAX,
            handshake_timeout_ms: limits::HANDSHAKE_MS_MAX,
            idle_timeout_ms: limits::IDLE_MS_MAX,
            stall_timeout_ms: limits::STALL_MS_MAX,
            keepalive_interval_ms: limits::KEEPALIVE_INTERVAL_MS,
            keepalive_timeout_ms: limits::KEEPALIVE_TIMEOUT_MS,
            shutdown_grace_ms: limits::SHUTDOWN_GRACE_MS,
            resp: RespLimits::default(),
        }
    }
}

impl FrontLimits {
    /// How long to work on a request whose caller waits for `asked`.
    pub fn timeout(&self, asked: Option<Duration>) -> Duration {
        asked
            .unwrap_or(Duration::from_millis(self.deadline_ms_default))
            .min(Duration::from_millis(self.deadline_ms_max))
    }
}
