//! `SET`, `SETNX`, `SETEX`, `PSETEX`: <https://redis.io/docs/latest/commands/set/>.

use bytes::Bytes;

use super::expiry::Unit;
use super::parse::{is, key, syntax, value};
use super::show;
use crate::codec::resp::value::RespValue;
use crate::front::resp::plan::{Context, Plan};
use crate::front::resp::table;
use crate::service::Response;
use crate::types::{Command, Condition, Error, Expiry, Reply, Set, Step};

/// The options of `SET`, as `parseExtendedStringArgumentsOrReply` of Redis takes them: in any order, the
/// last of the same kind counts, and only one kind of expiry.
#[derive(Default)]
struct Options<'a> {
    if_absent: bool,
    if_present: bool,
    get: bool,
    keep_ttl: bool,
    time: Option<(Unit, &'a Bytes)>,
}

impl<'a> Options<'a> {
    fn parse(words: &'a [Bytes]) -> Result<Self, RespValue> {
        let mut options = Options::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word {
                word if is(word, "nx") && !options.if_present => options.if_absent = true,
                word if is(word, "xx") && !options.if_absent => options.if_present = true,
                word if is(word, "get") => options.get = true,
                word if is(word, "keepttl") && options.time.is_none() => options.keep_ttl = true,
                word => {
                    let unit = Unit::of_option(word).ok_or_else(syntax)?;
                    let same = options.time.is_none_or(|(other, _)| other == unit);
                    if options.keep_ttl || !same {
                        return Err(syntax());
                    }
                    options.time = Some((unit, words.next().ok_or_else(syntax)?));
                }
            }
        }
        Ok(options)
    }
}

/// `SET key value [NX | XX] [GET] [EX | PX | EXAT | PXAT time | KEEPTTL]`.
pub fn set(
    command: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let options = Options::parse(&args[3..])?;
    let expiry = match options.time {
        Some((unit, time)) => unit.positive(time, command.name, context)?,
        None if options.keep_ttl => Expiry::Keep,
        None => Expiry::Never,
    };
    let condition = match (options.if_absent, options.if_present) {
        (true, _) => Condition::IfAbsent,
        (_, true) => Condition::IfPresent,
        _ => Condition::Always,
    };
    let (key, value) = (key(&args[1], context)?, value(&args[2], context)?);
    let set = Set { key, value, expiry, condition };
    Ok(match options.get {
        true => Plan::one(Step::Write(Command::GetSet(set)), old),
        false => Plan::one(Step::Write(Command::Set(set)), ok_or_nothing),
    })
}

/// `SETNX key value`.
pub fn set_nx(
    _: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let (key, value) = (key(&args[1], context)?, value(&args[2], context)?);
    let (expiry, condition) = (Expiry::Never, Condition::IfAbsent);
    let set = Command::Set(Set { key, value, expiry, condition });
    Ok(Plan::one(Step::Write(set), show::took_effect))
}

/// `SETEX key seconds value`, `PSETEX key milliseconds value`.
pub fn set_ex(
    command: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let unit = Unit { seconds: command.name == "setex", relative: true };
    let expiry = unit.positive(&args[2], command.name, context)?;
    let (key, value) = (key(&args[1], context)?, value(&args[3], context)?);
    let set = Set { key, value, expiry, condition: Condition::Always };
    Ok(Plan::one(Step::Write(Command::Set(set)), show::ok))
}

fn ok_or_nothing(result: Result<Response, Error>) -> RespValue {
    show::answer(result, |response| match response {
        Response::Written(Reply::Set { .. }) => Some(RespValue::OK),
        Response::Written(Reply::ConditionFailed { .. }) => Some(RespValue::Null),
        _ => None,
    })
}

