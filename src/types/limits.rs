//! Every bound of the system, in one file, related to each other by const assertions (INV-8).
//! Those a user may change are in `config`; these are their defaults and the hard ceilings.

/// Longest key, bytes.
pub const KEY_BYTES_MAX: usize = 4 * 1024;
/// Longest value, bytes. A shard also refuses a value above 1/64 of its limit.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Longest time to live: ten years, milliseconds.
pub const TTL_MS_MAX: u64 = 10 * 365 * 24 * 3_600 * 1_000;
/// Default logical bytes a shard may hold.
pub const SHARD_BYTES_MAX_DEFAULT: u64 = 64 * 1024 * 1024;
/// Smallest logical bytes a shard may be given.
pub const SHARD_BYTES_MAX_FLOOR: u64 = 1024 * 1024;

/// Operations of one transaction, or of one request of several.
pub const TRANSACTION_OPERATIONS_MAX: usize = 1024;
/// Bytes of keys and values of one transaction.
pub const TRANSACTION_BYTES_MAX: usize = 1536 * 1024;
/// Bytes of values in the replies of one transaction.
pub const TRANSACTION_REPLY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Most bytes of values that the reads of one request, or of one command of RESP, answer before the
/// rest is refused: a short request must not make a node hold gibibytes.
pub const READS_REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest text of a number to add, and of a value it is added to, bytes.
pub const FLOAT_BYTES_MAX: usize = 512;
/// Keys one call of a scan looks at.
pub const SCAN_KEYS_MAX: u32 = 4 * 1024;
/// Bytes of keys in one answer of a scan, not counting the keys that cross the line.
pub const SCAN_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of keys in one answer of `KEYS`, counting 32 for each; past them it is refused.
pub const RESP_KEYS_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Longest pattern of a scan, bytes.
pub const PATTERN_BYTES_MAX: usize = 1024;
/// Patterns of one `CONFIG GET`: each is compared with every setting.
pub const CONFIG_PATTERNS_MAX: usize = 64;

/// Longest owner of a lock, bytes.
pub const LOCK_OWNER_BYTES_MAX: usize = 64;
/// Longest time a lock is given for at once, milliseconds.
pub const LOCK_TTL_MS_MAX: u64 = 24 * 3_600 * 1_000;
/// Locks that a shard holds: they are never evicted.
pub const LOCKS_MAX: u32 = 16 * 1024;
/// Share of a shard's limit that its locks may take: one in this many bytes.
pub const LOCKS_BYTES_SHARE: u64 = 4;
/// Why a lock is refused where a shard has too many.
pub const WHAT_LOCKS: &str = "locks of the shard";
/// How long a token to fill a key is good, milliseconds.
pub const LEASE_TOKEN_MS: u64 = 10_000;
/// Tokens to fill keys that are out at once for one shard.
pub const LEASE_TOKENS_MAX: usize = 64 * 1024;
/// Bytes of the keys that are filled or waited for at one shard; then no more tokens are given.
pub const LEASE_KEYS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Callers that wait for the fill of one key.
pub const LEASE_WAITERS_KEY_MAX: usize = 4 * 1024;
/// Callers that wait for fills of one shard.
pub const LEASE_WAITERS_MAX: usize = 16 * 1024;
/// Longest wait for another caller's fill, milliseconds.
pub const LEASE_WAIT_MS_MAX: u64 = 60_000;
/// How early a value may be asked to be filled again at most, thousandths (see `GetOrLease`).
pub const LEASE_BETA_MILLI_MAX: u32 = 100_000;
/// Why a caller is refused where too many tokens are out.
pub const WHAT_LEASE_TOKENS: &str = "fill tokens of the shard";
/// Why a caller is refused where the keys being filled are too long together.
pub const WHAT_LEASE_KEYS_BYTES: &str = "bytes of keys that are filled at the shard";
/// Why a caller is refused where too many wait for fills.
pub const WHAT_LEASE_WAITERS: &str = "callers waiting for fills of the shard";
/// Why a caller is refused where too many wait for one fill.
pub const WHAT_LEASE_WAITERS_KEY: &str = "callers waiting for the fill of the key";

