//! A shard's group on this node: batcher, read barrier, touches, leases and log time around a replica.

mod leasing;

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounterVec;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::barrier::Barrier;
use super::batcher::{BatchQueue, Batcher};
use super::leases::Leases;
use super::log_clock::LogClock;
use super::replica::{Replica, ReplicaDeps, StartError};
use super::touches::Touches;
use crate::core::machine::{Due, Machine, MachineConfig};
use crate::types::clock::{Instant, SharedClock, now};
use crate::types::probe::{Probe, reached};
use crate::types::{
    Answer, Command, Consistency, Error, Freshness, LogKey, NodeId, Query, Reason, Reply, Write,
    task,
};

/// At most one tick entry in this time, however many reads meet a due key.
const TICK_INTERVAL: Duration = Duration::from_millis(50);

/// Where a task of a group is to panic.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Propose,
    Answer,
    Barrier,
}

/// A shard's replica on this node, with its queues. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ShardGroup {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    replica: Replica<Machine>,
    queue: BatchQueue,
    barrier: Arc<Barrier>,
    touches: Arc<Touches>,
    leases: Arc<Leases>,
    /// Answers of `get_or_lease`, by what they are.
    lease_answers: IntCounterVec,
    clock: Arc<LogClock>,
    /// When the last tick was proposed. A tokio lock: held while the tick is applied, so that all
    /// reads that need one share it.
    ticked: Mutex<Option<Instant>>,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl ShardGroup {
    /// Starts the replica and its queues (see `Replica::start`).
    pub async fn start(
        key: LogKey,
        node: NodeId,
        machine: MachineConfig,
        ran_before: bool,
        deps: ReplicaDeps,
        clock: SharedClock,
    ) -> Result<Self, StartError> {
        let metrics = Arc::clone(&deps.metrics);
        let leases = Leases::new(deps.settings.leases);
        let mut machine = Machine::new(machine);
        machine.watch(leases.clone());
        // Boxed: about 20 kB, which every caller would carry.
        let start = Box::pin(Replica::start(key, node, machine, ran_before, deps));
        let replica = start.await?;
        let touches = Arc::new(Touches::default());
        let clock = Arc::new(LogClock::new(clock));
        let (queue, batcher) = Batcher::new(
            replica.clone(),
            Arc::clone(&clock),
            Arc::clone(&touches),
            Arc::clone(&metrics),
        );
        let barrier = Arc::new(Barrier::new(replica.settings(), &metrics));
        let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
        let stop = cancel.clone();
        tasks.spawn(async move {
            stop.run_until_cancelled(batcher.run()).await;
        });
        let (stop, reads, served) = (cancel.clone(), Arc::clone(&barrier), replica.clone());
        let counted = Arc::clone(&metrics);
        tasks.spawn(async move {
            let serve = || Arc::clone(&reads).run(served.clone(), Arc::clone(&counted));
            stop.run_until_cancelled(task::restarted("read barrier", serve)).await;
        });
        let ticked = Mutex::new(None);
        let lease_answers = metrics.lease_answers.clone();
        let inner = Inner {
            replica,
            queue,
            barrier,
            touches,
            leases,
            lease_answers,
            clock,
            ticked,
            cancel,
            tasks,
        };
        Ok(ShardGroup { inner: Arc::new(inner) })
    }

    /// Panics of its tasks on request.
    #[cfg(test)]
    pub(super) fn inject_panic(&self, at: Fault) {
        match at {
            Fault::Propose => self.inner.queue.inject_panic(1),
            Fault::Answer => self.inner.queue.inject_panic(2),
            Fault::Barrier => {
                self.inner.barrier.panic_next.store(true, std::sync::atomic::Ordering::SeqCst);
            }
        }
    }

    /// The replica underneath.
    pub fn replica(&self) -> &Replica<Machine> {
        &self.inner.replica
    }

    /// Proposes writes, in order, in one entry with whatever else is queued. Only on the leader,
    /// otherwise `NotLeader` with a hint. One reply for each write.
    pub async fn write(
        &self,
        mut writes: Vec<Write>,
        deadline: Instant,
    ) -> Result<Vec<Reply>, Error> {
        self.check_leader()?;
        self.inner.replica.check_room()?;
        self.vouch(&mut writes);
        let count = writes.len();
        let replies = self.inner.queue.write(writes, deadline).await?;
        assert_eq!(replies.len(), count, "one reply for each write");
        Ok(replies)
    }

    fn check_leader(&self) -> Result<(), Error> {
        let leader = self.inner.replica.leader();
        let key = self.inner.replica.key();
        match leader {
            Some(leader) if leader.replica == key.replica => Ok(()),
            None if self.inner.replica.has_lost_quorum() => Err(self.inner.replica.no_quorum()),
            other => {
                let leader = other.map(|l| l.node);
                Err(Reason::NotLeader { group: key.group, leader }.into())
            }
        }
    }

    /// Reads keys at a consistency. `Linearizable` and `Lease` only on the leader.
    pub async fn read(
        &self,
        queries: Vec<Query>,
        consistency: Consistency,
        deadline: Instant,
    ) -> Result<(Vec<Answer>, Freshness), Error> {
        let inner = &self.inner;
        match consistency {
            Consistency::Linearizable => self.read_at_leader(&queries, deadline).await,
            Consistency::Lease => {
                self.check_leader()?;
                if !inner.replica.settings().lease_reads {
                    return self.read_at_leader(&queries, deadline).await;
                }
                inner.replica.lease_barrier(deadline).await?;
                reached(Probe::LeaseRead);
                self.read_applied(&queries, deadline).await
            }
            Consistency::Stale => {
                inner.replica.check_runs()?;
                Ok(self.read_here(&queries))
            }
            Consistency::Bounded { staleness_ms_max } => {
                inner.replica.check_runs()?;
                let age_ms = inner.replica.age_ms().unwrap_or(u64::MAX);
                if age_ms > staleness_ms_max {
                    reached(Probe::TooStale);
                    return Err(Reason::TooStale { age_ms, staleness_ms_max }.into());
                }
                Ok(self.read_here(&queries))
            }
        }
    }

    async fn read_at_leader(
        &self,
        queries: &[Query],
        deadline: Instant,
    ) -> Result<(Vec<Answer>, Freshness), Error> {
        self.check_leader()?;
        self.inner.barrier.pass(deadline).await?;
        self.read_applied(queries, deadline).await
    }

    /// Reads after a barrier. A key that is due by the leader's clock but not yet by log time is
    /// decided by a tick, so that no later leader can show it again (INV-4). Due is what the clock
    /// had passed when the read began: one tick is enough however many deadlines follow.
    async fn read_applied(
        &self,
        queries: &[Query],
        deadline: Instant,
    ) -> Result<(Vec<Answer>, Freshness), Error> {
        let inner = &self.inner;
        let mut began_ms = None;
        loop {
            let term = inner.replica.leader().map_or(0, |l| l.term);
            let attempt = inner.replica.with_applied(|machine, applied_term, index| {
                let now_ms = *began_ms
                    .get_or_insert_with(|| inner.clock.now_ms(term, machine.log_time_ms()));
                let answers = answer(machine, queries, now_ms, &inner.touches)?;
                let version = machine.last_version(index);
                Ok((answers, Freshness { term: applied_term, index, age_ms: 0, version }))
            });
            match attempt {
                Ok(answer) => return Ok(answer),
                Err(due_ms) => self.tick(due_ms, deadline).await?,
            }
        }
    }

    /// Makes log time reach `due_ms`, which the leader's clock has passed. At most one tick in
    /// `TICK_INTERVAL`, shared by all that wait.
    async fn tick(&self, due_ms: u64, deadline: Instant) -> Result<(), Error> {
        let inner = &self.inner;
        let late = |_| Error::from(Reason::ReadFailed { detail: "deadline passed".to_owned() });
        let mut ticked =
            tokio::time::timeout_at(deadline, inner.ticked.lock()).await.map_err(late)?;
        if inner.replica.with_machine(Machine::log_time_ms) >= due_ms {
            return Ok(());
        }
        if let Some(last) = *ticked {
            tokio::time::sleep_until((last + TICK_INTERVAL).min(deadline)).await;
        }
        *ticked = Some(now());
        let tick = Write { request_id: None, command: Command::Tick };
        match inner.queue.write(vec![tick], deadline).await {
            Ok(_) => {
                reached(Probe::TickForRead);
                Ok(())
            }
            // The read changed nothing: whatever became of the tick, the read itself is rejected.
            Err(error) => Err(match error.reason {
                Reason::NotLeader { .. }
                | Reason::NoQuorum { .. }
                | Reason::ResourceExhausted { .. }
                | Reason::Stopping => error,
                reason => Reason::ReadFailed { detail: format!("expiry tick: {reason}") }.into(),
            }),
        }
    }

    fn read_here(&self, queries: &[Query]) -> (Vec<Answer>, Freshness) {
        let replica = &self.inner.replica;
        // The age is taken first: what is read afterwards can only be fresher.
        let age_ms = replica.age_ms().unwrap_or(u64::MAX);
        replica.with_applied(|machine, term, index| {
            let answers = queries.iter().map(|query| {
                machine.read(query, 0).expect("nothing is due before the beginning of time")
            });
            let version = machine.last_version(index);
            (answers.collect(), Freshness { term, index, age_ms, version })
        })
    }

    /// Stops queues and replica and awaits their tasks.
    pub async fn shutdown(&self) {
        self.inner.cancel.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        self.inner.replica.shutdown().await;
    }

    /// Node that leads the group, as believed here.
    pub fn leader(&self) -> Option<NodeId> {
        self.inner.replica.leader().map(|leader| leader.node)
    }

    /// What callers are told if no majority was heard of for so long that they should not wait for one.
    pub fn lost_quorum(&self) -> Option<Error> {
        let replica = &self.inner.replica;
        replica.has_lost_quorum().then(|| replica.no_quorum())
    }

    /// Waits until the leading node, as believed here, is not `seen` any more.
    pub async fn leader_changed(&self, seen: Option<NodeId>) -> Option<NodeId> {
        let mut known = self.inner.replica.leader();
        // A new term under the same node is no change to those who route by node.
        while known.map(|leader| leader.node) == seen {
            known = self.inner.replica.leader_changed(known).await;
        }
        known.map(|leader| leader.node)
    }
}

/// Answers all reads at the leader, or tells the deadline that log time must reach first.
fn answer(
    machine: &Machine,
    queries: &[Query],
    now_ms: u64,
    touches: &Touches,
) -> Result<Vec<Answer>, u64> {
    let mut answers = Vec::with_capacity(queries.len());
    for query in queries {
        let answer = machine.read(query, now_ms).map_err(|Due(due_ms)| due_ms)?;
        if answer.hit() == Some(true)
            && let Some(hash) = query.key().and_then(|key| machine.wants_touch(key))
        {
            touches.push(hash);
        }
        answers.push(answer);
    }
    Ok(answers)
}
