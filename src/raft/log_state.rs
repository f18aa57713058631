//! A replica's log in memory, and how it is made of what the write-ahead log recovered.

use std::collections::VecDeque;

use super::entry_codec::{decode_entry, decode_log_id, decode_vote, entry_bytes};
use super::types::{Entry, LogId, Vote, log_id};
use crate::storage::wal::{self, Recovered};
use crate::types::LogKey;

/// One log as it stands in memory.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) purged: Option<LogId>,
    /// Invariant: contiguous indices, the first follows `purged`.
    pub(super) entries: VecDeque<Entry>,
    pub(super) bytes: u64,
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
}

impl State {
    /// Index of the first entry, or where it would go. openraft's storage suite starts a log
    /// anywhere; a recovered log must start at 0 or after its purge marker (see `restore`).
    pub(super) fn first_index(&self) -> u64 {
        match self.entries.front() {
            Some(entry) => entry.log_id.index,
            None => self.purged.map_or(0, |id| id.index + 1),
        }
    }

    pub(super) fn next_index(&self) -> u64 {
        self.first_index() + self.entries.len() as u64
    }

    pub(super) fn position(&self, index: u64) -> usize {
        let at = index.saturating_sub(self.first_index());
        usize::try_from(at).unwrap_or(usize::MAX).min(self.entries.len())
    }
}

/// The log that the device gave back.
pub(super) fn restore(key: LogKey, recovered: Recovered) -> Result<State, wal::Error> {
    let damaged = |detail: String| wal::Error::Damaged { log: key, detail };
    let broken = |what: &str, e| damaged(format!("{what}: {e}"));
    let mut state = State {
        vote: recovered.vote.map(decode_vote).transpose().map_err(|e| broken("vote", e))?,
        committed: recovered
            .committed
            .map(decode_log_id)
            .transpose()
            .map_err(|e| broken("committed", e))?,
        ..State::default()
    };
    if let Some((index, marker)) = recovered.purged {
        let id = decode_log_id(marker).map_err(|e| broken("purge marker", e))?;
        if id.index != index {
            return Err(damaged(format!("purge marker {id} at index {index}")));
        }
        state.purged = Some(id);
    }
    for record in recovered.records {
        if record.index != state.next_index() {
            let detail = format!("entry {} where {} belongs", record.index, state.next_index());
            return Err(damaged(detail));
        }
        let entry = decode_entry(log_id(record.term, record.index), record.payload)
            .map_err(|e| broken("entry", e))?;
        state.bytes += entry_bytes(&entry);
        state.entries.push_back(entry);
    }
    Ok(state)
}
