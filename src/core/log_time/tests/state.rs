//! What the group replicates, as far as time goes.

use crate::core::log_time::{MS, Opening};

/// What an entry asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    Tick,
    /// A key that ends after so long.
    Set {
        ttl_ms: u64,
    },
    /// A key that ends at a wall time.
    SetAt {
        wall_ms: i64,
    },
    /// The lock of this number, if nobody holds it.
    Lock {
        number: usize,
        ttl_ms: u64,
    },
}

#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub stamp_ms: u64,
    pub opening: Opening,
    pub off_ms: Option<i64>,
    pub op: Op,
    /// True time at which it was proposed.
    pub asked_us: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub deadline_ms: u64,
    /// True time at which it was proposed, and when it was set.
    pub asked_us: u64,
    pub set_us: u64,
    pub ends: Ends,
    /// What was shown last of its remaining time.
    pub shown_ms: Option<u64>,
}

/// When a key should end.
#[derive(Clone, Copy, Debug)]
pub enum Ends {
    After(u64),
    AtWall(i64),
}

#[derive(Clone, Copy, Debug)]
pub struct Lock {
    pub deadline_ms: u64,
    /// True time at which its owner asked for it.
    pub granted_us: u64,
    pub ttl_ms: u64,
}

/// The replicated state.
#[derive(Debug, Default)]
pub struct State {
    pub log_time_ms: u64,
    pub off_ms: Option<i64>,
    pub keys: Vec<Key>,
    pub locks: Vec<Option<Lock>>,
    /// True time between two owners of a lock, and what the first was given it for, milliseconds.
    pub changes_of_owner: Vec<(u64, u64)>,
    pub refused: u64,
    pub backwards: u64,
}

impl State {
    pub fn apply(&mut self, entry: &Entry, true_us: u64) {
        let before_ms = self.log_time_ms;
        self.backwards += u64::from(entry.stamp_ms < before_ms);
        self.log_time_ms = before_ms.max(entry.stamp_ms);
        if let Some(counted_us) = entry.opening.counted_us {
            let gap_ms = self.log_time_ms.saturating_sub(before_ms.max(counted_us / MS));
            for lock in self.locks.iter_mut().flatten().filter(|l| l.deadline_ms > before_ms) {
                lock.deadline_ms += gap_ms;
            }
        }
        if entry.opening.off_unknown {
            self.off_ms = None;
        }
        self.off_ms = entry.off_ms.or(self.off_ms);
        let asked_us = entry.asked_us;
        let new = |deadline_ms, ends| Key {
            deadline_ms,
            asked_us,
            set_us: true_us,
            ends,
            shown_ms: None,
        };
        match entry.op {
            Op::Tick => {}
            Op::Set { ttl_ms } => {
                self.keys.push(new(self.log_time_ms + ttl_ms, Ends::After(ttl_ms)));
            }
            Op::SetAt { wall_ms } => match self.off_ms {
                Some(off_ms) => {
                    let deadline_ms = u64::try_from(wall_ms - off_ms).unwrap_or(0);
                    self.keys.push(new(deadline_ms, Ends::AtWall(wall_ms)));
                }
                None => self.refused += 1,
            },
            Op::Lock { number, ttl_ms } => self.lock(number, ttl_ms, asked_us, true_us),
        }
    }

    fn lock(&mut self, number: usize, ttl_ms: u64, asked_us: u64, true_us: u64) {
        let log_time_ms = self.log_time_ms;
        if self.locks.len() <= number {
            self.locks.resize(number + 1, None);
        }
        let held = self.locks[number];
        if held.is_some_and(|held| held.deadline_ms > log_time_ms) {
            return;
        }
        if let Some(held) = held {
            self.changes_of_owner.push(((true_us - held.granted_us) / MS, held.ttl_ms));
        }
        let deadline_ms = log_time_ms + ttl_ms;
        self.locks[number] = Some(Lock { deadline_ms, granted_us: asked_us, ttl_ms });
    }
}
