//! `GET`, `STRLEN`, `GETRANGE`, `SUBSTR`, `APPEND`, `SETRANGE`: a value or a part of it.

use bytes::Bytes;

use super::parse::{key, value, whole};
use super::{show, steps};
use crate::codec::resp::value::RespValue;
use crate::front::resp::plan::{Context, Plan};
use crate::front::resp::table;
use crate::service::Response;
use crate::types::{Answer, Append, Command, Error, Query, Reason, SetRange, Step};

/// Redis's text for a value that would be too long; its limit is 512 MB, ours
/// `limits.value_bytes_max`.
const TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";

/// `GET key`.
pub fn get(
    _: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    Ok(Plan::one(steps::get(key(&args[1], context)?), show::value))
}

/// `STRLEN key`.
pub fn strlen(
    _: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    Ok(Plan::one(steps::inspect(key(&args[1], context)?), value_bytes))
}

/// `GETRANGE key start end`, and `SUBSTR`, its old name.
pub fn get_range(
    _: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let (start, end) = (whole(&args[2])?, whole(&args[3])?);
    let key = key(&args[1], context)?;
    Ok(Plan::one(Step::Read(Query::GetRange { key, start, end }), |result| {
        show::answer(result, |response| match response {
            Response::Read { answer: Answer::Value(found), .. } => {
                let part = found.as_ref().map(|found| found.value.data.clone());
                Some(RespValue::Bulk(part.unwrap_or_default()))
            }
            _ => None,
        })
    }))
}

/// `APPEND key value`.
pub fn append(
    _: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let (key, value) = (key(&args[1], context)?, value(&args[2], context)?);
    Ok(Plan::one(Step::Write(Command::Append(Append { key, value })), length))
}

/// `SETRANGE key offset value`. Nothing to put is a read, as in Redis.
pub fn set_range(
    _: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let offset = u64::try_from(whole(&args[2])?)
        .map_err(|_| RespValue::error("ERR offset is out of range"))?;
    let (key, value) = (key(&args[1], context)?, value(&args[3], context)?);
    if value.data.is_empty() {
        return Ok(Plan::one(steps::inspect(key), value_bytes));
    }
    let bytes = offset.saturating_add(value.data.len() as u64);
    if bytes > context.limits.value_bytes_max as u64 {
        return Err(RespValue::error(TOO_LONG));
    }
    Ok(Plan::one(Step::Write(Command::SetRange(SetRange { key, offset, value })), length))
}

fn value_bytes(result: Result<Response, Error>) -> RespValue {
    show::meta(result, |meta| show::integer(meta.map_or(0, |meta| meta.value_bytes)))
}

fn length(result: Result<Response, Error>) -> RespValue {
    match result {
        Err(Error { reason: Reason::TooLarge { .. }, .. }) => RespValue::error(TOO_LONG),
        result => show::length(result),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use crate::types::{Found, Reply, Version};

    #[test]
    fn a_part_that_is_not_there_is_empty() {
        let words = &["getrange", "k", "-3", "-1"];
        let asked = Query::GetRange { key: "k".into(), start: -3, end: -1 };
        assert_eq!(step(words), Step::Read(asked.clone()));
        assert_eq!(step(&["substr", "k", "-3", "-1"]), Step::Read(asked));
        let part = |found: Option<Found>| read(words, Answer::Value(found));
        assert_eq!(part(Some(found("abc"))), RespValue::text("abc"));
        assert_eq!(part(None), RespValue::text(""));
        let none = "ERR value is not an integer or out of range";
        assert_eq!(error(&["getrange", "k", "a", "1"]), none);
        assert_eq!(read(&["get", "k"], Answer::Value(None)), RespValue::Null);
    }

    #[test]
    fn lengths_are_shown_and_bounded() {
        let written = Reply::Length { version: Version(1), value_bytes: 7 };
        assert_eq!(shown(&["append", "k", "v"], written.clone()), RespValue::Integer(7));
        assert_eq!(shown(&["setrange", "k", "1", "v"], written), RespValue::Integer(7));
        assert!(matches!(step(&["setrange", "k", "999999999", ""]), Step::Read(_)));
        assert_eq!(read(&["strlen", "k"], Answer::Meta(None)), RespValue::Integer(0));
        assert_eq!(error(&["setrange", "k", "-1", "v"]), "ERR offset is out of range");
        assert_eq!(error(&["setrange", "k", "1048576", "v"]), TOO_LONG);
        let too_large = Reason::TooLarge { bytes: 2, bytes_max: 1 };
        let shown = render(&["append", "k", "v"], Err(too_large.into()));
        assert_eq!(shown, RespValue::error(TOO_LONG));
    }
}
