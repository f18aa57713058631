//! Raft calls as peer frames. Append frames are hand-written, the rare ones use postcard.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::entry_codec::{
    decode_entry, get_log_id, get_log_id_option, get_vote, put_log_id, put_log_id_option,
    put_payload, put_vote,
};
use super::types::{Entry, LogId, TypeConfig, term_of};
use crate::types::ReplicaId;
use crate::types::limits::APPEND_BYTES_MAX;
use crate::types::wire::{self, Error};

/// A replica's own clock, with the life of the replica that it counts in: a clock of an earlier life
/// says nothing of what the replica holds now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LifeClock {
    /// Drawn at each start of the replica; 0 in an echo says that nothing was heard yet.
    pub life: u64,
    /// Milliseconds since that start.
    pub ms: u64,
}

/// What travels with an append beside the Raft fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AppendExtras {
    /// The follower's own clock, as it stood when it answered an earlier append. Gives the follower
    /// an upper bound of its age without synchronised clocks.
    pub echo: LifeClock,
    /// Milliseconds since the send time of the last append that a quorum acknowledged;
    /// `u64::MAX` if there is none.
    pub quorum_age_ms: u64,
    /// An index whose state holds every write that the leader acknowledged before it sent this.
    pub complete_index: u64,
    /// Microseconds that the leader's clock has counted since its replica started: what the follower
    /// measures the rate of its own clock against.
    pub elapsed_us: u64,
    /// Newest entry that the follower acknowledged to this leader: its log must still hold it.
    pub acknowledged: Option<LogId>,
    /// Digest of the leader's machine at an applied index (INV-3), if it has one to compare.
    pub checkpoint: Option<(u64, u64)>,
}

/// What travels with the answer to an append beside the answer itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AnswerExtras {
    /// The follower's own clock as it answers.
    pub clock: LifeClock,
    /// The follower would rather not lead.
    pub reluctant: bool,
    /// The follower's log is shorter than what it acknowledged: the answer counts for nothing.
    pub shortened: bool,
}

fn put_clock(out: &mut BytesMut, clock: LifeClock) {
    out.put_u64_le(clock.life);
    out.put_u64_le(clock.ms);
}

fn get_clock(input: &mut Bytes) -> Result<LifeClock, Error> {
    let life = wire::get_u64(input, "life of a follower")?;
    Ok(LifeClock { life, ms: wire::get_u64(input, "follower clock")? })
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
    let mut out = BytesMut::with_capacity(160 + payload);
    out.put_u64_le(target.0);
    put_vote(&mut out, &request.vote);
    put_log_id_option(&mut out, request.prev_log_id.as_ref());
    put_log_id_option(&mut out, request.leader_commit.as_ref());
    put_clock(&mut out, extras.echo);
    out.put_u64_le(extras.quorum_age_ms);
    out.put_u64_le(extras.complete_index);
    out.put_u64_le(extras.elapsed_us);
    put_log_id_option(&mut out, extras.acknowledged.as_ref());
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

fn entry_len(entry: &Entry) -> usize {
    usize::try_from(super::entry_codec::entry_bytes(entry)).unwrap_or(APPEND_BYTES_MAX)
}

/// Decodes an append without its address; payloads are slices of the frame.
pub fn decode_append(
    mut input: Bytes,
) -> Result<(AppendEntriesRequest<TypeConfig>, AppendExtras), Error> {
    let vote = get_vote(&mut input)?;
    let prev_log_id = get_log_id_option(&mut input)?;
    let leader_commit = get_log_id_option(&mut input)?;
    let echo = get_clock(&mut input)?;
    let quorum_age_ms = wire::get_u64(&mut input, "quorum age")?;
    let complete_index = wire::get_u64(&mut input, "complete index")?;
    let elapsed_us = wire::get_u64(&mut input, "leader clock")?;
    let acknowledged = get_log_id_option(&mut input)?;
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
        let before = entries.last().map(|entry: &Entry| entry.log_id).or(prev_log_id);
        // openraft and the log panic at a gap, and at ids that do not grow.
        let next = before.map_or(0, |before| before.index.wrapping_add(1));
        if id.index != next || Some(id) <= before || term_of(&id) > vote.leader_id.term {
            return Err(Error::Malformed { what: "log ids of an append" });
        }
        entries.push(decode_entry(id, input.split_to(len))?);
    }
    wire::finish(&input, "append")?;
    let request = AppendEntriesRequest { vote, prev_log_id, entries, leader_commit };
    let extras =
        AppendExtras { echo, quorum_age_ms, complete_index, elapsed_us, acknowledged, checkpoint };
    Ok((request, extras))
}

const SUCCESS: u8 = 0;
const PARTIAL: u8 = 1;
const CONFLICT: u8 = 2;
const HIGHER_VOTE: u8 = 3;

/// Flags of an answer.
const RELUCTANT: u8 = 1;
const SHORTENED: u8 = 2;

