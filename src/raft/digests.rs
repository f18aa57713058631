//! INV-3 at run time: replicas of a group compare digests at the same applied index.
//!
//! Every replica remembers the digest of its machine at checkpoints; the leader sends its newest
//! with appends; a follower compares when it has reached that index.

use std::collections::VecDeque;

use parking_lot::Mutex;

const EVERY: u64 = 64;
const REMEMBERED_MAX: usize = 64;

/// Digests at recent checkpoints of one replica.
#[derive(Debug, Default)]
pub struct Digests {
    /// Held for moments; a plain lock.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Invariant: indices grow.
    own: VecDeque<(u64, u64)>,
    /// A leader's checkpoint that this replica has not reached yet.
    expected: Option<(u64, u64)>,
    mismatch: Option<Mismatch>,
}

/// Two replicas differ at one applied index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mismatch {
    /// The index.
    pub index: u64,
    /// Digest here.
    pub own: u64,
    /// Digest at the leader.
    pub leader: u64,
}

impl Digests {
    /// Whether a digest is recorded at `index`.
    pub fn is_checkpoint(index: u64) -> bool {
        index.is_multiple_of(EVERY)
    }

    /// Remembers the digest at a checkpoint, and compares it if the leader's is known.
    pub fn record(&self, index: u64, digest: u64) {
        let mut state = self.state.lock();
        assert!(state.own.back().is_none_or(|(last, _)| *last < index), "checkpoints grow");
        if state.own.len() == REMEMBERED_MAX {
            state.own.pop_front();
        }
        state.own.push_back((index, digest));
        if let Some((expected, leader)) = state.expected
            && expected <= index
        {
            state.expected = None;
            state.compare(expected, leader);
        }
    }

    /// Forgets everything: the machine was replaced by a snapshot.
    pub fn clear(&self) {
        let mut state = self.state.lock();
        state.own.clear();
        state.expected = None;
    }

    /// The newest checkpoint, for the leader to send.
    pub fn newest(&self) -> Option<(u64, u64)> {
        self.state.lock().own.back().copied()
    }

    /// A checkpoint of the leader arrived. Returns a difference if one has been seen.
    pub fn check(&self, index: u64, leader: u64) -> Option<Mismatch> {
        let mut state = self.state.lock();
        if state.own.back().is_some_and(|(last, _)| *last >= index) {
            state.compare(index, leader);
        } else {
            state.expected = Some((index, leader));
        }
        state.mismatch
    }
}

impl State {
    fn compare(&mut self, index: u64, leader: u64) {
        let found = self.own.iter().find(|(i, _)| *i == index);
        if let Some((_, own)) = found
            && *own != leader
        {
            self.mismatch = Some(Mismatch { index, own: *own, leader });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_digests_agree_in_either_order() {
        let digests = Digests::default();
        digests.record(64, 1);
        assert_eq!(digests.check(64, 1), None);
        assert_eq!(digests.check(128, 2), None);
        digests.record(128, 2);
        assert_eq!(digests.check(128, 2), None);
    }

    #[test]
    fn a_difference_is_seen_whichever_comes_first() {
        let expected = Some(Mismatch { index: 64, own: 1, leader: 9 });
        let digests = Digests::default();
        digests.record(64, 1);
        assert_eq!(digests.check(64, 9), expected);

        let digests = Digests::default();
        assert_eq!(digests.check(64, 9), None);
        digests.record(64, 1);
        assert_eq!(digests.check(64, 9), expected);
    }

    #[test]
    fn what_is_forgotten_is_not_compared() {
        let digests = Digests::default();
        for i in 1..=100 {
            digests.record(i * EVERY, i);
        }
        assert_eq!(digests.check(EVERY, 999), None);
    }
}
