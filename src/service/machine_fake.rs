//! Two nodes and two shards over real machines, without Raft: each node leads one shard and has no
//! replica of the other. What is about the other shard is forwarded, through the real codec.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::fake::{NoStatus, table};
use super::*;
use crate::core::machine::{Due, Machine, MachineConfig};
use crate::core::slot_set::SlotSet;
use crate::core::table::RoutingTable;
use crate::transport::{self, FrameKind, Transport};
use crate::types::clock::{Instant, now};
use crate::types::metrics::Metrics;
use crate::types::*;

/// Which shard owns a slot: odd ones and even ones.
fn owner(slot: u16) -> ShardId {
    ShardId(slot % 2)
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) machine: Machine,
    pub(super) index: u64,
    /// Writes that went through the log.
    pub(super) writes: Vec<Write>,
    /// What the next units get instead of being applied.
    pub(super) failures: Vec<Reason>,
}

#[derive(Clone, Debug)]
pub(super) struct MachineGroup {
    node: NodeId,
    pub(super) state: Arc<Mutex<State>>,
}

impl LocalGroup for MachineGroup {
    async fn write(&self, writes: Vec<Write>, _deadline: Instant) -> Result<Vec<Reply>, Error> {
        tokio::task::yield_now().await;
        let state = &mut *self.state.lock();
        if let Some(reason) = state.failures.pop() {
            return Err(reason.into());
        }
        state.index += 1;
        state.writes.extend(writes.clone());
        let mut replies = Vec::new();
        let batch = Batch { stamp_ms: 1_000 + state.index, touches: Vec::new(), writes };
        state.machine.apply(state.index, &batch, &mut replies);
        Ok(replies)
    }

    async fn read(
        &self,
        queries: Vec<Query>,
        _consistency: Consistency,
        _deadline: Instant,
    ) -> Result<(Vec<Answer>, Freshness), Error> {
        tokio::task::yield_now().await;
        let state = self.state.lock();
        let answers: Result<Vec<Answer>, Due> =
            queries.iter().map(|query| state.machine.read(query, 0)).collect();
        let version = state.machine.last_version(state.index);
        let freshness = Freshness { term: 1, index: state.index, age_ms: 0, version };
        Ok((answers.expect("a follower's read is never due"), freshness))
    }

    async fn get_or_lease(&self, _: &GetOrLease, _: Instant) -> Result<Leased, Error> {
        Ok(Leased::Busy)
    }

    fn leader(&self) -> Option<NodeId> {
        Some(self.node)
    }

    async fn leader_changed(&self, seen: Option<NodeId>) -> Option<NodeId> {
        match seen == Some(self.node) {
            true => std::future::pending().await,
            false => Some(self.node),
        }
    }
}

#[derive(Default)]
struct Net {
    services: Mutex<BTreeMap<NodeId, Service<MachineGroup>>>,
    /// Largest answer that passed.
    answer_bytes: Mutex<usize>,
}

struct Wire {
    node: NodeId,
    net: Arc<Net>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wire({})", self.node)
    }
}

