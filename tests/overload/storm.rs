//! Ten times more load than capacity.
//!
//! Capacity is measured with `CALLERS` callers in a closed loop. The storm has enough callers to ask
//! for ten times that: each begins an operation every `callers / (10 * capacity)` seconds, or as soon
//! as its last one is answered if that is later. A refused caller waits as long as the refusal says
//! (give or take half), as a client library would: what is attempted is therefore less than what is
//! demanded, and both are printed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use raftcache::types::clock::now;
use raftcache::types::random::Random;
use raftcache::types::task::spawn;
use tokio::task::JoinHandle;
use tonic::Code;

use crate::client::{Client, client, set, within};
use crate::harness::{ProcessCluster, Shape};
use crate::turn;
use crate::watch::{MIB, latencies, memory, ms};

const CALLERS: usize = 64;
const TIMES: usize = 10;
/// Callers of the storm: more than are ever served at once.
const STORM_CALLERS: usize = 32 * CALLERS;
const CONNECTIONS: usize = 12;
const CALL: Duration = Duration::from_secs(5);

struct Load {
    stop: AtomicBool,
    served: AtomicU64,
    refused: AtomicU64,
    attempts: AtomicU64,
    /// Failed otherwise, and one example.
    failed: Mutex<(u64, String)>,
    seen: Mutex<Histogram<u64>>,
    /// Shortest time between two operations of one caller.
    pace: Duration,
}

struct Running {
    load: Arc<Load>,
    tasks: Vec<JoinHandle<Option<()>>>,
}

impl Running {
    fn start(clients: &[Client], callers: usize, pace: Duration) -> Running {
        let load = Arc::new(Load {
            stop: AtomicBool::new(false),
            served: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            attempts: AtomicU64::new(0),
            failed: Mutex::default(),
            seen: Mutex::new(latencies()),
            pace,
        });
        let caller = |i: usize| {
            let (client, load) = (clients[i % clients.len()].clone(), Arc::clone(&load));
            spawn("caller", call(client, load, i as u64))
        };
        Running { tasks: (0..callers).map(caller).collect(), load }
    }

    async fn stop(self) -> Arc<Load> {
        self.load.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap().expect("a caller does not panic");
        }
        self.load
    }
}

async fn call(mut client: Client, load: Arc<Load>, seed: u64) {
    let mut random = Random::new(seed);
    let mut seen = latencies();
    // Not all at once.
    tokio::time::sleep(load.pace.mul_f64((random.bits() % 1_000) as f64 / 1_000.0)).await;
    while !load.stop.load(Ordering::Relaxed) {
        let key = format!("storm:{}", random.bits() % 10_000);
        let began = now();
        load.attempts.fetch_add(1, Ordering::Relaxed);
        match client.set(within(set(&key, vec![7u8; 64]), CALL)).await {
            Ok(_) => {
                load.served.fetch_add(1, Ordering::Relaxed);
                let took = u64::try_from((now() - began).as_micros()).unwrap();
                seen.saturating_record(took.max(1));
            }
            Err(status) if status.code() == Code::ResourceExhausted => {
                load.refused.fetch_add(1, Ordering::Relaxed);
                let after = status.metadata().get("retry-after-ms").expect("when to retry");
                let after: u64 = after.to_str().unwrap().parse().unwrap();
                let after = after / 2 + random.bits() % after.max(1);
                tokio::time::sleep(Duration::from_millis(after)).await;
            }
            Err(status) => {
                let mut failed = load.failed.lock();
                failed.0 += 1;
                failed.1 = format!("{:?} {}", status.code(), status.message());
            }
        }
        tokio::time::sleep_until(began + load.pace).await;
    }
    load.seen.lock().add(&seen).unwrap();
}

/// Operations a second of `CALLERS` callers, over `for_s` seconds.
async fn capacity(clients: &[Client], seconds: u64) -> (f64, Histogram<u64>) {
    let running = Running::start(clients, CALLERS, Duration::ZERO);
    let began = now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let rate = running.load.served.load(Ordering::Relaxed) as f64 / (now() - began).as_secs_f64();
    let load = running.stop().await;
    let seen = load.seen.lock().clone();
    (rate, seen)
}

