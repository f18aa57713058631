//! Snapshot files and the small files of a data directory: whole, or an error.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::disk::{Disk, RealDisk};
use super::identity::{self, DirLock, Identity};
use super::replicas_started::ReplicasStarted;
use super::sim_files::SimFiles;
use super::snapshot_files::{Error, SnapshotFile, SnapshotFiles};
use super::wal_suite::key;
use crate::types::NodeId;

const DIR: &str = "/snapshots";

fn simulated(files: &Arc<SimFiles>) -> Arc<dyn Disk> {
    Arc::clone(files) as Arc<dyn Disk>
}

fn write(files: &SnapshotFiles, name: &str, chunks: &[&[u8]], meta: &'static [u8]) {
    let mut writer = files.begin(key(1, 2), files.life(key(1, 2)), name).unwrap();
    for chunk in chunks {
        writer.append_chunk(Bytes::copy_from_slice(chunk)).unwrap();
    }
    writer.commit(Bytes::from_static(meta)).unwrap();
}

fn read(mut file: SnapshotFile) -> Result<Vec<Bytes>, Error> {
    let mut chunks = Vec::new();
    while let Some(chunk) = file.next_chunk()? {
        chunks.push(chunk);
    }
    Ok(chunks)
}

const CHUNKS: [&[u8]; 4] = [b"first", b"second chunk", b"", b"last"];

fn round_trips(disk: Arc<dyn Disk>, dir: &Path) {
    let files = SnapshotFiles::new(Arc::clone(&disk), dir).unwrap();
    assert!(files.current(key(1, 2)).unwrap().is_none());
    write(&files, "one", &CHUNKS, b"meta one");
    let old = files.current(key(1, 2)).unwrap().unwrap();
    assert_eq!((&old.meta[..], old.name.as_str(), old.len), (&b"meta one"[..], "one", 21));
    write(&files, "two", &[b"x"], b"meta two");
    assert_eq!(read(old).unwrap(), CHUNKS, "stays readable while it is replaced");
    assert_eq!(files.current(key(1, 2)).unwrap().unwrap().name, "two");
    assert_eq!(files.keys().unwrap(), [key(1, 2)]);
    // Two at a time, one abandoned.
    let mut abandoned = files.begin(key(1, 2), files.life(key(1, 2)), "three").unwrap();
    abandoned.append_chunk(Bytes::from_static(b"y")).unwrap();
    write(&files, "four", &[], b"");
    drop(abandoned);
    let current = files.current(key(1, 2)).unwrap().unwrap();
    assert_eq!((current.name.as_str(), current.len), ("four", 0));
    assert!(read(current).unwrap().is_empty());
    assert_eq!(disk.list(dir).unwrap(), ["g1-r2.snap"]);
    // What a process left behind is removed by the next.
    std::mem::forget(files.begin(key(1, 2), files.life(key(1, 2)), "five").unwrap());
    assert_eq!(disk.list(dir).unwrap().len(), 2);
    let files = SnapshotFiles::new(Arc::clone(&disk), dir).unwrap();
    assert_eq!(disk.list(dir).unwrap(), ["g1-r2.snap"]);
    files.remove(key(1, 2)).unwrap();
    files.remove(key(1, 2)).unwrap();
    assert!(files.current(key(1, 2)).unwrap().is_none());
}

#[test]
fn snapshots_round_trip_on_both_disks() {
    round_trips(SimFiles::new(1), Path::new(DIR));
    let dir = tempfile::tempdir().unwrap();
    round_trips(Arc::new(RealDisk), &dir.path().join("snapshots"));
}

/// Whether opening and reading to the end fails as damage.
fn is_refused(files: &SnapshotFiles, of: crate::types::LogKey) -> bool {
    match files.current(of).and_then(|file| read(file.unwrap())) {
        Ok(_) => false,
        Err(Error::Damaged { .. }) => true,
        Err(other) => panic!("not damage: {other}"),
    }
}

