//! The parsers of what other replicas send, for `tests/fuzz`: appends and their answers, votes, frames
//! of snapshots, and the ids and entries that logs keep.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::entry_codec::{
    decode_entry, decode_log_id, decode_vote, encode_log_id, encode_payload, encode_vote,
};
use super::frame_codec::{
    AnswerExtras, AppendExtras, LifeClock, decode, decode_append, decode_append_response, encode,
    encode_append, encode_append_response,
};
use super::snapshot_send::{SnapshotFrame, decode_frame, encode_frame};
use super::state_store::{StoredMeta, encode_meta};
use super::types::{
    Entry, Payload, ReplicaNode, SnapshotMeta, StoredMembership, TypeConfig, Vote, log_id,
};
use crate::types::{NodeId, ReplicaId};

type Membership = openraft::Membership<ReplicaId, ReplicaNode>;

/// Bytes of the address before an append.
const ADDRESS_BYTES: usize = 8;

fn membership() -> Membership {
    let nodes = (1..=3).map(|id| (ReplicaId(id), ReplicaNode { node: NodeId(id) }));
    let voters = BTreeSet::from([ReplicaId(1), ReplicaId(2)]);
    Membership::new(vec![voters], nodes.collect::<BTreeMap<_, _>>()).expect("voters have nodes")
}

fn entries() -> Vec<Entry> {
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Normal(Payload(Bytes::from_static(b"payload"))),
        EntryPayload::Membership(membership()),
    ];
    let numbered = (300..).zip(payloads);
    numbered.map(|(index, payload)| Entry { log_id: log_id(4, index), payload }).collect()
}

fn answers() -> [AppendEntriesResponse<TypeConfig>; 4] {
    [
        AppendEntriesResponse::Success,
        AppendEntriesResponse::PartialSuccess(Some(log_id(4, 300))),
        AppendEntriesResponse::Conflict,
        AppendEntriesResponse::HigherVote(Vote::new(5, ReplicaId(2))),
    ]
}

/// Sound inputs of each kind: a byte that names the kind, and its body.
pub fn sound() -> Vec<Vec<u8>> {
    let vote = Vote::new_committed(4, ReplicaId(2));
    let (prev_log_id, leader_commit) = (Some(log_id(3, 299)), Some(log_id(3, 298)));
    let request = AppendEntriesRequest { vote, prev_log_id, entries: entries(), leader_commit };
    let clock = LifeClock { life: 7, ms: 300 };
    let extras = AppendExtras {
        echo: clock,
        quorum_age_ms: 2,
        complete_index: 3,
        elapsed_us: 6,
        acknowledged: prev_log_id,
        checkpoint: Some((4, 5)),
    };
    let append = encode_append(ReplicaId(9), &request, extras).slice(ADDRESS_BYTES..);
    let meta = SnapshotMeta {
        last_log_id: prev_log_id,
        last_membership: StoredMembership::new(Some(log_id(1, 1)), membership()),
    };
    let begin = SnapshotFrame::Begin { vote, meta: encode_meta(&meta) };
    let chunk = SnapshotFrame::Chunk(Bytes::from_static(b"chunk"));
    let mut all = vec![
        (0, append),
        (2, encode(&VoteRequest::<TypeConfig>::new(vote, prev_log_id))),
        (3, encode(&VoteResponse::<TypeConfig>::new(vote, prev_log_id, true))),
        (4, encode(&TransferLeaderRequest::<TypeConfig>::new(vote, ReplicaId(1), prev_log_id))),
        (7, encode_vote(&vote)),
        (8, encode_log_id(&log_id(4, 300))),
        (9, encode_meta(&meta)),
    ];
    let answered = AnswerExtras { clock, reluctant: true, shortened: false };
    all.extend(answers().map(|answer| (1, encode_append_response(&answer, answered))));
    all.extend([begin, chunk, SnapshotFrame::End].map(|frame| (5, encode_frame(7, 300, &frame))));
    all.extend(entries().iter().map(|entry| (6, encode_payload(entry))));
    all.iter().map(|(kind, body)| [&[*kind][..], body].concat()).collect()
}

/// What is understood is understood the same way again: its second encoding is the first.
fn settles<T>(
    decoded: Option<T>,
    put: impl Fn(&T) -> Bytes,
    get: impl Fn(Bytes) -> Option<T>,
) -> bool {
    let Some(value) = decoded else { return false };
    let bytes = put(&value);
    let again = get(bytes.clone()).expect("what was encoded is understood");
    assert_eq!(put(&again), bytes);
    true
}

fn rare<T: Serialize + DeserializeOwned>(body: &Bytes) -> bool {
    let get = |bytes: Bytes| decode::<T>(&bytes, "a rare message").ok();
    settles(get(body.clone()), |message| encode(message), get)
}

fn append(body: Bytes) -> bool {
    let get = |bytes| decode_append(bytes).ok();
    let put = |(request, extras): &(AppendEntriesRequest<TypeConfig>, AppendExtras)| {
        encode_append(ReplicaId(9), request, *extras).slice(ADDRESS_BYTES..)
    };
    settles(get(body), put, get)
}

/// Feeds an input to the parser that its first byte names; true if it was understood.
///
/// # Panics
///
/// If what was understood is not the same once it is encoded and decoded again.
pub fn take(input: &[u8]) -> bool {
    let Some((kind, body)) = input.split_first() else { return false };
    let body = Bytes::copy_from_slice(body);
    match kind % 10 {
        0 => append(body),
        1 => {
            let get = |bytes| decode_append_response(bytes).ok();
            settles(get(body), |(answer, extras)| encode_append_response(answer, *extras), get)
        }
        2 => rare::<VoteRequest<TypeConfig>>(&body),
        3 => rare::<VoteResponse<TypeConfig>>(&body),
        4 => rare::<TransferLeaderRequest<TypeConfig>>(&body),
        5 => {
            let get = |bytes| decode_frame(bytes).ok();
            settles(get(body), |(id, sequence, frame)| encode_frame(*id, *sequence, frame), get)
        }
        6 => {
            let get = |bytes| decode_entry(log_id(4, 300), bytes).ok();
            settles(get(body), encode_payload, get)
        }
        7 => {
            let get = |bytes| decode_vote(bytes).ok();
            settles(get(body), encode_vote, get)
        }
        8 => {
            let get = |bytes| decode_log_id(bytes).ok();
            settles(get(body), encode_log_id, get)
        }
        _ => rare::<StoredMeta>(&body),
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
        assert!(!take(&[]) && !take(&[0, 9]));
    }
}
