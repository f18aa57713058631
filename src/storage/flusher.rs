//! The one thread that writes and flushes the logs of all groups (group commit).
//!
//! It takes everything queued, writes it as one batch of the engine, flushes once, and then
//! acknowledges each change in the order submitted.

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::engine::{Change, Engine, Until};
use super::flush_mark::FlushMark;
use super::log_state::LogState;
use super::store_record::{self as record, Manifest};
use super::wal::{Done, Error, FlushMode, WalOp};
use crate::types::clock::{Instant, now};
use crate::types::limits::{
    WAL_BATCH_BYTES_MAX, WAL_MANIFEST_FULL_EVERY, WAL_MANIFESTS_KEPT, WAL_QUEUE_MAX,
};
use crate::types::metrics::Metrics;
use crate::types::{LogKey, limits};

/// Work for the flusher.
pub(super) enum Item {
    /// Change a log.
    Change { key: LogKey, op: WalOp, done: Done },
    /// Delete a log.
    Remove { key: LogKey, done: Done },
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    closing: bool,
    /// Set by the first failure of the device; every later change fails with it.
    broken: Option<Error>,
}

/// What the callers and the flusher share. Both locks are `parking_lot`: held for moments, never
/// across an await, `queue` never while `logs` is held.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Logs that were opened. Locked by the flusher while it prepares a batch, not while it flushes.
    pub(super) logs: Mutex<BTreeMap<LogKey, LogState>>,
    metrics: Arc<Metrics>,
}

impl Shared {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Shared { queue: Mutex::default(), wake: Condvar::new(), logs: Mutex::default(), metrics }
    }

    /// Queues work, or says why not. Never waits for the device.
    ///
    /// Over `WAL_QUEUE_MAX` it fails at once, and the log of a refused change is poisoned (what
    /// follows would leave a gap). The groups bound what they have in flight far below that, so
    /// only a device that hangs leads there.
    pub(super) fn push(&self, item: Item) {
        let refused = {
            let mut queue = self.queue.lock();
            match queue.refusal() {
                None => {
                    queue.items.push_back(item);
                    self.wake.notify_one();
                    return;
                }
                Some(error) => (item, error),
            }
        };
        let (item, error) = refused;
        let (Item::Change { key, done, .. } | Item::Remove { key, done }) = item;
        if let Some(log) = self.logs.lock().get_mut(&key) {
            log.poison(error.clone());
        }
        done(Err(error));
    }

    pub(super) fn begin_close(&self) {
        self.queue.lock().closing = true;
        self.wake.notify_one();
    }

    /// The failure of the device, if there was one.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.queue.lock().broken.clone().map_or(Ok(()), Err)
    }

    /// Notes the failure of the device; true if it is the first.
    fn break_with(&self, error: &Error) -> bool {
        let mut queue = self.queue.lock();
        let first = queue.broken.is_none();
        queue.broken.get_or_insert_with(|| error.clone());
        first
    }

    /// Fails what is still queued.
    fn refuse_rest(&self, error: &Error) {
        let rest = std::mem::take(&mut self.queue.lock().items);
        for item in rest {
            let (Item::Change { done, .. } | Item::Remove { done, .. }) = item;
            done(Err(error.clone()));
        }
    }
}

impl Queue {
    fn refusal(&self) -> Option<Error> {
        if let Some(error) = &self.broken {
            return Some(error.clone());
        }
        if self.closing {
            return Some(Error::Closed);
        }
        if self.items.len() >= WAL_QUEUE_MAX {
            let detail = format!("queue is at its limit of {WAL_QUEUE_MAX}: the device hangs");
            return Some(std::io::Error::new(std::io::ErrorKind::StorageFull, detail).into());
        }
        None
    }

    /// The next batch, bounded by bytes; at least one item if there is any.
    fn take(&mut self) -> Vec<Item> {
        let mut bytes = 0;
        let mut batch = Vec::new();
        while bytes < WAL_BATCH_BYTES_MAX
            && let Some(item) = self.items.pop_front()
        {
            bytes += item.bytes();
            batch.push(item);
        }
        batch
    }
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Item::Change { op: WalOp::Append(records), .. } => {
                records.iter().map(|r| r.payload.len() + 32).sum()
            }
            Item::Change { .. } | Item::Remove { .. } => 64,
        }
    }
}

