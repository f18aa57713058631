//! Writers and readers that run while something happens to the cluster, and what they saw.
//!
//! Every key is a counter with one writer. A write whose outcome the writer does not know goes
//! again under the same request id until it is acknowledged, so the values of a key only grow: a
//! read that shows less than was acknowledged or read before it began has gone back in time, and a
//! write that was lost or applied a second time later shows in the same way.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use raftcache::core::ring;
use raftcache::core::slot::slot_of;
use raftcache::front::pb;
use raftcache::types::ShardId;
use raftcache::types::clock::{Instant, now};
use raftcache::types::task::spawn;
use tokio::task::JoinHandle;

use crate::client::{Client, client, get, set, value, within};
use crate::harness::ProcessCluster;
use crate::process::until;

/// How long a call may take before its caller asks another node, where nodes stand still.
pub const BRIEF: Duration = Duration::from_secs(1);
/// The same where every node answers or is gone.
pub const PATIENT: Duration = Duration::from_secs(5);
/// Pause after an acknowledged write, so that measurements are of the cluster and not of the
/// machine's load.
const PACE: Duration = Duration::from_millis(10);
const READERS: usize = 8;

/// How long may pass for what a quiet machine does within `promise`: `calm` is the longest gap that was
/// measured in the same run while nothing was wrong, and an election is a few such steps.
pub fn patience(promise: Duration, calm: Duration) -> Duration {
    promise + 10 * calm
}

#[derive(Debug)]
struct Counter {
    key: String,
    shard: ShardId,
    /// Last value that was sent.
    issued: AtomicU64,
    /// Largest value acknowledged or read.
    floor: AtomicU64,
    acks: Mutex<Acks>,
}

#[derive(Debug)]
struct Acks {
    count: u64,
    last: Instant,
    /// Longest time between two acknowledgements since the mark.
    gap: Duration,
    /// From the mark to the first acknowledgement of a call that began after it.
    first: Option<Duration>,
}

#[derive(Debug)]
struct State {
    clients: Vec<Client>,
    call: Duration,
    counters: Vec<Counter>,
    stop: AtomicBool,
    mark: Mutex<Instant>,
    reads: AtomicU64,
    /// Failed calls by outcome and reason.
    failures: Mutex<BTreeMap<String, u64>>,
    /// What must never happen.
    violations: Mutex<Vec<String>>,
}

/// A load under way.
#[derive(Debug)]
pub struct Load {
    state: Arc<State>,
    tasks: Vec<JoinHandle<Option<()>>>,
}

/// What a load saw since its mark.
#[derive(Debug)]
pub struct Seen {
    /// Failed calls by outcome and reason.
    pub failures: BTreeMap<String, u64>,
    /// Longest time without an acknowledged write, of any key.
    pub gap: Duration,
    pub writes: u64,
    pub reads: u64,
    /// By key: from the largest value acknowledged or read to the last one sent.
    pub keys: BTreeMap<String, RangeInclusive<u64>>,
}

impl Seen {
    /// Reads every key at every node that runs: nothing acknowledged is lost, and no node shows
    /// less than the one before.
    pub async fn check(&mut self, cluster: &ProcessCluster) {
        for at in cluster.up() {
            let mut client = client(&cluster.members[at].grpc);
            for (key, range) in &mut self.keys {
                let reply = client.get(within(get(key), PATIENT)).await.unwrap();
                let shown = number(reply.into_inner());
                let node = at + 1;
                assert!(
                    range.contains(&shown),
                    "{key} is {shown} at node {node}, not in {range:?}"
                );
                *range = shown..=*range.end();
            }
        }
    }
}