/// What the key was before, whether it was set or not.
pub fn old(result: Result<Response, Error>) -> RespValue {
    show::answer(result, |response| match response {
        Response::Written(Reply::Swapped { old, .. }) => Some(show::bulk(old.as_deref())),
        Response::Written(Reply::NotSwapped { current }) => Some(show::bulk(current.as_deref())),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use crate::types::Version;

    fn expiry(words: &[&'static str]) -> (Expiry, Condition) {
        match step(words) {
            Step::Write(Command::Set(set) | Command::GetSet(set)) => (set.expiry, set.condition),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_come_in_any_order() {
        use Condition::*;
        let of = |words| expiry(words);
        assert_eq!(of(&["set", "k", "v"]), (Expiry::Never, Always));
        assert_eq!(of(&["SET", "k", "v", "nx"]), (Expiry::Never, IfAbsent));
        assert_eq!(of(&["set", "k", "v", "Ex", "5", "XX"]), (Expiry::AfterMs(5_000), IfPresent));
        assert_eq!(of(&["set", "k", "v", "get", "PX", "5"]), (Expiry::AfterMs(5), Always));
        assert_eq!(
            of(&["set", "k", "v", "NX", "NX", "exat", "9"]),
            (Expiry::AtMs(9_000), IfAbsent)
        );
        assert_eq!(of(&["set", "k", "v", "pxat", "7", "pxat", "9"]), (Expiry::AtMs(9), Always));
        assert_eq!(of(&["set", "k", "v", "KEEPTTL"]), (Expiry::Keep, Always));
        assert_eq!(of(&["setex", "k", "3", "v"]), (Expiry::AfterMs(3_000), Always));
        assert_eq!(of(&["psetex", "k", "3", "v"]), (Expiry::AfterMs(3), Always));
        assert_eq!(of(&["setnx", "k", "v"]), (Expiry::Never, IfAbsent));
    }

    #[test]
    fn what_is_wrong_is_told_as_redis_does() {
        let syntax: [&[&'static str]; 7] = [
            &["set", "k", "v", "other"],
            &["set", "k", "v", "nx", "xx"],
            &["set", "k", "v", "ex"],
            &["set", "k", "v", "ex", "1", "px", "1"],
            &["set", "k", "v", "ex", "1", "keepttl"],
            &["set", "k", "v", "keepttl", "ex", "1"],
            &["set", "k", "v", "persist"],
        ];
        for words in syntax {
            assert_eq!(error(words), "ERR syntax error", "{words:?}");
        }
        let invalid = "ERR invalid expire time in 'set' command";
        assert_eq!(error(&["set", "k", "v", "ex", "0"]), invalid);
        assert_eq!(error(&["set", "k", "v", "px", "-1"]), invalid);
        assert_eq!(error(&["set", "k", "v", "exat", "9223372036854775807"]), invalid);
        assert_eq!(error(&["set", "k", "v", "px", "9223372036854775807"]), invalid);
        assert_eq!(error(&["setex", "k", "0", "v"]), "ERR invalid expire time in 'setex' command");
        assert_eq!(
            error(&["psetex", "k", "0", "v"]),
            "ERR invalid expire time in 'psetex' command"
        );
        let none = "ERR value is not an integer or out of range";
        assert_eq!(error(&["set", "k", "v", "ex", "1.5"]), none);
        assert_eq!(error(&["set", "k"]), "ERR wrong number of arguments for 'set' command");
    }

    #[test]
    fn limits_are_named() {
        let ttl = "ERR ttl: is 315360001000 ms; at most 315360000000 are allowed";
        assert_eq!(error(&["set", "k", "v", "ex", "315360001"]), ttl);
        assert_eq!(error(&["set", "", "v"]), "ERR key: is empty; 1 to 4096 bytes are allowed");
        let long = "ERR value: has 1048577 bytes; at most 1048576 are allowed";
        assert_eq!(error_of(&[b"set", b"k", &vec![0; (1 << 20) + 1]]), long);
    }

    #[test]
    fn answers_are_shown() {
        let (version, current) = (Version(1), Some(Version(1)));
        let plain = &["set", "k", "v"];
        assert_eq!(shown(plain, Reply::Set { version }), RespValue::OK);
        assert_eq!(shown(plain, Reply::ConditionFailed { current }), RespValue::Null);
        let get = &["set", "k", "v", "nx", "get"];
        let old = || Some(Box::new(found("old")));
        assert_eq!(shown(get, Reply::Swapped { version, old: old() }), RespValue::text("old"));
        assert_eq!(shown(get, Reply::NotSwapped { current: old() }), RespValue::text("old"));
        assert_eq!(shown(get, Reply::NotSwapped { current: None }), RespValue::Null);
        let nx = &["setnx", "k", "v"];
        assert_eq!(shown(nx, Reply::Set { version }), RespValue::Integer(1));
        assert_eq!(shown(nx, Reply::ConditionFailed { current }), RespValue::Integer(0));
        assert!(
            matches!(shown(plain, Reply::NotFound), RespValue::Error(text) if text.starts_with("UNKNOWN internal"))
        );
    }
}
