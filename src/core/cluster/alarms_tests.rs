use super::*;
use crate::core::cluster::ClusterCommand;
use crate::core::cluster::tests::{Cluster, NOW_MS, placed_on, raise, register_lost};
use crate::types::{NodeId, ReplicaId};

/// The node starts anew and finds none of the logs of its replicas.
fn lose_node(cluster: &mut Cluster, node: u64, incarnation: u64) {
    let lost = placed_on(&cluster.machine.table(), node);
    cluster.done(register_lost(node, incarnation, &lost));
}

/// Three nodes and as many replicas of each shard, of which two have lost their logs.
fn lost(shards: u16) -> Cluster {
    let mut cluster = Cluster::formed(3, shards);
    lose_node(&mut cluster, 1, 2);
    assert!(active(&cluster).is_empty(), "a minority is no majority");
    lose_node(&mut cluster, 2, 2);
    cluster
}

fn active(cluster: &Cluster) -> Vec<Alarm> {
    cluster.machine.table().alarms.active().to_vec()
}

fn ack(ids: &[u64]) -> ClusterCommand {
    ClusterCommand::AckAlarms(AckAlarms::Ids(ids.to_vec()))
}

fn ids(cluster: &Cluster) -> Vec<u64> {
    active(cluster).iter().map(|alarm| alarm.id).collect()
}

#[test]
fn a_lost_majority_raises_one_alarm_a_shard() {
    let cluster = lost(4);
    let expected = (0..4).map(|shard| Alarm {
        id: u64::from(shard) + 1,
        kind: AlarmKind::MajorityLost,
        shard: ShardId(shard),
        generation_before: Generation(1),
        generation: Generation(2),
        replicas: Vec::new(),
        first_unix_ms: NOW_MS,
        last_unix_ms: NOW_MS,
        count: 1,
    });
    assert_eq!(active(&cluster), expected.collect::<Vec<_>>());
    let text = active(&cluster)[3].to_string();
    let expected =
        "shard 3 lost its majority: what generation 1 held is gone, generation 2 began empty";
    assert_eq!(text, expected);
}

#[test]
fn acknowledged_alarms_are_gone_and_their_ids_are_never_given_again() {
    let mut cluster = lost(4);
    let epoch = cluster.machine.table().epoch;
    cluster.done(ack(&[2, 3]));
    assert_eq!(ids(&cluster), [1, 4]);
    assert_eq!(cluster.machine.table().epoch.0, epoch.0 + 1, "every node hears of it");
    cluster.done(ack(&[2, 4]));
    assert_eq!(ids(&cluster), [1], "what is not active any more is passed over");
    cluster.done(ClusterCommand::AckAlarms(AckAlarms::All));
    assert!(ids(&cluster).is_empty());
    cluster.done(ClusterCommand::AckAlarms(AckAlarms::All));
    cluster.done(raise(AlarmKind::DigestDiffers, 0, 20));
    assert_eq!(ids(&cluster), [5]);
}

#[test]
fn an_alarm_that_never_was_cannot_be_acknowledged_and_the_others_stay() {
    let mut cluster = lost(4);
    for unknown in [0, 5, u64::MAX] {
        let ClusterReply::Invalid { problem } = cluster.apply(ack(&[1, unknown])) else {
            panic!("{unknown} was acknowledged")
        };
        assert_eq!(problem, format!("ids: there was no alarm {unknown}"));
        assert_eq!(ids(&cluster), [1, 2, 3, 4]);
    }
}

#[test]
fn a_second_loss_has_a_new_id_so_that_it_is_not_acknowledged_unseen() {
    let mut cluster = lost(1);
    lose_node(&mut cluster, 1, 3);
    lose_node(&mut cluster, 2, 3);
    let alarms = active(&cluster);
    assert_eq!(alarms.len(), 1, "one for each kind and shard: {alarms:?}");
    assert_eq!((alarms[0].id, alarms[0].count), (2, 2));
    assert_eq!((alarms[0].generation_before, alarms[0].generation), (Generation(1), Generation(3)));
    cluster.done(ack(&[1]));
    assert_eq!(ids(&cluster), [2]);
}

#[test]
fn what_a_node_tells_again_changes_nothing() {
    let mut cluster = Cluster::formed(3, 4);
    for _ in 0..2 {
        cluster.done(raise(AlarmKind::ReplicaLost, 2, 7));
        cluster.done(raise(AlarmKind::DigestDiffers, 2, 7));
        assert_eq!(ids(&cluster), [1, 2]);
    }
    cluster.done(raise(AlarmKind::ReplicaLost, 2, 8));
    cluster.done(raise(AlarmKind::ReplicaLost, 2, 7));
    let alarms = active(&cluster);
    assert_eq!(ids(&cluster), [2, 3]);
    assert_eq!((alarms[1].count, alarms[1].replicas.len()), (2, 2));
    assert_eq!(
        alarms[1].to_string(),
        "shard 2 lost acknowledged log entries of replica 7 on node 2, 8 on node 3"
    );
}

