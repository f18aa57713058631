//! Samples what a cluster holds, and the formula of `docs/memory.md`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use raftcache::raft::shard_group::ShardGroup;
use raftcache::types::task;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::ALLOCATOR;
use crate::shard::Cluster;

pub const MIB: u64 = 1024 * 1024;

/// Largest values seen, each by itself.
#[derive(Clone, Copy, Default)]
pub struct Peaks {
    pub samples: u64,
    /// Logical bytes of one replica.
    pub logical: u64,
    /// Keys of one replica.
    pub keys: u64,
    /// Log bytes in memory of one replica.
    pub log: u64,
    /// Log bytes in memory of the leader.
    pub log_of_leader: u64,
    /// Live heap bytes of the process above what it had before.
    pub live: u64,
    /// Files of all replicas.
    pub disk: u64,
    /// Resident bytes of the process at its highest.
    pub resident: u64,
}

impl Peaks {
    /// Heap bytes that one replica may take: the formula of `docs/memory.md`.
    pub fn formula(&self) -> u64 {
        let machine = self.logical + 170 * self.keys;
        let preimages = self.logical / 2;
        let queues = 32 * MIB;
        machine + self.log + preimages + queues
    }

    pub fn print(&self) {
        let mib = |bytes: u64| bytes as f64 / MIB as f64;
        println!(
            "peaks over {} samples: logical {:.2} MiB, keys {}, log {:.1} MiB at the leader, {:.1} MiB at any; live heap \
             {:.0} MiB, resident {:.0} MiB, disk {:.0} MiB for three; the formula allows {:.0} MiB",
            self.samples,
            mib(self.logical),
            self.keys,
            mib(self.log_of_leader),
            mib(self.log),
            mib(self.live),
            mib(self.resident),
            mib(self.disk),
            mib(3 * self.formula())
        );
    }
}

/// Bytes of all files below a directory.
pub fn disk_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
            Ok(meta) => meta.len(),
            // Files are replaced while we look.
            Err(_) => 0,
        })
        .sum()
}

fn resident_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// A sampler at work.
pub struct Watcher {
    cancel: CancellationToken,
    task: JoinHandle<Option<Peaks>>,
}

/// Samples every 5 ms from a thread of its own, so that a busy runtime does not hide anything.
pub fn watch(cluster: &Cluster, dir: &Path, base: u64) -> Watcher {
    let cancel = CancellationToken::new();
    let (groups, dir, stop): (Vec<_>, PathBuf, _) =
        (cluster.groups.values().cloned().collect(), dir.to_owned(), cancel.clone());
    ALLOCATOR.reset_peak_usage();
    let task = task::spawn("watch", async move {
        let sampling = tokio::task::spawn_blocking(move || {
            let mut peaks = Peaks::default();
            while !stop.is_cancelled() {
                sample(&groups, &dir, &mut peaks);
                std::thread::sleep(Duration::from_millis(5));
            }
            peaks.live = (ALLOCATOR.peak_usage() as u64).saturating_sub(base);
            peaks.resident = resident_peak();
            peaks
        });
        sampling.await.unwrap()
    });
    Watcher { cancel, task }
}

fn sample(groups: &[ShardGroup], dir: &Path, peaks: &mut Peaks) {
    peaks.samples += 1;
    for group in groups {
        let stats = group.replica().with_machine(|m| m.stats());
        peaks.logical = peaks.logical.max(stats.bytes);
        peaks.keys = peaks.keys.max(stats.keys);
        let log = group.replica().progress().log_bytes;
        peaks.log = peaks.log.max(log);
        if group.replica().is_leader() {
            peaks.log_of_leader = peaks.log_of_leader.max(log);
        }
    }
    if peaks.samples.is_multiple_of(20) {
        peaks.disk = peaks.disk.max(disk_bytes(dir));
    }
}

impl Watcher {
    pub async fn stop(self) -> Peaks {
        self.cancel.cancel();
        self.task.await.unwrap().expect("the sampler does not panic")
    }
}
