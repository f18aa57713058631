//! Frames of forwarded operations: what one node asks of the node that leads a group.
//!
//! Tags and field order are append only; a golden-bytes test guards them. All numbers are LEB128
//! unless said otherwise. Input comes from a peer, so decoding returns errors and never panics.

use bytes::{BufMut, Bytes, BytesMut};

use super::forward_error::{get_error, put_error};
use super::log_record;
use crate::types::limits::BATCH_WRITES_MAX;
use crate::types::wire::{self, Error};
use crate::types::{
    Consistency, Error as Failure, Found, Freshness, Query, Refusal, Reply, RoutingEpoch, Value,
    ValueKind, Version, Write,
};

/// First byte of both frames; another layout gets another number.
const FORMAT: u8 = 1;
/// Tag of the trace ids, which follow the operations if there are any.
const TRACES: u8 = 1;
/// Fewest bytes one item of a list takes; bounds what a length prefix can make us reserve.
const ITEM_BYTES_MIN: usize = 1;

/// Operations of one group, as one unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Routing epoch of the asking node.
    pub epoch: RoutingEpoch,
    /// Number of the frame at the asking node, so that a batch can be followed across nodes.
    pub batch: u64,
    /// Milliseconds the asking node still waits. Relative: wall clocks of nodes differ.
    pub deadline_ms: u64,
    /// What to do.
    pub operations: Operations,
    /// Trace ids of those operations that are followed, in order; none while nobody follows any.
    pub traces: Vec<u128>,
}

/// What a frame asks for: writes or reads, never both, because a failure is of the whole frame and
/// the two have different outcomes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operations {
    /// Writes, in order.
    Writes(Vec<Write>),
    /// Reads of one consistency.
    Reads {
        /// How fresh.
        consistency: Consistency,
        /// Which keys.
        queries: Vec<Query>,
    },
}

/// Answer to a `Request`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// Routing epoch of the answering node.
    pub epoch: RoutingEpoch,
    /// What became of the operations.
    pub results: Results,
}

/// What became of a frame's operations.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Results {
    /// One reply for each write, in order.
    Writes(Vec<Reply>),
    /// One result for each of the first queries. Fewer than were asked when the values would not
    /// fit one frame; at least one. The rest was not read.
    Reads {
        /// What was found.
        found: Vec<Option<Found>>,
        /// What state it shows.
        freshness: Freshness,
    },
    /// The group, or the node, failed all of them.
    Failed(Failure),
}

impl Operations {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Operations::Writes(writes) => writes.len(),
            Operations::Reads { queries, .. } => queries.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Request {
    /// As bytes.
    ///
    /// # Panics
    /// If there are more than `BATCH_WRITES_MAX` writes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.bytes_hint());
        out.put_u8(FORMAT);
        wire::put_varint(&mut out, self.epoch.0);
        wire::put_varint(&mut out, self.batch);
        wire::put_varint(&mut out, self.deadline_ms);
        match &self.operations {
            Operations::Writes(writes) => {
                out.put_u8(1);
                wire::put_bytes(&mut out, &log_record::encode_writes(writes));
            }
            Operations::Reads { consistency, queries } => {
                out.put_u8(2);
                put_consistency(&mut out, *consistency);
                wire::put_varint(&mut out, queries.len() as u64);
                for query in queries {
                    wire::put_bytes(&mut out, &query.key);
                }
            }
        }
        if !self.traces.is_empty() {
            out.put_u8(TRACES);
            wire::put_varint(&mut out, self.traces.len() as u64);
            self.traces.iter().for_each(|id| out.put_u128_le(*id));
        }
        out.freeze()
    }

    /// From bytes; keys and values share the input's buffer.
    pub fn decode(mut input: Bytes) -> Result<Self, Error> {
        let input = &mut input;
        get_format(input)?;
        let epoch = RoutingEpoch(wire::get_varint(input, "forward.epoch")?);
        let batch = wire::get_varint(input, "forward.batch")?;
        let deadline_ms = wire::get_varint(input, "forward.deadline_ms")?;
        let operations = match wire::get_u8(input, "forward.operations")? {
            1 => Operations::Writes(log_record::decode_writes(wire::get_bytes(
                input,
                "forward.writes",
            )?)?),
            2 => {
                let consistency = get_consistency(input)?;
                let queries = get_list(input, "forward.queries", |input| {
                    Ok(Query { key: wire::get_bytes(input, "forward.key")? })
                })?;
                Operations::Reads { consistency, queries }
            }
            tag => return Err(Error::Tag { what: "forward.operations", tag: tag.into() }),
        };
        let traces = get_traces(input)?;
        wire::finish(input, "forward.request")?;
        Ok(Request { epoch, batch, deadline_ms, operations, traces })
    }

