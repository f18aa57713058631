//! openraft's log storage: entries in memory, mirrored into the node's write-ahead log.
//!
//! Every entry that is not purged stays in memory (bounded by the compactor), so replication and
//! apply never read the device; the write-ahead log is read once, at start.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::countermeasure::{Countermeasure, taken_out};
use super::entry_codec::{encode_log_id, encode_payload, encode_vote, entry_bytes};
use super::log_state::{State, restore};
use super::types::{Entry, LogId, TypeConfig, Vote, term_of};
use crate::storage::wal::{self, LogRecord, Recovered, Wal, WalOp};
use crate::types::LogKey;
use crate::types::limits::APPEND_BYTES_MAX;

/// The log of one replica. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    key: LogKey,
    /// A std-style lock: held for moments, never across an await.
    state: Mutex<State>,
    /// `None` in `memory` durability.
    wal: Option<Arc<dyn Wal>>,
    /// Waited for by the compactor alone.
    grew: Notify,
    /// Bytes of entries above which `grew` is told.
    grown_bytes: AtomicU64,
    /// Wakes the replication streams, which `grew` with its one waiter does not.
    appended: Notify,
    shrank: Notify,
}

impl LogStore {
    /// A log over what the write-ahead log recovered (nothing in `memory` durability).
    pub fn open(
        key: LogKey,
        wal: Option<Arc<dyn Wal>>,
        recovered: Recovered,
    ) -> Result<Self, wal::Error> {
        let state = restore(key, recovered)?;
        let shared = Shared {
            key,
            state: Mutex::new(state),
            wal,
            grew: Notify::new(),
            grown_bytes: AtomicU64::new(0),
            appended: Notify::new(),
            shrank: Notify::new(),
        };
        Ok(LogStore { shared: Arc::new(shared) })
    }

    /// Makes a durable log known to the device before anything depends on it: from now on an empty
    /// recovery means that the log was lost.
    pub async fn mark_begun(&self) -> Result<(), wal::Error> {
        if self.shared.wal.is_none() || !self.is_pristine() {
            return Ok(());
        }
        self.submit_awaited(WalOp::TruncateAfter(None)).await
    }

    /// Makes the log follow the snapshot that is on the disk when a replica starts. An install puts
    /// the snapshot there first and cuts the log afterwards: a crash in between leaves a log that
    /// ends before the snapshot, or one that another leader wrote. Nothing in such a log is of use,
    /// and openraft cannot start on it.
    pub async fn follow_snapshot(&self, last: LogId) -> Result<(), wal::Error> {
        if self.holds(last) || taken_out(Countermeasure::FollowSnapshot) {
            return Ok(());
        }
        tracing::info!(log = %self.shared.key, snapshot = %last, "log begins after the snapshot");
        {
            let mut state = self.shared.state.lock();
            state.entries.clear();
            state.bytes = 0;
            state.purged = Some(last);
        }
        self.submit_awaited(WalOp::TruncateAfter(None)).await?;
        self.submit_awaited(purge_to(last)).await
    }

    /// Committed log id as known here.
    pub fn committed(&self) -> Option<LogId> {
        self.shared.state.lock().committed
    }

    /// True if the replica has never voted nor stored an entry.
    pub fn is_pristine(&self) -> bool {
        let state = self.shared.state.lock();
        state.vote.is_none() && state.entries.is_empty() && state.purged.is_none()
    }

    /// Bytes of entries in memory.
    pub fn bytes(&self) -> u64 {
        self.shared.state.lock().bytes
    }

    /// Waits until an append after this call, or since the last such wait, that leaves more than
    /// `bytes` bytes of entries in memory. For one waiter.
    pub async fn grown_over(&self, bytes: u64) {
        self.shared.grown_bytes.store(bytes, Ordering::Release);
        self.shared.grew.notified().await;
    }

    /// Index of the last entry, or of the last purged one; 0 if there never was one.
    pub fn last_index(&self) -> u64 {
        self.shared.state.lock().next_index().saturating_sub(1)
    }

    /// True if the log holds the entry, or held it and purged it.
    pub fn holds(&self, id: LogId) -> bool {
        let state = self.shared.state.lock();
        if state.purged.is_some_and(|purged| purged.index >= id.index) {
            return true;
        }
        let entry = state.entries.get(state.position(id.index));
        entry.is_some_and(|entry| entry.log_id == id)
    }

    /// True if this replica promised more than `vote`: what the leader of that vote says of its log
    /// is out of date.
    pub fn votes_above(&self, vote: &Vote) -> bool {
        self.shared.state.lock().vote.is_some_and(|own| own > *vote)
    }

    /// Waits until there are entries after `index`.
    pub async fn reaches_past(&self, index: u64) {
        loop {
            let appended = self.shared.appended.notified();
            tokio::pin!(appended);
            appended.as_mut().enable();
            if self.shared.state.lock().next_index() > index + 1 {
                return;
            }
            appended.await;
        }
    }

    /// Waits until entries were dropped after this call, or since the last such wait. For one waiter.
    pub async fn shrunk(&self) {
        self.shared.shrank.notified().await;
    }

