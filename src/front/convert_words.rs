//! Messages of single keys beyond get, set and delete <-> the one request type.

use super::convert::{
    Checked, consistency, duration, entry, freshness_message, key_of, mismatch, request_id,
    ttl_of_ms, value_of,
};
use super::validate::{self, invalid};
use super::{FrontLimits, pb};
use crate::service::{Operation, Response};
use crate::types::{
    Answer, Append, Command, Error, Expire, ExpireCondition, Expiry, Increment, IncrementFloat,
    Query, Reply, SetRange, ValueKind,
};

/// Checks an inspection.
pub fn inspect(limits: &FrontLimits, request: pb::InspectRequest) -> Result<Checked, Error> {
    let key = key_of!(limits, inspect_request, request.key_form);
    let consistency = consistency(request.consistency, request.max_staleness)?;
    Ok((Operation::Read { query: Query::Inspect { key }, consistency }, None))
}

/// Checks a read of a part.
pub fn get_range(limits: &FrontLimits, request: pb::GetRangeRequest) -> Result<Checked, Error> {
    let key = key_of!(limits, get_range_request, request.key_form);
    let consistency = consistency(request.consistency, request.max_staleness)?;
    let query = Query::GetRange { key, start: request.start, end: request.end };
    Ok((Operation::Read { query, consistency }, None))
}

/// Checks a change of a deadline.
pub fn expire(limits: &FrontLimits, request: pb::ExpireRequest) -> Result<Checked, Error> {
    use pb::expire_request::{Expiry as Wire, When};
    let key = key_of!(limits, expire_request, request.key_form);
    let expiry = match request.expiry {
        Some(Wire::Ttl(ttl)) => match duration("ttl", ttl)? {
            none if none.is_zero() => Expiry::AfterMs(0),
            ttl => Expiry::AfterMs(validate::ttl_ms(limits, ttl)?),
        },
        Some(Wire::ExpireAtMs(at_ms)) => Expiry::AtMs(validate::expire_at_ms(at_ms)?),
        Some(Wire::Persist(true)) => Expiry::Never,
        Some(Wire::Touch(true)) => Expiry::Keep,
        Some(Wire::Persist(false)) => return Err(invalid("persist", "must be true")),
        Some(Wire::Touch(false)) => return Err(invalid("touch", "must be true")),
        None => {
            let problem = "is missing; one of ttl, expire_at_ms, persist, touch is allowed";
            return Err(invalid("expiry", problem));
        }
    };
    let condition = match When::try_from(request.when) {
        Ok(When::Always) => ExpireCondition::Always,
        Ok(When::IfNone) => ExpireCondition::IfNone,
        Ok(When::IfSome) => ExpireCondition::IfSome,
        Ok(When::IfLater) => ExpireCondition::IfLater,
        Ok(When::IfEarlier) => ExpireCondition::IfEarlier,
        Ok(When::IfSomeAndEarlier) => ExpireCondition::IfSomeAndEarlier,
        Err(_) => {
            return Err(invalid(
                "when",
                format!("{} is unknown; 0 to 5 are allowed", request.when),
            ));
        }
    };
    let expire = Expire { key, expiry, condition };
    let command =
        if request.return_value { Command::GetExpire(expire) } else { Command::Expire(expire) };
    Ok((Operation::Write(command), request_id(request.request_id)?))
}

/// Checks an addition to a whole number.
pub fn increment(limits: &FrontLimits, request: pb::IncrementRequest) -> Result<Checked, Error> {
    let key = key_of!(limits, increment_request, request.key_form);
    let increment = Increment { key, delta: request.delta };
    Ok((Operation::Write(Command::Increment(increment)), request_id(request.request_id)?))
}

/// Checks an addition to a decimal number; whether it is one is seen when it is applied.
pub fn increment_float(
    limits: &FrontLimits,
    request: pb::IncrementFloatRequest,
) -> Result<Checked, Error> {
    let key = key_of!(limits, increment_float_request, request.key_form);
    let increment = IncrementFloat { key, delta: request.delta.into() };
    Ok((Operation::Write(Command::IncrementFloat(increment)), request_id(request.request_id)?))
}

