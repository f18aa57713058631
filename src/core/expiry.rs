//! Deadlines in order, so that what is due is reaped in bounded steps without a scan.
//!
//! Ordered by (deadline, version): both are replicated, so every replica reaps the same entries in
//! the same order, which matters because reaping frees bytes and so decides evictions.

use std::collections::BTreeMap;

use super::keyspace::{EntryId, NEVER};

/// Deadlines of the entries that have one.
#[derive(Debug, Default)]
pub struct Deadlines {
    by_deadline: BTreeMap<(u64, u64), EntryId>,
}

impl Deadlines {
    /// Adds an entry; nothing to do if it never ends.
    pub fn insert(&mut self, deadline_ms: u64, version: u64, id: EntryId) {
        if deadline_ms != NEVER {
            let old = self.by_deadline.insert((deadline_ms, version), id);
            assert!(old.is_none(), "a version names one entry");
        }
    }

    /// Takes an entry out; nothing to do if it never ends.
    pub fn remove(&mut self, deadline_ms: u64, version: u64) {
        if deadline_ms != NEVER {
            let old = self.by_deadline.remove(&(deadline_ms, version));
            assert!(old.is_some(), "every deadline is kept here");
        }
    }

    /// The entry with the earliest deadline, if that has come at this log time.
    pub fn first_due(&self, log_time_ms: u64) -> Option<EntryId> {
        let (&(deadline_ms, _), &id) = self.by_deadline.first_key_value()?;
        (deadline_ms <= log_time_ms).then_some(id)
    }

    /// The earliest deadline after this log time.
    pub fn first_after(&self, log_time_ms: u64) -> Option<u64> {
        let after = (log_time_ms.checked_add(1)?, 0);
        self.by_deadline.range(after..).next().map(|(key, _)| key.0)
    }

    /// Entries that are due at this log time. Takes time in proportion to them.
    pub fn due(&self, log_time_ms: u64) -> usize {
        self.by_deadline.range(..=(log_time_ms, u64::MAX)).count()
    }

    /// Entries that have a deadline.
    pub fn len(&self) -> usize {
        self.by_deadline.len()
    }

    /// Whether no entry has a deadline.
    pub fn is_empty(&self) -> bool {
        self.by_deadline.is_empty()
    }
}
