//! Frames of forwarded operations: what one node asks of the node that leads a group.
//!
//! Tags and field order are append only; a golden-bytes test guards them. All numbers are LEB128
//! unless said otherwise. Input comes from a peer, so decoding returns errors and never panics.

use bytes::{BufMut, Bytes, BytesMut};

use super::fields::get_key;
use super::forward_error::{get_error, put_error};
use super::lease_record::{get_lease, get_leased, lease_bytes, put_lease, put_leased};
use super::log_record;
pub use super::query_record::query_bytes;
use super::query_record::{get_query, put_query};
use crate::core::reply_record::{
    get_answer, get_found, get_reply, put_answer, put_found, put_reply,
};
use crate::types::limits::BATCH_WRITES_MAX;
use crate::types::wire::{self, Error};
use crate::types::{
    Answer, Consistency, Error as Failure, Freshness, GetOrLease, Leased, Query, Reply,
    RoutingEpoch, Version, Write,
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

/// What a frame asks for: writes or reads or one that may wait, never several, because a failure is of the whole frame and
/// the two have different outcomes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operations {
    /// Writes, in order.
    Writes(Vec<Write>),
    /// Reads of one consistency.
    Reads {
        /// How fresh.
        consistency: Consistency,
        /// What to read.
        queries: Vec<Query>,
    },
    /// One key to read or to fill. May be answered late, so it shares its frame with no other.
    Lease(GetOrLease),
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
    /// One reply for each of the first writes, in order. Fewer than were asked when the values in
    /// them would not fit one frame; at least one. The rest was not done, or was done and its
    /// replies are remembered: it is sent again as it is.
    Writes(Vec<Reply>),
    /// One answer for each of the first queries. Fewer than were asked when the values would not
    /// fit one frame; at least one. The rest was not read.
    Reads {
        /// What was found.
        answers: Vec<Answer>,
        /// What state it shows.
        freshness: Freshness,
    },
    /// Of the one key.
    Leased(Box<Leased>),
    /// The group, or the node, failed all of them.
    Failed(Failure),
}

impl Operations {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Operations::Writes(writes) => writes.len(),
            Operations::Reads { queries, .. } => queries.len(),
            Operations::Lease(_) => 1,
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
                // The first tag is older than other reads than `Get`, and shorter.
                let values = queries.iter().all(|query| matches!(query, Query::Get { .. }));
                out.put_u8(if values { 2 } else { 3 });
                put_consistency(&mut out, *consistency);
                wire::put_varint(&mut out, queries.len() as u64);
                for query in queries {
                    match query {
                        Query::Get { key } if values => wire::put_bytes(&mut out, key),
                        other => put_query(&mut out, other),
                    }
                }
            }
            Operations::Lease(ask) => {
                out.put_u8(4);
                put_lease(&mut out, ask);
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
            tag @ (2 | 3) => {
                let consistency = get_consistency(input)?;
                let queries = get_list(input, "forward.queries", |input| match tag {
                    2 => Ok(Query::Get { key: get_key(input)? }),
                    _ => get_query(input),
                })?;
                Operations::Reads { consistency, queries }
            }
            4 => Operations::Lease(get_lease(input)?),
            tag => return Err(Error::Tag { what: "forward.operations", tag: tag.into() }),
        };
        let traces = get_traces(input)?;
        wire::finish(input, "forward.request")?;
        Ok(Request { epoch, batch, deadline_ms, operations, traces })
    }

    fn bytes_hint(&self) -> usize {
        let operations: usize = match &self.operations {
            Operations::Writes(writes) => writes.iter().map(log_record::write_bytes).sum(),
            Operations::Reads { queries, .. } => queries.iter().map(query_bytes).sum(),
            Operations::Lease(ask) => lease_bytes(ask),
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
            Results::Reads { answers, freshness } => {
                let values = answers.iter().all(|answer| matches!(answer, Answer::Value(_)));
                out.put_u8(if values { 2 } else { 4 });
                wire::put_varint(&mut out, freshness.term);
                wire::put_varint(&mut out, freshness.index);
                wire::put_varint(&mut out, freshness.age_ms);
                wire::put_varint(&mut out, freshness.version.0);
                wire::put_varint(&mut out, answers.len() as u64);
                for answer in answers {
                    match answer {
                        Answer::Value(found) if values => put_found(&mut out, found.as_ref()),
                        other => put_answer(&mut out, other),
                    }
                }
            }
            Results::Leased(leased) => {
                out.put_u8(5);
                put_leased(&mut out, leased);
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
            tag @ (2 | 4) => {
                let freshness = Freshness {
                    term: wire::get_varint(input, "forward.term")?,
                    index: wire::get_varint(input, "forward.index")?,
                    age_ms: wire::get_varint(input, "forward.age_ms")?,
                    version: Version(wire::get_varint(input, "forward.version")?),
                };
                let answers = get_list(input, "forward.found", |input| match tag {
                    2 => get_found(input).map(Answer::Value),
                    _ => get_answer(input),
                })?;
                Results::Reads { answers, freshness }
            }
            3 => Results::Failed(get_error(input)?),
            5 => Results::Leased(Box::new(get_leased(input)?)),
            tag => return Err(Error::Tag { what: "forward.results", tag: tag.into() }),
        };
        wire::finish(input, "forward.response")?;
        Ok(Response { epoch, results })
    }
}

/// Bytes one answer takes in a frame, at most.
pub fn answer_bytes(answer: &Answer) -> usize {
    let keys = match answer {
        Answer::Keys(keys) => keys.keys.len(),
        Answer::Value(_) | Answer::Meta(_) | Answer::Size(_) | Answer::WrongKind => 0,
    };
    answer.payload_bytes() + 5 * keys + 64
}

/// Bytes one reply takes in a frame, at most.
pub fn reply_bytes(reply: &Reply) -> usize {
    let steps = match reply {
        Reply::Transaction(replies) => replies.len(),
        _ => 0,
    };
    // Versions, tags and lengths of each.
    reply.payload_bytes() + 64 * (steps + 1)
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

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
