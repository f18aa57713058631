//! What is measured: memory of the nodes, their metrics, and the calls of a well-behaved client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use raftcache::types::clock::now;
use raftcache::types::task::spawn;
use tokio::task::JoinHandle;

use crate::client::{client, get, set, within};
use crate::harness::ProcessCluster;
use crate::process::until;

/// How long an ordinary caller waits: none gives up because the machine is busy.
pub const CALL: Duration = Duration::from_secs(30);

pub const MIB: f64 = 1024.0 * 1024.0;

/// A field of `/proc/PID/status` in bytes: `VmRSS` is resident now, `VmHWM` at its highest.
pub fn memory(cluster: &mut ProcessCluster, at: usize, field: &str) -> u64 {
    let path = format!("/proc/{}/status", cluster.process(at).id());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    let kib: u64 = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap();
    kib * 1024
}

/// Sum of the samples of a node whose line begins so.
pub async fn metric(cluster: &ProcessCluster, at: usize, prefix: &str) -> f64 {
    let (code, text) = cluster.page(at, "/metrics").await;
    assert_eq!(code, 200, "{text}");
    let lines = text.lines().filter(|line| line.starts_with(prefix));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).unwrap()
}

pub fn ms(seen: &Histogram<u64>, quantile: f64) -> f64 {
    seen.value_at_quantile(quantile) as f64 / 1_000.0
}

/// Asserts that what ordinary callers saw under a burden is not far from what they saw without it, in
/// the same run: the median is ten times as long at most, and 50 ms.
pub fn assert_hardly_slower(burden: &str, seen: &Histogram<u64>, calm: &Histogram<u64>) {
    let (now_ms, calm_ms) = (ms(seen, 0.5), ms(calm, 0.5));
    let limit = 10.0 * calm_ms + 50.0;
    assert!(now_ms < limit, "{burden}: p50 {now_ms:.1} ms, and {calm_ms:.1} ms without");
}

/// Latencies in microseconds, and how many calls failed.
type Seen = (Histogram<u64>, u64);

/// Calls that what is usual, or what is not, is measured by.
pub const CALLS: u64 = 300;

/// One caller at each node, which sets and gets one after the other.
pub struct Polite {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<Option<Seen>>>,
}

impl Polite {
    pub fn start(cluster: &ProcessCluster) -> Polite {
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::<AtomicU64>::default());
        let call = |addr: &str, i: usize| {
            let (mut client, stop) = (client(addr), Arc::clone(&stop));
            let calls = Arc::clone(&calls);
            spawn("polite client", async move {
                let (mut seen, mut failed) = (latencies(), 0);
                for turn in 0u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = format!("polite:{i}:{}", turn % 100);
                    let began = now();
                    let call = CALL;
                    let ok = match turn % 2 {
                        0 => client.set(within(set(&key, "v"), call)).await.is_ok(),
                        _ => client.get(within(get(&key), call)).await.is_ok(),
                    };
                    failed += u64::from(!ok);
                    calls.fetch_add(1, Ordering::Relaxed);
                    let took = u64::try_from((now() - began).as_micros()).unwrap();
                    seen.saturating_record(took.max(1));
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                (seen, failed)
            })
        };
        let members = cluster.members.iter().enumerate();
        let tasks = members.map(|(i, member)| call(&member.grpc, i)).collect();
        Polite { stop, calls, tasks }
    }

    /// What its callers see of a cluster that is left alone, over some calls.
    pub async fn calm(cluster: &ProcessCluster) -> Histogram<u64> {
        let polite = Polite::start(cluster);
        polite.calls(CALLS).await;
        let (seen, failed) = polite.stop().await;
        assert_eq!(failed, 0, "nothing is wrong yet");
        seen
    }

    /// Waits until its callers have made so many more calls.
    pub async fn calls(&self, more: u64) {
        let goal = self.calls.load(Ordering::Relaxed) + more;
        until("ordinary calls", Duration::from_secs(60), async || {
            (self.calls.load(Ordering::Relaxed) >= goal).then_some(())
        })
        .await;
    }

    /// Latencies of all its calls, and how many failed.
    pub async fn stop(self) -> (Histogram<u64>, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut all, mut failures) = (latencies(), 0);
        for task in self.tasks {
            let (seen, failed) = task.await.unwrap().expect("it does not panic");
            all.add(&seen).unwrap();
            failures += failed;
        }
        (all, failures)
    }
}
