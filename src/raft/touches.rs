//! Recency hints: hashes of keys that were read at the leader, waiting for a write to travel with.
//!
//! Reads never pass through the log, so without hints a key that is only read would look idle and
//! be evicted. Hints lost at a leader change cost a little hit ratio and nothing else.

use std::collections::{HashSet, VecDeque};

use parking_lot::Mutex;

use crate::types::limits::{TOUCHES_BYTES_PERCENT_MAX, TOUCHES_PENDING_MAX, TOUCHES_PER_WRITE_MAX};

const TOUCH_BYTES: usize = 4;

/// The ring of hints of one group.
#[derive(Debug, Default)]
pub struct Touches {
    /// Held for moments.
    pending: Mutex<Pending>,
}

/// When full, the oldest hint is dropped. A key read again while its hint waits is no new hint, or
/// a few hot keys would fill the ring.
#[derive(Debug, Default)]
struct Pending {
    order: VecDeque<u32>,
    /// Invariant: what `order` holds, each once. Never iterated.
    members: HashSet<u32>,
}

impl Touches {
    /// Remembers that a key with this hash was read.
    pub fn push(&self, hash: u32) {
        let mut pending = self.pending.lock();
        if !pending.members.insert(hash) {
            return;
        }
        if pending.order.len() == TOUCHES_PENDING_MAX
            && let Some(oldest) = pending.order.pop_front()
        {
            pending.members.remove(&oldest);
        }
        pending.order.push_back(hash);
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
        let count = count.min(pending.order.len());
        let taken: Vec<u32> = pending.order.drain(..count).collect();
        for hash in &taken {
            pending.members.remove(hash);
        }
        taken
    }

    /// True if no hint waits.
    pub fn is_empty(&self) -> bool {
        self.pending.lock().order.is_empty()
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
    fn a_hot_key_waits_once() {
        let touches = Touches::default();
        (0..1_000).for_each(|i| touches.push(i % 3));
        assert_eq!(touches.take(10), vec![0, 1, 2]);
        touches.push(1);
        assert_eq!(touches.take(10), vec![1], "taken, it may come again");
    }

    #[test]
    fn the_oldest_is_dropped_when_full() {
        let touches = Touches::default();
        (0..=TOUCHES_PENDING_MAX as u32).for_each(|hash| touches.push(hash));
        assert_eq!(touches.take(1), vec![1]);
    }
}
