//! An `Error` inside an answer to forwarded operations: every reason keeps its outcome (INV-5).

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::types::wire::{self, Error};
use crate::types::{Error as Failure, GroupId, NodeId, Reason, RoutingEpoch};

/// Names that may stand in `Reason::InvalidArgument::field` and `Reason::ResourceExhausted::what`.
/// They are static strings in memory and text on the wire; a peer's name that this version does
/// not know is folded into the generic one (fields keep it in the problem's text).
const NAMES: &[&str] = &[
    "request",
    "key",
    "value",
    "ttl",
    "expiry",
    "condition",
    "version",
    "session",
    "sequence",
    "deadline",
    "consistency",
    "staleness",
    "limit",
    "requests in flight",
    "command",
    "group queue",
    "writes queued at the shard",
    "bytes queued at the shard",
    "reads queued at the shard",
    "forward queue",
    "request id sessions",
    "peer queue",
    "memory",
    "pattern",
    "count",
    "cursor",
    "operations",
    "delta",
    "offset",
    crate::types::limits::WHAT_DISK_ROOM,
    crate::types::limits::WHAT_LOG_WITHOUT_SNAPSHOT,
    "bytes in flight",
    "milliseconds of queueing at the shard",
    "milliseconds of queueing on the way to another node",
    "milliseconds of waiting at the door",
    "requests in flight on the connection",
    "bytes of the forward queue",
    "owner",
    "token",
    "wait",
    "beta",
    "soft_ttl",
    "cost",
    crate::types::limits::WHAT_LOCKS,
    crate::types::limits::WHAT_LEASE_TOKENS,
    crate::types::limits::WHAT_LEASE_WAITERS,
    crate::types::limits::WHAT_LEASE_WAITERS_KEY,
    crate::types::limits::WHAT_FORWARD_WAITING,
    crate::types::limits::WHAT_LEASE_KEYS_BYTES,
];
const FIELD_GENERIC: &str = "request";
const LIMIT_GENERIC: &str = "a limit of the serving node";

