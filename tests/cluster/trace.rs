//! A request is found in the log of every node it passed, under the id its caller chose.

use std::time::Duration;

use tonic::metadata::MetadataValue;

use crate::client::{Client, client, get, set};
use crate::harness::{ProcessCluster, Shape};
use crate::process::until;
use crate::turn;

/// Log lines of a node that carry this trace id in the span of this name.
fn lines(cluster: &mut ProcessCluster, at: usize, span: &str, id: &str) -> usize {
    let log = cluster.process(at).err();
    // The last line may be half written.
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let carries = |line: &serde_json::Value| {
        let spans = line["spans"].as_array();
        spans.is_some_and(|spans| {
            spans.iter().any(|s| s["name"] == span && s.to_string().contains(id))
        })
    };
    lines.filter(carries).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_id_follows_a_request_to_the_node_that_leads() {
    let _turn = turn().await;
    let flags = &["--log-format", "json", "--log-filter", "info,raftcache=debug,openraft=warn"];
    let shape = Shape { shards: 3, flags, ..Shape::new("memory") };
    let mut cluster = ProcessCluster::start(shape).await;
    let mut passed = [0; 3];
    for i in 0..12usize {
        let here = i % 3;
        let mut client: Client = client(&cluster.members[here].grpc);
        let id = format!("{:032x}", rand::random::<u128>().max(1));
        let header = format!("00-{id}-00f067aa0ba902b7-01");
        let header = MetadataValue::try_from(header.as_str()).unwrap();
        if i % 2 == 0 {
            let mut request = tonic::Request::new(set(&format!("traced:{i}"), "v"));
            request.metadata_mut().insert("traceparent", header);
            client.set(request).await.unwrap();
        } else {
            let mut request = tonic::Request::new(get(&format!("traced:{i}")));
            request.metadata_mut().insert("traceparent", header);
            client.get(request).await.unwrap();
        }
        until("the id in the log of the node asked", Duration::from_secs(5), async || {
            (lines(&mut cluster, here, "request", &id) > 0).then_some(())
        })
        .await;
        let others = (0..3).filter(|at| *at != here).collect::<Vec<_>>();
        for at in others {
            passed[at] += usize::from(lines(&mut cluster, at, "serve_forward", &id) > 0);
        }
    }
    println!("requests that another node served, by node: {passed:?}");
    // Each node leads one of three shards, and twelve keys meet them all from every side.
    assert!(passed.iter().sum::<usize>() >= 4, "{passed:?}");
}
