//! The commands of the README, as grpcurl runs them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use raftcache::service::Operation;
use raftcache::types::{Command, Expiry, ValueKind};
use serde_json::json;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::fake::Doors;
use crate::grpc_json::{JsonClient, Reflection};

#[tokio::test]
async fn the_printed_commands_work_through_both_versions_of_reflection() {
    let doors = Doors::open().await;
    for (round, reflection) in [Reflection::V1, Reflection::V1Alpha].into_iter().enumerate() {
        let client = JsonClient::connect(&doors.grpc_addr.to_string(), reflection).await.unwrap();
        let services = client.services().await.unwrap();
        assert!(services.contains(&"cache.CacheService".to_owned()), "{services:?}");
        assert!(services.contains(&"cache.AdminService".to_owned()), "{services:?}");
        assert!(services.contains(&"grpc.health.v1.Health".to_owned()), "{services:?}");

        let set = r#"{"key": "test", "value": "hello"}"#;
        let reply = client.call("cache.CacheService/Set", set).await.unwrap();
        let version = (2 * round + 1).to_string();
        assert_eq!(reply, json!({ "applied": true, "version": version }));

        let reply = client.call("cache.CacheService/Get", r#"{"key": "test"}"#).await.unwrap();
        assert_eq!(reply["value"], "hello");
        assert_eq!(reply["found"], true);
        assert_eq!(reply["version"], version.as_str());
        assert_eq!(reply["freshness"]["term"], "2");

        let set =
            r#"{"key": "user:123", "value": "{\"name\":\"John\"}", "ttl": {"seconds": 3600}}"#;
        client.call("cache.CacheService/Set", set).await.unwrap();
        let reply = client.call("cache.CacheService/Get", r#"{"key": "user:123"}"#).await.unwrap();
        assert_eq!(reply["value"], r#"{"name":"John"}"#);
        assert_eq!(reply["ttl"], json!({ "seconds": "3600" }));

        let reply = client.call("cache.CacheService/Health", "").await.unwrap();
        assert_eq!(reply["status"], "SERVING");
        assert_eq!(reply["nodeId"], "1");
        assert_eq!((&reply["nodes"], &reply["shards"]), (&json!(2), &json!(1)));

        assert_eq!(client.call("cache.AdminService/AlarmList", "").await.unwrap(), json!({}));
        let ack = client.call("cache.AdminService/AlarmAck", r#"{"all": true}"#).await;
        assert_eq!(ack.unwrap_err().code(), tonic::Code::Unavailable, "this one has no controller");
    }
    let seen = doors.fake.seen.lock().clone();
    let Operation::Write(Command::Set(set)) = &seen[2].0.operation else { panic!("{:?}", seen[2]) };
    assert_eq!(set.expiry, Expiry::AfterMs(3_600_000));
    assert_eq!(set.value.kind, ValueKind::Text);
    doors.close().await;
}

#[tokio::test]
async fn text_and_bytes_are_both_kept_as_they_were_given() {
    let doors = Doors::open().await;
    let addr = doors.grpc_addr.to_string();
    let client = JsonClient::connect(&addr, Reflection::V1).await.unwrap();
    // 0xff 0x00 0x80, not UTF-8; the key is "k" as bytes.
    let set = r#"{"keyBytes": "aw==", "value_bytes": "/wCA"}"#;
    client.call("cache.CacheService/Set", set).await.unwrap();
    let reply = client.call("cache.CacheService/Get", r#"{"key": "k"}"#).await.unwrap();
    assert_eq!(reply["valueBytes"], "/wCA");
    assert!(reply.get("value").is_none(), "{reply}");

    // Bytes that happen to be text stay bytes; text stays text, the empty one too.
    let set = r#"{"key": "k", "value_bytes": "aGk="}"#;
    client.call("cache.CacheService/Set", set).await.unwrap();
    let reply = client.call("cache.CacheService/Get", r#"{"key": "k"}"#).await.unwrap();
    assert_eq!(reply["valueBytes"], "aGk=");
    client.call("cache.CacheService/Set", r#"{"key": "k", "value": ""}"#).await.unwrap();
    let reply = client.call("cache.CacheService/Get", r#"{"key_bytes": "aw=="}"#).await.unwrap();
    assert_eq!((&reply["found"], &reply["value"]), (&json!(true), &json!("")));
    doors.close().await;
}

#[tokio::test]
async fn conditions_and_deletes_answer_with_the_version() {
    let doors = Doors::open().await;
    let addr = doors.grpc_addr.to_string();
    let client = JsonClient::connect(&addr, Reflection::V1).await.unwrap();
    let set = async |json: &str| client.call("cache.CacheService/Set", json).await.unwrap();
    let delete = async |json: &str| client.call("cache.CacheService/Delete", json).await.unwrap();

    let absent = r#"{"key": "c", "value": "1", "condition": {"if_absent": true}}"#;
    assert_eq!(set(absent).await, json!({ "applied": true, "version": "1" }));
    assert_eq!(set(absent).await, json!({ "version": "1" }));
    let stale = r#"{"key": "c", "value": "2", "condition": {"if_version": 9}}"#;
    assert_eq!(set(stale).await, json!({ "version": "1" }));
    let right = r#"{"key": "c", "value": "2", "condition": {"if_version": 1}}"#;
    assert_eq!(set(right).await, json!({ "applied": true, "version": "2" }));
    let present = r#"{"key": "d", "value": "2", "condition": {"if_present": true}}"#;
    assert_eq!(set(present).await, json!({}));

    let stale = r#"{"key": "c", "condition": {"if_version": 1}}"#;
    assert_eq!(delete(stale).await, json!({ "found": true, "version": "2" }));
    let gone = json!({ "found": true, "applied": true, "version": "2" });
    assert_eq!(delete(r#"{"key": "c"}"#).await, gone);
    assert_eq!(delete(r#"{"key": "c"}"#).await, json!({}));
    let reply = client.call("cache.CacheService/Get", r#"{"key": "c"}"#).await.unwrap();
    assert_eq!(reply, json!({ "freshness": { "term": "2", "index": "2" } }));
    doors.close().await;
}

#[tokio::test]
async fn health_follows_readiness_and_a_watch_ends_at_shutdown() {
    let doors = Doors::open().await;
    let endpoint = Endpoint::from_shared(format!("http://{}", doors.grpc_addr)).unwrap();
    let mut health = HealthClient::new(endpoint.connect().await.unwrap());
    let ask = |service: &str| HealthCheckRequest { service: service.to_owned() };
    for service in ["", "cache.CacheService", "cache.AdminService"] {
        let reply = health.check(ask(service)).await.unwrap().into_inner();
        assert_eq!(reply.status(), ServingStatus::Serving);
    }
    let unknown = health.check(ask("nobody")).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);

    let mut watch = health.watch(ask("")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    doors.fake.ready.store(false, Ordering::SeqCst);
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    let reply = health.check(ask("")).await.unwrap().into_inner();
    assert_eq!(reply.status(), ServingStatus::NotServing);
    let addr = doors.grpc_addr.to_string();
    let client = JsonClient::connect(&addr, Reflection::V1).await.unwrap();
    let reply = client.call("cache.CacheService/Health", "{}").await.unwrap();
    assert_eq!(reply["status"], "NOT_READY");
    assert_eq!(reply["notReadyBecause"], json!(["forming"]));

    let closed = tokio::time::timeout(Duration::from_secs(60), doors.close());
    let (closed, end) = tokio::join!(closed, watch.message());
    closed.expect("the watch does not hold the door open");
    assert_eq!(end.unwrap(), None);
}