/// Appends an error.
pub(super) fn put_error(out: &mut BytesMut, error: &Failure) {
    match error.retry_after {
        None => out.put_u8(0),
        Some(after) => {
            out.put_u8(1);
            wire::put_varint(out, u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        }
    }
    put_reason(out, &error.reason);
}

/// Reads an error.
pub(super) fn get_error(input: &mut Bytes) -> Result<Failure, Error> {
    const WHAT: &str = "forward.retry_after";
    let retry_after = match wire::get_u8(input, WHAT)? {
        0 => None,
        1 => Some(Duration::from_millis(wire::get_varint(input, WHAT)?)),
        tag => return Err(Error::Tag { what: WHAT, tag: tag.into() }),
    };
    Ok(Failure { reason: get_reason(input)?, retry_after })
}

/// Tag of each reason. Exhaustive on purpose: a new reason does not compile without a tag.
fn tag_of(reason: &Reason) -> u8 {
    match reason {
        Reason::InvalidArgument { .. } => 1,
        Reason::NotLeader { .. } => 2,
        Reason::NotOwner { .. } => 3,
        Reason::NoLeader { .. } => 4,
        Reason::NotReady => 5,
        Reason::ResourceExhausted { .. } => 6,
        Reason::Stopping => 7,
        Reason::DeadlineBeforePropose => 8,
        Reason::DeadlineAfterPropose => 9,
        Reason::Lost { .. } => 10,
        Reason::ReadFailed { .. } => 11,
        Reason::TooStale { .. } => 12,
        Reason::SessionExpired => 13,
        Reason::TooLarge { .. } => 14,
        Reason::Internal { .. } => 15,
        Reason::StorageFailed { .. } => 16,
        Reason::NotInteger => 17,
        Reason::Overflow => 18,
        Reason::NotFloat => 19,
        Reason::NotFinite => 20,
        Reason::ReplyTooLarge { .. } => 21,
        Reason::CrossShard { .. } => 22,
        Reason::WrongKind => 23,
        Reason::OutdatedToken => 24,
        Reason::NoQuorum { .. } => 25,
    }
}

fn put_reason(out: &mut BytesMut, reason: &Reason) {
    out.put_u8(tag_of(reason));
    match reason {
        Reason::InvalidArgument { field, problem } => {
            wire::put_bytes(out, field.as_bytes());
            wire::put_bytes(out, problem.as_bytes());
        }
        Reason::NotLeader { group, leader } => {
            wire::put_varint(out, group.0.into());
            // Node ids begin at 1, so 0 is free for "not known".
            wire::put_varint(out, leader.map_or(0, |node| node.0));
        }
        Reason::NotOwner { epoch } => wire::put_varint(out, epoch.0),
        Reason::NoLeader { group } => wire::put_varint(out, group.0.into()),
        Reason::NoQuorum { group, silent_ms } => {
            wire::put_varint(out, group.0.into());
            wire::put_varint(out, *silent_ms);
        }
        Reason::ResourceExhausted { what, limit } => {
            wire::put_bytes(out, what.as_bytes());
            wire::put_varint(out, *limit);
        }
        Reason::Lost { detail }
        | Reason::ReadFailed { detail }
        | Reason::Internal { detail }
        | Reason::StorageFailed { detail } => {
            wire::put_bytes(out, detail.as_bytes());
        }
        Reason::TooStale { age_ms, staleness_ms_max } => {
            wire::put_varint(out, *age_ms);
            wire::put_varint(out, *staleness_ms_max);
        }
        Reason::TooLarge { bytes, bytes_max } | Reason::ReplyTooLarge { bytes, bytes_max } => {
            wire::put_varint(out, *bytes);
            wire::put_varint(out, *bytes_max);
        }
        Reason::CrossShard { shards } => wire::put_varint(out, *shards),
        Reason::NotReady
        | Reason::Stopping
        | Reason::DeadlineBeforePropose
        | Reason::DeadlineAfterPropose
        | Reason::SessionExpired
        | Reason::NotInteger
        | Reason::Overflow
        | Reason::NotFloat
        | Reason::NotFinite
        | Reason::WrongKind
        | Reason::OutdatedToken => {}
    }
}

fn get_reason(input: &mut Bytes) -> Result<Reason, Error> {
    const WHAT: &str = "forward.reason";
    let tag = wire::get_u8(input, WHAT)?;
    let mut number = || wire::get_varint(input, WHAT);
    Ok(match tag {
        1 => {
            let (field, problem) = (get_text(input)?, get_text(input)?);
            match known(&field) {
                Some(field) => Reason::InvalidArgument { field, problem },
                None => Reason::InvalidArgument {
                    field: FIELD_GENERIC,
                    problem: format!("{field}: {problem}"),
                },
            }
        }
        2 => {
            let group = get_group(input)?;
            let leader = wire::get_varint(input, WHAT)?;
            Reason::NotLeader { group, leader: (leader != 0).then_some(NodeId(leader)) }
        }
        3 => Reason::NotOwner { epoch: RoutingEpoch(number()?) },
        4 => Reason::NoLeader { group: get_group(input)? },
        5 => Reason::NotReady,
        6 => {
            let what = known(&get_text(input)?).unwrap_or(LIMIT_GENERIC);
            Reason::ResourceExhausted { what, limit: wire::get_varint(input, WHAT)? }
        }
        7 => Reason::Stopping,
        8 => Reason::DeadlineBeforePropose,
        9 => Reason::DeadlineAfterPropose,
        10 => Reason::Lost { detail: get_text(input)? },
        11 => Reason::ReadFailed { detail: get_text(input)? },
        12 => Reason::TooStale { age_ms: number()?, staleness_ms_max: number()? },
        13 => Reason::SessionExpired,
        14 => Reason::TooLarge { bytes: number()?, bytes_max: number()? },
        15 => Reason::Internal { detail: get_text(input)? },
        16 => Reason::StorageFailed { detail: get_text(input)? },
        17 => Reason::NotInteger,
        18 => Reason::Overflow,
        19 => Reason::NotFloat,
        20 => Reason::NotFinite,
        21 => Reason::ReplyTooLarge { bytes: number()?, bytes_max: number()? },
        22 => Reason::CrossShard { shards: number()? },
        23 => Reason::WrongKind,
        24 => Reason::OutdatedToken,
        25 => {
            let group = get_group(input)?;
            Reason::NoQuorum { group, silent_ms: wire::get_varint(input, WHAT)? }
        }
        tag => return Err(Error::Tag { what: WHAT, tag: tag.into() }),
    })
}

fn known(name: &str) -> Option<&'static str> {
    NAMES.iter().copied().find(|known| *known == name)
}

fn get_group(input: &mut Bytes) -> Result<GroupId, Error> {
    const WHAT: &str = "forward.group";
    let group = wire::get_varint(input, WHAT)?;
    Ok(GroupId(u32::try_from(group).map_err(|_| Error::Malformed { what: WHAT })?))
}

fn get_text(input: &mut Bytes) -> Result<String, Error> {
    const WHAT: &str = "forward.text";
    let bytes = wire::get_bytes(input, WHAT)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::Malformed { what: WHAT })
}
