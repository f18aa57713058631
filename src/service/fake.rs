//! A shard and a cluster for the service's tests: no Raft, every fault on request.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::sleep_until;

pub(super) use super::fake_net::Cut;
use super::fake_net::{FakeTransport, Handle, Net};
use super::*;
use crate::core::table::{NodeInfo, ReplicaPlacement, RoutingTable, ShardPlacement};
use crate::types::clock::{Instant, now};
use crate::types::metrics::Metrics;
use crate::types::*;

pub(super) const GROUP: GroupId = GroupId(1);
pub(super) const SHARD: ShardId = ShardId(0);

/// What a group does with the next writes.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// Applies them, then says that leadership was lost.
    LoseAfterApply,
    /// Says that leadership was lost, applies nothing.
    LoseBeforeApply,
    /// Neither applies nor answers before the deadline.
    Hang,
    /// Applies them after this time.
    Slow(Duration),
    /// Fails so.
    Fail(Reason),
    /// Each write is refused so.
    Refuse(Refusal),
}

/// The one state all replicas show: a group that always agrees.
#[derive(Debug)]
pub(super) struct FakeShard {
    pub(super) leader: watch::Sender<Option<NodeId>>,
    /// Nodes whose replica heard of no majority for too long.
    pub(super) lost: watch::Sender<Vec<NodeId>>,
    pub(super) state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) values: BTreeMap<Bytes, (Value, Version)>,
    pub(super) sessions: BTreeMap<RequestId, Reply>,
    /// Every write that took effect.
    pub(super) applied: Vec<Write>,
    /// Every write that was proposed, with the node it was proposed at.
    pub(super) proposed: Vec<(NodeId, Write)>,
    pub(super) faults: VecDeque<Fault>,
    pub(super) reads_at: Vec<(NodeId, Consistency)>,
    pub(super) age_ms: BTreeMap<NodeId, u64>,
    /// Answers to come of `get_or_lease`; without any, nobody answers until the leader changes.
    pub(super) leased: VecDeque<Leased>,
    /// Where it was asked, and how.
    pub(super) leases_at: Vec<(NodeId, GetOrLease)>,
}

#[derive(Clone, Debug)]
pub(super) struct FakeGroup {
    pub(super) node: NodeId,
    pub(super) shard: Arc<FakeShard>,
}

impl FakeShard {
    fn not_leader(&self) -> Error {
        Reason::NotLeader { group: GroupId::of_shard(SHARD), leader: *self.leader.borrow() }.into()
    }
}

impl State {
    fn apply(&mut self, write: &Write) -> Reply {
        if let Some(reply) = write.request_id.and_then(|once| self.sessions.get(&once.id)) {
            return reply.clone();
        }
        self.applied.push(write.clone());
        let version = Version(self.applied.len() as u64);
        let reply = match &write.command {
            Command::Set(set) => {
                self.values.insert(set.key.clone(), (set.value.clone(), version));
                Reply::Set { version }
            }
            Command::Delete(delete) => match self.values.remove(&delete.key) {
                Some((_, version)) => Reply::Deleted { version },
                None => Reply::NotFound,
            },
            _ => Reply::Done,
        };
        if let Some(once) = write.request_id {
            self.sessions.insert(once.id, reply.clone());
        }
        reply
    }
}

impl LocalGroup for FakeGroup {
    async fn write(&self, writes: Vec<Write>, deadline: Instant) -> Result<Vec<Reply>, Error> {
        // One turn of the executor: real proposals never answer at once, so callers pile up.
        tokio::task::yield_now().await;
        if let Some(error) = self.lost_quorum() {
            return Err(error);
        }
        if *self.shard.leader.borrow() != Some(self.node) {
            return Err(self.shard.not_leader());
        }
        let lost = || Error::from(Reason::Lost { detail: "leader changed".to_owned() });
        let fault = {
            let mut state = self.shard.state.lock();
            state.proposed.extend(writes.iter().map(|write| (self.node, write.clone())));
            let fault = state.faults.pop_front();
            match &fault {
                None => return Ok(writes.iter().map(|write| state.apply(write)).collect()),
                Some(Fault::LoseAfterApply) => {
                    for write in &writes {
                        state.apply(write);
                    }
                }
                Some(_) => {}
            }
            fault
        };
        match fault.expect("without a fault the writes were applied above") {
            Fault::LoseAfterApply | Fault::LoseBeforeApply => Err(lost()),
            Fault::Hang => {
                sleep_until(deadline).await;
                Err(Reason::DeadlineAfterPropose.into())
            }
            Fault::Slow(time) => {
                tokio::time::sleep(time).await;
                let mut state = self.shard.state.lock();
                Ok(writes.iter().map(|write| state.apply(write)).collect())
            }
            Fault::Fail(reason) => Err(reason.into()),
            Fault::Refuse(refusal) => {
                Ok(writes.iter().map(|_| Reply::Refused(refusal.clone())).collect())
            }
        }
    }

