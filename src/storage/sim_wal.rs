//! A log engine for virtual-time tests: a disk in memory that crashes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::log_image::LogImage;
use super::wal::{Done, Error, Recovered, Wal, WalOp};
use crate::types::LogKey;
use crate::types::task::spawn;

/// One node's disk: outlives the node's crashes.
#[derive(Debug)]
pub struct SimDisk {
    /// Held for moments, never across an await.
    state: Mutex<State>,
}

struct Pending {
    key: LogKey,
    op: WalOp,
    /// `None` once called.
    done: Option<Done>,
}

struct State {
    durable: BTreeMap<LogKey, LogImage>,
    pending: VecDeque<Pending>,
    /// Counts the users of the disk: handles of an earlier one are dead.
    epoch: u64,
    flushing: bool,
    broken: bool,
    /// What the device answers while it is set; survives crashes.
    failing: Option<std::io::ErrorKind>,
    skip_fsync: bool,
    keep_unflushed: bool,
    random: u64,
    flushes: u64,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("epoch", &self.epoch)
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

/// splitmix64 (Steele, Lea, Flood 2014): small, and the same on every platform.
pub(super) fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What a disk held at a time.
#[derive(Clone, Debug)]
pub struct DiskCopy(BTreeMap<LogKey, LogImage>);

impl SimDisk {
    /// An empty disk; `seed` decides what a crash leaves.
    pub fn new(seed: u64) -> Arc<Self> {
        let state = State {
            durable: BTreeMap::new(),
            pending: VecDeque::new(),
            epoch: 0,
            flushing: false,
            broken: false,
            failing: None,
            skip_fsync: false,
            keep_unflushed: true,
            random: seed,
            flushes: 0,
        };
        Arc::new(SimDisk { state: Mutex::new(state) })
    }

    /// The node loses power. What was flushed stays; of what was not, a seeded prefix may stay, as
    /// on a real disk (see `keep_unflushed`). Its handles are dead: changes not yet acknowledged
    /// are answered `Closed`, and so is everything later.
    pub fn crash(&self) {
        let dropped = {
            let mut state = self.state.lock();
            state.epoch += 1;
            state.flushing = false;
            state.broken = false;
            let mut dropped = Vec::new();
            let keep = state.kept_by_crash();
            for (position, mut pending) in
                std::mem::take(&mut state.pending).into_iter().enumerate()
            {
                dropped.extend(pending.done.take());
                if position < keep {
                    state.make_durable(pending.key, pending.op);
                } else if position == keep
                    && state.keep_unflushed
                    && let WalOp::Append(mut records) = pending.op
                {
                    // Torn in the middle of a write: a prefix of its entries got there.
                    let count = next_random(&mut state.random) as usize % (records.len() + 1);
                    records.truncate(count);
                    state.make_durable(pending.key, WalOp::Append(records));
                }
            }
            dropped
        };
        for done in dropped {
            done(Err(Error::Closed));
        }
    }

    /// The disk is replaced by an empty one (also `crash`).
    pub fn wipe(&self) {
        self.crash();
        self.state.lock().durable.clear();
    }

    /// What the disk holds durably, as an operator copies it while the node is stopped.
    pub fn copy(&self) -> DiskCopy {
        DiskCopy(self.state.lock().durable.clone())
    }

    /// The node's disk holds this copy and nothing newer (also `crash`).
    pub fn put_back(&self, copy: DiskCopy) {
        self.crash();
        self.state.lock().durable = copy.0;
    }

    /// Test only: acknowledge before the flush, so that a checker can be shown to go red.
    pub fn set_skip_fsync(&self, skip: bool) {
        self.state.lock().skip_fsync = skip;
    }

    /// Whether a crash may keep a prefix of what was not flushed (default: yes).
    pub fn set_keep_unflushed(&self, keep: bool) {
        self.state.lock().keep_unflushed = keep;
    }

    /// From now on the device refuses everything, until the next crash.
    pub fn set_broken(&self) {
        self.state.lock().broken = true;
    }

    /// From now on the device answers every change with this error, also after a crash; `None` ends
    /// it. What was refused was not written.
    pub fn set_failing(&self, failing: Option<std::io::ErrorKind>) {
        self.state.lock().failing = failing;
    }

    /// Flushes so far.
    pub fn flushes(&self) -> u64 {
        self.state.lock().flushes
    }
}

fn refused() -> Error {
    std::io::Error::other("simulated device failure").into()
}

impl State {
    /// What the device refuses everything with, if it does.
    fn refusal(&self) -> Option<Error> {
        match self.failing {
            Some(kind) => Some(std::io::Error::from(kind).into()),
            None => self.broken.then(refused),
        }
    }

    fn kept_by_crash(&mut self) -> usize {
        if !self.keep_unflushed || next_random(&mut self.random).is_multiple_of(2) {
            return 0;
        }
        next_random(&mut self.random) as usize % (self.pending.len() + 1)
    }

    fn make_durable(&mut self, key: LogKey, op: WalOp) {
        self.durable
            .entry(key)
            .or_default()
            .apply(op)
            .unwrap_or_else(|detail| panic!("log of {key}: {detail}"));
    }

