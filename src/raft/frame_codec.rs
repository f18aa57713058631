//! Raft calls as peer frames. Append frames are hand-written, the rare ones use postcard.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::entry_codec::{
    decode_entry, get_log_id, get_log_id_option, get_vote, put_log_id, put_log_id_option,
    put_payload, put_vote,
};
use super::types::TypeConfig;
use crate::types::ReplicaId;
use crate::types::limits::APPEND_BYTES_MAX;
use crate::types::wire::{self, Error};

/// What travels with an append beside the Raft fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AppendExtras {
    /// The follower's own clock, as it stood when it answered an earlier append; 0 if none yet.
    /// Gives the follower an upper bound of its age without synchronised clocks.
    pub echo_ms: u64,
    /// Milliseconds since the send time of the last append that a quorum acknowledged;
    /// `u64::MAX` if there is none.
    pub quorum_age_ms: u64,
    /// An index whose state holds every write that the leader acknowledged before it sent this.
    pub complete_index: u64,
    /// Digest of the leader's machine at an applied index (INV-3), if it has one to compare.
    pub checkpoint: Option<(u64, u64)>,
}

/// A frame addressed to one replica: a node may have had another one of the same group.
pub fn addressed(target: ReplicaId, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + payload.len());
    out.put_u64_le(target.0);
    out.put_slice(payload);
    out.freeze()
}

/// Encodes an append, addressed to `target`.
pub fn encode_append(
    target: ReplicaId,
    request: &AppendEntriesRequest<TypeConfig>,
    extras: AppendExtras,
) -> Bytes {
    let payload: usize = request.entries.iter().map(|e| 24 + entry_len(e)).sum();
    let mut out = BytesMut::with_capacity(104 + payload);
    out.put_u64_le(target.0);
    put_vote(&mut out, &request.vote);
    put_log_id_option(&mut out, request.prev_log_id.as_ref());
    put_log_id_option(&mut out, request.leader_commit.as_ref());
    out.put_u64_le(extras.echo_ms);
    out.put_u64_le(extras.quorum_age_ms);
    out.put_u64_le(extras.complete_index);
    match extras.checkpoint {
        None => out.put_u8(0),
        Some((index, digest)) => {
            out.put_u8(1);
            out.put_u64_le(index);
            out.put_u64_le(digest);
        }
    }
    wire::put_varint(&mut out, request.entries.len() as u64);
    for entry in &request.entries {
        put_log_id(&mut out, &entry.log_id);
        let at = out.len();
        out.put_u32_le(0);
        put_payload(&mut out, entry);
        let len = u32::try_from(out.len() - at - 4).expect("an entry is far below 4 GiB");
        out[at..at + 4].copy_from_slice(&len.to_le_bytes());
    }
    out.freeze()
}

fn entry_len(entry: &super::types::Entry) -> usize {
    usize::try_from(super::entry_codec::entry_bytes(entry)).unwrap_or(APPEND_BYTES_MAX)
}

/// Decodes an append without its address; payloads are slices of the frame.
pub fn decode_append(
    mut input: Bytes,
) -> Result<(AppendEntriesRequest<TypeConfig>, AppendExtras), Error> {
    let vote = get_vote(&mut input)?;
    let prev_log_id = get_log_id_option(&mut input)?;
    let leader_commit = get_log_id_option(&mut input)?;
    let echo_ms = wire::get_u64(&mut input, "echo")?;
    let quorum_age_ms = wire::get_u64(&mut input, "quorum age")?;
    let complete_index = wire::get_u64(&mut input, "complete index")?;
    let checkpoint = match wire::get_u8(&mut input, "checkpoint")? {
        0 => None,
        1 => Some((
            wire::get_u64(&mut input, "checkpoint index")?,
            wire::get_u64(&mut input, "checkpoint digest")?,
        )),
        tag => return Err(Error::Tag { what: "checkpoint", tag: tag.into() }),
    };
    let count = wire::get_varint(&mut input, "entries")?;
    let mut entries = Vec::with_capacity(usize::try_from(count).unwrap_or(0).min(input.len() / 6));
    for _ in 0..count {
        let id = get_log_id(&mut input)?;
        let len = wire::get_u32(&mut input, "entry length")? as usize;
        if input.remaining() < len {
            return Err(Error::Short { what: "entry" });
        }
        entries.push(decode_entry(id, input.split_to(len))?);
    }
    wire::finish(&input, "append")?;
    let request = AppendEntriesRequest { vote, prev_log_id, entries, leader_commit };
    Ok((request, AppendExtras { echo_ms, quorum_age_ms, complete_index, checkpoint }))
}

const SUCCESS: u8 = 0;
const PARTIAL: u8 = 1;
const CONFLICT: u8 = 2;
const HIGHER_VOTE: u8 = 3;

/// Follows the answer of a follower that does not want to lead; nothing follows that of another.
const RELUCTANT: u8 = 1;

