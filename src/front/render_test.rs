use super::*;
use crate::core::cluster::alarms::AlarmKind;
use crate::core::table::ReplicaPlacement;
use crate::front::page::TableSummary;
use crate::service::NodeStatus;
use crate::types::{Generation, ReplicaId, RoutingEpoch, ShardId};

fn replica(shard: u16, replica: u64, role: &str, term: u64, applied: u64) -> ReplicaStatus {
    ReplicaStatus {
        group: GroupId::of_shard(ShardId(shard)),
        replica: ReplicaId(replica),
        role: role.to_owned(),
        leader: Some(NodeId(1)),
        has_quorum: true,
        quorum_age_ms: Some(100),
        term,
        last_index: 120,
        committed_index: 120,
        applied_index: applied,
        keys: 7,
        bytes: 1_024,
        bytes_max: 67_108_864,
        evictions: 0,
        expirations: 0,
        digest: "00ff".to_owned(),
        log_bytes: 10,
        snapshot_index: 0,
    }
}

fn node(node: u64, ready: bool, replicas: Vec<ReplicaStatus>) -> NodeReport {
    let status = NodeStatus {
        node: NodeId(node),
        version: "0.1.0".to_owned(),
        ready,
        not_ready_because: if ready { vec![] } else { vec!["replica s1 catches up".to_owned()] },
        warnings: Vec::new(),
        durability: "wal".to_owned(),
        peers: 2,
        peers_connected: 2,
        replicas,
    };
    NodeReport { node: NodeId(node), status: Some(status), error: None }
}

fn placement(shard: u16, first: u64) -> ShardSummary {
    let replicas = (0..3)
        .map(|i| ReplicaPlacement { replica: ReplicaId(first + i), node: NodeId(i + 1) })
        .collect();
    ShardSummary { shard: ShardId(shard), generation: Generation(1), slots: 8_192, replicas }
}

fn three_nodes() -> ClusterStatus {
    let summary = |id: u64| NodeSummary {
        node: NodeId(id),
        grpc_addr: format!("127.0.0.1:{}", 8_078 + 2 * id),
        http_addr: format!("127.0.0.1:{}", 8_079 + 2 * id),
        peer_addr: format!("127.0.0.1:{}", 9_000 + id),
        zone: if id == 3 { String::new() } else { format!("zone-{id}") },
    };
    let table = TableSummary {
        epoch: RoutingEpoch(4),
        cluster_id: "0123456789abcdef0123456789abcdef".to_owned(),
        nodes: (1..=3).map(summary).collect(),
        shards: vec![placement(0, 1), placement(1, 4)],
        alarms: Vec::new(),
    };
    let error = Some("cannot ask 127.0.0.1:8085: connection refused".to_owned());
    let nodes = vec![
        // Node 1 still believes to lead shard 1 in an older term.
        node(1, true, vec![replica(0, 1, "leader", 3, 120), replica(1, 4, "leader", 2, 100)]),
        node(2, false, vec![replica(0, 2, "follower", 3, 118), replica(1, 5, "leader", 5, 120)]),
        NodeReport { node: NodeId(3), status: None, error },
    ];
    ClusterStatus { table, nodes }
}

#[test]
fn a_cluster_is_rendered_in_aligned_columns() {
    let golden = "\
cluster 0123456789abcdef0123456789abcdef epoch 4

NODE  READY  ZONE    GRPC            HTTP            PEER            VERSION  NOTE
1     yes    zone-1  127.0.0.1:8080  127.0.0.1:8081  127.0.0.1:9001  0.1.0
2     no     zone-2  127.0.0.1:8082  127.0.0.1:8083  127.0.0.1:9002  0.1.0    replica s1 catches up
3     ?      -       127.0.0.1:8084  127.0.0.1:8085  127.0.0.1:9003  -        cannot ask 127.0.0.1:8085: connection refused

SHARD  GEN  SLOTS  LEADER  TERM  APPLIED  KEYS  BYTES  LIMIT     LAG  REPLICAS
0      1    8192   1       3     120      7     1024   67108864  ?    1:1* 2:2 3:3!
1      1    8192   2       5     120      7     1024   67108864  ?    1:4 2:5* 3:6!
";
    assert_eq!(cluster(&three_nodes()), golden);
}

#[test]
fn lag_is_that_of_the_replica_furthest_behind() {
    let mut status = three_nodes();
    status.nodes[2] =
        node(3, true, vec![replica(0, 3, "learner", 3, 90), replica(1, 6, "follower", 5, 120)]);
    let text = cluster(&status);
    let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    let shard = |id: &str| {
        let at = rows.iter().position(|row| row.first() == Some(&"SHARD")).unwrap();
        rows[at..].iter().find(|row| row[0] == id).unwrap().clone()
    };
    assert_eq!(shard("0")[9..], ["30", "1:1*", "2:2", "3:3+"]);
    assert_eq!(shard("1")[9], "20");
}

#[test]
fn a_cluster_that_has_not_formed_says_so_and_a_leaderless_shard_too() {
    let mut status = three_nodes();
    status.table.epoch = RoutingEpoch(0);
    for report in status.nodes.iter_mut().filter_map(|r| r.status.as_mut()) {
        for replica in &mut report.replicas {
            replica.role = "candidate".to_owned();
        }
    }
    let text = cluster(&status);
    assert!(text.starts_with("cluster 0123456789abcdef0123456789abcdef epoch 0 (not formed)\n"));
    assert!(
        text.contains("\n0      1    8192   none    -     -        -     -      -      -    1:1")
    );
}

fn lost(shard: u16) -> Alarm {
    Alarm {
        id: u64::from(shard) + 1,
        kind: AlarmKind::MajorityLost,
        shard: ShardId(shard),
        generation_before: Generation(1),
        generation: Generation(2),
        replicas: Vec::new(),
        first_unix_ms: 1_700_000_000_000,
        last_unix_ms: 1_700_000_000_000,
        count: 1,
    }
}

#[test]
fn alarms_stand_at_the_end_of_a_status_and_the_rest_is_counted() {
    let mut status = three_nodes();
    assert!(!cluster(&status).contains("ALARM"));
    status.table.alarms = (0..20).map(lost).collect();
    let text = cluster(&status);
    let shown: Vec<&str> = text.lines().skip_while(|l| !l.starts_with("ALARM")).collect();
    assert_eq!(shown.len(), 18, "{text}");
    assert_eq!(shown[0], "ALARM  KIND           TOLD                  TIMES  WHAT");
    let what =
        "shard 0 lost its majority: what generation 1 held is gone, generation 2 began empty";
    assert_eq!(shown[1], format!("1      majority_lost  2023-11-14T22:13:20Z  1      {what}"));
    assert_eq!(shown[17], "and 4 more: raftcache alarm list");
    assert!(!status.healthy());
    assert_eq!(alarms(&[], 16), "no alarm is active\n");
}

#[test]
fn times_are_those_of_the_calendar() {
    for (unix_s, shown) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_399, "2000-02-28T23:59:59Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (1_709_251_199, "2024-02-29T23:59:59Z"),
        (1_735_689_599, "2024-12-31T23:59:59Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
    ] {
        assert_eq!(utc(unix_s * 1_000), shown);
    }
}
