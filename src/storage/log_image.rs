//! What a log holds after a sequence of changes: the pure meaning of `WalOp`, used by replay.

use std::collections::VecDeque;

use bytes::Bytes;

use super::wal::{LogRecord, Recovered, WalOp};

/// One log, held in memory.
///
/// Invariant: `records` are contiguous, and the first continues `purged` if there is one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct LogImage {
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<Bytes>,
    pub(super) purged: Option<(u64, Bytes)>,
    pub(super) records: VecDeque<LogRecord>,
}

/// Checks that `records` continue a log whose last index is `last`; gives the new last index.
///
/// Records up to `floor` were purged already and may come again in replay: they are passed over.
pub(super) fn check_append(
    last: Option<u64>,
    floor: Option<u64>,
    records: &[LogRecord],
) -> Result<Option<u64>, String> {
    let mut last = last;
    for record in records {
        if floor.is_some_and(|floor| record.index <= floor) {
            continue;
        }
        if let Some(last) = last
            && last.checked_add(1) != Some(record.index)
        {
            return Err(format!("entry {} follows entry {last}", record.index));
        }
        last = Some(record.index);
    }
    Ok(last)
}

impl LogImage {
    /// Index of the last entry, or of the purge if there are none.
    pub(super) fn last_index(&self) -> Option<u64> {
        self.records.back().map(|r| r.index).or_else(|| self.purge_index())
    }

    fn purge_index(&self) -> Option<u64> {
        self.purged.as_ref().map(|(index, _)| *index)
    }

    /// Applies one change. Fails, changing nothing, if entries are not contiguous.
    pub(super) fn apply(&mut self, op: WalOp) -> Result<(), String> {
        match op {
            WalOp::Append(records) => {
                let floor = self.purge_index();
                check_append(self.last_index(), floor, &records)?;
                let kept = records.into_iter().filter(|r| floor.is_none_or(|f| r.index > f));
                self.records.extend(kept);
            }
            WalOp::TruncateAfter(None) => self.records.clear(),
            WalOp::TruncateAfter(Some(index)) => {
                while self.records.back().is_some_and(|r| r.index > index) {
                    self.records.pop_back();
                }
            }
            WalOp::Purge { index, marker } => {
                if self.purge_index().is_none_or(|present| index >= present) {
                    self.purged = Some((index, marker));
                }
                while self.records.front().is_some_and(|r| r.index <= index) {
                    self.records.pop_front();
                }
            }
            WalOp::Vote(vote) => self.vote = Some(vote),
            WalOp::Committed(committed) => self.committed = Some(committed),
        }
        Ok(())
    }

    /// As handed to the Raft layer.
    pub(super) fn into_recovered(self) -> Recovered {
        Recovered {
            fresh: false,
            vote: self.vote,
            committed: self.committed,
            purged: self.purged,
            records: self.records.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(index: u64) -> LogRecord {
        LogRecord { term: 1, index, payload: Bytes::new() }
    }

    fn purge(index: u64) -> WalOp {
        WalOp::Purge { index, marker: Bytes::new() }
    }

    #[test]
    fn a_gap_is_refused_and_changes_nothing() {
        let mut image = LogImage::default();
        image.apply(WalOp::Append(vec![record(3), record(4)])).unwrap();
        let before = image.clone();
        assert!(image.apply(WalOp::Append(vec![record(6)])).is_err());
        assert!(image.apply(WalOp::Append(vec![record(4)])).is_err());
        assert!(image.apply(WalOp::Append(vec![record(5), record(7)])).is_err());
        assert_eq!(image, before);
    }

    #[test]
    fn a_purge_past_the_end_moves_where_the_log_goes_on() {
        let mut image = LogImage::default();
        image.apply(WalOp::Append(vec![record(0), record(1)])).unwrap();
        image.apply(purge(9)).unwrap();
        assert_eq!(image.last_index(), Some(9));
        assert!(image.apply(WalOp::Append(vec![record(11)])).is_err());
        image.apply(WalOp::Append(vec![record(10)])).unwrap();
        assert_eq!(image.records.len(), 1);
    }

    #[test]
    fn entries_below_the_purge_come_again_in_replay_and_are_passed_over() {
        let mut image = LogImage { purged: Some((4, Bytes::new())), ..LogImage::default() };
        image.apply(WalOp::Append((2..8).map(record).collect())).unwrap();
        image.apply(WalOp::TruncateAfter(Some(3))).unwrap();
        image.apply(WalOp::Append((4..6).map(record).collect())).unwrap();
        assert_eq!(image.records, [record(5)]);
    }
}