    async fn read(
        &self,
        queries: Vec<Query>,
        consistency: Consistency,
        _deadline: Instant,
    ) -> Result<(Vec<Answer>, Freshness), Error> {
        tokio::task::yield_now().await;
        if let (Consistency::Linearizable | Consistency::Lease, Some(error)) =
            (consistency, self.lost_quorum())
        {
            return Err(error);
        }
        let mut state = self.shard.state.lock();
        let age_ms = state.age_ms.get(&self.node).copied().unwrap_or(0);
        let leads = *self.shard.leader.borrow() == Some(self.node);
        match consistency {
            Consistency::Linearizable | Consistency::Lease if !leads => {
                return Err(self.shard.not_leader());
            }
            Consistency::Bounded { staleness_ms_max } if age_ms > staleness_ms_max => {
                return Err(Reason::TooStale { age_ms, staleness_ms_max }.into());
            }
            _ => {}
        }
        state.reads_at.extend(queries.iter().map(|_| (self.node, consistency)));
        let found = |query: &Query| {
            let (value, version) = state.values.get(query.key()?)?.clone();
            Some(Found { value, version, ttl_ms: None })
        };
        let found = |query: &Query| Answer::Value(found(query));
        let index = state.applied.len() as u64;
        let freshness = Freshness { term: 1, index, age_ms, ..Freshness::default() };
        Ok((queries.iter().map(found).collect(), freshness))
    }

    async fn get_or_lease(&self, ask: &GetOrLease, deadline: Instant) -> Result<Leased, Error> {
        if *self.shard.leader.borrow() != Some(self.node) {
            return Err(self.shard.not_leader());
        }
        let leased = {
            let mut state = self.shard.state.lock();
            state.leases_at.push((self.node, ask.clone()));
            state.leased.pop_front()
        };
        if let Some(leased) = leased {
            return Ok(leased);
        }
        tokio::select! {
            biased;
            _ = self.leader_changed(Some(self.node)) => Err(self.shard.not_leader()),
            () = sleep_until(deadline) => Ok(Leased::Busy),
        }
    }

    fn lost_quorum(&self) -> Option<Error> {
        let reason = Reason::NoQuorum { group: GROUP, silent_ms: 2_000 };
        self.shard.lost.borrow().contains(&self.node).then(|| reason.into())
    }

    fn leader(&self) -> Option<NodeId> {
        if self.lost_quorum().is_some() {
            return None;
        }
        *self.shard.leader.borrow()
    }

    async fn leader_changed(&self, seen: Option<NodeId>) -> Option<NodeId> {
        let (mut leaders, mut lost) = (self.shard.leader.subscribe(), self.shard.lost.subscribe());
        loop {
            let known = self.leader();
            if known != seen {
                return known;
            }
            tokio::select! {
                biased;
                changed = leaders.changed() => changed.expect("the shard lives"),
                changed = lost.changed() => changed.expect("the shard lives"),
            }
        }
    }
}

pub(super) struct NoStatus;

impl StatusSource for NoStatus {
    fn replicas(&self) -> Vec<ReplicaStatus> {
        Vec::new()
    }

    fn not_ready_because(&self) -> Vec<String> {
        Vec::new()
    }

    fn durability(&self) -> &'static str {
        ""
    }
}

/// Nodes 1..=n, one shard with replicas on some of them.
pub(super) struct Cluster {
    pub(super) shard: Arc<FakeShard>,
    pub(super) net: Arc<Net>,
    pub(super) nodes: BTreeMap<NodeId, Service<FakeGroup>>,
    pub(super) metrics: BTreeMap<NodeId, Arc<Metrics>>,
    pub(super) tables: BTreeMap<NodeId, watch::Sender<Arc<RoutingTable>>>,
    pub(super) epochs: BTreeMap<NodeId, watch::Receiver<RoutingEpoch>>,
}

/// The table of a cluster with one shard.
pub(super) fn table(epoch: u64, replicas: &[u64]) -> RoutingTable {
    let place =
        |node: &u64| ReplicaPlacement { replica: ReplicaId(*node + 100), node: NodeId(*node) };
    let placement = ShardPlacement {
        generation: Generation(1),
        bytes_max: 1 << 20,
        hash_seed: 7,
        replicas: replicas.iter().map(place).collect(),
    };
    RoutingTable {
        epoch: RoutingEpoch(epoch),
        cluster_id: 1,
        slots: vec![SHARD; usize::from(SLOTS)],
        shards: BTreeMap::from([(SHARD, placement)]),
        nodes: BTreeMap::<NodeId, NodeInfo>::new(),
        ..RoutingTable::default()
    }
}

