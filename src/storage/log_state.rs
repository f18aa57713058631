//! What is known of one log while it runs: which records an engine has of it, and what they need.

use std::collections::VecDeque;

use super::engine::{Change, Stored};
use super::log_image::{LogImage, check_append};
use super::store_record::{self as record, Head};
use super::wal::{Error, LogRecord, Recovered, WalOp};
use crate::types::LogKey;

/// Bytes of entries after which a record is closed and the next begun. Well below sled's segment
/// of 16 MiB: a larger value becomes a file of its own, with a flush of its own.
const RECORD_BYTES_MAX: usize = 128 * 1024;
/// Records that hold no entry any more are deleted by this many, or at a purge.
const DELETABLE_MAX: usize = 64;

/// One log of a store.
///
/// Invariant: `live` are the records `first_seq..next_seq` of the store, so
/// `first_seq + live.len() == next_seq`.
#[derive(Debug)]
pub(super) struct LogState {
    key: LogKey,
    head: Head,
    next_seq: u64,
    /// For each record the highest index of an entry in it, `None` if it holds none.
    live: VecDeque<Option<u64>>,
    last_index: Option<u64>,
    /// Set by the first failure; every later change fails with it.
    poison: Option<Error>,
}

fn highest_index(ops: &[WalOp]) -> Option<u64> {
    let of = |op: &WalOp| match op {
        WalOp::Append(records) => records.iter().map(|r| r.index).max(),
        _ => None,
    };
    ops.iter().filter_map(of).max()
}

fn entry_bytes(record: &LogRecord) -> usize {
    record.payload.len() + 20
}

/// Packs changes into records of about `RECORD_BYTES_MAX`, keeping their order.
fn pack(ops: Vec<WalOp>) -> Vec<Vec<WalOp>> {
    let mut packed = Vec::new();
    let mut open: Vec<WalOp> = Vec::new();
    let mut bytes = 0;
    for op in ops {
        let WalOp::Append(records) = op else {
            open.push(op);
            continue;
        };
        let mut part = Vec::new();
        for record in records {
            let more = entry_bytes(&record);
            if bytes + more > RECORD_BYTES_MAX && bytes > 0 {
                if !part.is_empty() {
                    open.push(WalOp::Append(std::mem::take(&mut part)));
                }
                packed.push(std::mem::take(&mut open));
                bytes = 0;
            }
            bytes += more;
            part.push(record);
        }
        open.push(WalOp::Append(part));
    }
    if !open.is_empty() {
        packed.push(open);
    }
    packed
}

impl LogState {
    /// A log that nobody wrote yet.
    pub(super) fn fresh(key: LogKey) -> Self {
        let head = Head { first_seq: 1, purged: None, vote: None, committed: None };
        LogState { key, head, next_seq: 1, live: VecDeque::new(), last_index: None, poison: None }
    }

    /// Sequence number of the last record, 0 if there never was one.
    pub(super) fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    pub(super) fn poison(&mut self, error: Error) {
        self.poison.get_or_insert(error);
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        self.poison.clone().map_or(Ok(()), Err)
    }

    /// Adds what `ops` change to `changes`. Fails, changing nothing, if the log is poisoned or the entries do not
    /// continue it.
    pub(super) fn plan(&mut self, ops: Vec<WalOp>, changes: &mut Vec<Change>) -> Result<(), Error> {
        self.check()?;
        self.check_order(&ops)?;
        let mut purges = false;
        for op in &ops {
            purges |= matches!(op, WalOp::Purge { .. });
            self.note(op);
        }
        for packed in pack(ops) {
            let (log, seq) = (self.key, self.next_seq);
            let value = record::encode_record(&record::record_key(log, seq), &packed);
            changes.push(Change::Record { log, seq, value });
            self.live.push_back(highest_index(&packed));
            self.next_seq += 1;
        }
        self.delete_old(purges, changes);
        assert_eq!(
            self.head.first_seq + self.live.len() as u64,
            self.next_seq,
            "records of a log are contiguous"
        );
        Ok(())
    }

    fn purge_index(&self) -> Option<u64> {
        self.head.purged.as_ref().map(|(index, _)| *index)
    }

    /// Where the log ends after `op`.
    fn last_after(
        last: Option<u64>,
        floor: Option<u64>,
        op: &WalOp,
    ) -> Result<Option<u64>, String> {
        match op {
            WalOp::Append(records) => {
                if let (Some(first), Some(floor)) = (records.first(), floor)
                    && first.index <= floor
                {
                    return Err(format!("entry {} is purged already", first.index));
                }
                check_append(last, None, records)
            }
            WalOp::TruncateAfter(after) => Ok(last.min(*after).max(floor)),
            WalOp::Purge { index, .. } => Ok(last.max(Some(*index))),
            WalOp::Vote(_) | WalOp::Committed(_) => Ok(last),
        }
    }

