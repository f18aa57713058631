//! How peer connections are kept; the defaults suit a local network.

use std::time::Duration;

use super::PROTOCOL_VERSION;
use crate::types::limits::{FRAME_BYTES_MAX, PEER_QUEUE_MAX};

/// HTTP/2 window of one stream, bytes: several of the largest appends in flight.
pub(super) const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// HTTP/2 window of one connection, bytes.
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Largest HTTP/2 frame, bytes: large enough that an append is a few, small enough that pings pass.
pub(super) const HTTP2_FRAME_BYTES_MAX: u32 = 256 * 1024;

/// Settings of both sides of peer connections.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    /// Longest wait for a connection, its HTTP/2 and our own hello together.
    pub connect_timeout: Duration,
    /// Wait before the first try to connect again.
    pub backoff_min: Duration,
    /// Longest wait between two tries; each wait doubles the last, less up to half at random.
    pub backoff_max: Duration,
    /// A silent connection is asked for a sign of life after this long.
    pub keepalive_interval: Duration,
    /// And given up for dead when none came within this.
    pub keepalive_timeout: Duration,
    /// Frames queued for one peer before callers are refused.
    pub queue_frames_max: usize,
    /// Bytes queued for one peer before callers are refused.
    pub queue_bytes_max: usize,
    /// Requests of one peer being handled; at this many its connection is not read any further.
    pub in_flight_max: usize,
    /// Bytes of one peer's requests being handled, not counting the one that crosses the line.
    pub in_flight_bytes_max: usize,
    /// The protocol version to speak; only tests speak another than [`PROTOCOL_VERSION`].
    pub protocol: u32,
}

impl Default for PeerOptions {
    fn default() -> Self {
        PeerOptions {
            connect_timeout: Duration::from_millis(1_000),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_millis(500),
            keepalive_interval: Duration::from_millis(500),
            keepalive_timeout: Duration::from_millis(1_000),
            queue_frames_max: PEER_QUEUE_MAX,
            queue_bytes_max: 8 * FRAME_BYTES_MAX,
            in_flight_max: 2 * PEER_QUEUE_MAX,
            in_flight_bytes_max: 8 * FRAME_BYTES_MAX,
            protocol: PROTOCOL_VERSION,
        }
    }
}