/// Encodes the answer to an append.
pub fn encode_append_response(
    response: &AppendEntriesResponse<TypeConfig>,
    extras: AnswerExtras,
) -> Bytes {
    let mut out = BytesMut::with_capacity(48);
    put_clock(&mut out, extras.clock);
    let reluctant = if extras.reluctant { RELUCTANT } else { 0 };
    let shortened = if extras.shortened { SHORTENED } else { 0 };
    out.put_u8(reluctant | shortened);
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
    out.freeze()
}

/// Decodes the answer to an append.
pub fn decode_append_response(
    mut input: Bytes,
) -> Result<(AppendEntriesResponse<TypeConfig>, AnswerExtras), Error> {
    let clock = get_clock(&mut input)?;
    let flags = wire::get_u8(&mut input, "flags of an append response")?;
    if flags & !(RELUCTANT | SHORTENED) != 0 {
        return Err(Error::Tag { what: "flags of an append response", tag: flags.into() });
    }
    let response = match wire::get_u8(&mut input, "append response")? {
        SUCCESS => AppendEntriesResponse::Success,
        PARTIAL => AppendEntriesResponse::PartialSuccess(get_log_id_option(&mut input)?),
        CONFLICT => AppendEntriesResponse::Conflict,
        HIGHER_VOTE => AppendEntriesResponse::HigherVote(get_vote(&mut input)?),
        tag => return Err(Error::Tag { what: "append response", tag: tag.into() }),
    };
    wire::finish(&input, "append response")?;
    let (reluctant, shortened) = (flags & RELUCTANT != 0, flags & SHORTENED != 0);
    Ok((response, AnswerExtras { clock, reluctant, shortened }))
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
    use crate::raft::types::{Payload, Vote, log_id};

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
            echo: LifeClock { life: 3, ms: 5 },
            quorum_age_ms: 9,
            complete_index: 8,
            elapsed_us: 6,
            acknowledged: Some(log_id(3, 9)),
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
            for (reluctant, shortened) in [(false, false), (true, false), (false, true)] {
                let clock = LifeClock { life: 7, ms: 42 };
                let extras = AnswerExtras { clock, reluctant, shortened };
                let bytes = encode_append_response(&response, extras);
                assert_eq!(decode_append_response(bytes).unwrap(), (response.clone(), extras));
            }
        }
    }

    #[test]
    fn the_bytes_of_an_append_and_of_its_answer() {
        // Not to be changed without another `PROTOCOL_VERSION` of the transport.
        let request = AppendEntriesRequest {
            vote: Vote::new_committed(4, ReplicaId(2)),
            prev_log_id: Some(log_id(3, 9)),
            entries: Vec::new(),
            leader_commit: None,
        };
        let extras = AppendExtras {
            echo: LifeClock { life: 0x11, ms: 0x22 },
            quorum_age_ms: 0x33,
            complete_index: 0x44,
            elapsed_us: 0x55,
            acknowledged: Some(log_id(3, 8)),
            checkpoint: None,
        };
        let bytes = encode_append(ReplicaId(2), &request, extras);
        let (words, rest) = bytes[bytes.len() - 45..].split_at(40);
        let words = words.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
        assert_eq!(words.collect::<Vec<_>>(), [0x11, 0x22, 0x33, 0x44, 0x55]);
        assert_eq!(rest, [1, 3, 8, 0, 0]);
        let clock = LifeClock { life: 7, ms: 42 };
        let extras = AnswerExtras { clock, reluctant: true, shortened: true };
        let answer = encode_append_response(&AppendEntriesResponse::Conflict, extras);
        assert_eq!(answer[..], [7, 0, 0, 0, 0, 0, 0, 0, 42, 0, 0, 0, 0, 0, 0, 0, 3, 2]);
        assert!(decode_append_response(Bytes::from_static(&[0; 16])).is_err());
        let mut odd = answer.to_vec();
        odd[16] = 4;
        assert!(decode_append_response(Bytes::from(odd)).is_err(), "a flag nobody knows");
    }

    #[test]
    fn a_cut_frame_is_an_error() {
        let whole = encode_append(ReplicaId(2), &request(5), AppendExtras::default()).slice(8..);
        for len in 0..whole.len() {
            assert!(decode_append(whole.slice(..len)).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn log_ids_of_an_append_follow_each_other_and_its_leader() {
        let decode = |request: &AppendEntriesRequest<TypeConfig>| {
            let extras = AppendExtras::default();
            decode_append(encode_append(ReplicaId(2), request, extras).slice(8..))
        };
        assert!(decode(&request(3)).is_ok());
        for (at, odd) in
            [(0, log_id(4, 11)), (2, log_id(4, 11)), (1, log_id(2, 11)), (2, log_id(5, 12))]
        {
            let mut request = request(3);
            request.entries[at].log_id = odd;
            assert!(decode(&request).is_err(), "{odd} at {at}");
        }
        let mut request = request(1);
        request.prev_log_id = None;
        assert!(decode(&request).is_err(), "the first entry of a log is at 0");
        request.entries[0].log_id = log_id(4, 0);
        assert!(decode(&request).is_ok());
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
