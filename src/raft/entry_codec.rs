//! Log entries as bytes: what the write-ahead log stores and what append frames carry.
//!
//! Tags are append only; `tests::golden` fixes the bytes.

use bytes::{BufMut, Bytes, BytesMut};
use openraft::EntryPayload;

use super::types::{Entry, LogId, Payload, Vote, log_id, term_of};
use crate::types::wire::{self, Error};
use crate::types::{ReplicaId, wire::get_u8};

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Payload of an entry; its log id travels beside it.
pub fn encode_payload(entry: &Entry) -> Bytes {
    let mut out = BytesMut::new();
    put_payload(&mut out, entry);
    out.freeze()
}

/// Bytes an entry takes in memory and on the wire, roughly.
pub fn entry_bytes(entry: &Entry) -> u64 {
    match &entry.payload {
        EntryPayload::Blank => 32,
        EntryPayload::Normal(payload) => 32 + payload.0.len() as u64,
        EntryPayload::Membership(_) => 256,
    }
}

/// Appends the payload of an entry.
pub fn put_payload(out: &mut BytesMut, entry: &Entry) {
    match &entry.payload {
        EntryPayload::Blank => out.put_u8(BLANK),
        EntryPayload::Normal(payload) => {
            out.reserve(1 + payload.0.len());
            out.put_u8(NORMAL);
            out.put_slice(&payload.0);
        }
        EntryPayload::Membership(membership) => {
            out.put_u8(MEMBERSHIP);
            let bytes = postcard::to_stdvec(membership).expect("a membership is plain data");
            out.put_slice(&bytes);
        }
    }
}

/// The entry of a payload and its log id; the payload is a slice of the input.
pub fn decode_entry(id: LogId, mut bytes: Bytes) -> Result<Entry, Error> {
    let payload = match get_u8(&mut bytes, "entry tag")? {
        BLANK => {
            wire::finish(&bytes, "blank entry")?;
            EntryPayload::Blank
        }
        NORMAL => EntryPayload::Normal(Payload(bytes)),
        MEMBERSHIP => EntryPayload::Membership(
            postcard::from_bytes(&bytes).map_err(|_| Error::Malformed { what: "membership" })?,
        ),
        tag => return Err(Error::Tag { what: "entry", tag: tag.into() }),
    };
    Ok(Entry { log_id: id, payload })
}

/// Appends a log id.
pub fn put_log_id(out: &mut BytesMut, id: &LogId) {
    wire::put_varint(out, term_of(id));
    wire::put_varint(out, id.index);
}

/// Reads a log id.
pub fn get_log_id(input: &mut Bytes) -> Result<LogId, Error> {
    Ok(log_id(wire::get_varint(input, "log id term")?, wire::get_varint(input, "log id index")?))
}

/// Appends a log id that may be missing.
pub fn put_log_id_option(out: &mut BytesMut, id: Option<&LogId>) {
    match id {
        None => out.put_u8(0),
        Some(id) => {
            out.put_u8(1);
            put_log_id(out, id);
        }
    }
}

/// Reads a log id that may be missing.
pub fn get_log_id_option(input: &mut Bytes) -> Result<Option<LogId>, Error> {
    match get_u8(input, "log id present")? {
        0 => Ok(None),
        1 => get_log_id(input).map(Some),
        tag => Err(Error::Tag { what: "log id present", tag: tag.into() }),
    }
}

/// Appends a vote.
pub fn put_vote(out: &mut BytesMut, vote: &Vote) {
    wire::put_varint(out, vote.leader_id.term);
    wire::put_varint(out, vote.leader_id.voted_for.0);
    out.put_u8(u8::from(vote.committed));
}

/// Reads a vote.
pub fn get_vote(input: &mut Bytes) -> Result<Vote, Error> {
    let term = wire::get_varint(input, "vote term")?;
    let replica = ReplicaId(wire::get_varint(input, "vote replica")?);
    match get_u8(input, "vote committed")? {
        0 => Ok(Vote::new(term, replica)),
        1 => Ok(Vote::new_committed(term, replica)),
        tag => Err(Error::Tag { what: "vote committed", tag: tag.into() }),
    }
}

/// A vote alone, as the write-ahead log stores it.
pub fn encode_vote(vote: &Vote) -> Bytes {
    let mut out = BytesMut::new();
    put_vote(&mut out, vote);
    out.freeze()
}

/// Reads a vote alone.
pub fn decode_vote(mut bytes: Bytes) -> Result<Vote, Error> {
    let vote = get_vote(&mut bytes)?;
    wire::finish(&bytes, "vote")?;
    Ok(vote)
}

/// A log id alone, as the write-ahead log stores it.
pub fn encode_log_id(id: &LogId) -> Bytes {
    let mut out = BytesMut::new();
    put_log_id(&mut out, id);
    out.freeze()
}

/// Reads a log id alone.
pub fn decode_log_id(mut bytes: Bytes) -> Result<LogId, Error> {
    let id = get_log_id(&mut bytes)?;
    wire::finish(&bytes, "log id")?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use openraft::Membership;

    use super::*;
    use crate::raft::types::ReplicaNode;
    use crate::types::NodeId;

    fn normal(bytes: &'static [u8]) -> Entry {
        Entry {
            log_id: log_id(3, 7),
            payload: EntryPayload::Normal(Payload(Bytes::from_static(bytes))),
        }
    }

    fn membership() -> Entry {
        let nodes = BTreeMap::from([
            (ReplicaId(1), ReplicaNode { node: NodeId(1) }),
            (ReplicaId(2), ReplicaNode { node: NodeId(2) }),
        ]);
        let config = vec![BTreeSet::from([ReplicaId(1), ReplicaId(2)])];
        let membership = Membership::new(config, nodes).expect("valid membership");
        Entry { log_id: log_id(1, 0), payload: EntryPayload::Membership(membership) }
    }

    #[test]
    fn entries_round_trip() {
        let blank = Entry { log_id: log_id(2, 5), payload: EntryPayload::Blank };
        for entry in [blank, normal(b"abc"), normal(b""), membership()] {
            let back = decode_entry(entry.log_id, encode_payload(&entry)).unwrap();
            assert_eq!(back, entry);
        }
    }

    #[test]
    fn golden() {
        assert_eq!(encode_payload(&normal(b"abc")).as_ref(), b"\x01abc");
        assert_eq!(encode_vote(&Vote::new_committed(300, ReplicaId(2))).as_ref(), [0xac, 2, 2, 1]);
        assert_eq!(encode_log_id(&log_id(3, 7)).as_ref(), [3, 7]);
        // two configs: [[1, 2]], nodes {1: n1, 2: n2}
        assert_eq!(
            encode_payload(&membership()).as_ref(),
            [2, 1, 2, 1, 2, 2, 1, 1, 2, 2],
            "the membership format changed"
        );
    }

    #[test]
    fn damage_is_an_error() {
        assert!(decode_entry(log_id(1, 1), Bytes::new()).is_err());
        assert!(decode_entry(log_id(1, 1), Bytes::from_static(&[9])).is_err());
        assert!(decode_entry(log_id(1, 1), Bytes::from_static(&[0, 0])).is_err());
        assert!(decode_vote(Bytes::from_static(&[1, 1, 2])).is_err());
        assert!(decode_log_id(Bytes::from_static(&[1])).is_err());
    }
}
