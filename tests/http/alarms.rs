//! Alarms of a real controller, seen and acknowledged over HTTP and gRPC.

use raftcache::core::cluster::alarms::AlarmKind;
use raftcache::front::pb;
use serde_json::{Value, json};
use tonic::Code;

use crate::node::OneNode;

const ACK: &str = "/admin/alarms/ack";

pub async fn all(node: &OneNode) {
    let http = &node.http;
    assert_eq!(http.get("/admin/alarms").await.json(), json!({ "alarms": [] }));
    for (kind, shard) in
        [(AlarmKind::ReplicaLost, 0), (AlarmKind::ReplicaLost, 2), (AlarmKind::DigestDiffers, 2)]
    {
        node.raise(kind, shard).await.unwrap();
        node.raise(kind, shard).await.unwrap();
    }
    node.raise(AlarmKind::MajorityLost, 0).await.unwrap_err();
    node.raise(AlarmKind::ReplicaLost, 4).await.unwrap_err();
    shown(node).await;
    refused(node).await;

    let left = http.post(ACK, &json!({ "ids": [1] })).await;
    assert_eq!((left.status, ids(&left.json())), (200, vec![2, 3]));
    assert_eq!(ids(&http.get("/admin/alarms").await.json()), [2, 3], "at once, at this node");
    let again = http.post(ACK, &json!({ "ids": [1] })).await;
    assert_eq!((again.status, ids(&again.json())), (200, vec![2, 3]), "may be sent again");
    over_grpc(node).await;
    let page = http.get("/admin/cluster/status").await.json();
    assert_eq!((&page["healthy"], &page["alarms"]), (&json!(true), &json!([])), "{page:#}");
    let none = http.post(ACK, &json!({ "all": true })).await;
    assert_eq!((none.status, none.json()), (200, json!({ "alarms": [] })));
}

fn ids(page: &Value) -> Vec<u64> {
    let alarms = page["alarms"].as_array().unwrap();
    alarms.iter().map(|alarm| alarm["id"].as_u64().unwrap()).collect()
}

async fn shown(node: &OneNode) {
    let http = &node.http;
    let page = http.get("/admin/alarms").await.json();
    assert_eq!(ids(&page), [1, 2, 3], "each once: {page:#}");
    let first = &page["alarms"][0];
    assert_eq!((&first["kind"], &first["shard"]), (&json!("replica_lost"), &json!(0)));
    assert_eq!(first["replicas"], json!([{ "replica": 77, "node": 1 }]));
    let page = http.get("/admin/cluster/status").await.json();
    assert_eq!((&page["healthy"], ids(&page)), (&json!(false), vec![1, 2, 3]));
    assert_eq!(ids(&http.get("/status").await.json()["table"]), [1, 2, 3]);
    assert_eq!(http.get("/ready").await.status, 200, "the node serves");
    let metrics = http.get("/metrics").await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    for sample in [
        "alarms_active{kind=\"majority_lost\"} 0",
        "alarms_active{kind=\"replica_lost\"} 2",
        "alarms_active{kind=\"digest_differs\"} 1",
        "shard_generation{shard=\"3\"} 1",
    ] {
        assert!(metrics.lines().any(|line| line == sample), "{sample}");
    }
}

async fn refused(node: &OneNode) {
    let http = &node.http;
    http.post(ACK, &json!({})).await.names("ids");
    http.post(ACK, &json!({ "ids": [1], "all": true })).await.names("ids");
    http.post(ACK, &json!({ "ids": [1, 4] })).await.names("ids");
    http.post(ACK, &json!({ "ids": (0..3_073).collect::<Vec<u64>>() })).await.names("ids");
    http.post(ACK, &json!({ "every": true })).await.names("body");
    http.post(&format!("{ACK}?all"), &json!({})).await.is(400, "invalid_argument");
    http.call("POST", ACK, &[], "{\"all\": true}").await.is(415, "unsupported_media_type");
    assert_eq!(ids(&http.get("/admin/alarms").await.json()), [1, 2, 3], "nothing was acknowledged");
}

async fn over_grpc(node: &OneNode) {
    let mut admin = node.admin.clone();
    let listed = admin.alarm_list(pb::AlarmListRequest {}).await.unwrap();
    assert!(listed.metadata().contains_key("raftcache-epoch"));
    let alarms = listed.into_inner().alarms;
    assert_eq!((alarms[0].id, alarms[0].kind()), (2, pb::alarm::Kind::ReplicaLost));
    assert_eq!((alarms[1].id, alarms[1].kind()), (3, pb::alarm::Kind::DigestDiffers));
    assert_eq!(alarms[1].shard_id, 2);
    assert_eq!(alarms[1].replicas, [pb::AlarmReplica { replica_id: 77, node_id: 1 }]);
    assert!(alarms[1].first_unix_ms > 1_700_000_000_000);
    assert!(alarms[1].text.contains("replica 77 on node 1"), "{}", alarms[1].text);

    let ack = |ids: &[u64], all| pb::AlarmAckRequest { ids: ids.to_vec(), all };
    for bad in [ack(&[], false), ack(&[2], true), ack(&[2, 9], false)] {
        let status = admin.alarm_ack(bad).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert_eq!(status.metadata().get("raftcache-outcome").unwrap(), "rejected");
    }
    let left = admin.alarm_ack(ack(&[2], false)).await.unwrap().into_inner().alarms;
    assert_eq!(left.iter().map(|alarm| alarm.id).collect::<Vec<_>>(), [3]);
    assert!(admin.alarm_ack(ack(&[], true)).await.unwrap().into_inner().alarms.is_empty());
}