    fn check_order(&self, ops: &[WalOp]) -> Result<(), Error> {
        let mut last = self.last_index;
        let mut floor = self.purge_index();
        for op in ops {
            last = Self::last_after(last, floor, op).map_err(|detail| Error::Refused {
                detail: format!("{}: append out of order: {detail}", self.key),
            })?;
            if let WalOp::Purge { index, .. } = op {
                floor = floor.max(Some(*index));
            }
        }
        Ok(())
    }

    fn note(&mut self, op: &WalOp) {
        self.last_index = Self::last_after(self.last_index, self.purge_index(), op)
            .expect("check_order accepted the same changes");
        match op {
            WalOp::Append(_) | WalOp::TruncateAfter(_) => {}
            WalOp::Purge { index, marker } => {
                if self.purge_index().is_none_or(|present| *index >= present) {
                    self.head.purged = Some((*index, marker.clone()));
                }
            }
            WalOp::Vote(vote) => self.head.vote = Some(vote.clone()),
            WalOp::Committed(committed) => self.head.committed = Some(committed.clone()),
        }
    }

    /// Deletes the oldest records whose entries are all purged. What else they said stands in the
    /// head, which is written in the same batch; replaying younger records over it ends the same.
    fn delete_old(&mut self, purges: bool, changes: &mut Vec<Change>) {
        let floor = self.purge_index();
        let deletable = self.live.iter().take_while(|highest| **highest <= floor).count();
        if deletable == 0 || (!purges && deletable < DELETABLE_MAX) {
            return;
        }
        let first = self.head.first_seq;
        self.live.drain(..deletable);
        self.head.first_seq += deletable as u64;
        let head = record::encode_head(&record::log_key(self.key), &self.head);
        changes.push(Change::Cut { log: self.key, seqs: first..self.head.first_seq, head });
    }
}

/// Rebuilds a log from what an engine shows of it.
#[derive(Debug)]
pub(super) struct Replay {
    state: LogState,
    image: LogImage,
    fresh: bool,
}

impl Replay {
    pub(super) fn new(key: LogKey) -> Self {
        Replay { state: LogState::fresh(key), image: LogImage::default(), fresh: true }
    }

    /// Takes the next part; `Damaged` if it is not as it was written or not the next.
    pub(super) fn visit(&mut self, stored: Stored<'_>) -> Result<(), Error> {
        self.fresh = false;
        let log = self.state.key;
        let damaged = |detail: String| Error::Damaged { log, detail };
        match stored {
            Stored::Head(value) => {
                let head = record::decode_head(&record::log_key(log), value)
                    .map_err(|e| damaged(format!("head: {e}")))?;
                if head.first_seq == 0 {
                    return Err(damaged("head: sequence number 0".to_owned()));
                }
                self.state.next_seq = head.first_seq;
                self.image = head.clone().into();
                self.state.head = head;
            }
            Stored::Record(seq, value) => {
                let expected = self.state.next_seq;
                if seq != expected {
                    return Err(damaged(format!("record {expected} missing, {seq} found")));
                }
                let ops = record::decode_record(&record::record_key(log, seq), value)
                    .map_err(|e| damaged(format!("record {seq}: {e}")))?;
                self.state.next_seq += 1;
                self.state.live.push_back(highest_index(&ops));
                for op in ops {
                    self.image.apply(op).map_err(|e| damaged(format!("record {seq}: {e}")))?;
                }
            }
        }
        Ok(())
    }

    /// The log as the flusher needs it, and as the Raft layer does.
    pub(super) fn finish(self) -> (LogState, Recovered) {
        let Replay { mut state, image, fresh } = self;
        state.head.purged.clone_from(&image.purged);
        state.head.vote.clone_from(&image.vote);
        state.head.committed.clone_from(&image.committed);
        state.last_index = image.last_index();
        (state, Recovered { fresh, ..image.into_recovered() })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn append(from: u64, count: u64, bytes: usize) -> WalOp {
        let payload = Bytes::from(vec![7; bytes]);
        let record = |index| LogRecord { term: 1, index, payload: payload.clone() };
        WalOp::Append((from..from + count).map(record).collect())
    }

    #[test]
    fn packing_keeps_order_and_bounds_what_stands_together() {
        let third = RECORD_BYTES_MAX / 3;
        let vote = || WalOp::Vote(Bytes::from_static(b"v"));
        let ops = vec![append(0, 2, third), vote(), append(2, 7, third), append(9, 1, 4 * third)];
        let packed = pack(ops);
        let mut image = LogImage::default();
        for ops in &packed {
            let bytes = |op: &WalOp| match op {
                WalOp::Append(records) => records.iter().map(entry_bytes).sum(),
                _ => 0,
            };
            let total: usize = ops.iter().map(bytes).sum();
            assert!(total <= RECORD_BYTES_MAX || highest_index(ops) == Some(9), "{total}");
            for op in ops.clone() {
                assert_ne!(op, WalOp::Append(Vec::new()));
                image.apply(op).unwrap();
            }
        }
        assert_eq!(image.records.len(), 10);
        assert_eq!(packed.len(), 6);
    }
}