/// Operations in one Raft entry, the steps of transactions counted.
pub const BATCH_WRITES_MAX: usize = 1024;
/// Bytes of operations in one Raft entry, not counting the one that crosses the line.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Bytes of large values that the operations of one Raft entry touch when they are applied, not
/// counting a unit that is more by itself.
pub const BATCH_WORK_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The same of one transaction, which is never parted: one that would touch more is refused, and a
/// request that is not atomic is done in smaller parts.
pub const TRANSACTION_WORK_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What that bounds, in a refusal.
pub const FIELD_WORK: &str = "large values";
/// Raft entries a group's batcher keeps in flight.
pub const BATCHES_IN_FLIGHT_MAX: usize = 8;
/// Operations queued at one group before callers are refused.
pub const GROUP_QUEUE_MAX: usize = 16 * 1024;
/// Bytes of operations queued at one group before callers are refused, not counting the unit that
/// crosses the line.
pub const GROUP_QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Wait in a queue that is nobody's concern, milliseconds; see `core::queue_delay`.
pub const QUEUE_DELAY_TARGET_MS: u64 = 50;
/// How long waits must have been longer than the target before anyone is refused, milliseconds.
pub const QUEUE_DELAY_INTERVAL_MS: u64 = 100;
/// The same target for what waits in front of the service, for a turn on a processor.
pub const DOOR_DELAY_TARGET_MS: u64 = 20;
/// With fewer requests in flight a node never refuses for the door's delay: it is not its clients
/// that keep it busy.
pub const DOOR_DELAY_IN_FLIGHT_MIN: usize = 32;
/// Touches a group remembers between two writes.
pub const TOUCHES_PENDING_MAX: usize = 4 * 1024;
/// Touches attached per write in a batch.
pub const TOUCHES_PER_WRITE_MAX: usize = 2;
/// Share of a batch's bytes that touches may take, percent.
pub const TOUCHES_BYTES_PERCENT_MAX: usize = 4;

/// Changes queued at the write-ahead log before they are refused (their entries are shared with
/// the Raft layer's copy, so the queue itself holds little).
pub const WAL_QUEUE_MAX: usize = 64 * 1024;
/// Bytes of entries in one batch of the write-ahead log, not counting the change that crosses.
pub const WAL_BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Manifests of batches that the write-ahead log keeps.
pub const WAL_MANIFESTS_KEPT: u64 = 64;
/// Each manifest whose number this divides names every log, not only those of its batch.
pub const WAL_MANIFEST_FULL_EVERY: u64 = 32;
/// Room that is kept free on the disk of the data directory, bytes.
pub const WAL_RESERVE_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;
/// Why writes are refused where the leader's disk has too little room.
pub const WHAT_DISK_ROOM: &str = "room on the leader's disk (wal.reserve_bytes)";
/// Why writes are refused where the log is full and no snapshot can be written.
pub const WHAT_LOG_WITHOUT_SNAPSHOT: &str = "log of the shard (its disk takes no snapshot)";

/// Sessions that a group remembers of nodes, and as many of callers; the least recently used is
/// forgotten.
pub const SESSIONS_MAX: usize = 16 * 1024;
/// Replies remembered for one session.
pub const SESSION_REPLIES_MAX: usize = 128;
/// Bytes of the sessions that a group remembers of nodes, and as many of callers, beside the values
/// in replies; past them the least recently used is forgotten.
pub const SESSIONS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of values in the replies that a group remembers for nodes, and as many for callers; past them
/// the oldest are forgotten, and a retry is told so.
pub const SESSION_REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A session unused for this long is forgotten, milliseconds of the group's age
/// (`core::retry_memory`).
pub const SESSION_IDLE_MS_MAX: u64 = 10 * 60 * 1_000;
/// Most that one log entry adds to the age of a group, milliseconds, however far log time leaps.
pub const AGE_STEP_MS_MAX: u64 = 1_000;

/// Largest peer frame, bytes: one append of the largest batch and its framing.
pub const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of log entries in one append to a peer, not counting the one that crosses the line.
pub const APPEND_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Snapshot chunk on disk and on the wire, bytes.
pub const SNAPSHOT_CHUNK_BYTES: usize = 256 * 1024;
/// Snapshot chunks in flight to one peer.
pub const SNAPSHOT_CHUNKS_IN_FLIGHT_MAX: usize = 4;
/// Frames queued for one peer before senders are refused.
pub const PEER_QUEUE_MAX: usize = 8 * 1024;