/// Encodes the answer to an append, with the follower's clock and whether it would rather not lead.
pub fn encode_append_response(
    response: &AppendEntriesResponse<TypeConfig>,
    now_ms: u64,
    reluctant: bool,
) -> Bytes {
    let mut out = BytesMut::with_capacity(32);
    out.put_u64_le(now_ms);
    match response {
        AppendEntriesResponse::Success => out.put_u8(SUCCESS),
        AppendEntriesResponse::PartialSuccess(id) => {
            out.put_u8(PARTIAL);
            put_log_id_option(&mut out, id.as_ref());
        }
        AppendEntriesResponse::Conflict => out.put_u8(CONFLICT),
        AppendEntriesResponse::HigherVote(vote) => {
            out.put_u8(HIGHER_VOTE);
            put_vote(&mut out, vote);
        }
    }
    if reluctant {
        out.put_u8(RELUCTANT);
    }
    out.freeze()
}

/// Decodes the answer to an append: the follower's clock, whether it would rather not lead, and its
/// answer.
pub fn decode_append_response(
    mut input: Bytes,
) -> Result<(u64, bool, AppendEntriesResponse<TypeConfig>), Error> {
    let now_ms = wire::get_u64(&mut input, "follower clock")?;
    let response = match wire::get_u8(&mut input, "append response")? {
        SUCCESS => AppendEntriesResponse::Success,
        PARTIAL => AppendEntriesResponse::PartialSuccess(get_log_id_option(&mut input)?),
        CONFLICT => AppendEntriesResponse::Conflict,
        HIGHER_VOTE => AppendEntriesResponse::HigherVote(get_vote(&mut input)?),
        tag => return Err(Error::Tag { what: "append response", tag: tag.into() }),
    };
    let reluctant = match input.is_empty() {
        true => false,
        false => match wire::get_u8(&mut input, "reluctance")? {
            RELUCTANT => true,
            tag => return Err(Error::Tag { what: "reluctance", tag: tag.into() }),
        },
    };
    wire::finish(&input, "append response")?;
    Ok((now_ms, reluctant, response))
}

/// Encodes a rare message.
pub fn encode<T: Serialize>(message: &T) -> Bytes {
    postcard::to_stdvec(message).expect("Raft messages are plain data").into()
}

/// Decodes a rare message.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, Error> {
    postcard::from_bytes(bytes).map_err(|_| Error::Malformed { what })
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;
    use proptest::prelude::*;

    use super::*;
    use crate::raft::types::{Entry, Payload, Vote, log_id};

    fn request(entries: usize) -> AppendEntriesRequest<TypeConfig> {
        let entries = (0..entries as u64)
            .map(|i| Entry {
                log_id: log_id(4, 10 + i),
                payload: if i % 3 == 0 {
                    EntryPayload::Blank
                } else {
                    EntryPayload::Normal(Payload(Bytes::from(vec![7; i as usize * 11])))
                },
            })
            .collect();
        AppendEntriesRequest {
            vote: Vote::new_committed(4, ReplicaId(2)),
            prev_log_id: Some(log_id(3, 9)),
            entries,
            leader_commit: Some(log_id(3, 8)),
        }
    }

    #[test]
    fn append_round_trips() {
        let extras = AppendExtras {
            echo_ms: 5,
            quorum_age_ms: 9,
            complete_index: 8,
            checkpoint: Some((64, 77)),
        };
        for n in [0, 1, 5, 40] {
            let sent = request(n);
            let (got, got_extras) =
                decode_append(encode_append(ReplicaId(2), &sent, extras).slice(8..)).unwrap();
            assert_eq!(got.entries, sent.entries);
            assert_eq!(
                (got.vote, got.prev_log_id, got.leader_commit),
                (sent.vote, sent.prev_log_id, sent.leader_commit)
            );
            assert_eq!(got_extras, extras);
        }
    }

    #[test]
    fn append_response_round_trips() {
        for response in [
            AppendEntriesResponse::Success,
            AppendEntriesResponse::PartialSuccess(Some(log_id(1, 2))),
            AppendEntriesResponse::Conflict,
            AppendEntriesResponse::HigherVote(Vote::new(9, ReplicaId(3))),
        ] {
            for reluctant in [false, true] {
                let bytes = encode_append_response(&response, 42, reluctant);
                let decoded = decode_append_response(bytes).unwrap();
                assert_eq!(decoded, (42, reluctant, response.clone()));
            }
        }
    }

    #[test]
    fn a_cut_frame_is_an_error() {
        let whole = encode_append(ReplicaId(2), &request(5), AppendExtras::default()).slice(8..);
        for len in 0..whole.len() {
            assert!(decode_append(whole.slice(..len)).is_err(), "cut at {len}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            let _ = decode_append(bytes.clone());
            let _ = decode_append_response(bytes);
        }
    }
}
