//! Messages of `cache.proto` <-> the one request type. Input is checked on the way.

use std::time::Duration;

use super::validate::{self, invalid};
use super::{FrontLimits, pb};
use crate::service::{Operation, Response};
use crate::types::{
    Answer, Command, Condition, Consistency, Delete, Error, Expiry, Found, Freshness, Named, Query,
    Reason, Reply, Sent, Set, Value, ValueKind, Version,
};

/// An operation and the identity under which it may be retried.
pub type Checked = (Operation, Option<Named>);

/// The key of a message, checked.
macro_rules! key_of {
    ($limits:expr, $message:ident, $form:expr) => {{
        use $crate::front::pb::$message::KeyForm;
        let key = match $form {
            Some(KeyForm::Key(text)) => bytes::Bytes::from(text),
            Some(KeyForm::KeyBytes(bytes)) => bytes,
            None => bytes::Bytes::new(),
        };
        $crate::front::validate::key($limits, key)?
    }};
}

/// The value of a message, checked.
macro_rules! value_of {
    ($limits:expr, $message:ident, $form:expr) => {{
        use $crate::front::pb::$message::ValueForm;
        use $crate::types::{Value, ValueKind};
        let (data, kind) = match $form {
            Some(ValueForm::Value(text)) => (bytes::Bytes::from(text), ValueKind::Text),
            Some(ValueForm::ValueBytes(bytes)) => (bytes, ValueKind::Bytes),
            None => {
                let problem = "neither value nor value_bytes is given";
                return Err($crate::front::validate::invalid("value", problem));
            }
        };
        Value { data: $crate::front::validate::value($limits, data)?, kind }
    }};
}

pub(super) use {key_of, value_of};

/// Checks a set.
pub fn set(limits: &FrontLimits, request: pb::SetRequest) -> Result<Checked, Error> {
    let key = key_of!(limits, set_request, request.key_form);
    let value = value_of!(limits, set_request, request.value_form);
    let expiry = expiry(limits, request.expiry)?;
    let condition = condition(request.condition)?;
    let set = Set { key, value, expiry, condition };
    let command = if request.return_old { Command::GetSet(set) } else { Command::Set(set) };
    Ok((Operation::Write(command), request_id(request.request_id)?))
}

/// Checks a delete. `if_absent` is refused: it could never delete anything.
pub fn delete(limits: &FrontLimits, request: pb::DeleteRequest) -> Result<Checked, Error> {
    let key = key_of!(limits, delete_request, request.key_form);
    let condition = condition(request.condition)?;
    if condition == Condition::IfAbsent {
        return Err(invalid("condition.if_absent", "is not allowed for Delete"));
    }
    let delete = Delete { key, condition };
    let command =
        if request.return_old { Command::GetDelete(delete) } else { Command::Delete(delete) };
    Ok((Operation::Write(command), request_id(request.request_id)?))
}

/// Checks a get.
pub fn get(limits: &FrontLimits, request: pb::GetRequest) -> Result<Checked, Error> {
    let key = key_of!(limits, get_request, request.key_form);
    let consistency = consistency(request.consistency, request.max_staleness)?;
    Ok((Operation::Read { query: Query::Get { key }, consistency }, None))
}

/// A length of time that is not negative.
pub fn duration(field: &'static str, ttl: pb::Ttl) -> Result<Duration, Error> {
    validate::duration(field, ttl.seconds, ttl.nanos)
}

fn expiry(limits: &FrontLimits, expiry: Option<pb::set_request::Expiry>) -> Result<Expiry, Error> {
    use pb::set_request::Expiry as Wire;
    Ok(match expiry {
        None | Some(Wire::KeepTtl(false)) => Expiry::Never,
        Some(Wire::KeepTtl(true)) => Expiry::Keep,
        Some(Wire::Ttl(ttl)) => Expiry::AfterMs(validate::ttl_ms(limits, duration("ttl", ttl)?)?),
        Some(Wire::ExpireAtMs(at_ms)) => Expiry::AtMs(validate::expire_at_ms(at_ms)?),
    })
}

pub(super) fn condition(condition: Option<pb::Condition>) -> Result<Condition, Error> {
    use pb::condition::Kind;
    let Some(condition) = condition else { return Ok(Condition::Always) };
    match condition.kind {
        Some(Kind::IfAbsent(true)) => Ok(Condition::IfAbsent),
        Some(Kind::IfPresent(true)) => Ok(Condition::IfPresent),
        Some(Kind::IfAbsent(false)) => Err(invalid("condition.if_absent", "must be true")),
        Some(Kind::IfPresent(false)) => Err(invalid("condition.if_present", "must be true")),
        Some(Kind::IfVersion(0)) => {
            Err(invalid("condition.if_version", "is 0; versions start at 1"))
        }
        Some(Kind::IfVersion(version)) => Ok(Condition::IfVersion(Version(version))),
        None => Err(invalid(
            "condition",
            "is empty or of an unknown kind; one of if_absent, if_present, if_version is allowed",
        )),
    }
}

pub(super) fn consistency(
    number: i32,
    max_staleness: Option<pb::Ttl>,
) -> Result<Consistency, Error> {
    let wanted = pb::Consistency::try_from(number)
        .map_err(|_| invalid("consistency", format!("{number} is unknown; 0 to 3 are allowed")))?;
    let staleness = max_staleness.map(|ttl| duration("max_staleness", ttl)).transpose()?;
    match (wanted, staleness) {
        (pb::Consistency::Bounded, Some(time)) => {
            Ok(Consistency::Bounded { staleness_ms_max: validate::millis_up(time) })
        }
        (pb::Consistency::Bounded, None) => {
            Err(invalid("max_staleness", "is required for BOUNDED"))
        }
        (_, Some(_)) => Err(invalid("max_staleness", "is only allowed with BOUNDED")),
        (pb::Consistency::Linearizable, None) => Ok(Consistency::Linearizable),
        (pb::Consistency::Lease, None) => Ok(Consistency::Lease),
        (pb::Consistency::Stale, None) => Ok(Consistency::Stale),
    }
}