/// Largest gRPC message at the front door, bytes.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bodies of HTTP requests that a node is reading, bytes of all together.
pub const HTTP_BODIES_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Arrays and objects within each other in a JSON value, as deep as common parsers follow them.
pub const JSON_DEPTH_MAX: usize = 128;
/// Longest `Idempotency-Key`, bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Requests in flight on one `Pipeline` stream.
pub const PIPELINE_IN_FLIGHT_MAX: usize = 1024;
/// Bytes of keys and values in flight on one `Pipeline` stream, not counting the request that
/// crosses the line.
pub const PIPELINE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Requests in flight on one node.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 64 * 1024;
/// Deadline of a request that brings none, milliseconds.
pub const DEADLINE_MS_DEFAULT: u64 = 5_000;
/// Longest deadline a request may bring; a longer one is shortened to this, milliseconds.
pub const DEADLINE_MS_MAX: u64 = 60_000;
/// Open client connections at one door; the next is closed at once.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Open client connections from one address at one door.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = CONNECTIONS_MAX;
/// Bytes of replies that their clients have not taken, over all connections of a door.
pub const REPLIES_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The same on one connection, not counting a reply that is more by itself.
pub const CONNECTION_REPLIES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A connection that would hold no more than this is not refused for what the others hold: small
/// replies go through while others do not read theirs.
pub const REPLIES_FREE_BYTES: usize = 64 * 1024;
/// HTTP/2 streams open on one client connection.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 1024;
/// Requests in flight on one client connection, over all its streams.
pub const CONNECTION_IN_FLIGHT_MAX: usize = 8 * 1024;
/// Bytes of keys and values of requests in flight on one node, not counting the request that
/// crosses the line.
pub const BYTES_IN_FLIGHT_MAX: usize = 256 * 1024 * 1024;
/// Operations on their way to one node, in all and for one group and kind.
pub const FORWARD_QUEUE_MAX: usize = GROUP_QUEUE_MAX;
/// Bytes of operations on their way to one node, not counting the one that crosses the line.
pub const FORWARD_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Callers that wait at other nodes for fills: each holds a frame of the connection to that node, and the
/// frames of the groups must not wait for them.
pub const FORWARD_WAITING_MAX: usize = 4 * 1024;
/// Why a caller is refused where too many wait at other nodes.
pub const WHAT_FORWARD_WAITING: &str = "callers waiting at other nodes";
/// A connection that has not made itself understood within this time is closed, milliseconds.
pub const HANDSHAKE_MS_MAX: u64 = 10_000;
/// A connection without a request for this long is closed, milliseconds.
pub const IDLE_MS_MAX: u64 = 10 * 60 * 1_000;
/// A connection whose client takes nothing of what it asked for during this time is closed,
/// milliseconds.
pub const STALL_MS_MAX: u64 = 20_000;
/// A silent gRPC connection is asked for a sign of life after this long, milliseconds.
pub const KEEPALIVE_INTERVAL_MS: u64 = 30_000;
/// And closed when none came within this, milliseconds.
pub const KEEPALIVE_TIMEOUT_MS: u64 = 20_000;
/// Arguments of one command of Redis, its name among them.
pub const RESP_ARGUMENTS_MAX: usize = 64 * 1024;
/// Bytes of one argument: above what a value may have, so that a value that is too long is told so
/// and does not cost the connection.
pub const RESP_BULK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of all arguments of one command.
pub const RESP_REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a command that is written as a line, and of the line that says how many follow.
pub const RESP_INLINE_BYTES_MAX: usize = 64 * 1024;
/// Commands of one connection that are worked on together.
pub const RESP_PIPELINE_MAX: usize = 1024;
/// Bytes of answers that wait to be taken on one connection before nothing more is read from it.
pub const RESP_OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes that half commands and answers not taken hold, over all connections.
pub const RESP_BUFFERS_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How old what a connection in `READONLY` reads may be, milliseconds.
pub const RESP_READONLY_STALENESS_MS: u64 = 5_000;
/// How long a stopping door waits for requests in flight, milliseconds.
pub const SHUTDOWN_GRACE_MS: u64 = 10_000;