/// Checks an append.
pub fn append(limits: &FrontLimits, request: pb::AppendRequest) -> Result<Checked, Error> {
    let key = key_of!(limits, append_request, request.key_form);
    let value = value_of!(limits, append_request, request.value_form);
    let append = Append { key, value };
    Ok((Operation::Write(Command::Append(append)), request_id(request.request_id)?))
}

/// Checks a write of a part.
pub fn set_range(limits: &FrontLimits, request: pb::SetRangeRequest) -> Result<Checked, Error> {
    let key = key_of!(limits, set_range_request, request.key_form);
    let value = value_of!(limits, set_range_request, request.value_form);
    let range = SetRange { key, offset: request.offset, value };
    Ok((Operation::Write(Command::SetRange(range)), request_id(request.request_id)?))
}

/// Answer to an inspection.
pub fn inspect_response(response: Response) -> Result<pb::InspectResponse, Error> {
    let Response::Read { answer: Answer::Meta(meta), freshness } = response else {
        return Err(mismatch(&response));
    };
    let freshness = Some(freshness_message(freshness));
    let Some(meta) = meta else {
        return Ok(pb::InspectResponse { freshness, ..pb::InspectResponse::default() });
    };
    Ok(pb::InspectResponse {
        found: true,
        version: meta.version.0,
        value_length: meta.value_bytes,
        text: meta.kind == ValueKind::Text,
        ttl: meta.ttl_ms.map(ttl_of_ms),
        expire_at_ms: meta.deadline_ms.unwrap_or(0),
        freshness,
    })
}

/// Answer to a change of a deadline.
pub fn expire_response(response: Response) -> Result<pb::ExpireResponse, Error> {
    let none = pb::ExpireResponse::default();
    Ok(match response {
        Response::Written(Reply::NotFound) => none,
        Response::Written(Reply::ConditionFailed { current }) => pb::ExpireResponse {
            found: current.is_some(),
            version: current.map_or(0, |version| version.0),
            ..none
        },
        Response::Written(Reply::Expires { version, deadline_ms }) => pb::ExpireResponse {
            found: true,
            applied: true,
            version: version.0,
            expire_at_ms: deadline_ms.unwrap_or(0),
            ..none
        },
        Response::Written(Reply::Deleted { version }) => pb::ExpireResponse {
            found: true,
            applied: true,
            deleted: true,
            version: version.0,
            ..none
        },
        Response::Written(Reply::Got(found)) => pb::ExpireResponse {
            found: true,
            applied: true,
            version: found.version.0,
            value: Some(entry(*found)),
            ..none
        },
        Response::Written(Reply::Taken(found)) => pb::ExpireResponse {
            found: true,
            applied: true,
            deleted: true,
            version: found.version.0,
            value: Some(entry(*found)),
            ..none
        },
        other => return Err(mismatch(&other)),
    })
}

/// Answer to an addition to a whole number.
pub fn increment_response(response: Response) -> Result<pb::IncrementResponse, Error> {
    match response {
        Response::Written(Reply::Integer { version, value }) => {
            Ok(pb::IncrementResponse { value, version: version.0 })
        }
        other => Err(mismatch(&other)),
    }
}

/// Answer to an addition to a decimal number.
pub fn increment_float_response(response: Response) -> Result<pb::IncrementFloatResponse, Error> {
    match response {
        Response::Written(Reply::Float { version, text }) => {
            Ok(pb::IncrementFloatResponse { value: text.into(), version: version.0 })
        }
        other => Err(mismatch(&other)),
    }
}

/// Answer to an append and to a write of a part.
pub fn length_response(response: Response) -> Result<pb::LengthResponse, Error> {
    match response {
        Response::Written(Reply::Length { version, value_bytes }) => {
            Ok(pb::LengthResponse { length: value_bytes, version: version.0 })
        }
        Response::Written(Reply::NotFound) => Ok(pb::LengthResponse::default()),
        other => Err(mismatch(&other)),
    }
}
