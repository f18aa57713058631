//! A damaged store is told from a whole one: never a panic, never a shorter or empty log.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::sled_wal::{FlushMode, SledWal, open_db};
use super::store_record::{self as record, Head};
use super::wal::{Error, Recovered, Wal, WalOp};
use super::wal_suite::{copy_dir, entries, key, submit};
use crate::types::LogKey;
use crate::types::metrics::Metrics;

fn open(path: &Path) -> Result<Arc<SledWal>, Error> {
    SledWal::open(path, Metrics::new(), FlushMode::Always)
}

fn put(wal: &SledWal, key: LogKey, op: WalOp) {
    submit(wal, key, op).blocking_recv().unwrap().unwrap();
}

/// Two logs of five records each, the second with a head.
fn write_store(path: &Path) -> [Recovered; 2] {
    let keys = [key(1, 1), key(2, 1)];
    {
        let wal = open(path).unwrap();
        for k in keys {
            wal.open(k).unwrap();
            put(&wal, k, WalOp::Vote(Bytes::from_static(b"vote")));
            for index in 0..5 {
                put(&wal, k, WalOp::Append(entries(1, index, 1, 300)));
            }
        }
        put(&wal, key(2, 1), WalOp::Purge { index: 1, marker: Bytes::from_static(b"m") });
        wal.close().unwrap();
    }
    let wal = open(path).unwrap();
    let found = keys.map(|k| wal.open(k).unwrap());
    wal.close().unwrap();
    found
}

fn change(path: &Path, edit: impl FnOnce(&sled::Db)) {
    let db = open_db(path).unwrap();
    edit(&db);
    db.flush().unwrap();
}

fn reading(path: &Path) -> Result<[Recovered; 2], Error> {
    let wal = open(path)?;
    let first = wal.open(key(1, 1))?;
    let second = wal.open(key(2, 1))?;
    wal.close()?;
    Ok([first, second])
}

#[test]
fn every_flipped_value_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wal");
    write_store(&path);
    let mut keys = Vec::new();
    change(&path, |db| keys = db.iter().keys().map(|k| k.unwrap()).collect());
    assert!(keys.len() > 20, "records, a head and manifests: {}", keys.len());
    for (number, k) in keys.into_iter().enumerate() {
        let flip = |db: &sled::Db| {
            let mut value = db.get(&k).unwrap().unwrap().to_vec();
            let at = number * 7 % value.len();
            value[at] ^= 1 << (number % 8);
            db.insert(&k, value).unwrap();
        };
        change(&path, flip);
        let error = reading(&path).unwrap_err();
        assert!(error.is_damage(), "{k:?}: {error}");
        change(&path, flip);
    }
    reading(&path).unwrap();
}

#[test]
fn a_missing_record_is_found_first_middle_or_last() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wal");
    write_store(&path);
    for seq in 1..=6 {
        let image = dir.path().join(format!("without-{seq}"));
        copy_dir(&path, &image);
        change(&image, |db| {
            db.remove(record::record_key(key(1, 1), seq)).unwrap().unwrap();
        });
        let error = reading(&image).unwrap_err();
        assert!(matches!(error, Error::Damaged { log, .. } if log == key(1, 1)), "{error}");
    }
}

#[test]
fn a_missing_head_log_or_manifest_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wal");
    write_store(&path);
    let check = |name: &str, edit: &dyn Fn(&sled::Db)| {
        let image = dir.path().join(name);
        copy_dir(&path, &image);
        change(&image, edit);
        let error = reading(&image).unwrap_err();
        assert!(error.is_damage(), "{name}: {error}");
    };
    check("head", &|db| drop(db.remove(record::log_key(key(2, 1))).unwrap().unwrap()));
    check("log", &|db| {
        for k in db.scan_prefix(record::log_key(key(1, 1))).keys() {
            db.remove(k.unwrap()).unwrap();
        }
    });
    check("manifest", &|db| drop(db.remove(record::manifest_key(3)).unwrap().unwrap()));
    check("last manifest", &|db| {
        let last = db.scan_prefix(record::MANIFEST_PREFIX).keys().next_back().unwrap().unwrap();
        db.remove(last).unwrap().unwrap();
    });
    check("everything", &|db| db.clear().unwrap());
    check("swapped", &|db| {
        let (a, b) = (record::record_key(key(1, 1), 3), record::record_key(key(1, 1), 4));
        let (x, y) = (db.get(a).unwrap().unwrap(), db.get(b).unwrap().unwrap());
        db.insert(a, y).unwrap();
        db.insert(b, x).unwrap();
    });
}

