use std::collections::BTreeSet;

use proptest::prelude::*;

use super::alarms::AlarmKind;
use super::*;
use crate::types::SLOTS;
use crate::types::limits::LOST_REPORTED_MAX;

/// What the clock of the controller's leader shows.
pub(super) const NOW_MS: u64 = 1_700_000_000_000;

fn info(store_id: u128, zone: &str) -> NodeInfo {
    NodeInfo {
        store_id,
        peer_addr: format!("peer-{store_id}:7000"),
        grpc_addr: format!("grpc-{store_id}:7001"),
        http_addr: format!("http-{store_id}:7002"),
        zone: zone.to_owned(),
        resp_addr: String::new(),
    }
}

pub(super) fn register(node: u64, incarnation: u64) -> ClusterCommand {
    register_lost(node, incarnation, &[])
}

pub(super) fn register_lost(node: u64, incarnation: u64, lost: &[ReplicaId]) -> ClusterCommand {
    let info = info(u128::from(node) * 11, "");
    let lost = lost.to_vec();
    ClusterCommand::RegisterNode(RegisterNode { node: NodeId(node), info, incarnation, lost })
}

fn report(node: u64, incarnation: u64, replicas: &[ReplicaId]) -> ClusterCommand {
    let replicas = replicas.to_vec();
    ClusterCommand::ReportLost(ReportLost { node: NodeId(node), incarnation, replicas })
}

/// Replicas that the table places on a node.
pub(super) fn placed_on(table: &RoutingTable, node: u64) -> Vec<ReplicaId> {
    let all = table.shards.values().flat_map(|shard| &shard.replicas);
    all.filter(|replica| replica.node == NodeId(node)).map(|replica| replica.replica).collect()
}

pub(super) fn raise(kind: AlarmKind, shard: u16, replica: u64) -> ClusterCommand {
    let replica = ReplicaPlacement { replica: ReplicaId(replica), node: NodeId(replica % 3 + 1) };
    ClusterCommand::RaiseAlarm(RaiseAlarm { kind, shard: ShardId(shard), replica })
}

fn form(founders: u64, shards: u16, replicas: u16) -> Form {
    let founder = |node: u64| Founder { node: NodeId(node), store_id: u128::from(node) * 11 };
    Form {
        cluster_id: 99,
        founders: (1..=founders).map(founder).collect(),
        nodes_min: u16::try_from(founders).unwrap(),
        shards,
        replicas,
        bytes_max: SHARD_BYTES_MAX_FLOOR,
        seed: 5,
    }
}

#[derive(Default)]
pub(super) struct Cluster {
    pub(super) machine: ClusterMachine,
    index: u64,
}

impl Cluster {
    pub(super) fn apply(&mut self, command: ClusterCommand) -> ClusterReply {
        self.index += 1;
        self.machine.apply(self.index, NOW_MS, command)
    }

    pub(super) fn done(&mut self, command: ClusterCommand) {
        let reply = self.apply(command);
        assert!(matches!(reply, ClusterReply::Done { .. }), "{reply:?}");
    }

    pub(super) fn formed(nodes: u64, shards: u16) -> Self {
        let mut cluster = Cluster::default();
        cluster.done(ClusterCommand::Form(form(nodes, shards, 3)));
        for node in 1..=nodes {
            cluster.done(register(node, 1));
        }
        cluster
    }
}

fn replica_ids(table: &RoutingTable) -> Vec<ReplicaId> {
    table.shards.values().flat_map(|s| &s.replicas).map(|r| r.replica).collect()
}

