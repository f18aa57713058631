//! Clients of gRPC that ask for large values and never read: what they do not take is bounded (INV-8).

use std::time::Duration;

use tokio::net::TcpStream;

use crate::client::{client, set, within};
use crate::harness::{ProcessCluster, Shape};
use crate::process::until;
use crate::watch::{CALL, CALLS, MIB, Polite, assert_hardly_slower, memory, metric, ms};
use crate::{raw, turn};

const VALUE_BYTES: usize = 512 * 1024;
const CONNECTIONS: u64 = 16;
const STREAMS: u32 = 64;
/// As in the flags.
const BUDGET_BYTES: u64 = 64 << 20;
/// What a node may take beside: frames from the leader, and replies that are made and refused.
const BESIDE_BYTES: u64 = 96 << 20;

/// What one connection sends at once.
type Greedy = fn() -> Vec<u8>;

fn gets() -> Vec<u8> {
    (0..STREAMS).flat_map(|i| raw::get(2 * i + 1, "large")).collect()
}

fn multi_gets() -> Vec<u8> {
    (0..STREAMS / 4).flat_map(|i| raw::multi_get(2 * i + 1, "large", 4)).collect()
}

fn pipelines() -> Vec<u8> {
    (0..STREAMS / 16).flat_map(|i| raw::pipeline(2 * i + 1, "large", 16)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_that_nobody_takes_are_bounded_and_harm_nobody() {
    let _turn = turn().await;
    let flags = &[
        "--set",
        "limits.replies_bytes_max=67108864",
        "--set",
        "limits.connection_replies_bytes_max=8388608",
        // They stay: it is not their end that keeps the memory down.
        "--set",
        "limits.stall_timeout_ms=600000",
    ];
    let kinds: [(&str, Greedy); 3] =
        [("Get", gets), ("MultiGet", multi_gets), ("Pipeline", pipelines)];
    for (kind, greedy) in kinds {
        // A process has one high-water mark.
        let mut cluster =
            ProcessCluster::start(Shape { shards: 4, flags, ..Shape::new("memory") }).await;
        let addrs: Vec<String> = cluster.members.iter().map(|m| m.grpc.clone()).collect();
        let large = set("large", vec![7u8; VALUE_BYTES]);
        client(&addrs[0]).set(within(large, CALL)).await.unwrap();
        let calm = Polite::calm(&cluster).await;
        let before: Vec<u64> =
            (0..addrs.len()).map(|at| memory(&mut cluster, at, "VmHWM")).collect();
        let polite = Polite::start(&cluster);
        let bytes = [raw::greeting(), greedy()].concat();
        let mut held: Vec<TcpStream> = Vec::new();
        for addr in &addrs {
            for _ in 0..CONNECTIONS {
                held.push(raw::send(addr, &bytes).await.expect("the node reads"));
            }
        }
        // Each connection has room for sixteen of the sixty-four values that it asks for.
        for at in 0..addrs.len() {
            until("the rest is refused", Duration::from_secs(20), async || {
                let refused = r#"requests_refused_total{limit="replies_bytes"#;
                (metric(&cluster, at, refused).await >= 2.0 * CONNECTIONS as f64).then_some(())
            })
            .await;
        }
        polite.calls(CALLS).await;
        let (seen, failed) = polite.stop().await;
        let asked = CONNECTIONS * u64::from(STREAMS) * VALUE_BYTES as u64;
        for (at, before) in before.into_iter().enumerate() {
            let more = memory(&mut cluster, at, "VmHWM") - before;
            println!(
                "{kind}, node {}: {:.0} MiB asked for, {:.0} MiB more at the highest; {} ordinary \
                 calls meanwhile, {failed} failed, p50 {:.1} ms, p99 {:.1} ms",
                at + 1,
                asked as f64 / MIB,
                more as f64 / MIB,
                seen.len(),
                ms(&seen, 0.5),
                ms(&seen, 0.99)
            );
            assert!(more < BUDGET_BYTES + BESIDE_BYTES, "{kind}: {more} bytes more");
        }
        assert_eq!(failed, 0, "{kind}");
        assert_hardly_slower(kind, &seen, &calm);
        drop(held);
    }
}