/// Damage below sled: wherever bytes of its file are flipped or zeroed, the store comes up whole or
/// is refused, whether it was closed or its process killed.
#[test]
fn damage_of_the_files_never_gives_another_log() {
    let dir = tempfile::tempdir().unwrap();
    let closed = dir.path().join("closed");
    let whole = write_store(&closed);
    damage_everywhere("closed", dir.path(), &closed, &whole);

    let (running, killed) = (dir.path().join("running"), dir.path().join("killed"));
    let wal = open(&running).unwrap();
    for (k, found) in [key(1, 1), key(2, 1)].into_iter().zip(&whole) {
        wal.open(k).unwrap();
        if let Some((index, marker)) = found.purged.clone() {
            put(&wal, k, WalOp::Purge { index, marker });
        }
        put(&wal, k, WalOp::Vote(found.vote.clone().unwrap()));
        for record in &found.records {
            put(&wal, k, WalOp::Append(vec![record.clone()]));
        }
    }
    copy_dir(&running, &killed);
    damage_everywhere("killed", dir.path(), &killed, &whole);
}

fn damage_everywhere(name: &str, dir: &Path, path: &Path, whole: &[Recovered; 2]) {
    let file = Path::new("sled").join("db");
    let bytes = std::fs::read(path.join(&file)).unwrap();
    let used = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
    let (mut came_up, mut refused) = (0, 0);
    let mut try_with = |bytes: &[u8]| {
        let image = dir.join("image");
        copy_dir(path, &image);
        std::fs::write(image.join(&file), bytes).unwrap();
        match reading(&image) {
            Ok(found) => {
                assert!(found == *whole, "damage gave another log");
                came_up += 1;
            }
            Err(error) => {
                assert!(!matches!(error, Error::Closed), "{error}");
                refused += 1;
            }
        }
        std::fs::remove_dir_all(&image).unwrap();
    };
    try_with(&bytes);
    const SPOTS: usize = 40;
    for number in 0..SPOTS {
        let at = used * number / SPOTS;
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        try_with(&flipped);
        let mut zeroed = bytes.clone();
        zeroed[at..].fill(0);
        try_with(&zeroed);
    }
    println!("{name}, damaged: {came_up} came up whole, {refused} were refused");
    assert!(came_up > 0 && refused > 0);
}

#[test]
fn a_directory_in_use_or_not_usable_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wal");
    let first = open(&path).unwrap();
    let error = open(&path).unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()) && !error.is_damage());
    first.close().unwrap();
    let blocked = dir.path().join("file");
    std::fs::write(&blocked, b"").unwrap();
    let error = open(&blocked).unwrap_err();
    assert!(error.to_string().contains(blocked.to_str().unwrap()) && !error.is_damage());
}

#[test]
fn golden_bytes() {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let k = record::record_key(key(2, 3), 5);
    assert_eq!(hex(&k), "0000000200000000000000030000000000000005");
    let ops = [
        WalOp::Append(entries(7, 300, 2, 3)),
        WalOp::TruncateAfter(None),
        WalOp::TruncateAfter(Some(9)),
        WalOp::Purge { index: 8, marker: Bytes::from_static(b"m") },
        WalOp::Vote(Bytes::from_static(b"v")),
        WalOp::Committed(Bytes::from_static(b"c")),
    ];
    let value = record::encode_record(&k, &ops);
    assert_eq!(hex(&value), "b007702601010207ac02032b2b2b07ad02032a2a2a0203090408016d050176060163");
    assert_eq!(record::decode_record(&k, &value).unwrap(), ops);
    let head = Head {
        first_seq: 4,
        purged: Some((8, Bytes::from_static(b"m"))),
        vote: Some(Bytes::from_static(b"v")),
        committed: None,
    };
    let k = record::log_key(key(2, 3));
    let value = record::encode_head(&k, &head);
    assert_eq!(hex(&value), "32b55db601040801016d01017600");
    assert_eq!(record::decode_head(&k, &value).unwrap(), head);
    let k = record::manifest_key(6);
    let manifest = vec![(key(2, 3), 5), (key(2, 4), 0)];
    let value = record::encode_manifest(&k, &manifest);
    assert_eq!(hex(&value), "b913a41001020305020400");
    assert_eq!(record::decode_manifest(&k, &value).unwrap(), manifest);
}

proptest::proptest! {
    #[test]
    fn garbage_is_an_error(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)) {
        // With a checksum that fits, so that the decoders are reached.
        let k = record::log_key(key(1, 1));
        let mut value = crc32c::crc32c_append(crc32c::crc32c(&k), &bytes).to_le_bytes().to_vec();
        value.extend_from_slice(&bytes);
        let _ = record::decode_record(&k, &value);
        let _ = record::decode_head(&k, &value);
        let _ = record::decode_manifest(&k, &value);
    }
}