/// The flusher's own side.
pub(super) struct Flusher<E> {
    pub(super) shared: Arc<Shared>,
    pub(super) engine: Arc<E>,
    pub(super) path: std::path::PathBuf,
    pub(super) mode: FlushMode,
    pub(super) mark: FlushMark,
    /// Number of the next batch.
    pub(super) next_batch: u64,
    /// Number of the last record of each log, opened or not; 0: removed.
    pub(super) reach: BTreeMap<LogKey, u64>,
    /// Something was handed to the engine that did not reach the device.
    pub(super) dirty: bool,
    /// When it must be; set under `FlushMode::Every` and at the end.
    pub(super) flush_by: Option<Instant>,
}

/// An acknowledgement that is due, with its outcome as far as it is known.
type Due = Vec<(LogKey, Done, Result<(), Error>)>;

/// One batch in the making.
#[derive(Default)]
struct Plan {
    changes: Vec<Change>,
    manifest: Manifest,
    due: Due,
    records: usize,
    /// Something in it must be flushed before it is acknowledged.
    urgent: bool,
}

impl<E: Engine> Flusher<E> {
    /// Runs until the log is closed and its queue empty. A panic in it breaks the store, so that no
    /// caller waits for an acknowledgement that cannot come.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let path = self.path.clone();
        if std::panic::catch_unwind(AssertUnwindSafe(move || self.serve())).is_err() {
            let error = Error::DamagedStore { path, detail: "the flusher panicked".to_owned() };
            tracing::error!(%error, "write-ahead log failed");
            shared.break_with(&error);
            shared.refuse_rest(&error);
        }
    }

    fn serve(&mut self) {
        while let Some(items) = self.wait() {
            let mut plan = self.plan(items);
            let written = self.guarded(|flusher| flusher.write(&mut plan));
            for (_, done, planned) in plan.due {
                done(planned.and_then(|()| written.clone()));
            }
            if written.is_ok() {
                // Its failure breaks the store: the next change says so.
                let _ = self.guarded(|flusher| flusher.engine.tidy());
            }
        }
    }

    /// Uses the engine, which may assert on damage and on a device that refuses: a panic in it is
    /// a failure of the store, not of the node. State after a failure is not used again.
    fn guarded(&mut self, f: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| f(self))).unwrap_or_else(|_| {
            let detail = format!("{} panicked while writing", E::NAME);
            Err(Error::DamagedStore { path: self.path.clone(), detail })
        });
        if let Err(error) = &done {
            self.dirty = false;
            self.flush_by = None;
            if self.shared.break_with(error) {
                tracing::error!(%error, path = %self.path.display(), "write-ahead log failed");
            }
        }
        done
    }

    /// Waits for work. An empty batch means a flush is due; `None` the end.
    fn wait(&mut self) -> Option<Vec<Item>> {
        let mut queue = self.shared.queue.lock();
        loop {
            if !queue.items.is_empty() {
                return Some(queue.take());
            }
            if queue.closing {
                // The last flush, for what was written without one.
                self.flush_by = Some(now());
                return self.dirty.then(Vec::new);
            }
            match self.flush_by {
                None => self.shared.wake.wait(&mut queue),
                Some(at) if at <= now() => return Some(Vec::new()),
                Some(at) => {
                    let left = at.saturating_duration_since(now());
                    self.shared.wake.wait_for(&mut queue, left);
                }
            }
        }
    }

    fn plan(&mut self, items: Vec<Item>) -> Plan {
        let mut plan = Plan::default();
        let mut logs = self.shared.logs.lock();
        // Changes of one log that stand together become one packed value.
        let mut waiting: BTreeMap<LogKey, Vec<WalOp>> = BTreeMap::new();
        for item in items {
            match item {
                Item::Change { key, op, done } => {
                    plan.records += 1;
                    plan.urgent |= !matches!(op, WalOp::Committed(_));
                    waiting.entry(key).or_default().push(op);
                    plan.due.push((key, done, Ok(())));
                }
                Item::Remove { key, done } => {
                    // What was queued before it would go at once: it is not written at all.
                    waiting.remove(&key);
                    logs.remove(&key);
                    plan.manifest.push((key, 0));
                    plan.changes.push(Change::Remove { log: key });
                    plan.due.push((key, done, Ok(())));
                    plan.urgent = true;
                }
            }
        }
        for (key, ops) in waiting {
            Self::plan_log(&mut logs, key, ops, &mut plan);
        }
        drop(logs);
        self.plan_manifest(&mut plan);
        plan
    }

    fn plan_log(
        logs: &mut BTreeMap<LogKey, LogState>,
        key: LogKey,
        ops: Vec<WalOp>,
        plan: &mut Plan,
    ) {
        let planned = match logs.get_mut(&key) {
            Some(log) => {
                log.plan(ops, &mut plan.changes).map(|()| log.last_seq()).inspect_err(|e| {
                    log.poison(e.clone());
                })
            }
            None => Err(Error::Refused { detail: format!("{key} was not opened") }),
        };
        match planned {
            Ok(last_seq) => plan.manifest.push((key, last_seq)),
            Err(error) => {
                for due in plan.due.iter_mut().filter(|due| due.0 == key) {
                    due.2 = Err(error.clone());
                }
            }
        }
    }

    /// Writes down which logs the batch reaches how far: if the engine loses some of the newest
    /// values and keeps others, the logs that fell behind are known at the next start. Every few
    /// batches it names all logs, so that a log that is lost as a whole is known as well.
    fn plan_manifest(&mut self, plan: &mut Plan) {
        if plan.manifest.is_empty() {
            return;
        }
        let batch = self.next_batch;
        self.reach.extend(plan.manifest.iter().copied());
        if batch.is_multiple_of(WAL_MANIFEST_FULL_EVERY) {
            self.reach.retain(|_, seq| *seq > 0);
            plan.manifest = self.reach.iter().map(|(log, seq)| (*log, *seq)).collect();
        }
        let value = record::encode_manifest(&record::manifest_key(batch), &plan.manifest);
        let keep_from = (batch + 1).saturating_sub(WAL_MANIFESTS_KEPT);
        plan.changes.push(Change::Manifest { batch, keep_from, value });
        self.next_batch += 1;
    }

    fn write(&mut self, plan: &mut Plan) -> Result<(), Error> {
        self.shared.check()?;
        let started = now();
        let changes = std::mem::take(&mut plan.changes);
        self.dirty |= !changes.is_empty();
        if let FlushMode::Every(interval) = self.mode
            && self.dirty
        {
            self.flush_by.get_or_insert(started + interval);
        }
        let until = if self.flush_by.is_some_and(|by| by <= started)
            || (plan.urgent && self.mode == FlushMode::Always)
        {
            Until::Device
        } else if plan.urgent {
            Until::Kernel
        } else {
            Until::Buffer
        };
        // Persist, then reply: the acknowledgements follow when this returns.
        self.engine.write(changes, until)?;
        match until {
            Until::Buffer => return Ok(()),
            Until::Kernel => {}
            Until::Device => {
                self.dirty = false;
                self.flush_by = None;
            }
        }
        self.mark.advance(self.next_batch - 1)?;
        let seconds = now().saturating_duration_since(started).as_secs_f64();
        self.shared.metrics.flush_seconds.observe(seconds);
        self.shared.metrics.flush_records.observe(plan.records as f64);
        Ok(())
    }
}

const _: () = assert!(
    limits::BATCHES_IN_FLIGHT_MAX * (limits::SHARDS_MAX as usize + 1) < WAL_QUEUE_MAX,
    "what all groups have in flight fits the queue"
);
const _: () = assert!(
    WAL_MANIFEST_FULL_EVERY * 2 <= WAL_MANIFESTS_KEPT,
    "one of the manifests kept names all logs"
);
