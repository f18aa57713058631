//! What purging gives back: the device space of one log that is appended to and purged for long.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use raftcache::storage::raft_engine_wal::RaftEngineWal;
use raftcache::storage::sled_wal::SledWal;
use raftcache::storage::wal::{FlushMode, LogRecord, Wal, WalOp};
use raftcache::types::metrics::Metrics;
use raftcache::types::{GroupId, LogKey, ReplicaId};

use crate::watch::{MIB, disk_bytes};

const RECORD: u64 = 256 * 1024;
const KEPT: u64 = 32 * MIB / RECORD;

#[test]
fn a_purged_log_gives_its_space_back() {
    let dir = tempfile::tempdir().unwrap();
    let wal = SledWal::open(dir.path(), Metrics::new(), FlushMode::Always).unwrap();
    let last = append_and_purge(wal, dir.path());
    println!("sled: blobs {} MiB", disk_bytes(&dir.path().join("sled/blobs")) / MIB);
    assert!(last <= 6 * 64, "{last} MiB for at most 64 MiB of log");
}

#[test]
fn a_purged_log_gives_its_space_back_on_raft_engine() {
    let dir = tempfile::tempdir().unwrap();
    let wal = RaftEngineWal::open(dir.path(), Metrics::new(), FlushMode::Always).unwrap();
    let last = append_and_purge(wal, dir.path());
    assert!(last <= 4 * 64, "{last} MiB for at most 64 MiB of log");
}

/// Gives the device space in MiB at the end.
fn append_and_purge(wal: Arc<dyn Wal>, dir: &Path) -> u64 {
    let key = LogKey { group: GroupId(1), replica: ReplicaId(1) };
    wal.open(key).unwrap();
    let call = |op| {
        let (sender, receiver) = std::sync::mpsc::channel();
        wal.submit(key, op, Box::new(move |result| sender.send(result).unwrap()));
        receiver.recv().unwrap().unwrap();
    };
    let mut seen = Vec::new();
    let mut purged = 0;
    for index in 1..=(512 * MIB / RECORD) {
        let payload = Bytes::from(vec![index as u8; RECORD as usize]);
        call(WalOp::Append(vec![LogRecord { term: 1, index, payload }]));
        if index - purged >= 2 * KEPT {
            purged = index - KEPT;
            let marker = Bytes::from(format!("{purged}"));
            call(WalOp::Purge { index: purged, marker });
        }
        if index.is_multiple_of(64 * MIB / RECORD) {
            seen.push(disk_bytes(dir) / MIB);
        }
    }
    println!("one log, 32 to 64 MiB kept; device MiB after each 64 MiB appended: {seen:?}");
    wal.close().unwrap();
    seen.last().copied().unwrap()
}
