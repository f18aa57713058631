//! Many connections, and bad ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use raftcache::types::clock::now;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::client::{client, set, within};
use crate::harness::{ProcessCluster, Shape};
use crate::process::until;
use crate::watch::{CALLS, MIB, Polite, assert_hardly_slower, memory, metric, ms};
use crate::{raw, turn};

const IDLE: usize = 10_000;
/// Open connections at a moment while the rest is opened: an accept queue is shorter than this.
const AT_ONCE: usize = 200;
/// How long each kind of bad client is at it.
const RUDE: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections_harm_nobody() {
    let _turn = turn().await;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let files = usize::try_from(limit.maximum.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    assert!(files > IDLE + 500, "the system allows only {files} open files");
    let flags = &[
        "--set",
        "limits.connections_max=10100",
        "--set",
        "limits.connections_per_address_max=10100",
    ];
    let shape = Shape { shards: 4, flags, ..Shape::new("memory") };
    let mut cluster = ProcessCluster::start(shape).await;
    let addr = cluster.members[0].grpc.clone();
    let calm = Polite::calm(&cluster).await;
    let before = memory(&mut cluster, 0, "VmRSS");
    let began = now();
    let mut idle: Vec<TcpStream> = Vec::with_capacity(IDLE);
    let greeting = raw::greeting();
    while idle.len() < IDLE {
        let wanted = (IDLE - idle.len()).min(AT_ONCE);
        let opened = join_all((0..wanted).map(|_| raw::send(&addr, &greeting))).await;
        idle.extend(opened.into_iter().flatten());
        assert!(now() - began < Duration::from_secs(180), "{} connections opened", idle.len());
    }
    let took = now() - began;
    let open = r#"active_connections{door="grpc"}"#;
    until("all are open", Duration::from_secs(20), async || {
        (metric(&cluster, 0, open).await >= IDLE as f64).then_some(())
    })
    .await;
    let polite = Polite::start(&cluster);
    polite.calls(CALLS).await;
    let (seen, failed) = polite.stop().await;
    let after = memory(&mut cluster, 0, "VmRSS");
    println!(
        "{IDLE} idle connections in {took:.1?}: {:.1} KiB each ({:.0} -> {:.0} MiB resident); \
         {} ordinary calls meanwhile, {failed} failed, p50 {:.1} ms, p99 {:.1} ms",
        (after.saturating_sub(before)) as f64 / 1024.0 / IDLE as f64,
        before as f64 / MIB,
        after as f64 / MIB,
        seen.len(),
        ms(&seen, 0.5),
        ms(&seen, 0.99)
    );
    assert_eq!(failed, 0);
    assert_hardly_slower("idle connections", &seen, &calm);
    assert!(after - before < 64 * 1024 * IDLE as u64, "64 KiB a connection at most");
    drop(idle);
    until("the places are free", Duration::from_secs(20), async || {
        (metric(&cluster, 0, open).await < 50.0).then_some(())
    })
    .await;
}

#[derive(Clone, Copy, Debug)]
enum Rude {
    Garbage,
    HalfFrames,
    NeverReads,
    OpensAndCloses,
}

impl Rude {
    /// Once; how many connections it took.
    async fn once(self, addr: &str, turn: u64) {
        match self {
            Rude::Garbage => {
                let bytes: Vec<u8> = (0..1_024).map(|_| rand::random()).collect();
                if let Some(mut socket) = raw::send(addr, &bytes).await {
                    // Until the node closes; reset or end of file.
                    drop(socket.read_to_end(&mut Vec::new()).await);
                }
            }
            Rude::HalfFrames => {
                let bytes =
                    if turn.is_multiple_of(2) { &raw::half_a_frame()[..] } else { b"PRI * HT" };
                if let Some(mut socket) = raw::send(addr, bytes).await {
                    drop(socket.read_to_end(&mut Vec::new()).await);
                }
            }
            Rude::NeverReads => {
                let mut bytes = raw::greeting();
                // 64 answers of half a megabyte, which nobody takes.
                (0..64).for_each(|i| bytes.extend(raw::get(2 * i + 1, "large")));
                if let Some(socket) = raw::send(addr, &bytes).await {
                    tokio::time::sleep(RUDE).await;
                    drop(socket);
                }
            }
            Rude::OpensAndCloses => drop(TcpStream::connect(addr).await),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rude_clients_are_dropped_and_harm_nobody() {
    let _turn = turn().await;
    let flags = &[
        "--set",
        "limits.handshake_timeout_ms=1000",
        "--set",
        "limits.stall_timeout_ms=1000",
        "--set",
        "limits.keepalive_interval_ms=1000",
        "--set",
        "limits.keepalive_timeout_ms=1000",
    ];
    let shape = Shape { shards: 4, flags, ..Shape::new("memory") };
    let mut cluster = ProcessCluster::start(shape).await;
    let addrs: Vec<String> = cluster.members.iter().map(|m| m.grpc.clone()).collect();
    let large = set("large", vec![7u8; 512 * 1024]);
    client(&addrs[0]).set(within(large, Duration::from_secs(10))).await.unwrap();
    let calm = Polite::calm(&cluster).await;
    for rude in [Rude::Garbage, Rude::HalfFrames, Rude::NeverReads, Rude::OpensAndCloses] {
        let polite = Polite::start(&cluster);
        let tried = Arc::new(AtomicU64::new(0));
        let until_then = now() + RUDE;
        let clients = (0..24usize).map(|i| {
            let (addr, tried) = (addrs[i % addrs.len()].clone(), Arc::clone(&tried));
            async move {
                while now() < until_then {
                    let turn = tried.fetch_add(1, Ordering::Relaxed);
                    let once = rude.once(&addr, turn);
                    // What the node does not close in time shows in the connections left open.
                    drop(tokio::time::timeout(2 * RUDE, once).await);
                }
            }
        });
        join_all(clients).await;
        let (seen, failed) = polite.stop().await;
        let (mut peak, mut closed) = (0, 0.0);
        for at in 0..addrs.len() {
            assert!(cluster.process(at).ended().is_none(), "{rude:?}: node {at} ended");
            peak = peak.max(memory(&mut cluster, at, "VmHWM"));
            closed += metric(&cluster, at, "connections_closed_total").await;
            assert_eq!(metric(&cluster, at, "task_panics_total").await, 0.0, "{rude:?}");
        }
        // Beside them calls are as slow as what they ask for makes the machine; behind them they are not.
        assert_hardly_slower(&format!("after {rude:?}"), &Polite::calm(&cluster).await, &calm);
        println!(
            "{rude:?}: {} connections; {} ordinary calls, {failed} failed, p50 {:.1} ms, \
             p99 {:.1} ms; {closed} connections closed by limits so far; peak {:.0} MiB resident",
            tried.load(Ordering::Relaxed),
            seen.len(),
            ms(&seen, 0.5),
            ms(&seen, 0.99),
            peak as f64 / MIB
        );
        assert_eq!(failed, 0, "{rude:?}");
        assert!(peak < 768 * 1024 * 1024, "{rude:?}");
    }
    let sum = async |reason: &str| {
        let name = format!("connections_closed_total{{reason=\"{reason}\"}}");
        let of = |at| metric(&cluster, at, &name);
        of(0).await + of(1).await + of(2).await
    };
    assert!(sum("handshake").await > 0.0, "half a preface");
    assert!(sum("stalled").await > 0.0, "answers that nobody takes");
    for at in 0..addrs.len() {
        until("no rude client is left", Duration::from_secs(20), async || {
            let open = metric(&cluster, at, r#"active_connections{door="grpc"}"#).await;
            (open < 8.0).then_some(())
        })
        .await;
    }
}
