//! The batcher of a group: takes all that is queued, makes one Raft entry of it, and hands each
//! reply back.
//!
//! What comes while an entry is in flight waits for its end and leaves together: an entry costs the
//! same whether it carries one operation or hundreds. Only what does not fit one entry keeps
//! several in flight. What waited too long in a queue that stands is refused instead of proposed
//! (`core::queue_delay`).
//!
//! A panic while serving costs the entries in flight their answers (`Lost`), not the group its life.

mod take;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use tokio::sync::{mpsc, oneshot};

use super::countermeasure::{Countermeasure, taken_out};
use super::delay::{DelayWatch, RETRY_AFTER, refusal};
use super::log_clock::LogClock;
use super::machine::Applied;
use super::replica::{Replica, WriteResult};
use super::touches::Touches;
use crate::codec::log_record::{encode_batch, write_bytes};
use crate::core::machine::Machine;
use crate::core::queue_delay::DelayLimits;
use crate::types::clock::{Instant, now};
use crate::types::limits::BATCH_WRITES_MAX;
use crate::types::metrics::Metrics;
use crate::types::{Batch, Command, Error, Reason, Reply, Write, positions, task};

const QUEUED: u8 = 0;
const PROPOSED: u8 = 1;
const ABANDONED: u8 = 2;

/// Turns of the scheduler an entry waits at most for operations that are about to be queued.
const GATHER_TURNS_MAX: usize = 4;
/// What the delay of this queue is called in refusals.
const DELAY: &str = "milliseconds of queueing at the shard";

/// Most touches in an entry that carries nothing else.
const TOUCHES_ALONE_MAX: usize = 256;
/// Above this share of the limit hints are worth an entry of their own, percent.
const NEARLY_FULL_PERCENT: u64 = 85;

type Replies = Result<Vec<Reply>, Error>;

struct Pending {
    writes: Vec<Write>,
    /// Versions they may give: what batch and queue count.
    positions: usize,
    bytes: usize,
    queued_at: Instant,
    /// Who decides whether this was proposed: the batcher that takes it or the caller that leaves.
    state: Arc<AtomicU8>,
    reply: oneshot::Sender<Replies>,
}

/// Queue in front of a batcher. Cheap to share.
#[derive(Debug)]
pub struct BatchQueue {
    tx: mpsc::Sender<Pending>,
    queued: Arc<AtomicUsize>,
    /// Bytes of what is queued.
    queued_bytes: Arc<AtomicUsize>,
    /// Operations that are let in while the queue stands; `usize::MAX` otherwise.
    room: Arc<AtomicUsize>,
    /// Somebody was not let in for want of room.
    turned_away: Arc<AtomicBool>,
    limit: usize,
    bytes_limit: usize,
    delay: DelayLimits,
    #[cfg(test)]
    panics: Arc<AtomicU8>,
}

impl BatchQueue {
    /// Queues writes as one unit and waits for their replies.
    pub async fn write(&self, writes: Vec<Write>, deadline: Instant) -> Replies {
        if now() >= deadline {
            return Err(Reason::DeadlineBeforePropose.into());
        }
        let count = positions(&writes);
        if count == 0 {
            // Nothing to propose: the batcher would make no entry that could answer it.
            return Ok(Vec::new());
        }
        let bytes: usize = writes.iter().map(write_bytes).sum();
        // What decides reads, and is at most one entry at a time, waits for its turn in any case.
        if !is_tick(&writes) {
            self.check_room(count)?;
        }
        let state = Arc::new(AtomicU8::new(QUEUED));
        let (reply, answer) = oneshot::channel();
        let (queued_at, claim) = (now(), Arc::clone(&state));
        let pending = Pending { writes, positions: count, bytes, queued_at, state: claim, reply };
        self.queued.fetch_add(count, Ordering::Relaxed);
        self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Err(error) = self.tx.try_send(pending) {
            self.queued.fetch_sub(count, Ordering::Relaxed);
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(match error {
                mpsc::error::TrySendError::Full(_) => self.full(),
                mpsc::error::TrySendError::Closed(_) => Reason::Stopping.into(),
            });
        }
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(replies)) => replies,
            // The batcher was dropped, or panicked, with the write in hand.
            Ok(Err(_)) => match state.load(Ordering::Acquire) {
                PROPOSED => Err(Reason::Lost { detail: "the batcher stopped".to_owned() }.into()),
                _ => Err(Reason::Stopping.into()),
            },
            // Whoever moves the state first decides the outcome (INV-5).
            Err(_) => {
                match state.compare_exchange(QUEUED, ABANDONED, Ordering::AcqRel, Ordering::Acquire)
                {
                    Ok(_) => Err(Reason::DeadlineBeforePropose.into()),
                    Err(_) if taken_out(Countermeasure::UnknownAfterPropose) => {
                        Err(Reason::DeadlineBeforePropose.into())
                    }
                    Err(_) => Err(Reason::DeadlineAfterPropose.into()),
                }
            }
        }
    }
}