#[test]
fn damage_at_every_byte_is_found() {
    let disk = SimFiles::new(1);
    let files = SnapshotFiles::new(simulated(&disk), DIR).unwrap();
    write(&files, "name", &CHUNKS, b"meta");
    let path = Path::new(DIR).join("g1-r2.snap");
    let mut whole = Vec::new();
    disk.corrupt(&path, |bytes| whole.clone_from(bytes)).unwrap();
    assert!(!is_refused(&files, key(1, 2)));
    for at in 0..whole.len() {
        for bit in 0..8 {
            let flip = |bytes: &mut Vec<u8>| bytes[at] ^= 1 << bit;
            disk.corrupt(&path, flip).unwrap();
            assert!(is_refused(&files, key(1, 2)), "bit {bit} of byte {at}");
            disk.corrupt(&path, flip).unwrap();
        }
        disk.corrupt(&path, |bytes| bytes.truncate(at)).unwrap();
        assert!(is_refused(&files, key(1, 2)), "cut at {at}");
        disk.corrupt(&path, |bytes| {
            bytes.clone_from(&whole);
            bytes.insert(at, 0);
        })
        .unwrap();
        assert!(is_refused(&files, key(1, 2)), "inserted at {at}");
        disk.corrupt(&path, |bytes| bytes.clone_from(&whole)).unwrap();
    }
    // Another replica's file.
    disk.rename(&path, &Path::new(DIR).join("g1-r3.snap")).unwrap();
    assert!(is_refused(&files, key(1, 3)));
}

#[test]
fn moved_chunks_are_found() {
    let disk = SimFiles::new(1);
    let files = SnapshotFiles::new(simulated(&disk), DIR).unwrap();
    write(&files, "n", &[b"aaaa", b"bbbb"], b"meta");
    let path = Path::new(DIR).join("g1-r2.snap");
    let swap = |bytes: &mut Vec<u8>| {
        let find = |what: &[u8]| bytes.windows(4).position(|w| w == what).unwrap() - 9;
        let (a, b) = (find(b"aaaa"), find(b"bbbb"));
        for offset in 0..13 {
            bytes.swap(a + offset, b + offset);
        }
    };
    disk.corrupt(&path, swap).unwrap();
    assert!(is_refused(&files, key(1, 2)));
}

#[test]
fn golden_bytes() {
    let disk = SimFiles::new(1);
    let files = SnapshotFiles::new(simulated(&disk), DIR).unwrap();
    write(&files, "n", &[b"ab"], b"m");
    let mut hex = String::new();
    disk.corrupt(&Path::new(DIR).join("g1-r2.snap"), |bytes| {
        hex = bytes.iter().map(|b| format!("{b:02x}")).collect();
    })
    .unwrap();
    assert_eq!(
        hex,
        "010c0000003ff258247263736e617000010102016e0202000000c2b6d40c61620310000000233062a1016d0102c2b6d40c5c73d5249c7173a8200000000000000013d728817263736e61700001"
    );
}

#[test]
fn a_committed_snapshot_survives_a_crash_and_an_unfinished_one_leaves_the_old() {
    for seed in 0..20 {
        let disk = SimFiles::new(seed);
        let files = SnapshotFiles::new(simulated(&disk), DIR).unwrap();
        write(&files, "one", &CHUNKS, b"meta");
        let mut writer = files.begin(key(1, 2), files.life(key(1, 2)), "two").unwrap();
        writer.append_chunk(Bytes::from_static(b"z")).unwrap();
        disk.crash();
        assert!(writer.append_chunk(Bytes::from_static(b"z")).is_err());
        let files = SnapshotFiles::new(simulated(&disk), DIR).unwrap();
        assert_eq!(read(files.current(key(1, 2)).unwrap().unwrap()).unwrap(), CHUNKS);
        drop(writer);
        assert_eq!(disk.list(Path::new(DIR)).unwrap(), ["g1-r2.snap"]);
    }
}

