//! A process that is killed in the middle of writing keeps everything it acknowledged (INV-2).

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::raft_engine_wal::RaftEngineWal;
use super::sled_wal::SledWal;
use super::wal::{FlushMode, Wal, WalOp};
use super::wal_suite::{entries, key, small, submit};
use crate::types::metrics::Metrics;

const DIR: &str = "RAFTCACHE_TEST_WAL_DIR";
const LOGS: u64 = 4;

const MODE: &str = "RAFTCACHE_TEST_WAL_MODE";
const ENGINE: &str = "RAFTCACHE_TEST_WAL_ENGINE";

fn open(path: &Path, engine: &str, mode: &str) -> Arc<dyn Wal> {
    let mode = match mode {
        "always" => FlushMode::Always,
        // So long that no flush to the device comes to its help.
        _ => FlushMode::Every(Duration::from_secs(3600)),
    };
    match engine {
        "sled" => SledWal::open(path, Metrics::new(), mode).unwrap(),
        "raft-engine" => RaftEngineWal::open(path, Metrics::new(), mode).unwrap(),
        // Files are closed and given back all the time.
        _ => RaftEngineWal::open_with(path, Metrics::new(), mode, &small()).unwrap(),
    }
}

/// Writes for ever in `$RAFTCACHE_TEST_WAL_DIR`, printing each acknowledged entry; only a child of
/// the test below runs it.
#[test]
#[ignore = "run by a_killed_process_keeps_what_it_acknowledged"]
fn child_that_writes_until_it_is_killed() {
    let dir = std::env::var(DIR).unwrap();
    let engine = std::env::var(ENGINE).unwrap();
    let wal = open(Path::new(&dir), &engine, &std::env::var(MODE).unwrap());
    let out = Arc::new(parking_lot::Mutex::new(std::io::stdout()));
    let threads: Vec<_> = (1..=LOGS)
        .map(|replica| {
            let (wal, out) = (Arc::clone(&wal), Arc::clone(&out));
            std::thread::spawn(move || {
                let found = wal.open(key(1, replica)).unwrap();
                let purged = found.purged.as_ref().map_or(0, |p| p.0 + 1);
                let start = found.records.last().map_or(purged, |r| r.index + 1);
                for index in start.. {
                    let op = WalOp::Append(entries(1, index, 1, 400));
                    submit(wal.as_ref(), key(1, replica), op).blocking_recv().unwrap().unwrap();
                    writeln!(out.lock(), "acknowledged {replica} {index}").unwrap();
                    if index % 50 == 49 {
                        let marker = Bytes::from_static(b"m");
                        let op = WalOp::Purge { index: index - 20, marker };
                        submit(wal.as_ref(), key(1, replica), op).blocking_recv().unwrap().unwrap();
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_killed_process_keeps_what_it_acknowledged() {
    kill_and_look("sled", "always");
}

#[test]
fn a_killed_process_keeps_what_it_acknowledged_before_the_device_has_it() {
    kill_and_look("sled", "every");
}

#[test]
fn a_killed_process_keeps_what_it_acknowledged_on_raft_engine() {
    kill_and_look("raft-engine", "always");
    kill_and_look("raft-engine, small files", "always");
}

#[test]
fn a_killed_process_keeps_what_it_acknowledged_before_the_device_has_it_on_raft_engine() {
    kill_and_look("raft-engine", "every");
}

fn kill_and_look(engine: &str, mode: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wal");
    let mut total = 0;
    for round in 1..=6u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "storage::kill_tests::child_that_writes_until_it_is_killed"])
            .args(["--ignored", "--nocapture", "--test-threads=1"])
            .env(DIR, &path)
            .env(MODE, mode)
            .env(ENGINE, engine)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut acknowledged = [None; LOGS as usize + 1];
        let mut count = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let mut words = line.split(' ').skip_while(|w| *w != "acknowledged").skip(1);
            if let (Some(replica), Some(index)) = (words.next(), words.next()) {
                let replica: usize = replica.parse().unwrap();
                acknowledged[replica] = Some(index.parse::<u64>().unwrap());
                count += 1;
                if count == 150 * round {
                    // What it prints until it is dead is read as well.
                    child.kill().unwrap();
                }
            }
        }
        assert!(!child.wait().unwrap().success());
        total += count;
        let wal = open(&path, engine, mode);
        for replica in 1..=LOGS {
            let found = wal.open(key(1, replica)).unwrap();
            let last = found.records.last().map(|r| r.index);
            let acknowledged = acknowledged[replica as usize];
            assert!(last >= acknowledged, "log {replica}: {last:?} < {acknowledged:?}");
            for record in &found.records {
                assert_eq!(*record, entries(1, record.index, 1, 400)[0]);
            }
        }
        wal.close().unwrap();
    }
    println!("{engine}, {mode}: {total} acknowledged entries, 6 kills, none lost");
}
