//! The simulated disk loses what was not flushed, and only that; group commit shares flushes.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::disk::{Disk, RealDisk, offload, read_small, replace};
use super::flusher::{Item, Shared};
use super::log_state::LogState;
use super::raft_engine_wal::RaftEngineWal;
use super::sim_files::SimFiles;
use super::sim_wal::{SimDisk, SimWal};
use super::sled_wal::{FlushMode, SledWal, open_db};
use super::wal::{Error, Wal, WalOp};
use super::wal_suite::{entries, key, small, submit};
use crate::types::clock::now;
use crate::types::limits::WAL_QUEUE_MAX;
use crate::types::metrics::Metrics;

const DELAY: Duration = Duration::from_millis(5);

fn append(from: u64, count: u64) -> WalOp {
    WalOp::Append(entries(1, from, count, 8))
}

#[tokio::test(start_paused = true)]
async fn a_flush_takes_its_time_and_serves_all_that_waited() {
    let disk = SimDisk::new(1);
    let wal = SimWal::new(Arc::clone(&disk), DELAY);
    let started = now();
    let answers: Vec<_> =
        (1..=10).map(|replica| submit(wal.as_ref(), key(1, replica), append(0, 1))).collect();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(now() - started, DELAY);
    assert_eq!(disk.flushes(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_crash_keeps_what_was_flushed_and_a_prefix_of_the_rest() {
    let mut lengths = BTreeSet::new();
    for seed in 0..64 {
        let disk = SimDisk::new(seed);
        let wal = SimWal::new(Arc::clone(&disk), DELAY);
        submit(wal.as_ref(), key(1, 1), append(0, 4)).await.unwrap().unwrap();
        let later = submit(wal.as_ref(), key(1, 1), append(4, 3));
        let last = submit(wal.as_ref(), key(1, 1), append(7, 3));
        disk.crash();
        assert!(matches!(later.await.unwrap(), Err(Error::Closed)));
        assert!(matches!(last.await.unwrap(), Err(Error::Closed)));
        let dead = submit(wal.as_ref(), key(1, 1), append(10, 1));
        assert!(matches!(dead.await.unwrap(), Err(Error::Closed)));
        let again = SimWal::new(disk, DELAY);
        let found = again.open(key(1, 1)).unwrap().records;
        assert_eq!(found, entries(1, 0, found.len() as u64, 8));
        assert!((4..=10).contains(&found.len()));
        lengths.insert(found.len());
    }
    assert!(lengths.contains(&4) && lengths.len() > 3, "{lengths:?}");
}

#[tokio::test(start_paused = true)]
async fn with_the_flush_skipped_an_acknowledged_write_is_lost() {
    let disk = SimDisk::new(3);
    disk.set_skip_fsync(true);
    disk.set_keep_unflushed(false);
    let wal = SimWal::new(Arc::clone(&disk), DELAY);
    submit(wal.as_ref(), key(1, 1), append(0, 1)).await.unwrap().unwrap();
    disk.crash();
    assert!(SimWal::new(disk, DELAY).open(key(1, 1)).unwrap().fresh);
}

#[tokio::test(start_paused = true)]
async fn a_broken_device_fails_what_is_queued_and_all_later() {
    let disk = SimDisk::new(3);
    let wal = SimWal::new(Arc::clone(&disk), DELAY);
    let queued = submit(wal.as_ref(), key(1, 1), append(0, 1));
    disk.set_broken();
    assert!(matches!(queued.await.unwrap(), Err(Error::Io(_))));
    let later = submit(wal.as_ref(), key(1, 1), append(1, 1));
    assert!(matches!(later.await.unwrap(), Err(Error::Io(_))));
}

#[tokio::test(start_paused = true)]
async fn removing_a_log_under_a_flush_leaves_the_others() {
    let disk = SimDisk::new(3);
    let wal = SimWal::new(Arc::clone(&disk), DELAY);
    let gone = submit(wal.as_ref(), key(1, 1), append(0, 1));
    let stays = submit(wal.as_ref(), key(1, 2), append(0, 1));
    tokio::time::sleep(DELAY / 2).await;
    wal.remove(key(1, 1)).unwrap();
    assert!(matches!(gone.await.unwrap(), Err(Error::Closed)));
    stays.await.unwrap().unwrap();
    assert_eq!(wal.keys().unwrap(), [key(1, 2)]);
}

#[test]
fn simulated_files_lose_what_was_not_synced() {
    let dir = Path::new("/data");
    let mut lengths = BTreeSet::new();
    for seed in 0..32 {
        let files = SimFiles::new(seed);
        files.create_dir(dir).unwrap();
        replace(files.as_ref(), &dir.join("kept"), b"old").unwrap();
        let mut file = files.create(&dir.join("half")).unwrap();
        file.append(b"synced").unwrap();
        file.sync().unwrap();
        files.sync_dir(dir).unwrap();
        file.append(b"not").unwrap();
        files.create(&dir.join("nameless")).unwrap().sync().unwrap();
        files.rename(&dir.join("kept"), &dir.join("renamed")).unwrap();
        files.crash();
        assert!(file.append(b"x").is_err());
        assert_eq!(files.list(dir).unwrap(), ["half", "kept"]);
        let half = read_small(files.as_ref(), &dir.join("half"), 100).unwrap().unwrap();
        assert!(b"syncednot".starts_with(&half[..]) && half.len() >= 6);
        lengths.insert(half.len());
    }
    assert!(lengths.len() > 1, "{lengths:?}");
}

#[tokio::test]
async fn offload_gives_the_result_on_both_disks() {
    let here = std::thread::current().id();
    let simulated: Arc<dyn Disk> = SimFiles::new(1);
    assert_eq!(offload(&simulated, || std::thread::current().id()).await, here);
    let real: Arc<dyn Disk> = Arc::new(RealDisk);
    assert_ne!(offload(&real, || std::thread::current().id()).await, here);
}

#[test]
fn many_logs_share_a_flush() {
    let (sled, raft_engine) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b) = (Metrics::new(), Metrics::new());
    let mode = FlushMode::Always;
    share_a_flush(SledWal::open(sled.path(), Arc::clone(&a), mode).unwrap(), &a);
    share_a_flush(RaftEngineWal::open(raft_engine.path(), Arc::clone(&b), mode).unwrap(), &b);
}

fn share_a_flush(wal: Arc<dyn Wal>, metrics: &Metrics) {
    const CALLERS: u64 = 64;
    const EACH: u64 = 40;
    let started = now();
    std::thread::scope(|scope| {
        for replica in 1..=CALLERS {
            let wal = Arc::clone(&wal);
            scope.spawn(move || {
                let k = key(1, replica);
                wal.open(k).unwrap();
                for index in 0..EACH {
                    let op = WalOp::Append(entries(1, index, 1, 200));
                    submit(wal.as_ref(), k, op).blocking_recv().unwrap().unwrap();
                }
            });
        }
    });
    let ops = CALLERS * EACH;
    let flushes = metrics.flush_seconds.get_sample_count();
    println!("{ops} changes of {CALLERS} logs in {flushes} flushes, {:?}", now() - started);
    assert_eq!(metrics.flush_records.get_sample_sum() as u64, ops);
    assert!(flushes < ops / 4, "{flushes} flushes for {ops} changes");
}

#[test]
fn a_purged_log_does_not_grow() {
    let dir = tempfile::tempdir().unwrap();
    let wal = SledWal::open(dir.path(), Metrics::new(), FlushMode::Always).unwrap();
    let k = key(1, 1);
    wal.open(k).unwrap();
    for round in 0..40u64 {
        let from = round * 50;
        for batch in 0..10 {
            submit(wal.as_ref(), k, WalOp::Append(entries(1, from + batch * 5, 5, 2_000)))
                .blocking_recv()
                .unwrap()
                .unwrap();
            let committed = WalOp::Committed(Bytes::from_static(b"c"));
            submit(wal.as_ref(), k, committed).blocking_recv().unwrap().unwrap();
        }
        let purge = WalOp::Purge { index: from + 49, marker: Bytes::from_static(b"m") };
        submit(wal.as_ref(), k, purge).blocking_recv().unwrap().unwrap();
    }
    wal.close().unwrap();
    drop(wal);
    let db = open_db(dir.path()).unwrap();
    let values = db.iter().count();
    let disk = db.size_on_disk().unwrap();
    println!("4 MB of entries written and purged: {values} values, {disk} bytes on disk");
    assert!(values < 100, "{values}");
    let wal_again = {
        drop(db);
        SledWal::open(dir.path(), Metrics::new(), FlushMode::Always).unwrap()
    };
    let found = wal_again.open(k).unwrap();
    assert_eq!(found.purged.unwrap().0, 1999);
    assert!(found.records.is_empty());
}

#[test]
fn a_truncated_log_that_only_votes_does_not_grow() {
    let dir = tempfile::tempdir().unwrap();
    let wal = SledWal::open(dir.path(), Metrics::new(), FlushMode::Every(DELAY)).unwrap();
    let k = key(1, 1);
    wal.open(k).unwrap();
    for number in 0..500u64 {
        let vote = WalOp::Vote(Bytes::from(number.to_le_bytes().to_vec()));
        submit(wal.as_ref(), k, vote).blocking_recv().unwrap().unwrap();
    }
    wal.close().unwrap();
    drop(wal);
    let db = open_db(dir.path()).unwrap();
    assert!(db.iter().count() < 200, "{}", db.iter().count());
}

#[test]
fn a_large_entry_survives() {
    let dir = tempfile::tempdir().unwrap();
    let open = |engine| -> Arc<dyn Wal> {
        let (path, mode) = (dir.path().join(engine), FlushMode::Always);
        match engine {
            "sled" => SledWal::open(&path, Metrics::new(), mode).unwrap(),
            _ => RaftEngineWal::open_with(&path, Metrics::new(), mode, &small()).unwrap(),
        }
    };
    let k = key(1, 1);
    let written = entries(1, 0, 3, 1_500_000);
    for engine in ["sled", "raft-engine"] {
        let wal = open(engine);
        wal.open(k).unwrap();
        let op = WalOp::Append(written.clone());
        submit(wal.as_ref(), k, op).blocking_recv().unwrap().unwrap();
        wal.close().unwrap();
        assert!(open(engine).open(k).unwrap().records == written);
    }
}

#[test]
fn after_a_failure_of_the_device_every_log_is_refused() {
    for mode in [FlushMode::Always, FlushMode::Every(Duration::from_millis(1))] {
        let dir = tempfile::tempdir().unwrap();
        let wal = SledWal::open(dir.path(), Metrics::new(), mode).unwrap();
        let put = |replica, index| {
            let answer = submit(wal.as_ref(), key(1, replica), append(index, 1));
            answer.blocking_recv().unwrap()
        };
        for replica in 1..=2 {
            wal.open(key(1, replica)).unwrap();
            put(replica, 0).unwrap();
        }
        // The sync after sled's flush looks into this directory.
        std::fs::remove_dir(dir.path().join("sled/blobs")).unwrap();
        let failed = (1..).find_map(|index| put(1, index).err()).unwrap();
        assert!(matches!(failed, Error::Io(_)), "{failed}");
        assert!(matches!(put(1, 1000), Err(Error::Io(_))));
        assert!(matches!(put(2, 1), Err(Error::Io(_))));
        assert!(matches!(wal.remove(key(1, 2)), Err(Error::Io(_))));
        assert!(matches!(wal.close(), Err(Error::Io(_))));
    }
}

#[test]
fn after_a_failure_of_the_device_every_log_of_raft_engine_is_refused() {
    for mode in [FlushMode::Always, FlushMode::Every(Duration::from_millis(1))] {
        let dir = tempfile::tempdir().unwrap();
        let wal = RaftEngineWal::open_with(dir.path(), Metrics::new(), mode, &small()).unwrap();
        let put = |replica, index| {
            let answer = submit(wal.as_ref(), key(1, replica), append(index, 1));
            answer.blocking_recv().unwrap()
        };
        for replica in 1..=2 {
            wal.open(key(1, replica)).unwrap();
            put(replica, 0).unwrap();
        }
        // The next file cannot be made.
        std::fs::remove_dir_all(dir.path().join("raft-engine")).unwrap();
        let failed = (1..).find_map(|index| put(1, index).err()).unwrap();
        assert!(!matches!(failed, Error::Closed), "{failed}");
        assert_eq!(put(1, 1000).unwrap_err().to_string(), failed.to_string());
        assert_eq!(put(2, 1).unwrap_err().to_string(), failed.to_string());
        assert_eq!(wal.remove(key(1, 2)).unwrap_err().to_string(), failed.to_string());
        assert!(wal.close().is_err());
    }
}

#[test]
fn a_queue_over_its_limit_refuses_at_once_and_poisons_the_log() {
    let shared = Shared::new(Metrics::new());
    shared.logs.lock().insert(key(1, 1), LogState::fresh(key(1, 1)));
    // Nobody takes from it: the device hangs.
    let push = |index| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let done = Box::new(move |result| drop(sender.send(result)));
        shared.push(Item::Change { key: key(1, 1), op: append(index, 1), done });
        receiver
    };
    let queued: Vec<_> = (0..WAL_QUEUE_MAX as u64).map(push).collect();
    assert!(queued.iter().all(|answer| answer.try_recv().is_err()));
    shared.logs.lock()[&key(1, 1)].check().unwrap();
    let refused = push(WAL_QUEUE_MAX as u64).try_recv().unwrap().unwrap_err();
    assert!(refused.to_string().contains("limit"), "{refused}");
    assert!(shared.logs.lock()[&key(1, 1)].check().is_err());
}
