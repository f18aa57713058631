//! What a log is after a row of changes, the dumb way: the model the engines are held to.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::wal::{LogRecord, Recovered, WalOp};
use crate::types::{GroupId, LogKey, ReplicaId};

pub(super) fn key(group: u32, replica: u64) -> LogKey {
    LogKey { group: GroupId(group), replica: ReplicaId(replica) }
}

pub(super) fn entries(term: u64, from: u64, count: u64, bytes: usize) -> Vec<LogRecord> {
    let payload = |index: u64| Bytes::from(vec![(index ^ term) as u8; bytes]);
    (from..from + count).map(|index| LogRecord { term, index, payload: payload(index) }).collect()
}

/// The dumb model: entries by index.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Model {
    pub(super) written: bool,
    vote: Option<Bytes>,
    committed: Option<Bytes>,
    pub(super) purged: Option<(u64, Bytes)>,
    entries: BTreeMap<u64, LogRecord>,
}

impl Model {
    pub(super) fn next(&self) -> u64 {
        let last = self.entries.keys().next_back().copied();
        last.or(self.purged.as_ref().map(|p| p.0)).map_or(0, |last| last + 1)
    }

    pub(super) fn apply(&mut self, op: &WalOp) {
        self.written = true;
        match op {
            WalOp::Append(new) => self.entries.extend(new.iter().map(|r| (r.index, r.clone()))),
            WalOp::TruncateAfter(after) => {
                self.entries.retain(|index, _| after.is_some_and(|after| *index <= after));
            }
            WalOp::Purge { index, marker } => {
                self.entries.retain(|i, _| i > index);
                self.purged = Some((*index, marker.clone()));
            }
            WalOp::Vote(vote) => self.vote = Some(vote.clone()),
            WalOp::Committed(committed) => self.committed = Some(committed.clone()),
        }
    }

    pub(super) fn recovered(&self) -> Recovered {
        Recovered {
            fresh: !self.written,
            vote: self.vote.clone(),
            committed: self.committed.clone(),
            purged: self.purged.clone(),
            records: self.entries.values().cloned().collect(),
        }
    }
}
