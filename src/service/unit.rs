//! What runs as one: one operation of one shard.

use super::api::Response;
use super::forward::Served;
use crate::core::keyspace::slot_of_position;
use crate::core::slot::slot_of;
use crate::types::clock::Instant;
use crate::types::{
    Answer, Command, Consistency, Error, GetOrLease, Named, Query, Reason, Reply, ShardId, Slot,
};

/// Whose operation it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    /// The caller's id. The parts of one request that go to different groups share it.
    pub(super) request_id: Option<Named>,
    /// Which part of its request it is: the position of its first operation. Groups remember each part
    /// by itself.
    pub(super) part: u16,
    pub(super) deadline: Instant,
    pub(super) trace: u128,
}

/// One operation of one shard.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) work: Work,
    pub(super) route: Route,
    pub(super) caller: Caller,
}

#[derive(Debug)]
pub(super) enum Work {
    Write(Command),
    Read(Query, Consistency),
    Lease(GetOrLease),
}

/// How its shard is found. The owner of a slot may change while the unit is under way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Route {
    Slot(Slot),
    Shard(ShardId),
}

impl Unit {
    /// A write of one key.
    pub(super) fn write(command: Command, caller: Caller) -> Result<Unit, Error> {
        let Some(key) = command.key() else { return Err(no_slot("command")) };
        let route = Route::Slot(slot_of(key));
        Ok(Unit { work: Work::Write(command), route, caller })
    }

    /// A read that may end in a fill.
    pub(super) fn lease(ask: GetOrLease, caller: Caller) -> Unit {
        let route = Route::Slot(slot_of(&ask.key));
        Unit { work: Work::Lease(ask), route, caller }
    }

    /// A read of one key, or of one slot.
    pub(super) fn read(
        query: Query,
        consistency: Consistency,
        caller: Caller,
    ) -> Result<Unit, Error> {
        let Some(slot) = slot_of_query(&query) else { return Err(no_slot("query")) };
        Ok(Unit { work: Work::Read(query, consistency), route: Route::Slot(slot), caller })
    }
}

fn no_slot(field: &'static str) -> Error {
    Reason::InvalidArgument { field, problem: "is not about one key or slot".to_owned() }.into()
}

/// The one slot a query is about.
pub(super) fn slot_of_query(query: &Query) -> Option<Slot> {
    match query {
        Query::Get { key } | Query::Inspect { key } | Query::GetRange { key, .. } => {
            Some(slot_of(key))
        }
        Query::Size { slot } => *slot,
        Query::Scan(scan) => {
            let (first, last) = (slot_of_position(scan.first), slot_of_position(scan.last));
            (first == last).then_some(first)
        }
    }
}

impl From<Served> for Response {
    fn from(served: Served) -> Self {
        match served {
            Served::Reply(reply) => Response::Written(reply),
            Served::Read(answer, freshness) => Response::Read { answer, freshness },
            Served::Leased(leased) => Response::Leased(leased),
        }
    }
}

/// A reply within a transaction as the result of its step.
pub(super) fn result_of(reply: Reply) -> Result<Response, Error> {
    match reply {
        Reply::Refused(refusal) => Err(super::run::refused(&refusal)),
        Reply::Read(answer) if matches!(*answer, Answer::WrongKind) => {
            Err(Reason::WrongKind.into())
        }
        Reply::Read(answer) => {
            Ok(Response::Read { answer: *answer, freshness: Default::default() })
        }
        reply => Ok(Response::Written(reply)),
    }
}
