//! A group of three over the simulated network, under virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use super::heartbeat::Heartbeats;
use super::replica::ReplicaDeps;
use super::settings::RaftSettings;
use super::shard_group::ShardGroup;
use crate::core::machine::MachineConfig;
use crate::core::slot_set::SlotSet;
use crate::storage::sim_files::SimFiles;
use crate::storage::snapshot_files::SnapshotFiles;
use crate::transport::sim::SimNetwork;
use crate::transport::{FrameKind, Handler, Refusal};
use crate::types::clock::{Instant, SimClock, now};
use crate::types::metrics::Metrics;
use crate::types::{
    Command, Condition, Consistency, Error, Expiry, GroupId, LogKey, NodeId, Query, Reason,
    ReplicaId, Reply, Set, Value, ValueKind, Write,
};

const GROUP: GroupId = GroupId(1);

#[derive(Clone, Default)]
struct NodeHandler {
    group: Arc<RwLock<Option<ShardGroup>>>,
}

impl Handler for NodeHandler {
    fn handle(
        &self,
        from: NodeId,
        _group: GroupId,
        kind: FrameKind,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        let group = self.group.read().clone();
        Box::pin(async move {
            let group = group.ok_or_else(|| Refusal("no such group".to_owned()))?;
            group.replica().handle(from, kind, payload).await
        })
    }
}

struct Cluster {
    network: SimNetwork,
    groups: BTreeMap<NodeId, ShardGroup>,
    clocks: BTreeMap<NodeId, Arc<SimClock>>,
    metrics: Arc<Metrics>,
    cancel: CancellationToken,
}

impl Cluster {
    async fn start(settings: RaftSettings, bytes_max: u64) -> Self {
        super::runtime::seed_thread(7);
        let network = SimNetwork::new(7);
        let (metrics, cancel) = (Metrics::new(), CancellationToken::new());
        let (mut groups, mut clocks) = (BTreeMap::new(), BTreeMap::new());
        for id in 1..=3u64 {
            let node = NodeId(id);
            let handler = NodeHandler::default();
            network.register(node, Arc::new(handler.clone()));
            let deps = ReplicaDeps {
                transport: network.transport(node),
                wal: None,
                files: Arc::new(SnapshotFiles::new(SimFiles::new(id), "/snapshots").unwrap()),
                heartbeats: Heartbeats::start(
                    Duration::from_millis(settings.heartbeat_ms),
                    cancel.clone(),
                ),
                settings: settings.clone(),
                metrics: Arc::clone(&metrics),
            };
            let machine = MachineConfig { bytes_max, hash_seed: 3, owned: SlotSet::all() };
            let key = LogKey { group: GROUP, replica: ReplicaId(id) };
            let clock = SimClock::new(1_000_000_000);
            let group =
                ShardGroup::start(key, node, machine, false, deps, clock.clone()).await.unwrap();
            *handler.group.write() = Some(group.clone());
            groups.insert(node, group);
            clocks.insert(node, clock);
        }
        let cluster = Cluster { network, groups, clocks, metrics, cancel };
        let members: Vec<_> = (1..=3).map(|id| (ReplicaId(id), NodeId(id))).collect();
        cluster.groups[&NodeId(1)].replica().initialize(&members).await.unwrap();
        cluster
    }

