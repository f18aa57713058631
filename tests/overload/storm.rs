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
use crate::process::until;
use crate::turn;
use crate::watch::{MIB, latencies, memory, ms};

const CALLERS: usize = 64;
const TIMES: usize = 10;
/// Callers of the storm: more than are ever served at once.
const STORM_CALLERS: usize = 32 * CALLERS;
const CONNECTIONS: usize = 12;
/// How long a caller waits: none gives up because the machine is busy.
const CALL: Duration = Duration::from_secs(30);

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

/// What `CALLERS` callers in a closed loop are served.
struct Capacity {
    /// Operations a second.
    rate: f64,
    /// Refused for one that is served.
    refused: f64,
    seen: Histogram<u64>,
}

/// Over so many seconds.
async fn capacity(clients: &[Client], seconds: u64) -> Capacity {
    let running = Running::start(clients, CALLERS, Duration::ZERO);
    let began = now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let took = (now() - began).as_secs_f64();
    let (served, refused) = (count(&running.load.served), count(&running.load.refused));
    let load = running.stop().await;
    let seen = load.seen.lock().clone();
    Capacity { rate: served / took, refused: refused / served.max(1.0), seen }
}

fn count(counter: &AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
}

/// Waits until `CALLERS` callers are refused hardly more often than before the storm: the node is itself
/// again, at whatever pace. How long that took.
async fn recovery(clients: &[Client], before: &Capacity) -> Duration {
    const SERVED: f64 = 400.0;
    let running = Running::start(clients, CALLERS, Duration::ZERO);
    let (began, load) = (now(), Arc::clone(&running.load));
    let (mut served, mut refused) = (0.0, 0.0);
    until("as few refusals as before the storm", Duration::from_secs(60), async || {
        let more = count(&load.served) - served;
        if more < SERVED {
            return None;
        }
        let ratio = (count(&load.refused) - refused) / more;
        (served, refused) = (served + more, count(&load.refused));
        println!("  {ratio:.2} refused for one served, {:.1?} after the storm", now() - began);
        (ratio <= 2.0 * before.refused + 0.1).then_some(())
    })
    .await;
    running.stop().await;
    now() - began
}

/// The processors are the bottleneck: how fast callers can ask depends on them as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_more_load_than_the_processors_take() {
    let _turn = turn().await;
    storm(Shape { shards: 4, patient: false, ..Shape::new("memory") }, false).await;
}

/// The shards are the bottleneck, as with a slow log: entries of two operations, one at a time. A
/// thousand operations wait at each, whatever the processors do, and that is too many for any target.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_more_load_than_capacity() {
    let _turn = turn().await;
    let flags = &["--set", "limits.batch_writes_max=2", "--set", "raft.batches_in_flight=1"];
    storm(Shape { shards: 2, flags, patient: false, ..Shape::new("memory") }, true).await;
}

/// What is judged are counts, and ratios to what the same machine did in the same run. `refuses`: some
/// must have been refused.
async fn storm(shape: Shape, refuses: bool) {
    let asked = std::env::var("RAFTCACHE_OVERLOAD_S").ok();
    let seconds: u64 = asked.map_or(10, |text| text.parse().expect("whole seconds"));
    let mut cluster = ProcessCluster::start(shape).await;
    let addrs: Vec<String> = cluster.members.iter().map(|m| m.grpc.clone()).collect();
    let clients: Vec<Client> = (0..CONNECTIONS).map(|i| client(&addrs[i % addrs.len()])).collect();
    // Warm, then measured.
    capacity(&clients, 2).await;
    let before = capacity(&clients, 4).await;
    let (rate, calm) = (before.rate, &before.seen);
    println!(
        "capacity {rate:.0} op/s with {CALLERS} callers, {:.2} refused for one served, p50 {:.1} ms, p99 \
         {:.1} ms",
        before.refused,
        ms(calm, 0.5),
        ms(calm, 0.99)
    );
    let demand = TIMES as f64 * rate;
    let pace = Duration::from_secs_f64(STORM_CALLERS as f64 / demand);
    let running = Running::start(&clients, STORM_CALLERS, pace);
    let began = now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let took = (now() - began).as_secs_f64();
    let load = Arc::clone(&running.load);
    let (served, refused, attempts) =
        (count(&load.served), count(&load.refused), count(&load.attempts));
    running.stop().await;
    let back = recovery(&clients, &before).await;
    // A core may have been taken away meanwhile: the storm is compared with the worse of the two.
    let after = capacity(&clients, 4).await.rate;
    let rate = rate.min(after);
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
        "  admitted: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms; itself again within {back:.1?}, \
         {after:.0} op/s",
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
    assert!(
        refused > 0.0 || !refuses && served / took > 0.5 * rate,
        "what was neither served as fast as can be nor refused was kept waiting"
    );
    assert!(served / took > 0.2 * rate, "goodput under overload: {served} in {took:.1} s");
    assert!((failed.0 as f64) < 0.01 * attempts, "refusals are honest: {failed:?}");
    if refused < 0.1 * attempts {
        // The callers themselves were short of processors: they waited for their own turn, and the nodes
        // served nearly all that reached them.
        return;
    }
    // All of them together would wait for `STORM_CALLERS / CALLERS` times as long as `CALLERS` do.
    let (storm_ms, calm_ms) = (ms(&seen, 0.5), ms(calm, 0.5));
    let limit = (STORM_CALLERS / CALLERS / 2) as f64 * calm_ms + 100.0;
    assert!(storm_ms < limit, "admitted requests wait: p50 {storm_ms:.1} ms, calm {calm_ms:.1} ms");
}