#[test]
fn what_cannot_be_is_refused() {
    let mut cluster = Cluster::formed(3, 4);
    let refused = |reply| match reply {
        ClusterReply::Invalid { problem } => problem,
        other => panic!("{other:?}"),
    };
    let kind = refused(cluster.apply(raise(AlarmKind::MajorityLost, 0, 7)));
    assert!(kind.starts_with("kind:"), "{kind}");
    let shard = refused(cluster.apply(raise(AlarmKind::ReplicaLost, 4, 7)));
    assert_eq!(shard, "shard: there is no shard 4");
    assert!(ids(&cluster).is_empty());
}

/// However often and of whatever is told, the number stays bounded and no shard is left out.
#[test]
fn the_number_is_bounded_and_nothing_is_dropped() {
    let mut cluster = lost(SHARDS_MAX);
    for round in 0..8 {
        for shard in [0, 1, SHARDS_MAX - 1] {
            cluster.done(raise(AlarmKind::ReplicaLost, shard, 100 + round));
            cluster.done(raise(AlarmKind::DigestDiffers, shard, 100 + round));
        }
    }
    let alarms = active(&cluster);
    assert_eq!(alarms.len(), usize::from(SHARDS_MAX) + 6);
    let told = |shard| {
        alarms.iter().any(|a| a.kind == AlarmKind::MajorityLost && a.shard == ShardId(shard))
    };
    assert!((0..SHARDS_MAX).all(told));
    let last = alarms.last().unwrap();
    let kept: Vec<u64> = last.replicas.iter().map(|replica| replica.replica.0).collect();
    assert_eq!((last.count, kept), (8, vec![103, 104, 105, 106, 107]));
    // One that was pushed out of the list is told too late to be news.
    cluster.done(raise(AlarmKind::DigestDiffers, SHARDS_MAX - 1, 100));
    assert_eq!(active(&cluster), alarms);
}

#[test]
fn snapshots_keep_alarms_and_the_next_id() {
    let mut cluster = lost(4);
    cluster.done(ack(&[1, 2, 3, 4]));
    cluster.done(raise(AlarmKind::ReplicaLost, 1, 9));
    let bytes = cluster.machine.encode_snapshot();
    let mut restored = ClusterMachine::decode_snapshot(&bytes).unwrap();
    assert_eq!(restored, cluster.machine);
    restored.apply(1_000, NOW_MS, raise(AlarmKind::ReplicaLost, 2, 9));
    let ids: Vec<u64> = restored.table().alarms.active().iter().map(|alarm| alarm.id).collect();
    assert_eq!(ids, [5, 6]);
}

#[test]
fn alarms_that_cannot_be_are_not_taken_from_a_peer() {
    let cluster = lost(2);
    let good = cluster.machine.table().alarms.clone();
    assert!(good.is_consistent());
    let mut twice = good.clone();
    twice.active.push(Alarm { id: 3, ..twice.active[0].clone() });
    twice.last_id = 3;
    assert!(!twice.is_consistent());
    assert!(!Alarms { last_id: 1, ..good.clone() }.is_consistent());
    assert!(!Alarms { last_id: u64::MAX, ..good.clone() }.is_consistent());
    let with = |change: &dyn Fn(&mut Alarm)| {
        let mut alarms = good.clone();
        change(&mut alarms.active[1]);
        alarms
    };
    let replica = |id| ReplicaPlacement { replica: ReplicaId(id), node: NodeId(1) };
    assert!(with(&|alarm| alarm.kind = AlarmKind::ReplicaLost).is_consistent());
    for bad in [
        with(&|alarm| alarm.shard = ShardId(0)),
        with(&|alarm| alarm.shard = ShardId(SHARDS_MAX)),
        with(&|alarm| alarm.replicas = (0..6).map(replica).collect()),
        with(&|alarm| alarm.replicas = vec![replica(2), replica(1)]),
    ] {
        assert!(!bad.is_consistent(), "{bad:?}");
    }
}

/// Nodes and snapshots carry them by position: never change a line, only add.
#[test]
fn bytes_are_golden() {
    let alarm = |kind| Alarm {
        id: 1,
        kind,
        shard: ShardId(2),
        generation_before: Generation(3),
        generation: Generation(4),
        replicas: vec![ReplicaPlacement { replica: ReplicaId(5), node: NodeId(6) }],
        first_unix_ms: 7,
        last_unix_ms: 8,
        count: 9,
    };
    for (kind, tag) in AlarmKind::ALL.into_iter().zip(1..) {
        let alarms = Alarms { last_id: 1, active: vec![alarm(kind)] };
        let bytes = postcard::to_stdvec(&alarms).unwrap();
        assert_eq!(bytes, [1, 1, 1, tag - 1, 2, 3, 4, 1, 5, 6, 7, 8, 9]);
        assert_eq!(postcard::from_bytes::<Alarms>(&bytes), Ok(alarms));
        assert_eq!((kind.tag(), AlarmKind::of_tag(tag)), (tag, Some(kind)));
        let json = serde_json::to_value(alarm(kind)).unwrap();
        assert_eq!(json["kind"], kind.name());
    }
    assert_eq!(AlarmKind::of_tag(4), None);
}