    /// A leader that a majority acknowledges, among those not in `without`.
    async fn leader(&self, without: &[NodeId]) -> (NodeId, ShardGroup) {
        let deadline = now() + Duration::from_secs(60);
        loop {
            for (node, group) in &self.groups {
                if !without.contains(node)
                    && group.replica().is_leader()
                    && group.replica().barrier(now() + Duration::from_secs(2)).await.is_ok()
                {
                    return (*node, group.clone());
                }
            }
            assert!(now() < deadline, "no leader within a minute");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn wait_equal(&self) {
        let deadline = now() + Duration::from_secs(60);
        loop {
            let states: Vec<_> = self
                .groups
                .values()
                .map(|g| g.replica().with_applied(|m, _, i| (i, m.digest(), m.recency_digest())))
                .collect();
            if states.windows(2).all(|w| w[0] == w[1]) {
                return;
            }
            assert!(now() < deadline, "replicas did not become equal: {states:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn set(key: &str, value: &str, expiry: Expiry) -> Write {
    Write {
        request_id: None,
        command: Command::Set(Set {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Value { data: Bytes::copy_from_slice(value.as_bytes()), kind: ValueKind::Text },
            expiry,
            condition: Condition::Always,
        }),
    }
}

fn soon() -> Instant {
    now() + Duration::from_secs(5)
}

async fn get(
    group: &ShardGroup,
    key: &str,
    consistency: Consistency,
) -> Result<Option<Bytes>, Error> {
    let query = Query { key: Bytes::copy_from_slice(key.as_bytes()) };
    let (found, _) = group.read(vec![query], consistency, soon()).await?;
    Ok(found.into_iter().next().flatten().map(|f| f.value.data))
}

#[tokio::test(start_paused = true)]
async fn set_and_get() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (_, leader) = cluster.leader(&[]).await;
    let replies = leader.write(vec![set("a", "1", Expiry::Never)], soon()).await.unwrap();
    assert!(matches!(replies[..], [Reply::Set { .. }]));
    let read = get(&leader, "a", Consistency::Linearizable).await.unwrap();
    assert_eq!(read.as_deref(), Some(&b"1"[..]));
    cluster.wait_equal().await;
    assert_eq!(cluster.metrics.digest_mismatches.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_follower_refuses_and_hints() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (node, _) = cluster.leader(&[]).await;
    let (_, follower) = cluster.groups.iter().find(|(n, _)| **n != node).unwrap();
    follower.replica().leader_changed(None).await;
    let error = follower.write(vec![set("a", "1", Expiry::Never)], soon()).await.unwrap_err();
    assert_eq!(error.reason, Reason::NotLeader { group: GROUP, leader: Some(node) });
    let error = get(follower, "a", Consistency::Linearizable).await.unwrap_err();
    assert_eq!(error.reason, Reason::NotLeader { group: GROUP, leader: Some(node) });
}

#[tokio::test(start_paused = true)]
async fn a_cut_off_leader_serves_no_stale_read() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (old, old_group) = cluster.leader(&[]).await;
    old_group.write(vec![set("a", "1", Expiry::Never)], soon()).await.unwrap();
    let others: Vec<_> = cluster.groups.keys().copied().filter(|n| *n != old).collect();
    cluster.network.partition(&[&[old], &others]);
    let (_, new) = cluster.leader(&[old]).await;
    new.write(vec![set("a", "2", Expiry::Never)], soon()).await.unwrap();
    assert!(old_group.replica().is_leader(), "the old leader has not noticed");
    let stale = get(&old_group, "a", Consistency::Linearizable).await;
    assert!(stale.is_err(), "a leader without a quorum answered {stale:?}");
    let write = old_group.write(vec![set("a", "3", Expiry::Never)], soon()).await.unwrap_err();
    // openraft stops calling itself leader once its lease is over; before, the write is proposed.
    let honest = matches!(write.reason, Reason::NotLeader { .. } | Reason::DeadlineAfterPropose);
    assert!(honest, "INV-5: {write}");
    cluster.network.heal();
    cluster.wait_equal().await;
}

#[tokio::test(start_paused = true)]
async fn expiry_survives_a_slow_successor() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (old, group) = cluster.leader(&[]).await;
    for (node, clock) in &cluster.clocks {
        if *node != old {
            clock.jump(-10_000);
        }
    }
    group.write(vec![set("a", "1", Expiry::AfterMs(1_000))], soon()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_001)).await;
    assert_eq!(get(&group, "a", Consistency::Linearizable).await.unwrap(), None);
    cluster.network.unregister(old);
    let others: Vec<_> = cluster.groups.keys().copied().filter(|n| *n != old).collect();
    cluster.network.partition(&[&[old], &others]);
    let (_, new) = cluster.leader(&[old]).await;
    assert_eq!(get(&new, "a", Consistency::Linearizable).await.unwrap(), None, "INV-4");
}

#[tokio::test(start_paused = true)]
async fn a_cut_off_follower_catches_up_by_log_and_by_snapshot() {
    for by_snapshot in [false, true] {
        let cluster = Cluster::start(RaftSettings::default(), 8 << 20).await;
        let (node, leader) = cluster.leader(&[]).await;
        let (lost, _) = cluster.groups.iter().find(|(n, _)| **n != node).unwrap();
        let others: Vec<_> = cluster.groups.keys().copied().filter(|n| n != lost).collect();
        cluster.network.partition(&[&[*lost], &others]);
        for i in 0..200 {
            let key = format!("key-{i}");
            leader.write(vec![set(&key, &"v".repeat(2_000), Expiry::Never)], soon()).await.unwrap();
        }
        if by_snapshot {
            leader.replica().snapshot_now(soon()).await.unwrap();
            leader.replica().purge_to_snapshot().await.unwrap();
            leader.write(vec![set("after", "x", Expiry::Never)], soon()).await.unwrap();
        }
        cluster.network.heal();
        cluster.wait_equal().await;
        let snapshot = cluster.groups[lost].replica().progress().snapshot_index;
        assert_eq!(snapshot > 0, by_snapshot, "caught up by snapshot {snapshot}");
    }
}

#[tokio::test(start_paused = true)]
async fn leadership_is_handed_over() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (old, group) = cluster.leader(&[]).await;
    group.write(vec![set("a", "1", Expiry::Never)], soon()).await.unwrap();
    let before = now();
    group.replica().hand_over(soon()).await.unwrap();
    let (new, _) = cluster.leader(&[]).await;
    assert_ne!(new, old);
    assert!(now() - before < Duration::from_millis(500), "no election time-out was waited for");
}

#[tokio::test(start_paused = true)]
async fn followers_know_their_age() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (node, leader) = cluster.leader(&[]).await;
    leader.write(vec![set("a", "1", Expiry::Never)], soon()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (cut, follower) = cluster.groups.iter().find(|(n, _)| **n != node).unwrap();
    let bounded = Consistency::Bounded { staleness_ms_max: 1_000 };
    assert_eq!(get(follower, "a", bounded).await.unwrap().as_deref(), Some(&b"1"[..]));
    let others: Vec<_> = cluster.groups.keys().copied().filter(|n| n != cut).collect();
    cluster.network.partition(&[&[*cut], &others]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let error = get(follower, "a", bounded).await.unwrap_err();
    assert!(matches!(error.reason, Reason::TooStale { age_ms: 3_000.., .. }), "{error}");
    assert!(get(follower, "a", Consistency::Stale).await.unwrap().is_some());
}