    fn bytes_hint(&self) -> usize {
        let operations: usize = match &self.operations {
            Operations::Writes(writes) => writes.iter().map(log_record::write_bytes).sum(),
            Operations::Reads { queries, .. } => queries.iter().map(|q| q.key.len() + 2).sum(),
        };
        32 + operations + 16 * self.traces.len()
    }
}

impl Response {
    /// As bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(FORMAT);
        wire::put_varint(&mut out, self.epoch.0);
        match &self.results {
            Results::Writes(replies) => {
                out.put_u8(1);
                wire::put_varint(&mut out, replies.len() as u64);
                for reply in replies {
                    put_reply(&mut out, reply);
                }
            }
            Results::Reads { found, freshness } => {
                out.put_u8(2);
                wire::put_varint(&mut out, freshness.term);
                wire::put_varint(&mut out, freshness.index);
                wire::put_varint(&mut out, freshness.age_ms);
                wire::put_varint(&mut out, found.len() as u64);
                for found in found {
                    put_found(&mut out, found.as_ref());
                }
            }
            Results::Failed(error) => {
                out.put_u8(3);
                put_error(&mut out, error);
            }
        }
        out.freeze()
    }

    /// From bytes; values share the input's buffer.
    pub fn decode(mut input: Bytes) -> Result<Self, Error> {
        let input = &mut input;
        get_format(input)?;
        let epoch = RoutingEpoch(wire::get_varint(input, "forward.epoch")?);
        let results = match wire::get_u8(input, "forward.results")? {
            1 => Results::Writes(get_list(input, "forward.replies", get_reply)?),
            2 => {
                let freshness = Freshness {
                    term: wire::get_varint(input, "forward.term")?,
                    index: wire::get_varint(input, "forward.index")?,
                    age_ms: wire::get_varint(input, "forward.age_ms")?,
                };
                Results::Reads { found: get_list(input, "forward.found", get_found)?, freshness }
            }
            3 => Results::Failed(get_error(input)?),
            tag => return Err(Error::Tag { what: "forward.results", tag: tag.into() }),
        };
        wire::finish(input, "forward.response")?;
        Ok(Response { epoch, results })
    }
}

/// Bytes one result of a read takes in a frame, at most.
pub fn found_bytes(found: Option<&Found>) -> usize {
    found.map_or(1, |found| found.value.data.len() + 32)
}

fn get_format(input: &mut Bytes) -> Result<(), Error> {
    match wire::get_u8(input, "forward.format")? {
        FORMAT => Ok(()),
        tag => Err(Error::Tag { what: "forward.format", tag: tag.into() }),
    }
}

fn get_list<T>(
    input: &mut Bytes,
    what: &'static str,
    mut item: impl FnMut(&mut Bytes) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let len =
        usize::try_from(wire::get_varint(input, what)?).map_err(|_| Error::Malformed { what })?;
    // A list longer than its bytes can hold is a lie: refuse it before reserving memory for it.
    if len > input.len() / ITEM_BYTES_MIN {
        return Err(Error::Short { what });
    }
    // A frame is one batch at most: more items than that cost memory before anyone admits them.
    if len > BATCH_WRITES_MAX {
        return Err(Error::Malformed { what });
    }
    (0..len).map(|_| item(input)).collect()
}

fn get_traces(input: &mut Bytes) -> Result<Vec<u128>, Error> {
    const WHAT: &str = "forward.traces";
    if input.is_empty() {
        return Ok(Vec::new());
    }
    match wire::get_u8(input, WHAT)? {
        TRACES => get_list(input, WHAT, |input| {
            let low = wire::get_u64(input, WHAT)?;
            Ok(u128::from(wire::get_u64(input, WHAT)?) << 64 | u128::from(low))
        }),
        tag => Err(Error::Tag { what: WHAT, tag: tag.into() }),
    }
}