impl Load {
    /// Starts writers, one a key, and readers at all nodes. Comes back once every key was written.
    pub async fn start(
        cluster: &ProcessCluster,
        prefix: &str,
        keys: usize,
        (shards, call): (u16, Duration),
    ) -> Load {
        let shards: Vec<ShardId> = (0..shards).map(ShardId).collect();
        let owners = ring::assign(&shards);
        let counter = |i: usize| {
            let key = format!("{prefix}:{i}");
            let shard = owners[usize::from(slot_of(key.as_bytes()).0)];
            let acks = Acks { count: 0, last: now(), gap: Duration::ZERO, first: None };
            let (issued, floor) = (AtomicU64::new(0), AtomicU64::new(0));
            Counter { key, shard, issued, floor, acks: Mutex::new(acks) }
        };
        let state = Arc::new(State {
            clients: cluster.members.iter().map(|member| client(&member.grpc)).collect(),
            counters: (0..keys).map(counter).collect(),
            call,
            stop: AtomicBool::new(false),
            mark: Mutex::new(now()),
            reads: AtomicU64::new(0),
            failures: Mutex::default(),
            violations: Mutex::default(),
        });
        for shard in shards {
            let covered = state.counters.iter().any(|counter| counter.shard == shard);
            assert!(covered, "no key in {shard}: more keys are needed");
        }
        let writers = (0..keys).map(|i| spawn("writer", write(Arc::clone(&state), i)));
        let readers = (0..READERS).map(|i| spawn("reader", read(Arc::clone(&state), i)));
        let load = Load { tasks: writers.chain(readers).collect(), state };
        load.acknowledged(3).await;
        load
    }

    /// Waits until every key has so many more acknowledged writes.
    pub async fn acknowledged(&self, more: u64) {
        let counts = || self.state.counters.iter().map(|counter| counter.acks.lock().count);
        let goals: Vec<u64> = counts().map(|count| count + more).collect();
        until("more writes of every key", Duration::from_secs(30), async || {
            counts().zip(&goals).all(|(count, goal)| count >= *goal).then_some(())
        })
        .await;
    }

    /// What follows is measured from here.
    pub fn mark(&self) {
        let at = now();
        *self.state.mark.lock() = at;
        self.state.failures.lock().clear();
        for counter in &self.state.counters {
            let mut acks = counter.acks.lock();
            (acks.gap, acks.first) = (Duration::ZERO, None);
            acks.last = at;
        }
    }

    /// Longest time without an acknowledged write of a key while nothing is wrong, over `writes` of
    /// each: what this machine takes beside any fault.
    pub async fn calm(&self, writes: u64) -> Duration {
        self.mark();
        self.acknowledged(writes).await;
        self.gap()
    }

    /// For each shard, from the mark to its first write that began after it and was acknowledged.
    pub async fn writable_again(&self) -> BTreeMap<ShardId, Duration> {
        until("a write of every key since the mark", Duration::from_secs(30), async || {
            let mut shards = BTreeMap::new();
            for counter in &self.state.counters {
                let first = counter.acks.lock().first?;
                let shard: &mut Duration = shards.entry(counter.shard).or_insert(first);
                *shard = first.min(*shard);
            }
            Some(shards)
        })
        .await
    }

    /// Longest time without an acknowledged write of a key since the mark.
    pub fn gap(&self) -> Duration {
        self.state.counters.iter().map(|c| c.acks.lock().gap).max().unwrap_or_default()
    }

    /// The same by shard and by the node the key's writer asked first.
    pub fn gaps(&self) -> BTreeMap<(ShardId, usize), Duration> {
        let mut gaps = BTreeMap::new();
        for (at, counter) in self.state.counters.iter().enumerate() {
            let gap: &mut Duration = gaps.entry((counter.shard, at % 3)).or_default();
            *gap = counter.acks.lock().gap.max(*gap);
        }
        gaps
    }

    /// Failed calls since the mark by outcome and reason.
    pub fn failures(&self) -> BTreeMap<String, u64> {
        self.state.failures.lock().clone()
    }

