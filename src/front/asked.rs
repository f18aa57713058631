//! What a pipeline or a batch may ask for, one operation each: which kind it is, how it is checked, how
//! it is answered.

use super::convert::{self, Checked};
use super::convert_locks as locks;
use super::convert_words as words;
use super::door::Kind;
use super::{FrontLimits, pb};
use crate::service::Response;
use crate::types::Error;

pub use pb::pipeline_request::Operation as Asked;
pub use pb::pipeline_response::Result as Answered;

/// How an operation is answered.
pub type Answering = fn(Response) -> Result<Answered, Error>;

/// Its kind, what it is in the one request type, and how it is answered.
pub fn read(limits: &FrontLimits, asked: Asked) -> (Kind, Result<Checked, Error>, Answering) {
    match asked {
        Asked::Get(message) => (Kind::Get, convert::get(limits, message), |response| {
            convert::get_response(response).map(Answered::Get)
        }),
        Asked::Set(message) => {
            let kind = if message.return_old { Kind::GetSet } else { Kind::Set };
            (kind, convert::set(limits, message), |response| {
                convert::set_response(response).map(Answered::Set)
            })
        }
        Asked::Delete(message) => {
            let kind = if message.return_old { Kind::GetDelete } else { Kind::Delete };
            (kind, convert::delete(limits, message), |response| {
                convert::delete_response(response).map(Answered::Delete)
            })
        }
        Asked::Inspect(message) => (Kind::Inspect, words::inspect(limits, message), |response| {
            words::inspect_response(response).map(Answered::Inspect)
        }),
        Asked::GetRange(message) => {
            (Kind::GetRange, words::get_range(limits, message), |response| {
                convert::get_response(response).map(Answered::Get)
            })
        }
        Asked::Expire(message) => {
            let kind = if message.return_value { Kind::GetExpire } else { Kind::Expire };
            (kind, words::expire(limits, message), |response| {
                words::expire_response(response).map(Answered::Expire)
            })
        }
        Asked::Increment(message) => {
            (Kind::Increment, words::increment(limits, message), |response| {
                words::increment_response(response).map(Answered::Increment)
            })
        }
        Asked::IncrementFloat(message) => {
            (Kind::IncrementFloat, words::increment_float(limits, message), |response| {
                words::increment_float_response(response).map(Answered::IncrementFloat)
            })
        }
        other => read_rest(limits, other),
    }
}

fn read_rest(limits: &FrontLimits, asked: Asked) -> (Kind, Result<Checked, Error>, Answering) {
    let length: Answering = |response| words::length_response(response).map(Answered::Length);
    let lock: Answering = |response| locks::lock_response(response).map(Answered::Lock);
    match asked {
        Asked::Append(message) => (Kind::Append, words::append(limits, message), length),
        Asked::SetRange(message) => (Kind::SetRange, words::set_range(limits, message), length),
        Asked::Lock(message) => (Kind::Lock, locks::lock(limits, message), lock),
        Asked::Renew(message) => (Kind::Renew, locks::renew(limits, message), lock),
        Asked::Unlock(message) => (Kind::Unlock, locks::unlock(limits, message), |response| {
            locks::unlock_response(response).map(Answered::Unlock)
        }),
        Asked::GetOrLease(message) => {
            (Kind::GetOrLease, locks::get_or_lease(limits, message), |response| {
                locks::lease_response(response).map(Answered::GetOrLease)
            })
        }
        Asked::Fill(message) => (Kind::Fill, locks::fill(limits, message), |response| {
            convert::set_response(response).map(Answered::Set)
        }),
        Asked::Get(_)
        | Asked::Set(_)
        | Asked::Delete(_)
        | Asked::Inspect(_)
        | Asked::GetRange(_)
        | Asked::Expire(_)
        | Asked::Increment(_)
        | Asked::IncrementFloat(_) => unreachable!("`read` knows them"),
    }
}

macro_rules! same {
    ($from:expr, $asked:ident => $to:ident: $($variant:ident),+) => {
        match $from {
            $($asked::$variant(message) => Some($to::$variant(message)),)+
            #[allow(unreachable_patterns, reason = "one side may have no others")]
            _ => None,
        }
    };
}

/// An operation of a batch as one of a pipeline.
pub fn of_batch(operation: pb::batch_operation::Operation) -> Option<Asked> {
    use pb::batch_operation::Operation as Wire;
    same!(
        operation, Wire => Asked: Get, Set, Delete, Expire, Increment, IncrementFloat, Append,
        GetRange, SetRange, Inspect, Lock, Renew, Unlock
    )
}

/// The answer to one of a pipeline as one of a batch; `None` for what a batch cannot ask.
pub fn to_batch(answered: Answered) -> Option<pb::batch_result::Result> {
    use pb::batch_result::Result as Wire;
    same!(
        answered, Answered => Wire: Get, Set, Delete, Expire, Increment, IncrementFloat, Length,
        Inspect, Lock, Unlock, Failure
    )
}