    /// Ends a flush of the oldest `count` changes.
    fn flush(&mut self, count: usize) -> Vec<Done> {
        self.flushes += 1;
        // `remove` may have taken some of them out.
        let count = count.min(self.pending.len());
        let flushed: Vec<Pending> = self.pending.drain(..count).collect();
        let mut due = Vec::new();
        for mut pending in flushed {
            due.extend(pending.done.take());
            self.make_durable(pending.key, pending.op);
        }
        due
    }
}

/// One node's use of a `SimDisk`, from its start to its crash or close.
#[derive(Debug)]
pub struct SimWal {
    disk: Arc<SimDisk>,
    epoch: u64,
    flush_delay: Duration,
}

impl SimWal {
    /// Starts a new use of `disk`; an earlier one that was not closed ends as by a crash. Each
    /// flush takes `flush_delay` of tokio's time and serves everything queued when it began.
    pub fn new(disk: Arc<SimDisk>, flush_delay: Duration) -> Arc<Self> {
        disk.crash();
        let epoch = disk.state.lock().epoch;
        Arc::new(SimWal { disk, epoch, flush_delay })
    }

    /// Like `new`, but fails while the device does (see `SimDisk::set_failing`).
    pub fn open_on(disk: &Arc<SimDisk>, flush_delay: Duration) -> Result<Arc<Self>, Error> {
        if let Some(kind) = disk.state.lock().failing {
            return Err(std::io::Error::from(kind).into());
        }
        Ok(SimWal::new(Arc::clone(disk), flush_delay))
    }

    fn alive(&self, state: &State) -> Result<(), Error> {
        match (state.epoch == self.epoch, state.refusal()) {
            (false, _) => Err(Error::Closed),
            (true, Some(refusal)) => Err(refusal),
            (true, None) => Ok(()),
        }
    }

    fn start_flushing(&self) {
        let (disk, epoch, delay) = (Arc::clone(&self.disk), self.epoch, self.flush_delay);
        spawn("sim-wal-flush", async move {
            loop {
                let count = {
                    let mut state = disk.state.lock();
                    if state.epoch != epoch {
                        return;
                    }
                    if state.pending.is_empty() {
                        state.flushing = false;
                        return;
                    }
                    state.pending.len()
                };
                tokio::time::sleep(delay).await;
                let (due, result) = {
                    let mut state = disk.state.lock();
                    if state.epoch != epoch {
                        return;
                    }
                    if let Some(refusal) = state.refusal() {
                        state.flushing = false;
                        let pending = std::mem::take(&mut state.pending);
                        let due = pending.into_iter().filter_map(|p| p.done).collect();
                        // Broken for good, as the trait asks: what follows would leave a gap.
                        state.broken = true;
                        (due, Err(refusal))
                    } else {
                        (state.flush(count), Ok(()))
                    }
                };
                for done in due {
                    done(result.clone());
                }
                if result.is_err() {
                    return;
                }
            }
        });
    }
}

impl Wal for SimWal {
    fn open(&self, key: LogKey) -> Result<Recovered, Error> {
        let state = self.disk.state.lock();
        self.alive(&state)?;
        Ok(match state.durable.get(&key) {
            Some(image) => image.clone().into_recovered(),
            None => Recovered { fresh: true, ..Recovered::default() },
        })
    }

    fn submit(&self, key: LogKey, op: WalOp, done: Done) {
        let mut done = Some(done);
        let (early, start) = {
            let mut state = self.disk.state.lock();
            match self.alive(&state) {
                Err(error) => (Some(Err(error)), false),
                Ok(()) => {
                    let early = state.skip_fsync.then_some(Ok(()));
                    let later = if early.is_some() { None } else { done.take() };
                    state.pending.push_back(Pending { key, op, done: later });
                    (early, !std::mem::replace(&mut state.flushing, true))
                }
            }
        };
        if start {
            self.start_flushing();
        }
        if let (Some(result), Some(done)) = (early, done) {
            done(result);
        }
    }

    fn remove(&self, key: LogKey) -> Result<(), Error> {
        let due: Vec<Done> = {
            let mut state = self.disk.state.lock();
            self.alive(&state)?;
            // What is queued for it goes with it.
            let (gone, rest): (VecDeque<_>, _) =
                std::mem::take(&mut state.pending).into_iter().partition(|p| p.key == key);
            state.pending = rest;
            state.durable.remove(&key);
            gone.into_iter().filter_map(|p| p.done).collect()
        };
        for done in due {
            done(Err(Error::Closed));
        }
        Ok(())
    }

    fn keys(&self) -> Result<Vec<LogKey>, Error> {
        let state = self.disk.state.lock();
        self.alive(&state)?;
        Ok(state.durable.keys().copied().collect())
    }

    fn close(&self) -> Result<(), Error> {
        let due = {
            let mut state = self.disk.state.lock();
            if state.epoch != self.epoch {
                return Ok(());
            }
            self.alive(&state)?;
            let count = state.pending.len();
            let due = if count > 0 { state.flush(count) } else { Vec::new() };
            state.epoch += 1;
            state.flushing = false;
            due
        };
        for done in due {
            done(Ok(()));
        }
        Ok(())
    }
}