    /// Ends the load and checks every key at every node that runs.
    pub async fn finish(self, cluster: &ProcessCluster) -> Seen {
        self.state.stop.store(true, Ordering::Relaxed);
        let (gap, failures) = (self.gap(), self.failures());
        for task in self.tasks {
            task.await.unwrap().expect("writers and readers do not panic");
        }
        let state = self.state;
        let violations = state.violations.lock().clone();
        assert!(violations.is_empty(), "{violations:#?}");
        let acks = |counter: &Counter| counter.acks.lock().count;
        let range = |counter: &Counter| {
            let issued = counter.issued.load(Ordering::Acquire);
            (counter.key.clone(), counter.floor.load(Ordering::Acquire)..=issued)
        };
        let mut seen = Seen {
            failures,
            gap,
            writes: state.counters.iter().map(acks).sum(),
            reads: state.reads.load(Ordering::Relaxed),
            keys: state.counters.iter().map(range).collect(),
        };
        seen.check(cluster).await;
        seen
    }
}

fn number(reply: pb::GetResponse) -> u64 {
    value(reply).map_or(0, |bytes| std::str::from_utf8(&bytes).unwrap().parse().unwrap())
}

impl State {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn failed(&self, what: &str, status: &tonic::Status) {
        let meta = |key: &str| status.metadata().get(key).and_then(|value| value.to_str().ok());
        let name = match (meta("raftcache-outcome"), meta("raftcache-reason")) {
            (Some(outcome), Some(reason)) => format!("{what} {outcome} {reason}"),
            _ => format!("{what} without outcome: {:?} {}", status.code(), status.message()),
        };
        *self.failures.lock().entry(name).or_default() += 1;
    }
}

async fn write(state: Arc<State>, at: usize) {
    let counter = &state.counters[at];
    let session = bytes::Bytes::copy_from_slice(&rand::random::<u128>().max(1).to_be_bytes());
    let mut turn = at;
    for next in 1.. {
        if state.stopped() {
            return;
        }
        counter.issued.store(next, Ordering::Release);
        let request_id =
            Some(pb::RequestId { session: session.clone(), sequence: next, sent: None });
        let message = pb::SetRequest { request_id, ..set(&counter.key, next.to_string()) };
        loop {
            let started = now();
            let mut client = state.clients[turn % state.clients.len()].clone();
            match client.set(within(message.clone(), state.call)).await {
                Ok(_) => {
                    counter.acknowledged(next, started, *state.mark.lock());
                    break;
                }
                Err(status) => state.failed("set", &status),
            }
            if state.stopped() {
                return;
            }
            // The same write, at another node.
            turn += 1;
            tokio::time::sleep(PACE).await;
        }
        tokio::time::sleep(PACE).await;
    }
}

impl Counter {
    fn acknowledged(&self, value: u64, started: Instant, mark: Instant) {
        self.floor.fetch_max(value, Ordering::AcqRel);
        let mut acks = self.acks.lock();
        let at = now();
        acks.count += 1;
        acks.gap = acks.gap.max(at.saturating_duration_since(acks.last));
        acks.last = at;
        if started >= mark && acks.first.is_none() {
            acks.first = Some(at - mark);
        }
    }
}

async fn read(state: Arc<State>, reader: usize) {
    let mut turn = reader;
    for at in (0..state.counters.len()).cycle().skip(reader * state.counters.len() / READERS) {
        if state.stopped() {
            return;
        }
        let counter = &state.counters[at];
        let floor = counter.floor.load(Ordering::Acquire);
        let mut client = state.clients[turn % state.clients.len()].clone();
        match client.get(within(get(&counter.key), state.call)).await {
            Ok(reply) => {
                let shown = number(reply.into_inner());
                let issued = counter.issued.load(Ordering::Acquire);
                counter.floor.fetch_max(shown, Ordering::AcqRel);
                state.reads.fetch_add(1, Ordering::Relaxed);
                if !(floor..=issued).contains(&shown) {
                    let key = &counter.key;
                    let problem = format!("{key}: read {shown}, not within {floor}..={issued}");
                    state.violations.lock().push(problem);
                }
            }
            Err(status) => {
                state.failed("get", &status);
                turn += 1;
            }
        }
        turn += READERS;
        tokio::time::sleep(PACE / 4).await;
    }
}