#[test]
fn shards_are_placed_once_when_enough_nodes_are_known() {
    let mut cluster = Cluster::default();
    assert_eq!(cluster.apply(register(1, 1)), ClusterReply::NotFormed);
    cluster.done(ClusterCommand::Form(form(3, 16, 3)));
    cluster.done(register(3, 1));
    cluster.done(register(1, 1));
    assert!(cluster.machine.table().slots.is_empty(), "one node is missing");
    cluster.done(register(2, 1));

    let table = cluster.machine.table();
    assert_eq!(table.slots.len(), usize::from(SLOTS));
    assert_eq!(table.shards.len(), 16);
    assert!(table.is_consistent());
    let ids = replica_ids(&table);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 48, "each replica has its own id");
    assert!(ids.iter().all(|id| id.0 > 3), "ids start above the controller's");
    assert_eq!(table.controller.len(), 3);
    let seeds: BTreeSet<u64> = table.shards.values().map(|shard| shard.hash_seed).collect();
    assert_eq!(seeds.len(), 16);

    cluster.done(ClusterCommand::Form(form(3, 8, 1)));
    cluster.done(register(4, 1));
    let later = cluster.machine.table();
    assert_eq!((&later.shards, &later.slots), (&table.shards, &table.slots));
    assert_eq!(later.epoch.0, table.epoch.0 + 1);
}

#[test]
fn one_and_five_nodes_get_as_many_replicas_as_fit() {
    for (nodes, expected) in [(1, 1), (2, 2), (5, 3)] {
        let table = Cluster::formed(nodes, 8).machine.table();
        assert!(table.shards.values().all(|shard| shard.replicas.len() == expected));
    }
}

#[test]
fn what_changes_nothing_keeps_the_epoch() {
    let mut cluster = Cluster::formed(3, 4);
    let epoch = cluster.machine.table().epoch;
    let digest = |c: &Cluster| (c.machine.table(), c.machine.state.next_replica);
    let before = digest(&cluster);
    for command in [register(2, 1), ClusterCommand::Form(form(3, 4, 3))] {
        assert_eq!(cluster.apply(command), ClusterReply::Done { epoch });
        assert_eq!(digest(&cluster), before);
    }
}

#[test]
fn another_store_under_a_known_node_id_is_refused() {
    let mut cluster = Cluster::default();
    cluster.done(ClusterCommand::Form(form(3, 4, 3)));
    let wrong = |node, incarnation| {
        ClusterCommand::RegisterNode(RegisterNode {
            node: NodeId(node),
            info: info(1234, ""),
            incarnation,
            lost: Vec::new(),
        })
    };
    // A founder's store is known before it registers.
    assert_eq!(cluster.apply(wrong(2, 1)), ClusterReply::StoreConflict { known: 22 });
    cluster.done(register(4, 1));
    assert_eq!(cluster.apply(wrong(4, 2)), ClusterReply::StoreConflict { known: 44 });
    assert_eq!(cluster.machine.table().nodes[&NodeId(4)].store_id, 44);
}

#[test]
fn a_late_command_of_an_earlier_life_is_refused() {
    let mut cluster = Cluster::formed(3, 4);
    cluster.done(register(1, 7));
    assert_eq!(cluster.apply(register(1, 6)), ClusterReply::Superseded { incarnation: 7 });
}

#[test]
fn bad_settings_are_refused_with_the_field() {
    let bad = [
        ("cluster_id", Form { cluster_id: 0, ..form(3, 4, 3) }),
        ("founders", Form { founders: Vec::new(), ..form(3, 4, 3) }),
        ("founders", form(6, 4, 3)),
        ("nodes_min", Form { nodes_min: 9_999, ..form(3, 4, 3) }),
        ("shards", form(3, 0, 3)),
        ("shards", form(3, SHARDS_MAX + 1, 3)),
        ("replicas", form(3, 4, 0)),
        ("bytes_max", Form { bytes_max: 1, ..form(3, 4, 3) }),
    ];
    for (field, form) in bad {
        let mut cluster = Cluster::default();
        let reply = cluster.apply(ClusterCommand::Form(form));
        let ClusterReply::Invalid { problem } = reply else { panic!("{field}: {reply:?}") };
        assert!(problem.starts_with(field), "{problem}");
        assert_eq!(cluster.machine.table().epoch, RoutingEpoch(0));
    }
    let mut cluster = Cluster::formed(3, 4);
    let reply = cluster.apply(ClusterCommand::Form(Form { cluster_id: 1, ..form(3, 4, 3) }));
    assert_eq!(reply, ClusterReply::OtherCluster { cluster_id: 99 });
    assert!(matches!(cluster.apply(register(0, 1)), ClusterReply::Invalid { .. }));
    let huge = register(NODE_ID_MAX + 1, 1);
    assert!(matches!(cluster.apply(huge), ClusterReply::Invalid { .. }));
}

