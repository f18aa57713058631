//! The engines of the write-ahead log side by side: `cargo bench --bench wal`.
//!
//! Callers append entries of 200 bytes to 16 logs, each waiting for its acknowledgement (`wal`
//! durability: after the flush) before the next; then a store of 1,000,000 entries is opened again.
//! `RAFTCACHE_BENCH_DIR` says where the stores go (default: the directory for temporary files).
//! The engines take turns, and before each turn the bare device is measured (4 KiB written over
//! what is there, and a sync), for its speed may change from minute to minute. Written bytes are
//! those of `/proc/self/io`: pages made dirty, without the journal of the file system.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use raftcache::storage::raft_engine_wal::RaftEngineWal;
use raftcache::storage::sled_wal::SledWal;
use raftcache::storage::wal::{FlushMode, LogRecord, Wal, WalOp};
use raftcache::types::clock::now;
use raftcache::types::metrics::Metrics;
use raftcache::types::{GroupId, LogKey, ReplicaId};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

const LOGS: usize = 16;
const ENTRY_BYTES: usize = 200;
/// Time of one turn, and turns of each engine.
const RUN: Duration = Duration::from_secs(2);
const TURNS: u32 = 4;
/// A log is purged to the lower number of entries when it has the higher: 8 MB and 4 MB.
const PURGE_AT: u64 = 40_000;
const PURGE_TO: u64 = 20_000;
const RECOVERED_ENTRIES: u64 = 1_000_000;
const ENGINES: [&str; 2] = ["sled", "raft-engine"];

fn open(engine: &str, path: &Path, metrics: &Arc<Metrics>) -> Arc<dyn Wal> {
    let metrics = Arc::clone(metrics);
    match engine {
        "sled" => SledWal::open(path, metrics, FlushMode::Always).expect("sled opens"),
        _ => RaftEngineWal::open(path, metrics, FlushMode::Always).expect("raft-engine opens"),
    }
}

fn key(number: usize) -> LogKey {
    LogKey { group: GroupId(number as u32 + 1), replica: ReplicaId(1) }
}

/// One log: its first entry and the next.
struct Log {
    key: LogKey,
    span: Mutex<(u64, u64)>,
}

fn entry(index: u64, payload: &Bytes) -> LogRecord {
    LogRecord { term: 1, index, payload: payload.clone() }
}

fn submit(wal: &dyn Wal, key: LogKey, op: WalOp) -> oneshot::Receiver<Result<(), String>> {
    let (sender, receiver) = oneshot::channel();
    let done = move |result: Result<(), _>| {
        drop(sender.send(result.map_err(|e: raftcache::storage::wal::Error| e.to_string())));
    };
    wal.submit(key, op, Box::new(done));
    receiver
}

/// Appends one entry, and purges the log when it is long.
fn append(wal: &dyn Wal, log: &Log, payload: &Bytes) -> oneshot::Receiver<Result<(), String>> {
    // Held while it is queued, which never blocks: entries of one log go in order.
    let mut span = log.span.lock();
    let index = span.1;
    span.1 += 1;
    let answer = submit(wal, log.key, WalOp::Append(vec![entry(index, payload)]));
    if span.1 - span.0 >= PURGE_AT {
        span.0 = span.1 - PURGE_TO;
        let marker = Bytes::from_static(b"marker");
        drop(submit(wal, log.key, WalOp::Purge { index: span.0 - 1, marker }));
    }
    answer
}

/// Bytes this process has made the kernel write so far.
fn written_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").expect("Linux says what a process writes");
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|number| number.parse().ok()).expect("a number of bytes")
}

fn disk_mib(path: &Path) -> u64 {
    fn bytes(path: &Path) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let entries = std::fs::read_dir(path).expect("a directory").flatten();
        entries
            .map(|entry| match entry.metadata() {
                Ok(data) if data.is_dir() => bytes(&entry.path()),
                Ok(data) => data.blocks() * 512,
                // Deleted meanwhile.
                Err(_) => 0,
            })
            .sum()
    }
    bytes(path) >> 20
}

async fn load(wal: Arc<dyn Wal>, callers: usize) -> Histogram<u64> {
    let logs: Arc<Vec<Log>> = Arc::new(
        (0..LOGS).map(|number| Log { key: key(number), span: Mutex::new((0, 0)) }).collect(),
    );
    for log in logs.iter() {
        wal.open(log.key).expect("a new log opens");
    }
    let until = now() + RUN;
    let mut running = JoinSet::new();
    for caller in 0..callers {
        let (wal, logs) = (Arc::clone(&wal), Arc::clone(&logs));
        running.spawn(async move {
            let payload = Bytes::from(vec![caller as u8; ENTRY_BYTES]);
            let mut seen = Histogram::<u64>::new(3).expect("3 digits");
            loop {
                let started = now();
                if started >= until {
                    return seen;
                }
                let answer = append(wal.as_ref(), &logs[caller % LOGS], &payload).await;
                answer.expect("each change is answered").expect("appended");
                seen.record((now() - started).as_micros() as u64).expect("it grows");
            }
        });
    }
    let mut all = Histogram::<u64>::new(3).expect("3 digits");
    while let Some(seen) = running.join_next().await {
        all.add(seen.expect("no caller panics")).expect("same bounds");
    }
    all
}

