//! The batcher of a group: takes all that is queued, makes one Raft entry of it, keeps several
//! entries in flight, and hands each reply back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use tokio::sync::{mpsc, oneshot};

use super::log_clock::LogClock;
use super::machine::Applied;
use super::replica::{Replica, WriteResult};
use super::touches::Touches;
use crate::codec::log_record::{encode_batch, write_bytes};
use crate::core::machine::Machine;
use crate::types::clock::{Instant, now};
use crate::types::limits::{BATCH_BYTES_MAX, BATCH_WRITES_MAX, GROUP_QUEUE_BYTES_MAX};
use crate::types::metrics::Metrics;
use crate::types::{Batch, Error, Reason, Reply, Write, positions};

const QUEUED: u8 = 0;
const PROPOSED: u8 = 1;
const ABANDONED: u8 = 2;

/// Most touches in an entry that carries nothing else.
const TOUCHES_ALONE_MAX: usize = 256;
/// Above this share of the limit hints are worth an entry of their own, percent.
const NEARLY_FULL_PERCENT: u64 = 85;

type Replies = Result<Vec<Reply>, Error>;

struct Pending {
    writes: Vec<Write>,
    /// Versions they may give, steps of transactions counted: what a batch and the queue count.
    positions: usize,
    bytes: usize,
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
    limit: usize,
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
        let exhausted = || {
            let limit = self.limit as u64;
            Error::from(Reason::ResourceExhausted { what: "writes queued at the shard", limit })
                .retry_after(Duration::from_millis(20))
        };
        if self.queued.load(Ordering::Relaxed) + count > self.limit {
            return Err(exhausted());
        }
        let bytes: usize = writes.iter().map(write_bytes).sum();
        if self.queued_bytes.load(Ordering::Relaxed) > GROUP_QUEUE_BYTES_MAX {
            let (what, limit) = ("bytes queued at the shard", GROUP_QUEUE_BYTES_MAX as u64);
            return Err(Error::from(Reason::ResourceExhausted { what, limit })
                .retry_after(Duration::from_millis(20)));
        }
        let state = Arc::new(AtomicU8::new(QUEUED));
        let (reply, answer) = oneshot::channel();
        let pending = Pending { writes, positions: count, bytes, state: Arc::clone(&state), reply };
        self.queued.fetch_add(count, Ordering::Relaxed);
        self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Err(error) = self.tx.try_send(pending) {
            self.queued.fetch_sub(count, Ordering::Relaxed);
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(match error {
                mpsc::error::TrySendError::Full(_) => exhausted(),
                mpsc::error::TrySendError::Closed(_) => Reason::Stopping.into(),
            });
        }
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(replies)) => replies,
            // The batcher was dropped with the write in hand.
            Ok(Err(_)) => match state.load(Ordering::Acquire) {
                PROPOSED => Err(Reason::Lost { detail: "the replica stopped".to_owned() }.into()),
                _ => Err(Reason::Stopping.into()),
            },
            // Whoever moves the state first decides the outcome (INV-5).
            Err(_) => {
                match state.compare_exchange(QUEUED, ABANDONED, Ordering::AcqRel, Ordering::Acquire)
                {
                    Ok(_) => Err(Reason::DeadlineBeforePropose.into()),
                    Err(_) => Err(Reason::DeadlineAfterPropose.into()),
                }
            }
        }
    }
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
    backlog: VecDeque<Pending>,
    in_flight: FuturesOrdered<BoxFuture<'static, (Option<WriteResult>, Shares)>>,
    in_flight_max: usize,
}

impl Batcher {
    /// A batcher and its queue.
    pub fn new(
        replica: Replica<Machine>,
        clock: Arc<LogClock>,
        touches: Arc<Touches>,
        metrics: Arc<Metrics>,
    ) -> (BatchQueue, Batcher) {
        let limit = replica.settings().group_queue_max;
        let in_flight_max = replica.settings().batches_in_flight;
        let (tx, rx) = mpsc::channel(limit);
        let queued = Arc::new(AtomicUsize::new(0));
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let queue = BatchQueue {
            tx,
            queued: Arc::clone(&queued),
            queued_bytes: Arc::clone(&queued_bytes),
            limit,
        };
        let batcher = Batcher {
            replica,
            clock,
            touches,
            metrics,
            rx,
            queued,
            queued_bytes,
            backlog: VecDeque::new(),
            in_flight: FuturesOrdered::new(),
            in_flight_max,
        };
        (queue, batcher)
    }

    /// Runs until the queue is closed or the future is dropped.
    pub async fn run(mut self) {
        let mut buffer = Vec::new();
        let mut idle = tokio::time::interval(Duration::from_secs(1));
        idle.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let log_full = !self.replica.log_has_room();
            let room = self.in_flight.len() < self.in_flight_max && !log_full;
            if room && !self.backlog.is_empty() {
                self.propose_next().await;
                continue;
            }
            tokio::select! {
                biased;
                Some((result, shares)) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.answer(result, shares);
                }
                taken = self.rx.recv_many(&mut buffer, BATCH_WRITES_MAX), if room => {
                    if taken == 0 {
                        return;
                    }
                    self.backlog.extend(buffer.drain(..));
                }
                () = self.replica.log_shrunk(), if log_full => {}
                _ = idle.tick() => self.touch_alone().await,
            }
        }
    }

    /// Takes units off the backlog until the entry is full, skipping those whose caller left.
    fn take_batch(&mut self) -> (Vec<Write>, usize, Shares) {
        let (mut writes, mut bytes, mut shares) = (Vec::new(), 0, Vec::new());
        let mut taken_positions = 0;
        while let Some(next) = self.backlog.front() {
            let full = taken_positions + next.positions > BATCH_WRITES_MAX
                || bytes + next.bytes > BATCH_BYTES_MAX;
            if full && !writes.is_empty() {
                break;
            }
            let Some(next) = self.backlog.pop_front() else { break };
            self.queued.fetch_sub(next.positions, Ordering::Relaxed);
            self.queued_bytes.fetch_sub(next.bytes, Ordering::Relaxed);
            let taken =
                next.state.compare_exchange(QUEUED, PROPOSED, Ordering::AcqRel, Ordering::Acquire);
            if taken.is_ok() {
                shares.push((next.writes.len(), next.reply));
                taken_positions += next.positions;
                writes.extend(next.writes);
                bytes += next.bytes;
            }
        }
        (writes, bytes, shares)
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
