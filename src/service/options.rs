//! What a user may set of the service.

use super::admission::AdmissionLimits;
use super::check::Limits;
use crate::core::queue_delay::DelayLimits;
use crate::types::limits::{
    BATCH_BYTES_MAX, BATCH_WRITES_MAX, BATCHES_IN_FLIGHT_MAX, FORWARD_QUEUE_BYTES_MAX,
    FORWARD_QUEUE_MAX, FORWARD_WAITING_MAX, QUEUE_DELAY_INTERVAL_MS, QUEUE_DELAY_TARGET_MS,
};

/// What a user may set of the service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// What is taken on at once.
    pub admission: AdmissionLimits,
    /// Limits of keys, values and times to live.
    pub limits: Limits,
    /// Limits of what is on its way to other nodes.
    pub forward: ForwardLimits,
    /// Give an id also to writes that this node's own replica proposes (see `execute`).
    pub local_ids: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            admission: AdmissionLimits::default(),
            limits: Limits::default(),
            forward: ForwardLimits::default(),
            local_ids: true,
        }
    }
}

/// Limits of the operations on their way to one other node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ForwardLimits {
    /// Operations queued for one group and kind, and in all for the node.
    pub queue_max: usize,
    /// Bytes of operations that have no answer yet, not counting the one that crosses the line.
    pub queue_bytes_max: usize,
    /// Operations in one frame.
    pub frame_operations_max: usize,
    /// Bytes of operations in one frame, not counting the one that crosses the line.
    pub frame_bytes_max: usize,
    /// Frames in flight for one group and kind.
    pub in_flight_max: usize,
    /// How long operations may wait to be sent before some are refused.
    pub delay: DelayLimits,
    /// Callers that wait at other nodes for fills.
    pub waiting_max: usize,
}

impl Default for ForwardLimits {
    fn default() -> Self {
        ForwardLimits {
            queue_max: FORWARD_QUEUE_MAX,
            queue_bytes_max: FORWARD_QUEUE_BYTES_MAX,
            frame_operations_max: BATCH_WRITES_MAX,
            frame_bytes_max: BATCH_BYTES_MAX,
            in_flight_max: BATCHES_IN_FLIGHT_MAX,
            delay: DelayLimits::from_ms(QUEUE_DELAY_TARGET_MS, QUEUE_DELAY_INTERVAL_MS),
            waiting_max: FORWARD_WAITING_MAX,
        }
    }
}
