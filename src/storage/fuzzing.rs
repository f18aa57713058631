//! The parsers of what lies on disks, for `tests/fuzz`: records of the log stores, snapshot files, the
//! small files of a data directory. Checksums are made right first, as those of a wrong writer would be.

use std::fmt::Debug;

use bytes::Bytes;

use super::raft_engine_directory::{self as directory, Directory};
use super::replicas_started::{SetAside, Sets};
use super::store_record::{self as record, Head};
use super::wal::{LogRecord, WalOp};
use super::{identity, replicas_started, shortened_replicas, snapshot_format};
use crate::types::{GroupId, LogKey, NodeId, ReplicaId};

const KEY: LogKey = LogKey { group: GroupId(3), replica: ReplicaId(300) };

/// One sound input of each kind: a byte that names the kind, and its body.
pub fn sound() -> Vec<Vec<u8>> {
    let marker = Bytes::from_static(b"marker");
    let payload = Bytes::from_static(b"payload");
    let ops = [
        WalOp::Append(vec![LogRecord { term: 2, index: 300, payload }]),
        WalOp::TruncateAfter(None),
        WalOp::TruncateAfter(Some(7)),
        WalOp::Purge { index: 5, marker: marker.clone() },
        WalOp::Vote(marker.clone()),
        WalOp::Committed(marker.clone()),
    ];
    let purged = Some((5, marker.clone()));
    let head = Head { first_seq: 9, purged, vote: Some(marker.clone()), committed: None };
    let mut directory = Directory::default();
    directory.add(KEY);
    let end = snapshot_format::End { meta: marker, chunks: 2, bytes: 300, chain: 7, hash: 9 };
    let aside = LogKey { group: GroupId(3), replica: ReplicaId(200) };
    let set_aside = vec![SetAside { key: aside, at_ms: 1_700_000_000_000 }];
    let sets = Sets { started: [KEY].into(), lost: [KEY].into(), set_aside };
    let kinds: [Vec<u8>; 9] = [
        record::encode_record(b"k", &ops)[4..].to_vec(),
        record::encode_head(b"k", &head)[4..].to_vec(),
        record::encode_manifest(b"k", &vec![(KEY, 7)])[4..].to_vec(),
        directory.encode()[4..].to_vec(),
        snapshot_format::encode_header(KEY, "cache").to_vec(),
        snapshot_format::encode_end(&end).to_vec(),
        identity::encode(1 << 70, NodeId(7), 3, Some("boot"), 1)[4..].to_vec(),
        replicas_started::encode(&sets)[4..].to_vec(),
        shortened_replicas::encode(&sets.lost)[4..].to_vec(),
    ];
    (0_u8..).zip(kinds).map(|(kind, body)| [&[kind][..], &body].concat()).collect()
}

/// What is decoded is encoded and decoded again, and is the same.
fn same<T: PartialEq + Debug, E>(
    decoded: Result<T, E>,
    again: impl FnOnce(&T) -> Result<T, E>,
) -> bool {
    let Ok(value) = decoded else { return false };
    assert_eq!(again(&value).ok().as_ref(), Some(&value));
    true
}

/// Feeds an input to the parser that its first byte names; true if it was understood.
///
/// # Panics
///
/// If what was understood is not the same once it is encoded and decoded again.
pub fn take(input: &[u8]) -> bool {
    let Some((kind, body)) = input.split_first() else { return false };
    let sealed = |key: &[u8]| {
        let crc = crc32c::crc32c_append(crc32c::crc32c(key), body);
        [&crc.to_le_bytes()[..], body].concat()
    };
    let small = || [&crc32c::crc32c(body).to_le_bytes()[..], body].concat();
    let bytes = || Bytes::copy_from_slice(body);
    match kind % 9 {
        0 => same(record::decode_record(b"k", &sealed(b"k")), |ops| {
            record::decode_record(b"k", &record::encode_record(b"k", ops))
        }),
        1 => same(record::decode_head(b"k", &sealed(b"k")), |head| {
            record::decode_head(b"k", &record::encode_head(b"k", head))
        }),
        2 => same(record::decode_manifest(b"k", &sealed(b"k")), |manifest| {
            record::decode_manifest(b"k", &record::encode_manifest(b"k", manifest))
        }),
        3 => same(Directory::decode(&sealed(directory::KEY)), |directory| {
            Directory::decode(&directory.encode())
        }),
        4 => same(snapshot_format::decode_header(bytes()), |(key, name)| {
            snapshot_format::decode_header(snapshot_format::encode_header(*key, name))
        }),
        5 => {
            let trailer = body.first_chunk().copied();
            let _ = trailer.map(snapshot_format::decode_trailer);
            let _ = body.first_chunk().copied().map(snapshot_format::read_frame_head);
            same(snapshot_format::decode_end(bytes()), |end| {
                snapshot_format::decode_end(snapshot_format::encode_end(end))
            })
        }
        6 => identity::decode(small()).is_ok(),
        7 => same(replicas_started::decode(small()), |sets| {
            replicas_started::decode(replicas_started::encode(sets))
        }),
        _ => same(shortened_replicas::decode(small()), |keys| {
            shortened_replicas::decode(shortened_replicas::encode(keys))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sound_is_understood() {
        for input in sound() {
            assert!(take(&input), "{input:?}");
        }
        assert!(!take(&[]) && !take(&[0, 9]) && !take(&[6, 9]));
    }
}
