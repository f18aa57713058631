//! Recency hints: hashes of keys that were read at the leader, waiting for a write to travel with.
//!
//! Reads never pass through the log, so without hints a key that is only read would look idle and
//! be evicted. Hints lost at a leader change cost a little hit ratio and nothing else.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::types::limits::{TOUCHES_BYTES_PERCENT_MAX, TOUCHES_PENDING_MAX, TOUCHES_PER_WRITE_MAX};

const TOUCH_BYTES: usize = 4;

/// The ring of hints of one group.
#[derive(Debug, Default)]
pub struct Touches {
    /// Held for moments. When full, the oldest hint is dropped.
    pending: Mutex<VecDeque<u32>>,
}

impl Touches {
    /// Remembers that a key with this hash was read.
    pub fn push(&self, hash: u32) {
        let mut pending = self.pending.lock();
        if pending.len() == TOUCHES_PENDING_MAX {
            pending.pop_front();
        }
        pending.push_back(hash);
    }

    /// Hints that may travel with `writes` operations of `bytes` bytes: at most 2 a write, and 4 %
    /// of the bytes, rounded up to one.
    pub fn take_for(&self, writes: usize, bytes: usize) -> Vec<u32> {
        let by_bytes = (bytes * TOUCHES_BYTES_PERCENT_MAX).div_ceil(100 * TOUCH_BYTES);
        self.take((writes * TOUCHES_PER_WRITE_MAX).min(by_bytes))
    }

    /// At most `count` hints.
    pub fn take(&self, count: usize) -> Vec<u32> {
        let mut pending = self.pending.lock();
        let count = count.min(pending.len());
        pending.drain(..count).collect()
    }

    /// True if no hint waits.
    pub fn is_empty(&self) -> bool {
        self.pending.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_by_writes_and_bytes() {
        let touches = Touches::default();
        (0..100).for_each(|hash| touches.push(hash));
        assert_eq!(touches.take_for(1, 10_000), vec![0, 1], "two a write");
        assert_eq!(touches.take_for(10, 100), vec![2], "4 % of 100 bytes is one touch");
        assert_eq!(touches.take_for(0, 10_000), Vec::<u32>::new());
    }

    #[test]
    fn the_oldest_is_dropped_when_full() {
        let touches = Touches::default();
        (0..=TOUCHES_PENDING_MAX as u32).for_each(|hash| touches.push(hash));
        assert_eq!(touches.take(1), vec![1]);
    }
}