#[test]
fn a_lost_minority_keeps_its_generation_and_a_lost_majority_starts_a_new_one() {
    let mut cluster = Cluster::formed(3, 4);
    let first = cluster.machine.table();

    cluster.done(register_lost(1, 2, &placed_on(&first, 1)));
    let minority = cluster.machine.table();
    assert_eq!(minority.shards, first.shards);
    assert_eq!(minority.lost.len(), 4, "one replica of each shard");

    cluster.done(report(2, 1, &placed_on(&first, 2)));
    let majority = cluster.machine.table();
    assert!(majority.lost.is_empty());
    let old: BTreeSet<ReplicaId> = replica_ids(&first).into_iter().collect();
    for (shard, placement) in &majority.shards {
        assert_eq!(placement.generation, Generation(2));
        assert_ne!(placement.hash_seed, first.shards[shard].hash_seed);
        assert!(placement.replicas.iter().all(|r| !old.contains(&r.replica)), "never used twice");
    }
    assert_eq!(majority.slots, first.slots);
}

/// Three nodes in memory, killed together and started again one after the other.
#[test]
fn the_third_node_to_come_back_does_not_lose_the_replicas_it_never_ran() {
    let mut cluster = Cluster::formed(3, 4);
    let first = cluster.machine.table();
    for node in 1..=3 {
        cluster.done(register_lost(node, 2, &placed_on(&first, node)));
    }
    let table = cluster.machine.table();
    assert!(table.shards.values().all(|shard| shard.generation == Generation(2)));
    assert_eq!(table.lost, BTreeSet::new(), "three replicas of every shard may run");
    // A retry, or a late copy, of what was said before the new ones ran changes nothing.
    for node in 1..=3 {
        cluster.done(register_lost(node, 2, &placed_on(&first, node)));
        cluster.done(report(node, 2, &placed_on(&first, node)));
    }
    assert_eq!(cluster.machine.table(), table);
}

#[test]
fn a_report_of_lost_replicas_counts_once_and_whoever_makes_it() {
    let mut cluster = Cluster::default();
    assert_eq!(cluster.apply(report(1, 1, &[])), ClusterReply::NotFormed);
    let mut cluster = Cluster::formed(3, 4);
    let first = cluster.machine.table();
    // The leader on node 1 tells of a follower on node 3.
    let one = placed_on(&first, 3)[..1].to_vec();
    cluster.done(report(1, 1, &one));
    let told = cluster.machine.table();
    assert_eq!(told.lost, one.iter().copied().collect());
    assert_eq!(told.shards, first.shards);
    for again in [report(2, 1, &one), report(1, 1, &one), register_lost(3, 2, &one)] {
        cluster.done(again);
        assert_eq!(cluster.machine.table(), told);
    }
    assert_eq!(cluster.apply(report(3, 1, &one)), ClusterReply::Superseded { incarnation: 2 });
    let invalid = |reply| matches!(reply, ClusterReply::Invalid { .. });
    assert!(invalid(cluster.apply(report(9, 1, &one))), "nobody knows node 9");
    assert!(invalid(cluster.apply(report(1, 1, &[ReplicaId(9_999)]))), "never given");
    assert!(invalid(cluster.apply(register_lost(1, 2, &[ReplicaId(9_999)]))), "never given");
    let many = vec![ReplicaId(7); LOST_REPORTED_MAX + 1];
    assert!(invalid(cluster.apply(report(1, 1, &many))));
    assert!(invalid(cluster.apply(register_lost(1, 2, &many))));
    assert_eq!(cluster.machine.table(), told);
}

