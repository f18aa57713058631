//! `raftcache dev` as a newcomer meets it: the printed commands, a value of every size, the end.

use std::path::Path;
use std::time::Duration;

use raftcache::front::cluster::http_get;
use raftcache::types::clock::now;
use raftcache::types::limits::VALUE_BYTES_MAX;
use tonic::Code;

use crate::client::{client, get, set, value};
use crate::commands::{grpcurls, readme, run};
use crate::grpc_json::{JsonClient, Reflection};
use crate::harness::FORMS;
use crate::ports::free_ports;
use crate::process::{Process, until};
use crate::turn;

/// `dev` with its ports.
struct Dev {
    process: Process,
    grpc: Vec<String>,
    http: Vec<String>,
}

impl Dev {
    async fn start(dir: &Path, name: &str) -> Dev {
        // Two apart, as dev counts them: gRPC on even places, HTTP on odd ones.
        let ports = free_ports(12, 1);
        let (grpc, http, peer) = (ports[0].to_string(), ports[1].to_string(), ports[6].to_string());
        let resp = ports[9].to_string();
        let doors = ["--grpc-port", &grpc, "--http-port", &http, "--resp-port", &resp];
        let args = [&["dev", "--peer-port", &peer], &doors[..]].concat();
        let mut process = Process::start(name, dir, &args);
        let started = now();
        until("dev says that the cluster is ready", FORMS, async || {
            assert_eq!(process.ended(), None, "dev ended");
            // The commands come in one piece after this line.
            process.out().contains("/metrics").then_some(())
        })
        .await;
        println!("dev is ready after {:?}", now() - started);
        let addrs = |first: usize| {
            (0..3).map(|i| format!("127.0.0.1:{}", ports[first + 2 * i])).collect::<Vec<_>>()
        };
        Dev { process, grpc: addrs(0), http: addrs(1) }
    }

    async fn json(&self, node: usize, reflection: Reflection) -> JsonClient {
        JsonClient::connect(&self.grpc[node], reflection).await.unwrap()
    }

    /// Ends by `signal` in order and leaves nothing behind.
    async fn end(mut self, signal: &str) {
        let out = self.process.out();
        let line = out.lines().find_map(|line| line.strip_prefix("data in ")).unwrap();
        let data = Path::new(line.split(';').next().unwrap()).to_owned();
        assert!(data.is_dir(), "{}", data.display());
        let started = now();
        self.process.signal(signal);
        let status = self.process.exit(Duration::from_secs(30)).await;
        println!("dev ended by SIG{signal} after {:?}", now() - started);
        assert_eq!(status.code(), Some(0), "after SIG{signal}");
        assert!(!data.exists(), "{} was left behind", data.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_printed_commands_work_at_every_node_and_a_signal_ends_it() {
    let _turn = turn().await;
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), "dev").await;
    for reflection in [Reflection::V1, Reflection::V1Alpha] {
        printed(&dev, reflection).await;
        readme(&dev.grpc, reflection).await;
        every_node(&dev, reflection).await;
    }
    largest(&dev).await;
    dev.end("TERM").await;
    Dev::start(dir.path(), "again").await.end("INT").await;
}

/// The commands that dev prints.
async fn printed(dev: &Dev, reflection: Reflection) {
    let answers = run(grpcurls(&dev.process.out()), reflection, str::to_owned).await;
    let names: Vec<&str> = answers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Set", "Get"]);
    assert_eq!(answers[0].1["applied"], true);
    assert_eq!(answers[1].1["value"], "hello", "{}", answers[1].1);
}

/// Set at one node, Get at the next, for keys of all shards; and a time to live that runs down.
async fn every_node(dev: &Dev, reflection: Reflection) {
    let john = r#"{"key": "user:123", "value": "{\"name\":\"John\"}", "ttl": {"seconds": 3600}}"#;
    dev.json(2, reflection).await.call("cache.CacheService/Set", john).await.unwrap();
    for node in 0..3 {
        let client = dev.json(node, reflection).await;
        until("the time to live runs down", Duration::from_secs(5), async || {
            let get =
                client.call("cache.CacheService/Get", r#"{"key": "user:123"}"#).await.unwrap();
            assert_eq!(get["value"], r#"{"name":"John"}"#);
            let seconds: u64 = get["ttl"]["seconds"].as_str().unwrap().parse().unwrap();
            assert!((3_590..=3_600).contains(&seconds), "{get}");
            (seconds < 3_600).then_some(())
        })
        .await;
    }
    let mut clients = Vec::new();
    for node in 0..3 {
        clients.push(dev.json(node, reflection).await);
    }
    for i in 0..24 {
        let (here, there) = (&clients[i % 3], &clients[(i + 1) % 3]);
        let set = format!(r#"{{"key": "many:{i}", "value": "{reflection:?} {i}"}}"#);
        here.call("cache.CacheService/Set", &set).await.unwrap();
        let get = format!(r#"{{"key": "many:{i}"}}"#);
        let get = there.call("cache.CacheService/Get", &get).await.unwrap();
        assert_eq!(get["value"], format!("{reflection:?} {i}"), "set at {}", i % 3);
    }
}

/// The largest value comes back byte for byte from every node; one byte more is refused.
async fn largest(dev: &Dev) {
    let bytes: Vec<u8> = (0..VALUE_BYTES_MAX).map(|i| (i * 7 + i / 256) as u8).collect();
    for node in 0..3 {
        let key = format!("large:{node}");
        client(&dev.grpc[node]).set(set(&key, bytes.clone())).await.unwrap();
        let reply = client(&dev.grpc[(node + 1) % 3]).get(get(&key)).await.unwrap();
        assert!(value(reply.into_inner()).is_some_and(|back| back == bytes), "{key} changed");
    }
    let status = client(&dev.grpc[0]).set(set("large", vec![7; VALUE_BYTES_MAX + 1])).await;
    let status = status.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let named = status.message().contains("value") && status.message().contains("1048576");
    assert!(named, "{}", status.message());
    let (code, _) = http_get(&dev.http[0], "/ready", Duration::from_secs(5)).await.unwrap();
    assert_eq!(code, 200);
}
