//! What is measured: memory of the nodes, their metrics, and the calls of a well-behaved client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use raftcache::types::clock::now;
use raftcache::types::task::spawn;
use tokio::task::JoinHandle;

use crate::client::{client, get, set, within};
use crate::harness::ProcessCluster;

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

/// Latencies in microseconds, and how many calls failed.
type Seen = (Histogram<u64>, u64);

/// One caller at each node, which sets and gets one after the other.
pub struct Polite {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Option<Seen>>>,
}

impl Polite {
    pub fn start(cluster: &ProcessCluster) -> Polite {
        let stop = Arc::new(AtomicBool::new(false));
        let call = |addr: &str, i: usize| {
            let (mut client, stop) = (client(addr), Arc::clone(&stop));
            spawn("polite client", async move {
                let (mut seen, mut failed) = (latencies(), 0);
                for turn in 0u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = format!("polite:{i}:{}", turn % 100);
                    let began = now();
                    let call = Duration::from_secs(5);
                    let ok = match turn % 2 {
                        0 => client.set(within(set(&key, "v"), call)).await.is_ok(),
                        _ => client.get(within(get(&key), call)).await.is_ok(),
                    };
                    failed += u64::from(!ok);
                    let took = u64::try_from((now() - began).as_micros()).unwrap();
                    seen.saturating_record(took.max(1));
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                (seen, failed)
            })
        };
        let members = cluster.members.iter().enumerate();
        let tasks = members.map(|(i, member)| call(&member.grpc, i)).collect();
        Polite { stop, tasks }
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
