//! `RENAME`, `RENAMENX`, `COPY`: both keys must belong to one shard (`CROSSSLOT` otherwise).

use bytes::Bytes;

use super::parse::{is, key, syntax, whole};
use super::show;
use crate::codec::resp::value::RespValue;
use crate::front::resp::plan::{Context, Plan};
use crate::front::resp::table;
use crate::service::Response;
use crate::types::{Command, Condition, CopyKey, Error, Reply, Step};

/// Redis's text for the number of a database that is none of 32 bits.
const NOT_INT: &str = "ERR value is out of range, value must between -2147483648 and 2147483647";

/// `RENAME key newkey`, `RENAMENX key newkey`.
pub fn rename(
    command: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let if_absent = command.name == "renamenx";
    let condition = if if_absent { Condition::IfAbsent } else { Condition::Always };
    let (key, to) = (key(&args[1], context)?, key(&args[2], context)?);
    let rename = Step::Write(Command::Rename(CopyKey { key, to, condition }));
    Ok(Plan::one(rename, move |result| renamed(result, if_absent)))
}

fn renamed(result: Result<Response, Error>, if_absent: bool) -> RespValue {
    show::answer(result, |response| match response {
        Response::Written(Reply::Set { .. }) if if_absent => Some(RespValue::Integer(1)),
        Response::Written(Reply::Set { .. }) => Some(RespValue::OK),
        Response::Written(Reply::ConditionFailed { .. }) => Some(RespValue::Integer(0)),
        Response::Written(Reply::NotFound) => Some(RespValue::error("ERR no such key")),
        _ => None,
    })
}

/// `COPY source destination [DB 0] [REPLACE]`. There is one database.
pub fn copy(
    _: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let mut condition = Condition::IfAbsent;
    let mut words = args[3..].iter();
    while let Some(word) = words.next() {
        if is(word, "replace") {
            condition = Condition::Always;
        } else if is(word, "db") {
            let database = whole(words.next().ok_or_else(syntax)?)?;
            if i32::try_from(database).is_err() {
                return Err(RespValue::error(NOT_INT));
            }
            if database != 0 {
                return Err(RespValue::error("ERR DB index is out of range"));
            }
        } else {
            return Err(syntax());
        }
    }
    if args[1] == args[2] {
        return Err(RespValue::error("ERR source and destination objects are the same"));
    }
    let (key, to) = (key(&args[1], context)?, key(&args[2], context)?);
    let copy = Step::Write(Command::Copy(CopyKey { key, to, condition }));
    Ok(Plan::one(copy, show::took_effect))
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use crate::front::resp::fault::NOT_INTEGER;
    use crate::types::Version;

    fn condition(words: &[&str]) -> Condition {
        match step(words) {
            Step::Write(Command::Copy(copy) | Command::Rename(copy)) => copy.condition,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn words_are_those_of_redis() {
        assert_eq!(condition(&["rename", "a", "b"]), Condition::Always);
        assert_eq!(condition(&["RENAMENX", "a", "b"]), Condition::IfAbsent);
        assert_eq!(condition(&["copy", "a", "b"]), Condition::IfAbsent);
        assert_eq!(condition(&["copy", "a", "b", "DB", "0", "Replace"]), Condition::Always);
        assert_eq!(error(&["copy", "a", "b", "db"]), "ERR syntax error");
        assert_eq!(error(&["copy", "a", "b", "over"]), "ERR syntax error");
        assert_eq!(error(&["copy", "a", "b", "db", "1"]), "ERR DB index is out of range");
        assert_eq!(error(&["copy", "a", "b", "db", "x"]), NOT_INTEGER);
        assert_eq!(error(&["copy", "a", "b", "db", "4294967296"]), NOT_INT);
        let same = "ERR source and destination objects are the same";
        assert_eq!(error(&["copy", "a", "a"]), same);
    }

    #[test]
    fn answers_are_shown() {
        let version = Version(1);
        let (set, failed) = (Reply::Set { version }, Reply::ConditionFailed { current: None });
        let (rename, nx) = (&["rename", "a", "b"], &["renamenx", "a", "b"]);
        let copy = &["copy", "a", "b"];
        assert_eq!(shown(rename, set.clone()), RespValue::OK);
        assert_eq!(shown(nx, set.clone()), RespValue::Integer(1));
        assert_eq!(shown(copy, set), RespValue::Integer(1));
        assert_eq!(shown(nx, failed.clone()), RespValue::Integer(0));
        assert_eq!(shown(copy, failed), RespValue::Integer(0));
        assert_eq!(shown(rename, Reply::NotFound), RespValue::error("ERR no such key"));
        assert_eq!(shown(copy, Reply::NotFound), RespValue::Integer(0));
    }
}