fn put_consistency(out: &mut BytesMut, consistency: Consistency) {
    match consistency {
        Consistency::Linearizable => out.put_u8(1),
        Consistency::Lease => out.put_u8(2),
        Consistency::Bounded { staleness_ms_max } => {
            out.put_u8(3);
            wire::put_varint(out, staleness_ms_max);
        }
        Consistency::Stale => out.put_u8(4),
    }
}

fn get_consistency(input: &mut Bytes) -> Result<Consistency, Error> {
    const WHAT: &str = "forward.consistency";
    Ok(match wire::get_u8(input, WHAT)? {
        1 => Consistency::Linearizable,
        2 => Consistency::Lease,
        3 => Consistency::Bounded { staleness_ms_max: wire::get_varint(input, WHAT)? },
        4 => Consistency::Stale,
        tag => return Err(Error::Tag { what: WHAT, tag: tag.into() }),
    })
}

fn put_reply(out: &mut BytesMut, reply: &Reply) {
    match reply {
        Reply::Set { version } => {
            out.put_u8(1);
            wire::put_varint(out, version.0);
        }
        Reply::Deleted { version } => {
            out.put_u8(2);
            wire::put_varint(out, version.0);
        }
        Reply::NotFound => out.put_u8(3),
        Reply::ConditionFailed { current: None } => out.put_u8(4),
        Reply::ConditionFailed { current: Some(version) } => {
            out.put_u8(5);
            wire::put_varint(out, version.0);
        }
        Reply::Done => out.put_u8(6),
        Reply::Refused(Refusal::NotOwner { epoch }) => {
            out.put_u8(7);
            wire::put_varint(out, epoch.0);
        }
        Reply::Refused(Refusal::TooLarge { bytes, bytes_max }) => {
            out.put_u8(8);
            wire::put_varint(out, *bytes);
            wire::put_varint(out, *bytes_max);
        }
        Reply::Refused(Refusal::SessionExpired) => out.put_u8(9),
    }
}

fn get_reply(input: &mut Bytes) -> Result<Reply, Error> {
    const WHAT: &str = "forward.reply";
    let tag = wire::get_u8(input, WHAT)?;
    let mut number = || wire::get_varint(input, WHAT);
    Ok(match tag {
        1 => Reply::Set { version: Version(number()?) },
        2 => Reply::Deleted { version: Version(number()?) },
        3 => Reply::NotFound,
        4 => Reply::ConditionFailed { current: None },
        5 => Reply::ConditionFailed { current: Some(Version(number()?)) },
        6 => Reply::Done,
        7 => Reply::Refused(Refusal::NotOwner { epoch: RoutingEpoch(number()?) }),
        8 => Reply::Refused(Refusal::TooLarge { bytes: number()?, bytes_max: number()? }),
        9 => Reply::Refused(Refusal::SessionExpired),
        tag => return Err(Error::Tag { what: WHAT, tag: tag.into() }),
    })
}

fn put_found(out: &mut BytesMut, found: Option<&Found>) {
    let Some(found) = found else { return out.put_u8(0) };
    out.put_u8(match found.value.kind {
        ValueKind::Bytes => 1,
        ValueKind::Text => 2,
    });
    wire::put_varint(out, found.version.0);
    match found.ttl_ms {
        None => out.put_u8(0),
        Some(ttl_ms) => {
            out.put_u8(1);
            wire::put_varint(out, ttl_ms);
        }
    }
    wire::put_bytes(out, &found.value.data);
}

fn get_found(input: &mut Bytes) -> Result<Option<Found>, Error> {
    const WHAT: &str = "forward.found";
    let kind = match wire::get_u8(input, WHAT)? {
        0 => return Ok(None),
        1 => ValueKind::Bytes,
        2 => ValueKind::Text,
        tag => return Err(Error::Tag { what: WHAT, tag: tag.into() }),
    };
    let version = Version(wire::get_varint(input, WHAT)?);
    let ttl_ms = match wire::get_u8(input, "forward.ttl")? {
        0 => None,
        1 => Some(wire::get_varint(input, "forward.ttl")?),
        tag => return Err(Error::Tag { what: "forward.ttl", tag: tag.into() }),
    };
    let data = wire::get_bytes(input, "forward.value")?;
    Ok(Some(Found { value: Value { data, kind }, version, ttl_ms }))
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
