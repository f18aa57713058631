//! Disks that refuse for a while: what was acknowledged is there afterwards, and nothing else was
//! claimed.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::disk::{self, Disk, RealDisk};
use super::health::{NodeStorage, StorageHealth};
use super::identity::Identity;
use super::replicas_started::ReplicasStarted;
use super::sim_files::SimFiles;
use super::sim_wal::{SimDisk, SimWal};
use super::sled_wal::SledWal;
use super::snapshot_files::{Error, SnapshotFiles};
use super::wal::{self, FlushMode, Wal, WalOp};
use super::wal_slot::WalSlot;
use super::wal_suite::{entries, key, submit};
use crate::types::NodeId;
use crate::types::metrics::Metrics;

const DELAY: Duration = Duration::from_millis(1);

/// A node's storage on simulated devices.
struct Rig {
    device: Arc<SimDisk>,
    files: Arc<SimFiles>,
    storage: NodeStorage,
}

impl Rig {
    fn new(unflushed: bool) -> Self {
        let (device, files) = (SimDisk::new(3), SimFiles::new(3));
        let health = StorageHealth::new(Metrics::new(), unflushed);
        let slot = |name, device: &Arc<SimDisk>| {
            let (engine, device) = (SimWal::new(Arc::clone(device), DELAY), Arc::clone(device));
            let again = move || Ok(SimWal::open_on(&device, DELAY)? as Arc<dyn Wal>);
            WalSlot::new(name, engine, &health, Box::new(again))
        };
        files.create_dir(Path::new("/data")).unwrap();
        let storage = NodeStorage {
            disk: Arc::clone(&files) as Arc<dyn Disk>,
            data_dir: "/data".into(),
            reserve_bytes: 1000,
            control_wal: slot("controller", &SimDisk::new(4)),
            shard_wal: Some(slot("wal", &device)),
            identity: None,
            health: Arc::clone(&health),
            set_aside_replicas_max: 2,
        };
        Rig { device, files, storage }
    }

    fn set_failing(&self, failing: Option<ErrorKind>) {
        self.device.set_failing(failing);
        self.files.set_failing(failing);
    }

    fn wal(&self) -> Arc<dyn Wal> {
        self.storage.shard_wal.as_ref().unwrap().get().unwrap()
    }