impl BatchQueue {
    /// Refuses at once what would exceed a limit, or only wait too long.
    fn check_room(&self, count: usize) -> Result<(), Error> {
        let queued = self.queued.load(Ordering::Relaxed);
        if queued + count > self.limit {
            return Err(self.full());
        }
        if queued >= self.room.load(Ordering::Relaxed) {
            self.turned_away.store(true, Ordering::Relaxed);
            return Err(refusal(DELAY, self.delay));
        }
        if self.queued_bytes.load(Ordering::Relaxed) > self.bytes_limit {
            return Err(exhausted("bytes queued at the shard", self.bytes_limit));
        }
        Ok(())
    }

    fn full(&self) -> Error {
        exhausted("writes queued at the shard", self.limit)
    }

    /// The batcher panics when it next proposes (1) or answers (2).
    #[cfg(test)]
    pub(super) fn inject_panic(&self, at: u8) {
        self.panics.store(at, Ordering::SeqCst);
    }
}

/// Whether a unit is a tick: refused for the length of a queue, it would make every read wait that
/// met a deadline.
fn is_tick(writes: &[Write]) -> bool {
    matches!(writes, [Write { command: Command::Tick, .. }])
}

fn exhausted(what: &'static str, limit: usize) -> Error {
    let limit = limit as u64;
    Error::from(Reason::ResourceExhausted { what, limit }).retry_after(RETRY_AFTER)
}

/// Callers of one entry and how many replies each gets.
type Shares = Vec<(usize, oneshot::Sender<Replies>)>;

/// The task behind a `BatchQueue`.
pub struct Batcher {
    replica: Replica<Machine>,
    clock: Arc<LogClock>,
    touches: Arc<Touches>,
    metrics: Arc<Metrics>,
    rx: mpsc::Receiver<Pending>,
    queued: Arc<AtomicUsize>,
    queued_bytes: Arc<AtomicUsize>,
    room: Arc<AtomicUsize>,
    turned_away: Arc<AtomicBool>,
    delay: DelayWatch,
    backlog: VecDeque<Pending>,
    in_flight: FuturesOrdered<BoxFuture<'static, (Option<WriteResult>, Shares)>>,
    #[cfg(test)]
    panics: Arc<AtomicU8>,
}

impl Batcher {
    /// A batcher and its queue.
    pub fn new(
        replica: Replica<Machine>,
        clock: Arc<LogClock>,
        touches: Arc<Touches>,
        metrics: Arc<Metrics>,
    ) -> (BatchQueue, Batcher) {
        let settings = replica.settings();
        let (tx, rx) = mpsc::channel(settings.group_queue_max);
        let queued = Arc::new(AtomicUsize::new(0));
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let room = Arc::new(AtomicUsize::new(usize::MAX));
        let turned_away = Arc::new(AtomicBool::new(false));
        let seconds = metrics.queue_delay.with_label_values(&["shard"]);
        let delay = DelayWatch::new(settings.delay, DELAY, seconds);
        let queue = BatchQueue {
            tx,
            queued: Arc::clone(&queued),
            queued_bytes: Arc::clone(&queued_bytes),
            room: Arc::clone(&room),
            turned_away: Arc::clone(&turned_away),
            limit: settings.group_queue_max,
            bytes_limit: settings.group_queue_bytes_max,
            delay: settings.delay,
            #[cfg(test)]
            panics: Arc::default(),
        };
        #[cfg(test)]
        let panics = Arc::clone(&queue.panics);
        let batcher = Batcher {
            replica,
            clock,
            touches,
            metrics,
            rx,
            queued,
            queued_bytes,
            room,
            turned_away,
            delay,
            backlog: VecDeque::new(),
            in_flight: FuturesOrdered::new(),
            #[cfg(test)]
            panics,
        };
        (queue, batcher)
    }

    /// Runs until the queue is closed or the future is dropped. After a panic it goes on with what
    /// is queued; callers of the entries in flight hear `Lost`, which is the truth.
    pub async fn run(mut self) {
        while task::guarded("batcher", self.serve()).await.is_none() {
            self.in_flight = FuturesOrdered::new();
            task::after_panic().await;
        }
    }

