//! One timer a node beats for all its groups: their heartbeats leave together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::core::machine::{Machine, MachineConfig};
use crate::core::slot_set::SlotSet;
use crate::raft::heartbeat::Heartbeats;
use crate::raft::lost_replicas::LostReplicas;
use crate::raft::replica::{Replica, ReplicaDeps};
use crate::raft::settings::RaftSettings;
use crate::raft::testkit::{Cluster, Options, Tapped, Wire, WiredTransport};
use crate::storage::health::Reporter;
use crate::storage::sim_files::SimFiles;
use crate::storage::snapshot_files::SnapshotFiles;
use crate::transport::sim::SimNetwork;
use crate::transport::{FrameKind, Handler, Refusal};
use crate::types::clock::{Instant, now};
use crate::types::metrics::Metrics;
use crate::types::{GroupId, LogKey, NodeId, ReplicaId};

const GROUPS: u32 = 16;

#[derive(Clone, Default)]
struct Groups(Arc<RwLock<BTreeMap<GroupId, Replica<Machine>>>>);

impl Handler for Groups {
    fn handle(
        &self,
        from: NodeId,
        group: GroupId,
        kind: FrameKind,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        let replica = self.0.read().get(&group).cloned();
        Box::pin(async move {
            let replica = replica.ok_or_else(|| Refusal("no such group".to_owned()))?;
            replica.handle(from, kind, payload).await
        })
    }
}

/// Frames to one peer, and the moments at which they left, in five seconds of idle groups.
async fn frames_and_moments(one_timer: bool) -> (usize, usize) {
    crate::raft::runtime::seed_thread(1);
    let (network, interval) = (SimNetwork::new(1), Duration::from_millis(150));
    let (cancel, metrics) = (CancellationToken::new(), Metrics::new());
    let _stop = cancel.clone().drop_guard();
    let (wire, mut nodes) = (Wire::default(), BTreeMap::new());
    for node in (1..=3).map(NodeId) {
        let handler = Groups::default();
        network.register(node, Arc::new(handler.clone()));
        let wire = if node == NodeId(1) { wire.clone() } else { Wire::default() };
        let mut deps = ReplicaDeps {
            transport: Arc::new(WiredTransport { inner: network.transport(node), wire }),
            wal: None,
            files: Arc::new(SnapshotFiles::new(SimFiles::new(node.0), "/snapshots").unwrap()),
            storage: Reporter::unwatched(Arc::clone(&metrics)),
            lost: LostReplicas::default(),
            heartbeats: Heartbeats::start(interval, cancel.clone()),
            settings: RaftSettings::default(),
            metrics: Arc::clone(&metrics),
        };
        for group in (1..=GROUPS).map(GroupId) {
            if !one_timer {
                // A timer for each group, as openraft has it.
                tokio::time::sleep(Duration::from_millis(7)).await;
                deps.heartbeats = Heartbeats::start(interval, cancel.clone());
            }
            let config = MachineConfig {
                bytes_max: 1 << 20,
                hash_seed: 3,
                versions_from: 0,
                owned: SlotSet::all(),
            };
            let key = LogKey { group, replica: ReplicaId(node.0) };
            let machine = Machine::new(config);
            let replica =
                Box::pin(Replica::start(key, node, machine, false, deps.clone())).await.unwrap();
            handler.0.write().insert(group, replica);
        }
        nodes.insert(node, handler);
    }
    let members: Vec<_> = (1..=3).map(|id| (ReplicaId(id), NodeId(id))).collect();
    let first: Vec<_> = nodes[&NodeId(1)].0.read().values().cloned().collect();
    for replica in &first {
        replica.initialize(&members).await.unwrap();
    }
    for replica in &first {
        let deadline = now() + Duration::from_secs(30);
        while replica.barrier(now() + Duration::from_secs(1)).await.is_err() {
            assert!(now() < deadline, "who initializes a group leads it");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    // Idle: what was to be replicated has been.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let seen: Arc<parking_lot::Mutex<(usize, BTreeSet<Instant>)>> = Arc::default();
    let record = Arc::clone(&seen);
    wire.tap(move |to, kind, _| {
        if to == NodeId(2) && kind == FrameKind::Append {
            let mut record = record.lock();
            record.0 += 1;
            record.1.insert(now());
        }
        Tapped::Pass
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    wire.untap();
    assert!(first.iter().all(Replica::is_leader), "this timer alone keeps all leaderships");
    let seen = seen.lock();
    (seen.0, seen.1.len())
}

#[tokio::test(start_paused = true)]
async fn heartbeats_of_all_groups_leave_together() {
    let (frames, moments) = frames_and_moments(true).await;
    assert!(frames >= 16 * 30, "{frames} heartbeats: each group beats");
    assert!(frames >= 8 * moments, "{frames} heartbeats left at {moments} moments");
}

#[tokio::test(start_paused = true)]
async fn with_a_timer_for_each_group_they_would_not() {
    let (frames, moments) = frames_and_moments(false).await;
    assert!(frames < 8 * moments, "{frames} heartbeats left at {moments} moments");
}

#[tokio::test(start_paused = true)]
async fn no_other_timer_beats() {
    let cluster = Cluster::with(Options::default()).await;
    let (_, group) = cluster.leader(&[]).await;
    let term = group.replica().progress().term;
    // All timers stop; followers must notice.
    cluster.cancel.cancel();
    cluster
        .until("another term begins", |c| {
            c.groups.values().any(|g| g.replica().progress().term > term)
        })
        .await;
}