#[test]
fn a_node_whose_logs_survive_loses_nothing() {
    let mut cluster = Cluster::formed(3, 4);
    let before = cluster.machine.table();
    for incarnation in 2..5 {
        for node in 1..=3 {
            cluster.done(register(node, incarnation));
        }
    }
    assert_eq!(cluster.machine.table(), before);
}

#[test]
fn snapshots_round_trip_and_damage_is_an_error() {
    let cluster = Cluster::formed(3, 16);
    let bytes = cluster.machine.encode_snapshot();
    let restored = ClusterMachine::decode_snapshot(&bytes).unwrap();
    assert_eq!(restored, cluster.machine);
    assert_eq!(restored.digest(), cluster.machine.digest());
    for len in 0..bytes.len().min(4_000) {
        assert!(ClusterMachine::decode_snapshot(&bytes[..len]).is_err(), "cut at {len}");
    }
    let mut other = bytes.to_vec();
    other[0] = 2;
    assert!(ClusterMachine::decode_snapshot(&other).is_err());
    other[0] = 1;
    other.push(0);
    assert!(ClusterMachine::decode_snapshot(&other).is_err());
}

/// Some of the ids that are given to replicas.
fn lost() -> impl Strategy<Value = Vec<ReplicaId>> {
    proptest::collection::vec((1u64..40).prop_map(ReplicaId), 0..12)
}

fn any_command() -> impl Strategy<Value = ClusterCommand> {
    prop_oneof![
        (1u64..7, 1u64..4, lost()).prop_map(|(n, i, lost)| register_lost(n, i, &lost)),
        (1u64..7, 1u64..4, lost()).prop_map(|(n, i, lost)| report(n, i, &lost)),
        (1u64..6, 1u16..8, 1u16..5).prop_map(|(f, s, r)| ClusterCommand::Form(form(f, s, r))),
        (any::<bool>(), 0u16..8, 1u64..30).prop_map(|(lost, shard, replica)| {
            let kind = if lost { AlarmKind::ReplicaLost } else { AlarmKind::DigestDiffers };
            raise(kind, shard, replica)
        }),
        proptest::collection::vec(1u64..9, 0..3)
            .prop_map(|ids| ClusterCommand::AckAlarms(AckAlarms::Ids(ids))),
        Just(ClusterCommand::AckAlarms(AckAlarms::All)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn replicas_agree_and_retries_change_nothing(
        commands in proptest::collection::vec(any_command(), 1..24),
        cut in any::<prop::sample::Index>(),
    ) {
        let cut = cut.index(commands.len());
        let mut one = ClusterMachine::default();
        let mut other = ClusterMachine::default();
        let mut used = BTreeSet::new();
        for (at, command) in commands.iter().enumerate() {
            if at == cut {
                other = ClusterMachine::decode_snapshot(&one.encode_snapshot()).unwrap();
            }
            let before = one.table();
            let index = at as u64 * 2 + 1;
            let reply = one.apply(index, NOW_MS, command.clone());
            prop_assert_eq!(&other.apply(index, NOW_MS, command.clone()), &reply);
            prop_assert_eq!(one.digest(), other.digest());
            let after = one.table();
            prop_assert_eq!(after != before, after.epoch > before.epoch);
            // Every id handed out is new.
            let known: BTreeSet<ReplicaId> = replica_ids(&before).into_iter().collect();
            for id in replica_ids(&after) {
                prop_assert!(known.contains(&id) || used.insert(id), "{} used twice", id);
            }
            // A retry finds it done.
            one.apply(index + 1, NOW_MS, command.clone());
            other.apply(index + 1, NOW_MS, command.clone());
            prop_assert_eq!(one.table(), after);
        }
    }
}