    async fn serve(&mut self) {
        let mut buffer = Vec::new();
        let mut idle = tokio::time::interval(Duration::from_secs(1));
        idle.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut known = self.replica.watch_known();
        loop {
            let log_full = !self.replica.log_has_room();
            let in_flight_max = self.replica.settings().batches_in_flight;
            let room = self.in_flight.len() < in_flight_max && !log_full;
            if room && !self.backlog.is_empty() {
                if self.in_flight.is_empty() {
                    self.gather().await;
                }
                self.propose_next().await;
                continue;
            }
            let gather = !log_full && self.in_flight.is_empty();
            tokio::select! {
                biased;
                Some((result, shares)) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.answer(result, shares);
                }
                taken = self.rx.recv_many(&mut buffer, BATCH_WRITES_MAX), if gather => {
                    if taken == 0 {
                        return;
                    }
                    self.backlog.extend(buffer.drain(..));
                }
                () = self.replica.log_shrunk(), if log_full => {}
                // It stays at its last value once the replica has stopped.
                Ok(()) = known.changed() => self.refuse_without_quorum(),
                _ = idle.tick() => {
                    self.refuse_without_quorum();
                    self.touch_alone().await;
                }
            }
        }
    }

    /// Steps back behind the tasks that are ready, for as long as that brings more operations: on a
    /// busy node an entry carries more, on an idle one this comes back at once.
    async fn gather(&mut self) {
        for _ in 0..GATHER_TURNS_MAX {
            let before = self.backlog.len();
            tokio::task::yield_now().await;
            while self.backlog.len() < BATCH_WRITES_MAX
                && let Ok(next) = self.rx.try_recv()
            {
                self.backlog.push_back(next);
            }
            if self.backlog.len() == before {
                return;
            }
        }
    }

    #[cfg(test)]
    fn panic_if_asked(&self, at: u8) {
        let asked = self.panics.compare_exchange(at, 0, Ordering::SeqCst, Ordering::SeqCst);
        assert!(asked.is_err(), "injected");
    }

    async fn propose_next(&mut self) {
        let (writes, bytes, shares) = self.take_batch();
        if writes.is_empty() {
            return;
        }
        let touches = self.touches.take_for(writes.len(), bytes);
        self.propose(writes, touches, shares).await;
    }

    async fn touch_alone(&mut self) {
        if !self.replica.is_leader() || self.touches.is_empty() {
            return;
        }
        let stats = self.replica.with_machine(Machine::stats);
        if stats.bytes.saturating_mul(100) > stats.bytes_max.saturating_mul(NEARLY_FULL_PERCENT) {
            let touches = self.touches.take(TOUCHES_ALONE_MAX);
            self.propose(Vec::new(), touches, Vec::new()).await;
        }
    }

    async fn propose(&mut self, writes: Vec<Write>, touches: Vec<u32>, shares: Shares) {
        #[cfg(test)]
        self.panic_if_asked(1);
        let term = self.replica.leader().map_or(0, |l| l.term);
        let stamp_ms = self.clock.now_ms(term, self.replica.with_machine(Machine::log_time_ms));
        let batch = Batch { stamp_ms, touches, writes };
        let payload = encode_batch(&batch);
        self.metrics.batch_writes.observe(batch.writes.len() as f64);
        self.metrics.touches.inc_by(batch.touches.len() as u64);
        self.metrics.touch_bytes.inc_by(4 * batch.touches.len() as u64);
        self.metrics.batch_bytes.inc_by(payload.len() as u64);
        match self.replica.submit(payload).await {
            Ok(answer) => {
                self.in_flight.push_back(Box::pin(async move { (answer.await, shares) }));
            }
            Err(error) => fail(shares, &error),
        }
    }

    fn answer(&self, result: Option<WriteResult>, shares: Shares) {
        #[cfg(test)]
        self.panic_if_asked(2);
        match self.replica.conclude(result) {
            Ok((_, Applied::Replies(replies))) => {
                let mut replies = replies.into_iter();
                for (count, caller) in shares {
                    // A caller whose deadline passed is gone.
                    let _ = caller.send(Ok(replies.by_ref().take(count).collect()));
                }
            }
            Ok((index, other)) => {
                let detail = format!("entry {index} of a shard answered {other:?}");
                fail(shares, &Reason::Internal { detail }.into());
            }
            Err(error) => fail(shares, &error),
        }
    }
}

fn fail(shares: Shares, error: &Error) {
    for (_, caller) in shares {
        // A caller whose deadline passed is gone.
        let _ = caller.send(Err(error.clone()));
    }
}