pub(super) fn request_id(id: Option<pb::RequestId>) -> Result<Option<Named>, Error> {
    use pb::request_id::Sent as Said;
    let Some(said) = id else { return Ok(None) };
    let sent = match said.sent {
        None => Sent::Unsaid,
        Some(Said::First(true)) => Sent::First,
        Some(Said::First(false)) => return Err(invalid("request_id.first", "must be true")),
        Some(Said::SentBeforeMs(ms)) => Sent::Before { ms },
    };
    let id = validate::request_id(&said.session, said.sequence)?;
    Ok(Some(Named { id, sent }))
}

/// Milliseconds as a message.
pub fn ttl_of_ms(ms: u64) -> pb::Ttl {
    let nanos = i32::try_from(ms % 1_000 * 1_000_000).expect("less than 1e9");
    pb::Ttl { seconds: i64::try_from(ms / 1_000).expect("u64::MAX / 1000 fits"), nanos }
}

pub(super) fn version(version: Option<Version>) -> u64 {
    version.map_or(0, |v| v.0)
}

/// An answer that does not belong to its question: a fault of this node.
pub(super) fn mismatch(response: &Response) -> Error {
    Reason::Internal { detail: format!("answer of another operation: {response:?}") }.into()
}

/// Answer to a set.
pub fn set_response(response: Response) -> Result<pb::SetResponse, Error> {
    match response {
        Response::Written(Reply::Set { version }) => {
            Ok(pb::SetResponse { applied: true, version: version.0, old: None })
        }
        Response::Written(Reply::Swapped { version, old }) => {
            let old = old.map(|old| entry(*old));
            Ok(pb::SetResponse { applied: true, version: version.0, old })
        }
        Response::Written(Reply::NotSwapped { current }) => Ok(pb::SetResponse {
            applied: false,
            version: version(current.as_ref().map(|found| found.version)),
            old: current.map(|found| entry(*found)),
        }),
        Response::Written(Reply::ConditionFailed { current }) => {
            Ok(pb::SetResponse { applied: false, version: version(current), old: None })
        }
        other => Err(mismatch(&other)),
    }
}

/// Answer to a delete.
pub fn delete_response(response: Response) -> Result<pb::DeleteResponse, Error> {
    match response {
        Response::Written(Reply::Deleted { version }) => {
            Ok(pb::DeleteResponse { found: true, applied: true, version: version.0, old: None })
        }
        Response::Written(Reply::Taken(found)) => Ok(pb::DeleteResponse {
            found: true,
            applied: true,
            version: found.version.0,
            old: Some(entry(*found)),
        }),
        Response::Written(Reply::NotSwapped { current }) => Ok(pb::DeleteResponse {
            found: current.is_some(),
            applied: false,
            version: version(current.as_ref().map(|found| found.version)),
            old: current.map(|found| entry(*found)),
        }),
        Response::Written(Reply::NotFound) => Ok(pb::DeleteResponse::default()),
        Response::Written(Reply::ConditionFailed { current }) => Ok(pb::DeleteResponse {
            found: current.is_some(),
            applied: false,
            version: version(current),
            old: None,
        }),
        other => Err(mismatch(&other)),
    }
}

/// Answer to a get.
pub fn get_response(response: Response) -> Result<pb::GetResponse, Error> {
    let Response::Read { answer: Answer::Value(found), freshness } = response else {
        return Err(mismatch(&response));
    };
    let freshness = Some(freshness_message(freshness));
    let Some(Found { value, version, ttl_ms }) = found else {
        return Ok(pb::GetResponse { freshness, ..pb::GetResponse::default() });
    };
    Ok(pb::GetResponse {
        found: true,
        value_form: Some(value_form(value)),
        version: version.0,
        ttl: ttl_ms.map(ttl_of_ms),
        freshness,
    })
}

pub(super) fn freshness_message(freshness: Freshness) -> pb::Freshness {
    let Freshness { term, index, age_ms, version } = freshness;
    let age = (age_ms > 0).then(|| ttl_of_ms(age_ms));
    pb::Freshness { term, index, age, state_version: version.0 }
}

/// A value and what belongs to it.
pub(super) fn entry(found: Found) -> pb::Entry {
    use pb::entry::ValueForm as Wire;
    use pb::get_response::ValueForm;
    let Found { value, version, ttl_ms } = found;
    let value_form = match value_form(value) {
        ValueForm::Value(text) => Wire::Value(text),
        ValueForm::ValueBytes(bytes) => Wire::ValueBytes(bytes),
    };
    pb::Entry { value_form: Some(value_form), version: version.0, ttl: ttl_ms.map(ttl_of_ms) }
}

fn value_form(value: Value) -> pb::get_response::ValueForm {
    use pb::get_response::ValueForm;
    match value.kind {
        ValueKind::Bytes => ValueForm::ValueBytes(value.data),
        // The door that took it checked that it is UTF-8; bytes are the honest answer if not.
        ValueKind::Text => match String::from_utf8(Vec::from(value.data)) {
            Ok(text) => ValueForm::Value(text),
            Err(error) => ValueForm::ValueBytes(error.into_bytes().into()),
        },
    }
}