    fn heal(&self) -> Result<(), String> {
        self.storage.close();
        self.storage.try_heal()
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_stalls_and_heals_and_only_what_was_acknowledged_is_claimed() {
    let rig = Rig::new(false);
    let (log, old) = (key(1, 1), rig.wal());
    assert!(old.open(log).unwrap().fresh);
    submit(old.as_ref(), log, WalOp::Append(entries(1, 1, 3, 10))).await.unwrap().unwrap();
    assert_eq!(rig.storage.health.stall(), None);

    rig.set_failing(Some(ErrorKind::StorageFull));
    let refused = submit(old.as_ref(), log, WalOp::Append(entries(1, 4, 1, 10))).await.unwrap();
    assert!(matches!(refused, Err(wal::Error::Io(_))), "{refused:?}");
    let why = rig.storage.health.stall().unwrap().why;
    assert!(why.contains("no storage space"), "{why}");
    let why = rig.heal().unwrap_err();
    assert!(why.contains("/data/probe.tmp") && why.contains("no storage space"), "{why}");
    assert!(rig.files.paths().is_empty(), "the probe leaves nothing");

    rig.set_failing(None);
    rig.files.set_free_bytes(Some(999));
    let why = rig.heal().unwrap_err();
    assert!(why.contains("999 bytes left") && why.contains("wal.reserve_bytes (1000)"), "{why}");
    rig.files.set_free_bytes(Some(1000));
    rig.heal().unwrap();
    rig.storage.health.healed();
    assert_eq!(rig.storage.health.stall(), None);

    let found = rig.wal().open(log).unwrap();
    assert_eq!(found.records, entries(1, 1, 3, 10), "what was acknowledged, and no more");
    // Whoever holds the old handle writes nothing into the new life.
    let late = submit(old.as_ref(), log, WalOp::Append(entries(1, 4, 1, 10))).await.unwrap();
    assert!(matches!(late, Err(wal::Error::Closed)), "{late:?}");
    assert_eq!(rig.storage.health.stall(), None, "and disturbs nobody");
    let wal = rig.wal();
    submit(wal.as_ref(), log, WalOp::Append(entries(2, 4, 1, 10))).await.unwrap().unwrap();
}

#[tokio::test]
async fn whatever_breaks_the_store_is_told_and_the_fault_of_one_log_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let engine = SledWal::open(dir.path(), Metrics::new(), FlushMode::Always).unwrap();
    let health = StorageHealth::new(Metrics::new(), false);
    let slot = WalSlot::new("wal", engine, &health, Box::new(|| Err(wal::Error::Closed)));
    let (log, wal) = (key(1, 1), slot.get().unwrap());
    wal.open(log).unwrap();
    assert!(matches!(wal.open(log), Err(wal::Error::Refused { .. })), "opened twice");
    let unopened = submit(wal.as_ref(), key(2, 2), WalOp::Append(entries(1, 1, 1, 10)));
    let refused = unopened.await.unwrap();
    assert!(matches!(refused, Err(wal::Error::Refused { .. })), "{refused:?}");
    assert_eq!(health.stall(), None);
    submit(wal.as_ref(), log, WalOp::Append(entries(1, 1, 1, 10))).await.unwrap().unwrap();
    slot.close().unwrap();

    let rig = Rig::new(false);
    let wal = rig.wal();
    wal.open(log).unwrap();
    // What an engine answers to a batch that it cannot take: no later change is taken either.
    rig.set_failing(Some(ErrorKind::InvalidInput));
    let append = WalOp::Append(entries(1, 1, 1, 10));
    submit(wal.as_ref(), log, append).await.unwrap().unwrap_err();
    assert!(rig.storage.health.stall().is_some());
}

#[test]
fn what_may_be_lost_before_its_flush_is_not_healed_in_this_process() {
    let rig = Rig::new(true);
    let reporter = rig.storage.health.reporter();
    reporter.failed("log", "input/output error", ErrorKind::Other);
    let why = rig.heal().unwrap_err();
    assert!(why.contains("restart the node"), "{why}");
}

#[test]
fn a_refusal_names_the_file_and_the_reason() {
    let files = SimFiles::new(1);
    files.create_dir(Path::new("/data")).unwrap();
    let disk: Arc<dyn Disk> = Arc::clone(&files) as Arc<dyn Disk>;
    let mut started = ReplicasStarted::open(Arc::clone(&disk), Path::new("/data")).unwrap();
    files.set_failing(Some(ErrorKind::PermissionDenied));
    let text = started.insert(key(1, 1)).unwrap_err().to_string();
    assert!(text.contains("/data/replicas.tmp") && text.contains("permission denied"), "{text}");
    assert!(!started.contains(key(1, 1)), "what is not noted is not known");
    let text = disk::probe(disk.as_ref(), Path::new("/data")).unwrap_err().to_string();
    assert!(text.contains("/data/probe.tmp") && text.contains("permission denied"), "{text}");
    files.set_failing(None);
    assert!(started.insert(key(1, 1)).unwrap());
    disk::probe(disk.as_ref(), Path::new("/data")).unwrap();
    assert_eq!(files.paths(), [Path::new("/data/replicas")]);
}

#[test]
fn a_directory_that_was_replaced_is_not_taken_for_this_store() {
    let dir = TempDir::new().unwrap();
    let start = |dir: &Path, id| {
        let (disk, node) = (Arc::new(RealDisk), NodeId(1));
        Identity::start(disk, dir, node, None, false, || id).unwrap()
    };
    let identity = start(dir.path(), 7);
    identity.check().unwrap();
    std::fs::remove_file(dir.path().join("identity")).unwrap();
    let gone = identity.check().unwrap_err().to_string();
    assert!(gone.contains("identity") && gone.contains("gone"), "{gone}");
    start(dir.path(), 8);
    let other = identity.check().unwrap_err().to_string();
    assert!(other.contains("belongs to store"), "{other}");
}

fn snapshot(files: &SnapshotFiles, life: super::snapshot_files::Life) -> Result<(), Error> {
    let mut writer = files.begin(key(1, 1), life, "test")?;
    writer.append_chunk(Bytes::from_static(b"chunk"))?;
    writer.commit(Bytes::from_static(b"meta"))
}

#[test]
fn a_snapshot_that_cannot_be_written_leaves_nothing_and_the_last_one_stays() {
    let disk = SimFiles::new(1);
    let files = SnapshotFiles::new(Arc::clone(&disk) as Arc<dyn Disk>, "/s").unwrap();
    let life = files.enter(key(1, 1));
    snapshot(&files, life).unwrap();
    let mut writer = files.begin(key(1, 1), life, "test").unwrap();
    disk.set_failing(Some(ErrorKind::StorageFull));
    assert!(writer.append_chunk(Bytes::from_static(b"more")).is_err());
    drop(writer);
    assert!(files.begin(key(1, 1), life, "test").is_err());
    assert_eq!(disk.paths(), [Path::new("/s/g1-r1.snap")]);
    disk.set_failing(None);
    assert!(files.current(key(1, 1)).unwrap().is_some());
    assert!(files.used_bytes().unwrap() > 0);
}

#[test]
fn what_an_earlier_life_wrote_late_is_not_committed_and_what_is_removed_stays_away() {
    let disk = SimFiles::new(1);
    let files = SnapshotFiles::new(Arc::clone(&disk) as Arc<dyn Disk>, "/s").unwrap();
    let first = files.enter(key(1, 1));
    let late = files.begin(key(1, 1), first, "late").unwrap();
    let second = files.enter(key(1, 1));
    assert!(matches!(late.commit(Bytes::new()), Err(Error::Stopped(_))));
    snapshot(&files, second).unwrap();
    let late = files.begin(key(1, 1), second, "late").unwrap();
    files.remove(key(1, 1)).unwrap();
    assert!(matches!(late.commit(Bytes::new()), Err(Error::Stopped(_))));
    assert!(disk.paths().is_empty(), "forgotten is forgotten");
}
