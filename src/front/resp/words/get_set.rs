//! `GETSET`, `GETDEL`, `GETEX`: a value, and a change of the key in one.

use bytes::Bytes;

use super::expiry::Unit;
use super::parse::{is, key, syntax, value};
use super::{set, show, steps};
use crate::codec::resp::value::RespValue;
use crate::front::resp::plan::{Context, Plan};
use crate::front::resp::table;
use crate::service::Response;
use crate::types::{
    Command, Condition, Delete, Error, Expire, ExpireCondition, Expiry, Reply, Set, Step,
};

/// `GETSET key value`: the key loses its deadline.
pub fn get_set(
    _: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let (key, value) = (key(&args[1], context)?, value(&args[2], context)?);
    let (expiry, condition) = (Expiry::Never, Condition::Always);
    let swap = Command::GetSet(Set { key, value, expiry, condition });
    Ok(Plan::one(Step::Write(swap), set::old))
}

/// `GETDEL key`.
pub fn get_del(
    _: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let delete = Delete { key: key(&args[1], context)?, condition: Condition::Always };
    Ok(Plan::one(Step::Write(Command::GetDelete(delete)), was))
}

/// `GETEX key [EX | PX | EXAT | PXAT time | PERSIST]`. Without an option it is a read. A time that is
/// wrong is an error only if the key is there, as in Redis.
pub fn get_ex(
    command: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let (mut persist, mut time) = (false, None);
    let mut words = args[2..].iter();
    while let Some(word) = words.next() {
        if is(word, "persist") && time.is_none() {
            persist = true;
            continue;
        }
        let unit = Unit::of_option(word).ok_or_else(syntax)?;
        let same = time.is_none_or(|(other, _)| other == unit);
        if persist || !same {
            return Err(syntax());
        }
        time = Some((unit, words.next().ok_or_else(syntax)?));
    }
    let key = key(&args[1], context)?;
    let expiry = match time {
        Some((unit, time)) => match unit.positive(time, command.name, context) {
            Ok(expiry) => expiry,
            Err(error) => {
                let show = |meta: Option<&_>| meta.map_or(RespValue::Null, |_| error);
                let render = |result| show::meta(result, show);
                return Ok(Plan::one(steps::inspect(key), render));
            }
        },
        None if persist => Expiry::Never,
        None => return Ok(Plan::one(steps::get(key), show::value)),
    };
    let expire = Expire { key, expiry, condition: ExpireCondition::Always };
    Ok(Plan::one(Step::Write(Command::GetExpire(expire)), was))
}

/// The value there was, if there was one.
fn was(result: Result<Response, Error>) -> RespValue {
    show::answer(result, |response| match response {
        Response::Written(Reply::Taken(found) | Reply::Got(found)) => Some(show::bulk(Some(found))),
        Response::Written(Reply::NotFound) => Some(RespValue::Null),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use crate::types::{Answer, Meta, Query, ValueKind, Version};

    fn expiry(words: &[&str]) -> Expiry {
        match step(words) {
            Step::Write(Command::GetExpire(expire)) => expire.expiry,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn getex_takes_one_kind_of_time() {
        assert!(matches!(step(&["getex", "k"]), Step::Read(Query::Get { .. })));
        assert_eq!(expiry(&["getex", "k", "EX", "2"]), Expiry::AfterMs(2_000));
        assert_eq!(expiry(&["getex", "k", "pxat", "2"]), Expiry::AtMs(2));
        assert_eq!(expiry(&["getex", "k", "Persist"]), Expiry::Never);
        for words in [
            &["getex", "k", "ex"][..],
            &["getex", "k", "keepttl"],
            &["getex", "k", "nx"],
            &["getex", "k", "persist", "ex", "1"],
            &["getex", "k", "ex", "1", "persist"],
            &["getex", "k", "ex", "1", "px", "1"],
        ] {
            assert_eq!(error(words), "ERR syntax error", "{words:?}");
        }
    }

    #[test]
    fn a_wrong_time_is_an_error_only_for_a_key_that_is_there() {
        let words = &["getex", "k", "ex", "0"];
        assert!(matches!(step(words), Step::Read(Query::Inspect { .. })));
        assert_eq!(read(words, Answer::Meta(None)), RespValue::Null);
        let (version, kind) = (Version(1), ValueKind::Bytes);
        let meta = Meta { version, value_bytes: 1, kind, ttl_ms: None, deadline_ms: None };
        let invalid = RespValue::error("ERR invalid expire time in 'getex' command");
        assert_eq!(read(words, Answer::Meta(Some(meta))), invalid);
    }

    #[test]
    fn answers_are_shown() {
        let was = || Box::new(found("v"));
        assert_eq!(shown(&["getdel", "k"], Reply::Taken(was())), RespValue::text("v"));
        assert_eq!(shown(&["getdel", "k"], Reply::NotFound), RespValue::Null);
        let get_ex = &["getex", "k", "ex", "1"];
        assert_eq!(shown(get_ex, Reply::Got(was())), RespValue::text("v"));
        assert_eq!(shown(get_ex, Reply::Taken(was())), RespValue::text("v"));
        let swapped = Reply::Swapped { version: Version(1), old: None };
        assert_eq!(shown(&["getset", "k", "v"], swapped), RespValue::Null);
    }
}
