//! Many callers that miss one key.

use std::collections::BTreeMap;
use std::time::Duration;

use raftcache::core::slot::slot_of;
use raftcache::front::pb;
use raftcache::front::pb::get_or_lease_response::State;
use raftcache::types::clock::now;
use raftcache::types::task::spawn;

use crate::client::{Client, client, within};
use crate::harness::{ProcessCluster, Shape};
use crate::process::until;
use crate::turn;

const CALLERS: usize = 1_000;

fn ask(key: &str, wait_seconds: i64) -> pb::GetOrLeaseRequest {
    pb::GetOrLeaseRequest {
        key_form: Some(pb::get_or_lease_request::KeyForm::Key(key.to_owned())),
        wait: Some(pb::Ttl { seconds: wait_seconds, nanos: 0 }),
        ..pb::GetOrLeaseRequest::default()
    }
}

async fn lease(client: &mut Client, key: &str, wait_seconds: i64) -> pb::GetOrLeaseResponse {
    let request = within(ask(key, wait_seconds), Duration::from_secs(40));
    client.get_or_lease(request).await.unwrap().into_inner()
}

/// Works the value out, and fills. True if that was asked of this caller.
async fn get_or_fill(client: &mut Client, key: &str) -> bool {
    let leased = lease(client, key, 30).await;
    match leased.state() {
        State::Hit => {
            let entry = leased.entry.expect("a hit has a value");
            let expected = pb::entry::ValueForm::Value("worked out".to_owned());
            assert_eq!(entry.value_form, Some(expected));
            false
        }
        State::Fill => {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let fill = pb::FillRequest {
                key_form: Some(pb::fill_request::KeyForm::Key(key.to_owned())),
                value_form: Some(pb::fill_request::ValueForm::Value("worked out".to_owned())),
                token: leased.token,
                cost: Some(pb::Ttl { seconds: 0, nanos: 500_000_000 }),
                ..pb::FillRequest::default()
            };
            client.fill(fill).await.unwrap();
            true
        }
        other => panic!("{other:?}"),
    }
}

/// Callers at the doors of these nodes; how many were asked to fill.
async fn crowd(doors: &[String], key: &'static str) -> usize {
    let clients: Vec<Client> = doors.iter().map(|addr| client(addr)).collect();
    let callers = (0..CALLERS).map(|n| {
        let mut client = clients[n % clients.len()].clone();
        spawn("caller", async move { get_or_fill(&mut client, key).await })
    });
    let callers: Vec<_> = callers.collect();
    let mut fills = 0;
    for caller in callers {
        fills += usize::from(caller.await.unwrap().expect("no caller panics"));
    }
    fills
}

/// Position of the node that leads the shard of a key.
async fn leader_of(cluster: &ProcessCluster, key: &str) -> usize {
    let mut client = client(&cluster.members[0].grpc);
    let table = client.routing(pb::RoutingRequest::default()).await.unwrap().into_inner();
    let slot = u32::from(slot_of(key.as_bytes()).0);
    let owner = table.slots.iter().find(|range| (range.first..=range.last).contains(&slot));
    let owner = owner.expect("every slot has an owner").shard_id;
    let leaders: BTreeMap<u32, u64> =
        table.shards.iter().map(|shard| (shard.shard_id, shard.leader)).collect();
    usize::try_from(leaders[&owner]).unwrap() - 1
}

/// Done-when 4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_callers_at_three_nodes_make_one_fill() {
    let _turn = turn().await;
    let cluster = ProcessCluster::start(Shape::new("memory")).await;
    let doors: Vec<String> = cluster.members.iter().map(|member| member.grpc.clone()).collect();
    let began = now();
    let fills = crowd(&doors, "missing").await;
    println!("{CALLERS} callers, {fills} fill, {:?}", now() - began);
    assert_eq!(fills, 1);
    cluster.converged().await;
}

/// The one who was to fill is gone, and so is the leader that knew of it: nobody hangs, and at the next
/// leader one of those who waited is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_killed_under_waiting_callers_leaves_one_fill_to_the_next() {
    let _turn = turn().await;
    let mut cluster = ProcessCluster::start(Shape::new("memory")).await;
    let key = "abandoned";
    let victim = leader_of(&cluster, key).await;
    let others: Vec<String> = cluster
        .members
        .iter()
        .filter(|member| member.id != victim + 1)
        .map(|member| member.grpc.clone())
        .collect();
    let first = lease(&mut client(&others[0]), key, 0).await;
    assert_eq!(first.state(), State::Fill);
    let doors = others.clone();
    let callers = spawn("callers", async move { crowd(&doors, key).await });
    until("callers that wait", Duration::from_secs(20), async || {
        let mut in_flight = 0.0;
        for at in cluster.up().into_iter().filter(|at| *at != victim) {
            let (_, text) = cluster.page(at, "/metrics").await;
            let line = text.lines().find(|line| line.starts_with("requests_in_flight "));
            in_flight += line.map_or(0.0, |line| line[19..].trim().parse().unwrap());
        }
        (in_flight >= CALLERS as f64 * 0.9).then_some(())
    })
    .await;
    let began = now();
    cluster.kill(victim);
    let fills = callers.await.unwrap().expect("no caller panics");
    println!("leader killed under {CALLERS} callers: {fills} fill, all answered {:?} later", {
        now() - began
    });
    assert_eq!(fills, 1);
    let late = pb::FillRequest {
        key_form: Some(pb::fill_request::KeyForm::Key(key.to_owned())),
        value_form: Some(pb::fill_request::ValueForm::Value("late".to_owned())),
        token: first.token,
        ..pb::FillRequest::default()
    };
    let refused = client(&others[0]).fill(late).await.unwrap_err();
    assert_eq!(refused.metadata().get("raftcache-reason").unwrap(), "outdated_token");
}
