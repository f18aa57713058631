//! How answers are shown.

use crate::codec::resp::value::RespValue;
use crate::front::resp::fault::{fault, partly};
use crate::service::Response;
use crate::types::{Answer, Error, Found, Meta, Outcome, Reason, Reply};

/// Shows an answer, or the failure in its place. `show` gives `None` for an answer that does not belong
/// to the question: a fault of this node.
pub fn answer(
    result: Result<Response, Error>,
    show: impl FnOnce(&Response) -> Option<RespValue>,
) -> RespValue {
    match result {
        Ok(response) => show(&response).unwrap_or_else(|| fault(&mismatch(&response))),
        Err(error) => fault(&error),
    }
}

/// An answer that does not belong to its question.
fn mismatch(response: &Response) -> Error {
    Reason::Internal { detail: format!("answer of another operation: {response:?}") }.into()
}

/// The value found, or nothing.
pub fn value(result: Result<Response, Error>) -> RespValue {
    answer(result, |response| match response {
        Response::Read { answer: Answer::Value(found), .. } => Some(bulk(found.as_ref())),
        _ => None,
    })
}

/// The bytes found, or nothing.
pub fn bulk(found: Option<&Found>) -> RespValue {
    found.map_or(RespValue::Null, |found| RespValue::Bulk(found.value.data.clone()))
}

/// A number made of what is known of the key.
pub fn meta(
    result: Result<Response, Error>,
    show: impl FnOnce(Option<&Meta>) -> RespValue,
) -> RespValue {
    answer(result, |response| match response {
        Response::Read { answer: Answer::Meta(meta), .. } => Some(show(meta.as_ref())),
        _ => None,
    })
}

/// `OK` of a write that has no condition.
pub fn ok(result: Result<Response, Error>) -> RespValue {
    answer(result, |response| match response {
        Response::Written(Reply::Set { .. } | Reply::Done) => Some(RespValue::OK),
        _ => None,
    })
}

/// 1 if the write took effect, 0 if there was no such key or its condition did not hold.
pub fn took_effect(result: Result<Response, Error>) -> RespValue {
    match effect(result) {
        Ok(took) => RespValue::Integer(i64::from(took)),
        Err(error) => fault(&error),
    }
}

/// Bytes of the value after a write; none if there was nothing to write and no key.
pub fn length(result: Result<Response, Error>) -> RespValue {
    answer(result, |response| match response {
        Response::Written(Reply::Length { value_bytes, .. }) => Some(integer(*value_bytes)),
        Response::Written(Reply::NotFound) => Some(RespValue::Integer(0)),
        _ => None,
    })
}

/// A count as the protocol has it.
pub fn integer(count: u64) -> RespValue {
    RespValue::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

/// Whether a write took effect, or a read found its key.
///
/// # Errors
/// That of the operation; `Internal` for an answer of another one.
pub fn effect(result: Result<Response, Error>) -> Result<bool, Error> {
    match result? {
        Response::Written(Reply::Set { .. } | Reply::Deleted { .. } | Reply::Expires { .. }) => {
            Ok(true)
        }
        Response::Written(Reply::NotFound | Reply::ConditionFailed { .. }) => Ok(false),
        Response::Read { answer: Answer::Meta(meta), .. } => Ok(meta.is_some()),
        other => Err(mismatch(&other)),
    }
}

/// How many of `steps` writes took effect. If one failed, what happened to the others is not known to
/// the caller, and the error says so.
pub fn count(
    results: &mut dyn Iterator<Item = Result<Response, Error>>,
    steps: usize,
) -> RespValue {
    match tally(results, steps) {
        Ok(took) => integer(took as u64),
        Err(error) => error,
    }
}

/// How many of `steps` writes took effect.
///
/// # Errors
/// The first failure, as an error reply.
pub fn tally(
    results: &mut dyn Iterator<Item = Result<Response, Error>>,
    steps: usize,
) -> Result<usize, RespValue> {
    let (mut took, mut first) = (0, None);
    for result in results.take(steps) {
        match effect(result) {
            Ok(effect) => took += usize::from(effect),
            Err(error) => first = Some(graver(first, error)),
        }
    }
    first.map_or(Ok(took), |error| Err(partly(&error, took)))
}

/// The error that speaks for several: one of an unknown outcome before any other (INV-5).
fn graver(first: Option<Error>, error: Error) -> Error {
    match first {
        Some(first) if first.outcome() == Outcome::Unknown => first,
        Some(first) if error.outcome() == Outcome::Rejected => first,
        Some(_) | None => error,
    }
}

/// How many of `steps` reads found their key.
pub fn found(
    results: &mut dyn Iterator<Item = Result<Response, Error>>,
    steps: usize,
) -> RespValue {
    let (mut found, mut first) = (0, None);
    for result in results.take(steps) {
        match effect(result) {
            Ok(is_there) => found += u64::from(is_there),
            Err(error) => first = Some(graver(first, error)),
        }
    }
    first.map_or_else(|| integer(found), |error| fault(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_applied_is_told_whichever_shard_fails_first() {
        let rejected = || Err(Error::from(Reason::Stopping));
        let unknown = || Err(Error::from(Reason::DeadlineAfterPropose));
        for results in [[rejected(), unknown()], [unknown(), rejected()]] {
            let told = count(&mut results.into_iter(), 2);
            assert!(
                matches!(&told, RespValue::Error(text) if text.starts_with("UNKNOWN")),
                "{told:?}"
            );
        }
        let told = count(&mut [rejected(), rejected()].into_iter(), 2);
        assert!(
            matches!(&told, RespValue::Error(text) if !text.starts_with("UNKNOWN")),
            "{told:?}"
        );
    }
}
