//! What a client that routes by itself is told.

use raftcache::front::pb;
use raftcache::types::Reason;
use tonic::metadata::MetadataMap;

use crate::fake::Doors;
use crate::grpc_json::{JsonClient, Reflection};

fn epoch(metadata: &MetadataMap) -> &str {
    metadata.get("raftcache-epoch").expect("every answer has it").to_str().unwrap()
}

fn get(key: &str) -> pb::GetRequest {
    let key_form = Some(pb::get_request::KeyForm::Key(key.to_owned()));
    pb::GetRequest { key_form, ..pb::GetRequest::default() }
}

#[tokio::test]
async fn the_table_is_told_once_and_then_only_its_leaders() {
    let doors = Doors::open().await;
    let mut client = doors.client().await;
    let ask = |known_epoch| pb::RoutingRequest { known_epoch };
    let answer = client.routing(ask(0)).await.unwrap();
    assert_eq!(epoch(answer.metadata()), "5");
    let table = answer.into_inner();
    assert_eq!((table.epoch, table.unchanged, table.cluster_id.len()), (5, false, 16));
    assert_eq!(table.slots, [pb::RoutingSlots { first: 0, last: 16_383, shard_id: 0 }]);
    let addresses: Vec<_> = table.nodes.iter().map(|node| node.grpc_address.as_str()).collect();
    assert_eq!(addresses, ["127.0.0.1:8080", "127.0.0.1:8082"]);
    let shard = pb::RoutingShard { shard_id: 0, leader: 1, replicas: vec![1], generation: 1 };
    assert_eq!(table.shards, std::slice::from_ref(&shard));

    let same = client.routing(ask(5)).await.unwrap().into_inner();
    assert!(same.unchanged && same.nodes.is_empty() && same.slots.is_empty(), "{same:?}");
    assert_eq!(same.shards, [pb::RoutingShard { replicas: Vec::new(), ..shard }]);

    let json = JsonClient::connect(&doors.grpc_addr.to_string(), Reflection::V1).await.unwrap();
    let seen = json.call("cache.CacheService/Routing", "{}").await.unwrap();
    assert_eq!(seen["epoch"], "5", "by reflection as well");
    doors.close().await;
}

#[tokio::test]
async fn answers_errors_and_pipelines_carry_the_epoch() {
    let doors = Doors::open().await;
    let mut client = doors.client().await;
    assert_eq!(epoch(client.get(get("k")).await.unwrap().metadata()), "5");
    doors.fake.fail("k", Reason::NotReady);
    assert_eq!(epoch(client.get(get("k")).await.unwrap_err().metadata()), "5");
    assert_eq!(epoch(client.get(get("")).await.unwrap_err().metadata()), "5");

    let operation = Some(pb::pipeline_request::Operation::Get(get("x")));
    let request = pb::PipelineRequest { id: 1, operation, timeout: None };
    let stream = client.pipeline(tokio_stream::iter([request])).await.unwrap();
    assert_eq!(epoch(stream.metadata()), "5");
    let reply = stream.into_inner().message().await.unwrap().unwrap();
    assert_eq!(reply.routing_epoch, 5);
    doors.close().await;
}