impl Transport for Wire {
    fn call(
        &self,
        to: NodeId,
        group: GroupId,
        _kind: FrameKind,
        payload: Bytes,
        _deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, transport::Error>> {
        let (net, from) = (Arc::clone(&self.net), self.node);
        Box::pin(async move {
            let service = net.services.lock()[&to].clone();
            let answer = service.handle_forward(from, group, payload).await;
            let answer =
                answer.map_err(|error| transport::Error::Refused { peer: to, detail: error.0 })?;
            let mut largest = net.answer_bytes.lock();
            *largest = (*largest).max(answer.len());
            Ok(answer)
        })
    }

    fn is_connected(&self, _peer: NodeId) -> bool {
        true
    }

    fn set_address(&self, _peer: NodeId, _address: &str) {}

    fn call_address(
        &self,
        _address: &str,
        _kind: FrameKind,
        _payload: Bytes,
        _deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, transport::Error>> {
        unreachable!("the service calls no addresses")
    }
}

/// Node 1 leads shard 0, node 2 shard 1.
pub(super) struct Pair {
    pub(super) nodes: Vec<Service<MachineGroup>>,
    pub(super) groups: Vec<MachineGroup>,
    pub(super) metrics: Vec<Arc<Metrics>>,
    tables: Vec<watch::Sender<Arc<RoutingTable>>>,
    net: Arc<Net>,
}

fn table_of_two() -> RoutingTable {
    let mut table = table(1, &[1]);
    let second = table.shards[&ShardId(0)].clone();
    table.shards.insert(ShardId(1), second);
    let placed = table.shards.get_mut(&ShardId(1)).expect("inserted above");
    placed.replicas[0].node = NodeId(2);
    table.slots = (0..SLOTS).map(owner).collect();
    table
}

impl Pair {
    pub(super) fn new() -> Self {
        let net = Arc::new(Net::default());
        let mut pair = Pair {
            nodes: Vec::new(),
            groups: Vec::new(),
            metrics: Vec::new(),
            tables: Vec::new(),
            net: Arc::clone(&net),
        };
        for shard in [ShardId(0), ShardId(1)] {
            let node = NodeId(u64::from(shard.0) + 1);
            let owned: SlotSet =
                (0..SLOTS).filter(|slot| owner(*slot) == shard).map(Slot).collect();
            let config =
                MachineConfig { bytes_max: 256 << 20, hash_seed: 7, versions_from: 0, owned };
            let machine = Machine::new(config);
            let (writes, failures) = (Vec::new(), Vec::new());
            let state = State { machine, index: 0, writes, failures };
            let group = MachineGroup { node, state: Arc::new(Mutex::new(state)) };
            let registry = Registry::default();
            registry.insert(GroupId::of_shard(shard), group.clone());
            let (sender, table) = watch::channel(Arc::new(table_of_two()));
            let metrics = Metrics::new();
            let service = Service::new(Parts {
                node,
                options: Options::default(),
                registry,
                transport: Arc::new(Wire { node, net: Arc::clone(&net) }),
                table,
                epoch_seen: Arc::new(watch::Sender::new(RoutingEpoch(1))),
                metrics: Arc::clone(&metrics),
                status: Arc::new(NoStatus),
                alarms: Arc::new(super::NoController),
                session_seed: u128::from(node.0) << 64,
            });
            net.services.lock().insert(node, service.clone());
            pair.nodes.push(service);
            pair.groups.push(group);
            pair.metrics.push(metrics);
            pair.tables.push(sender);
        }
        pair
    }

    /// Runs an operation at a node, 0 or 1.
    pub(super) async fn ask(&self, node: usize, operation: Operation) -> Result<Response, Error> {
        self.ask_as(node, operation, None).await
    }

    /// The same under the caller's id.
    pub(super) async fn ask_as(
        &self,
        node: usize,
        operation: Operation,
        request_id: Option<RequestId>,
    ) -> Result<Response, Error> {
        let (arrived, deadline) = (now(), now() + Duration::from_secs(5));
        let request_id = request_id.map(Into::into);
        let request = Request { operation, request_id, arrived, deadline, trace: 0 };
        self.nodes[node].execute(request).await
    }

    /// Another table at both nodes.
    pub(super) fn change_table(&self, change: impl Fn(&mut RoutingTable)) {
        for sender in &self.tables {
            sender.send_modify(|table| change(Arc::make_mut(table)));
        }
    }

    pub(super) fn largest_answer(&self) -> usize {
        *self.net.answer_bytes.lock()
    }

    /// How often both nodes refused something for this limit.
    pub(super) fn refused(&self, limit: &str) -> u64 {
        self.metrics.iter().map(|metrics| metrics.refused.with_label_values(&[limit]).get()).sum()
    }

    /// Writes that went through the logs of both.
    pub(super) fn writes(&self) -> usize {
        self.groups.iter().map(|group| group.state.lock().writes.len()).sum()
    }
}