impl Cluster {
    pub(super) fn new(nodes: u64, replicas: &[u64], leader: Option<u64>) -> Self {
        Self::with_options(nodes, replicas, leader, &Options::default())
    }

    pub(super) fn with_options(
        nodes: u64,
        replicas: &[u64],
        leader: Option<u64>,
        options: &Options,
    ) -> Self {
        let leader = watch::Sender::new(leader.map(NodeId));
        let mut cluster = Cluster {
            shard: Arc::new(FakeShard {
                leader,
                lost: watch::Sender::new(Vec::new()),
                state: Mutex::default(),
            }),
            net: Arc::default(),
            nodes: BTreeMap::new(),
            metrics: BTreeMap::new(),
            tables: BTreeMap::new(),
            epochs: BTreeMap::new(),
        };
        for node in (1..=nodes).map(NodeId) {
            cluster.add(node, replicas, options.clone());
        }
        cluster
    }

    fn add(&mut self, node: NodeId, replicas: &[u64], options: Options) {
        let (table_sender, table) = watch::channel(Arc::new(table(1, replicas)));
        let epoch_seen = Arc::new(watch::Sender::new(RoutingEpoch(1)));
        let metrics = Metrics::new();
        let registry = Registry::default();
        if replicas.contains(&node.0) {
            registry.insert(GROUP, FakeGroup { node, shard: Arc::clone(&self.shard) });
        }
        self.epochs.insert(node, epoch_seen.subscribe());
        let service = Service::new(Parts {
            node,
            options,
            registry,
            transport: Arc::new(FakeTransport { node, net: Arc::clone(&self.net) }),
            table,
            epoch_seen,
            metrics: Arc::clone(&metrics),
            status: Arc::new(NoStatus),
            alarms: Arc::new(super::NoController),
            session_seed: u128::from(node.0) << 64,
        });
        self.net.services.lock().insert(node, Handle(service.clone()));
        self.nodes.insert(node, service);
        self.metrics.insert(node, metrics);
        self.tables.insert(node, table_sender);
    }

    pub(super) fn node(&self, node: u64) -> Service<FakeGroup> {
        self.nodes[&NodeId(node)].clone()
    }

    pub(super) fn lead(&self, leader: Option<u64>) {
        self.shard.leader.send_replace(leader.map(NodeId));
    }

    /// Replicas of these nodes heard of no majority for too long.
    pub(super) fn lose_quorum(&self, nodes: &[u64]) {
        self.shard.lost.send_replace(nodes.iter().map(|node| NodeId(*node)).collect());
    }

    pub(super) fn fault(&self, fault: Fault) {
        self.shard.state.lock().faults.push_back(fault);
    }

    pub(super) fn cut(&self, to: u64, cut: Cut) {
        self.net.cuts.lock().push_back((NodeId(to), cut));
    }

    pub(super) fn applied(&self) -> usize {
        self.shard.state.lock().applied.len()
    }

    pub(super) fn proposed_at(&self) -> Vec<u64> {
        self.shard.state.lock().proposed.iter().map(|(node, _)| node.0).collect()
    }

    /// Under which names it was proposed.
    pub(super) fn asked(&self) -> Vec<Once> {
        self.shard.state.lock().proposed.iter().filter_map(|(_, write)| write.request_id).collect()
    }

    pub(super) fn frames(&self) -> Vec<u64> {
        self.net.frames.lock().iter().map(|node| node.0).collect()
    }
}

/// Sets `key` to itself, within `ms`.
pub(super) fn set(key: &str, ms: u64) -> Request {
    let value = Value { data: Bytes::from(key.to_owned()), kind: ValueKind::Bytes };
    let key = Bytes::from(key.to_owned());
    let set = Set { key, value, expiry: Expiry::Never, condition: Condition::Always };
    Request {
        operation: Operation::Write(Command::Set(set)),
        request_id: None,
        arrived: now(),
        deadline: now() + Duration::from_millis(ms),
        trace: 0,
    }
}

/// Reads `key`, within `ms`.
pub(super) fn get(key: &str, consistency: Consistency, ms: u64) -> Request {
    Request {
        operation: Operation::Read {
            query: Query::Get { key: Bytes::from(key.to_owned()) },
            consistency,
        },
        request_id: None,
        arrived: now(),
        deadline: now() + Duration::from_millis(ms),
        trace: 0,
    }
}