#[test]
fn a_store_keeps_its_name_counts_its_starts_and_knows_how_it_stopped() {
    let disk = SimFiles::new(1);
    let start = |boot: &str, draw: u128| {
        let boot = Some(boot.to_owned());
        Identity::start(simulated(&disk), Path::new("/d"), NodeId(1), boot, true, || draw).unwrap()
    };
    let first = start("boot-1", 7 << 70);
    assert_eq!((first.store_id, first.incarnation), (7 << 70, 1));
    assert!(first.previous.is_none() && !first.loss_unnoted());
    let second = start("boot-1", 8);
    assert_eq!((second.store_id, second.incarnation), (7 << 70, 2));
    assert!(!second.loss_unnoted(), "only the process crashed");
    disk.crash();
    let third = start("boot-2", 8);
    assert_eq!((third.store_id, third.incarnation), (7 << 70, 3));
    assert!(third.loss_unnoted(), "the system went down under it");
    let fourth = start("boot-2", 8);
    assert!(fourth.loss_unnoted(), "a life that could not note it does not make it good");
    fourth.mark_clean().unwrap();
    let fifth = start("boot-2", 8);
    assert!(fifth.loss_unnoted(), "nor does a clean stop");
    fifth.loss_noted().unwrap();
    fifth.mark_clean().unwrap();
    let sixth = start("boot-3", 8);
    assert!(sixth.previous.as_ref().unwrap().clean && !sixth.loss_unnoted());
    let again = |node| Identity::start(simulated(&disk), Path::new("/d"), node, None, true, || 9);
    let error = again(NodeId(2)).unwrap_err().to_string();
    assert!(error.contains("/d belongs to node 1, but this is node 2"), "{error}");
    disk.corrupt(Path::new("/d/identity"), |bytes| bytes[9] ^= 1).unwrap();
    let error = again(NodeId(1)).unwrap_err();
    assert!(matches!(error, identity::Error::Damaged { .. }), "{error}");
    // What another build wrote is sound, and not for this one.
    let reseal = |bytes: &mut Vec<u8>| {
        bytes[9] ^= 1;
        bytes[4] = 1;
        let crc = crc32c::crc32c(&bytes[4..]).to_le_bytes();
        bytes[..4].copy_from_slice(&crc);
    };
    disk.corrupt(Path::new("/d/identity"), reseal).unwrap();
    let error = again(NodeId(1)).unwrap_err();
    assert!(matches!(error, identity::Error::Format { format: 1, expected: 3, .. }), "{error}");
    assert!(error.to_string().contains("empty data directory"), "{error}");
}

#[test]
fn replicas_that_started_are_remembered() {
    let disk = SimFiles::new(1);
    let open = || ReplicasStarted::open(simulated(&disk), Path::new("/d"));
    let mut set = open().unwrap();
    assert!(set.insert(key(1, 2)).unwrap() && set.insert(key(3, 4)).unwrap());
    assert!(!set.insert(key(1, 2)).unwrap());
    disk.crash();
    let mut set = open().unwrap();
    assert_eq!(set.keys().collect::<Vec<_>>(), [key(1, 2), key(3, 4)]);
    assert!(set.remove(key(1, 2)).unwrap() && !set.remove(key(1, 2)).unwrap());
    let set = open().unwrap();
    assert!(!set.contains(key(1, 2)) && set.contains(key(3, 4)));
    for at in 0..8 {
        disk.corrupt(Path::new("/d/replicas"), |bytes| bytes[at] ^= 4).unwrap();
        assert!(matches!(open(), Err(identity::Error::Damaged { .. })), "byte {at}");
        disk.corrupt(Path::new("/d/replicas"), |bytes| bytes[at] ^= 4).unwrap();
    }
}

#[test]
fn a_directory_is_locked_once() {
    let dir = tempfile::tempdir().unwrap();
    let lock = DirLock::acquire(dir.path()).unwrap();
    let error = DirLock::acquire(dir.path()).unwrap_err();
    assert!(matches!(error, identity::Error::InUse(_)), "{error}");
    drop(lock);
    DirLock::acquire(dir.path()).unwrap();
}