/// Microseconds that a sync of 4 KiB takes the bare device, the middle of 60.
fn bare_sync_us(path: &Path) -> u64 {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::create(path.join("bare")).expect("a file");
    file.write_all_at(&[0; 60 * 4096], 0).expect("written");
    file.sync_all().expect("synced");
    let mut seen = Histogram::<u64>::new(3).expect("3 digits");
    for at in 0..60 {
        let started = now();
        file.write_all_at(&[1; 4096], at * 4096).expect("written");
        file.sync_data().expect("synced");
        seen.record((now() - started).as_micros() as u64).expect("it grows");
    }
    seen.value_at_quantile(0.5)
}

/// What one engine did in all its turns.
struct Sum {
    seen: Histogram<u64>,
    seconds: f64,
    written: u64,
    flushes: u64,
    bare_us: u64,
    disk_mib: u64,
}

impl Sum {
    fn new() -> Self {
        let seen = Histogram::new(3).expect("3 digits");
        Sum { seen, seconds: 0.0, written: 0, flushes: 0, bare_us: 0, disk_mib: 0 }
    }

    fn turn(&mut self, engine: &str, callers: usize, path: &Path) {
        let metrics = Metrics::new();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let wal = open(engine, path, &metrics);
        self.bare_us += bare_sync_us(path) / u64::from(TURNS);
        let before = written_bytes();
        let started = now();
        let seen = runtime.block_on(load(Arc::clone(&wal), callers));
        self.seconds += (now() - started).as_secs_f64();
        self.seen.add(seen).expect("it grows");
        self.disk_mib = self.disk_mib.max(disk_mib(path));
        wal.close().expect("closes");
        self.written += written_bytes() - before;
        self.flushes += metrics.flush_seconds.get_sample_count();
    }

    fn print(&self, engine: &str, callers: usize) {
        let payload = self.seen.len() * ENTRY_BYTES as u64;
        println!(
            "| {engine} | {callers} | {:.0} | {} | {} | {:.0} | {} | {:.2} | {} |",
            self.seen.len() as f64 / self.seconds,
            self.seen.value_at_quantile(0.5),
            self.seen.value_at_quantile(0.99),
            self.flushes as f64 / self.seconds,
            self.bare_us,
            self.written as f64 / payload as f64,
            self.disk_mib,
        );
    }
}

fn measure_appends(callers: usize, dir: &Path) {
    let mut sums = ENGINES.map(|_| Sum::new());
    for turn in 0..TURNS {
        for (engine, sum) in ENGINES.into_iter().zip(&mut sums) {
            let path = dir.join(format!("{engine}-{callers}-{turn}"));
            sum.turn(engine, callers, &path);
            std::fs::remove_dir_all(path).expect("removed");
        }
    }
    for (engine, sum) in ENGINES.into_iter().zip(&sums) {
        sum.print(engine, callers);
    }
}

fn measure_recovery(engine: &str, path: &Path) {
    const TOGETHER: u64 = 50;
    let wal = open(engine, path, &Metrics::new());
    for number in 0..LOGS {
        wal.open(key(number)).expect("a new log opens");
    }
    let payload = Bytes::from(vec![7; ENTRY_BYTES]);
    let each = RECOVERED_ENTRIES / LOGS as u64;
    let started = now();
    for from in (0..each).step_by(TOGETHER as usize) {
        let records = |from| (from..from + TOGETHER).map(|index| entry(index, &payload)).collect();
        let answers: Vec<_> = (0..LOGS)
            .map(|number| submit(wal.as_ref(), key(number), WalOp::Append(records(from))))
            .collect();
        for answer in answers {
            answer.blocking_recv().expect("each change is answered").expect("appended");
        }
    }
    let filled = now() - started;
    wal.close().expect("closes");
    drop(wal);
    let disk = disk_mib(path);
    let started = now();
    let wal = open(engine, path, &Metrics::new());
    let opened = now() - started;
    let found: usize =
        (0..LOGS).map(|number| wal.open(key(number)).expect("opens").records.len()).sum();
    println!(
        "| {engine} | {found} | {:.2} | {:.2} | {:.2} | {disk} |",
        filled.as_secs_f64(),
        opened.as_secs_f64(),
        (now() - started).as_secs_f64(),
    );
    wal.close().expect("closes");
}

fn main() {
    let root = std::env::var_os("RAFTCACHE_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::tempdir_in(root).expect("a directory for the stores");
    println!(
        "appends of {ENTRY_BYTES} bytes to {LOGS} logs, {TURNS} turns of {} s each:\n\n\
         | engine | callers | appends/s | p50 us | p99 us | flushes/s | bare sync us | \
         write amplification | MiB on the device |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        RUN.as_secs()
    );
    for callers in [1, 64, 1024] {
        measure_appends(callers, dir.path());
    }
    println!("\n{RECOVERED_ENTRIES} entries of {ENTRY_BYTES} bytes opened again:\n");
    println!(
        "| engine | entries | s to fill | s to open the store | s to have all logs | MiB on the device |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for engine in ENGINES {
        measure_recovery(engine, &dir.path().join(format!("{engine}-recovery")));
    }
}