/// Most shards of a cluster.
pub const SHARDS_MAX: u16 = 1024;
/// Most alarms that wait to be acknowledged: one of each kind for each shard.
pub const ALARMS_MAX: usize = 3 * SHARDS_MAX as usize;
/// Default shards of a cluster.
pub const SHARDS_DEFAULT: u16 = 16;
/// Default replicas of a shard.
pub const REPLICAS_DEFAULT: u16 = 3;
/// Most replicas of the controller.
pub const CONTROLLER_REPLICAS_MAX: usize = 5;

/// Replicas that one report of lost ones may name. A node holds one replica of a shard, and notes of
/// one more that it has lost and not been told to forget.
pub const LOST_REPORTED_MAX: usize = 4 * SHARDS_MAX as usize;

/// Default replicas whose logs a node keeps although it serves them no more.
pub const SET_ASIDE_REPLICAS_DEFAULT: usize = 64;
/// Default whole stores that a node keeps although it reads them no more.
pub const SET_ASIDE_STORES_DEFAULT: usize = 4;

const _: () = assert!(BATCH_WRITES_MAX <= GROUP_QUEUE_MAX);
const _: () = assert!(BATCH_BYTES_MAX <= GROUP_QUEUE_BYTES_MAX);
const _: () = assert!(BATCH_WORK_BYTES_MAX <= TRANSACTION_WORK_BYTES_MAX);
// An operation that goes alone is never refused for its work.
const _: () = assert!(4 * VALUE_BYTES_MAX <= TRANSACTION_WORK_BYTES_MAX);
const _: () = assert!(KEY_BYTES_MAX + VALUE_BYTES_MAX < MESSAGE_BYTES_MAX);
/// Largest unit of a batch, with the framing of its operations.
const UNIT_BYTES_MAX: usize = TRANSACTION_BYTES_MAX + TRANSACTION_OPERATIONS_MAX * 64;
const _: () = assert!(KEY_BYTES_MAX + VALUE_BYTES_MAX < TRANSACTION_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX + UNIT_BYTES_MAX < APPEND_BYTES_MAX);
const _: () = assert!(APPEND_BYTES_MAX + BATCH_BYTES_MAX + UNIT_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(TRANSACTION_OPERATIONS_MAX <= BATCH_WRITES_MAX);
const _: () = assert!(TRANSACTION_REPLY_BYTES_MAX < SESSION_REPLY_BYTES_MAX);
const _: () = assert!(2 * TRANSACTION_REPLY_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(SCAN_BYTES_MAX + 64 * KEY_BYTES_MAX < APPEND_BYTES_MAX);
const _: () = assert!(MESSAGE_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(VALUE_BYTES_MAX < RESP_BULK_BYTES_MAX);
const _: () = assert!(RESP_BULK_BYTES_MAX <= RESP_REQUEST_BYTES_MAX);
const _: () = assert!(RESP_REQUEST_BYTES_MAX <= RESP_BUFFERS_BYTES_MAX);
const _: () = assert!(RESP_OUTPUT_BYTES_MAX <= RESP_BUFFERS_BYTES_MAX);
const _: () = assert!(MESSAGE_BYTES_MAX <= HTTP_BODIES_BYTES_MAX);
const _: () = assert!(READS_REPLY_BYTES_MAX <= CONNECTION_REPLIES_BYTES_MAX);
const _: () = assert!(CONNECTION_REPLIES_BYTES_MAX <= REPLIES_BYTES_MAX);
const _: () = assert!(DEADLINE_MS_DEFAULT <= DEADLINE_MS_MAX);
// A session is one record of a snapshot, and a chunk travels in one frame.
const _: () = assert!(
    SNAPSHOT_CHUNK_BYTES + SESSION_REPLY_BYTES_MAX + 64 * SESSION_REPLIES_MAX + 4096
        < FRAME_BYTES_MAX
);
const _: () = assert!(SHARD_BYTES_MAX_FLOOR <= SHARD_BYTES_MAX_DEFAULT);
// Beside the locks the largest entry fits, with room for what eviction keeps free.
const _: () = assert!(LOCKS_BYTES_SHARE >= 4);
const _: () = assert!(LEASE_WAITERS_KEY_MAX <= LEASE_WAITERS_MAX);
const _: () = assert!(2 * FORWARD_WAITING_MAX <= PEER_QUEUE_MAX);
const _: () = assert!(LEASE_WAIT_MS_MAX <= DEADLINE_MS_MAX);
const _: () = assert!(SHARDS_MAX as u32 <= super::ids::SLOTS as u32);