    /// Highest index to purge so that at most `bytes_max` bytes of entries remain.
    pub fn purge_candidate(&self, bytes_max: u64) -> Option<u64> {
        let state = self.shared.state.lock();
        let mut kept = 0;
        for entry in state.entries.iter().rev() {
            kept += entry_bytes(entry);
            if kept > bytes_max {
                return Some(entry.log_id.index);
            }
        }
        None
    }

    fn submit(&self, op: WalOp, done: wal::Done) {
        match &self.shared.wal {
            Some(wal) => wal.submit(self.shared.key, op, done),
            None => done(Ok(())),
        }
    }

    /// Submits a change and waits until it is as durable as the mode makes it.
    async fn submit_awaited(&self, op: WalOp) -> Result<(), wal::Error> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        let done: wal::Done = Box::new(move |result| {
            // The receiver is gone only if the replica is being dropped.
            let _ = tx.send(result);
        });
        self.submit(op, done);
        rx.await.map_err(|_| wal::Error::Closed)?
    }

    /// Submits a change whose failure surfaces at the next awaited one (the log is poisoned then).
    fn submit_unawaited(&self, op: WalOp) {
        let key = self.shared.key;
        self.submit(
            op,
            Box::new(move |result| {
                if let Err(error) = result {
                    // The storage has told of it, once for all logs (`storage::health`).
                    tracing::debug!(log = %key, %error, "write-ahead log change failed");
                }
            }),
        );
    }
}

fn purge_to(id: LogId) -> WalOp {
    WalOp::Purge { index: id.index, marker: encode_log_id(&id) }
}

fn io_error(error: wal::Error) -> io::Error {
    match error {
        wal::Error::Io(inner) => io::Error::new(inner.kind(), inner),
        other => io::Error::other(other),
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(i) => *i,
            Bound::Excluded(i) => i + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(i) => i + 1,
            Bound::Excluded(i) => *i,
            Bound::Unbounded => u64::MAX,
        };
        let state = self.shared.state.lock();
        let (from, to) = (state.position(start), state.position(end));
        Ok(state.entries.range(from..to.max(from)).cloned().collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.state.lock().vote)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        let state = self.shared.state.lock();
        let (from, to) = (state.position(start), state.position(end));
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in state.entries.range(from..to.max(from)) {
            bytes += usize::try_from(entry_bytes(entry)).unwrap_or(APPEND_BYTES_MAX);
            if bytes > APPEND_BYTES_MAX && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.shared.state.lock();
        let last = state.entries.back().map(|e| e.log_id).or(state.purged);
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        // Persist, then reply: a vote that could be forgotten elects two leaders in one term.
        self.submit_awaited(WalOp::Vote(encode_vote(vote))).await.map_err(io_error)?;
        self.shared.state.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.shared.state.lock().committed = committed;
        if let Some(id) = committed
            && self.shared.wal.is_some()
        {
            self.submit_unawaited(WalOp::Committed(encode_log_id(&id)));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.shared.state.lock().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let durable = self.shared.wal.is_some();
        let mut records = Vec::new();
        let bytes = {
            let mut state = self.shared.state.lock();
            for entry in entries {
                let index = entry.log_id.index;
                let starts = state.entries.is_empty() && state.purged.is_none();
                assert!(starts || index == state.next_index(), "openraft appends without holes");
                if durable {
                    let payload = encode_payload(&entry);
                    records.push(LogRecord { term: term_of(&entry.log_id), index, payload });
                }
                state.bytes += entry_bytes(&entry);
                state.entries.push_back(entry);
            }
            state.bytes
        };
        if bytes > self.shared.grown_bytes.load(Ordering::Acquire) {
            self.shared.grew.notify_one();
        }
        self.shared.appended.notify_waiters();
        // Persist, then acknowledge: the callback runs after the flush.
        let done: wal::Done =
            Box::new(move |result| callback.io_completed(result.map_err(io_error)));
        self.submit(WalOp::Append(records), done);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        {
            let mut state = self.shared.state.lock();
            let keep = last.map_or(0, |id| state.position(id.index + 1));
            let dropped: u64 = state.entries.range(keep..).map(entry_bytes).sum();
            state.entries.truncate(keep);
            state.bytes -= dropped;
        }
        self.shared.shrank.notify_one();
        let op = WalOp::TruncateAfter(last.map(|id| id.index));
        if taken_out(Countermeasure::TruncateFirst) || taken_out(Countermeasure::FollowSnapshot) {
            self.submit_unawaited(op);
            return Ok(());
        }
        // Awaited: openraft may publish a snapshot next, and after a crash a log that contradicts the
        // snapshot on the disk would be found (see `follow_snapshot`).
        self.submit_awaited(op).await.map_err(io_error)
    }

    async fn purge(&mut self, id: LogId) -> Result<(), io::Error> {
        {
            let mut state = self.shared.state.lock();
            let drop = state.position(id.index + 1);
            let dropped: u64 = state.entries.range(..drop).map(entry_bytes).sum();
            state.entries.drain(..drop);
            state.bytes -= dropped;
            if state.purged.is_none_or(|purged| purged.index < id.index) {
                state.purged = Some(id);
            }
        }
        self.shared.shrank.notify_one();
        // Not awaited: what a crash brings back is covered by the snapshot, which is on the disk.
        self.submit_unawaited(purge_to(id));
        Ok(())
    }
}