/// How long until `CALLERS` callers are served at seven tenths of `rate` again.
async fn recovery(clients: &[Client], rate: f64) -> Duration {
    const LOOK: Duration = Duration::from_millis(500);
    let running = Running::start(clients, CALLERS, Duration::ZERO);
    let began = now();
    let mut last = 0;
    loop {
        let from = now();
        tokio::time::sleep(LOOK).await;
        let served = running.load.served.load(Ordering::Relaxed);
        let present = (served - last) as f64 / (now() - from).as_secs_f64();
        if present >= 0.7 * rate {
            running.stop().await;
            return from - began + LOOK;
        }
        println!("  {present:.0} op/s {:.1?} after the storm", now() - began);
        assert!(now() - began < Duration::from_secs(15), "not at full speed again");
        last = served;
    }
}

/// The processors are the bottleneck: how fast callers can ask depends on them as well, so what is
/// attempted stays far below what is demanded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_more_load_than_the_processors_take() {
    let _turn = turn().await;
    storm(Shape { shards: 4, ..Shape::new("memory") }, 1.0).await;
}

/// The shards are the bottleneck, as with a slow log: entries of two operations, one at a time.
/// Processors have time left, and what is attempted is near ten times what can be served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_more_load_than_capacity() {
    let _turn = turn().await;
    let flags = &["--set", "limits.batch_writes_max=2", "--set", "raft.batches_in_flight=1"];
    storm(Shape { shards: 2, flags, ..Shape::new("memory") }, 3.0).await;
}

/// `times`: how much more than capacity must really have been attempted.
async fn storm(shape: Shape, times: f64) {
    let asked = std::env::var("RAFTCACHE_OVERLOAD_S").ok();
    let seconds: u64 = asked.map_or(10, |text| text.parse().expect("whole seconds"));
    let mut cluster = ProcessCluster::start(shape).await;
    let addrs: Vec<String> = cluster.members.iter().map(|m| m.grpc.clone()).collect();
    let clients: Vec<Client> = (0..CONNECTIONS).map(|i| client(&addrs[i % addrs.len()])).collect();
    // Warm, then measured.
    capacity(&clients, 2).await;
    let (rate, calm) = capacity(&clients, 4).await;
    println!(
        "capacity {rate:.0} op/s with {CALLERS} callers, p50 {:.1} ms, p99 {:.1} ms",
        ms(&calm, 0.5),
        ms(&calm, 0.99)
    );
    let demand = TIMES as f64 * rate;
    let pace = Duration::from_secs_f64(STORM_CALLERS as f64 / demand);
    let running = Running::start(&clients, STORM_CALLERS, pace);
    let began = now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let took = (now() - began).as_secs_f64();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let load = Arc::clone(&running.load);
    let (served, refused, attempts) =
        (count(&load.served), count(&load.refused), count(&load.attempts));
    running.stop().await;
    let back = recovery(&clients, rate).await;
    let seen = load.seen.lock().clone();
    let failed = load.failed.lock().clone();
    println!(
        "{seconds} s of storm: {STORM_CALLERS} callers demand {demand:.0} op/s, attempt {:.0}, are served \
         {:.0} ({:.0} % of capacity), {:.1} % refused; {} failed otherwise {}",
        attempts / took,
        served / took,
        100.0 * served / took / rate,
        100.0 * refused / attempts,
        failed.0,
        failed.1
    );
    println!(
        "  admitted: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms; full speed again within {back:.1?}",
        ms(&seen, 0.5),
        ms(&seen, 0.99),
        ms(&seen, 1.0)
    );
    for at in 0..addrs.len() {
        assert!(cluster.process(at).ended().is_none(), "node {} ended", at + 1);
        let (peak, present) =
            (memory(&mut cluster, at, "VmHWM"), memory(&mut cluster, at, "VmRSS"));
        println!(
            "  node {}: peak {:.0} MiB resident, {:.0} MiB after",
            at + 1,
            peak as f64 / MIB,
            present as f64 / MIB
        );
        assert!(peak < 512 * 1024 * 1024, "memory is bounded");
    }
    assert!(attempts / took > times * rate, "more than capacity was asked for");
    assert!(
        refused > 0.0 || served / took > 0.9 * rate,
        "what was neither served as fast as can be nor refused was kept waiting"
    );
    assert!(ms(&seen, 0.99) < 2_000.0, "latency of admitted requests is bounded");
    assert!(served / took > 0.25 * rate, "goodput under overload");
    assert!((failed.0 as f64) < 0.01 * attempts, "refusals are honest: {failed:?}");
    assert!(back <= Duration::from_secs(5), "full speed again within 5 s");
}
