//! `EXPIRE`, `EXPIREAT`, `PEXPIRE`, `PEXPIREAT`, `PERSIST`: <https://redis.io/docs/latest/commands/expire/>.

use bytes::Bytes;

use super::expiry::Unit;
use super::parse::{is, key, whole};
use super::show;
use crate::codec::resp::value::RespValue;
use crate::front::resp::plan::{Context, Plan};
use crate::front::resp::table;
use crate::types::{Command, Expire, ExpireCondition, Expiry, Step};

/// `EXPIRE key time [NX | XX | GT | LT]`. A time that is over deletes the key.
pub fn expire(
    command: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let condition = condition(&args[3..])?;
    let name = command.name;
    let unit = Unit { seconds: !name.starts_with('p'), relative: !name.ends_with("at") };
    let expiry = unit.of_number(whole(&args[2])?, name, context)?;
    let expire = Expire { key: key(&args[1], context)?, expiry, condition };
    Ok(Plan::one(Step::Write(Command::Expire(expire)), show::took_effect))
}

/// `PERSIST key`.
pub fn persist(
    _: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let (expiry, condition) = (Expiry::Never, ExpireCondition::IfSome);
    let expire = Expire { key: key(&args[1], context)?, expiry, condition };
    Ok(Plan::one(Step::Write(Command::Expire(expire)), show::took_effect))
}

fn condition(words: &[Bytes]) -> Result<ExpireCondition, RespValue> {
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    for word in words {
        match word {
            word if is(word, "nx") => nx = true,
            word if is(word, "xx") => xx = true,
            word if is(word, "gt") => gt = true,
            word if is(word, "lt") => lt = true,
            word => {
                let word = table::shown(word);
                return Err(RespValue::error(format!("ERR Unsupported option {word}")));
            }
        }
    }
    if nx && (xx || gt || lt) {
        let text = "ERR NX and XX, GT or LT options at the same time are not compatible";
        return Err(RespValue::error(text));
    }
    Ok(match (xx, gt, lt) {
        (_, true, true) => {
            let text = "ERR GT and LT options at the same time are not compatible";
            return Err(RespValue::error(text));
        }
        // A key without a deadline never has an earlier one than the new.
        (_, true, false) => ExpireCondition::IfLater,
        (true, false, true) => ExpireCondition::IfSomeAndEarlier,
        (false, false, true) => ExpireCondition::IfEarlier,
        (true, false, false) => ExpireCondition::IfSome,
        (false, false, false) if nx => ExpireCondition::IfNone,
        (false, false, false) => ExpireCondition::Always,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use crate::types::{Reply, Version};

    fn of(words: &[&str]) -> (Expiry, ExpireCondition) {
        match step(words) {
            Step::Write(Command::Expire(expire)) => (expire.expiry, expire.condition),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn times_are_in_the_unit_of_the_name() {
        use ExpireCondition::*;
        assert_eq!(of(&["expire", "k", "5"]), (Expiry::AfterMs(5_000), Always));
        assert_eq!(of(&["pexpire", "k", "5"]), (Expiry::AfterMs(5), Always));
        assert_eq!(of(&["expireat", "k", "5"]), (Expiry::AtMs(5_000), Always));
        assert_eq!(of(&["pexpireat", "k", "5"]), (Expiry::AtMs(5), Always));
        assert_eq!(of(&["expire", "k", "0"]), (Expiry::AfterMs(0), Always));
        assert_eq!(of(&["expire", "k", "-5"]), (Expiry::AtMs(0), Always));
        assert_eq!(of(&["persist", "k"]), (Expiry::Never, IfSome));
    }

    #[test]
    fn conditions_are_those_of_redis() {
        use ExpireCondition::*;
        let of = |words: &[&str]| of(&[&["expire", "k", "1"], words].concat()).1;
        assert_eq!(of(&["nx"]), IfNone);
        assert_eq!(of(&["XX"]), IfSome);
        assert_eq!(of(&["gt"]), IfLater);
        assert_eq!(of(&["xx", "gt"]), IfLater);
        assert_eq!(of(&["lt"]), IfEarlier);
        assert_eq!(of(&["lt", "xx", "lt"]), IfSomeAndEarlier);
        let wrong = |words: &[&str]| error(&[&["expire", "k", "1"], words].concat());
        assert_eq!(wrong(&["other"]), "ERR Unsupported option other");
        let incompatible = "ERR NX and XX, GT or LT options at the same time are not compatible";
        assert_eq!(wrong(&["nx", "gt"]), incompatible);
        let incompatible = "ERR GT and LT options at the same time are not compatible";
        assert_eq!(wrong(&["gt", "lt"]), incompatible);
    }

    #[test]
    fn what_does_not_fit_is_told_as_redis_does() {
        let invalid = "ERR invalid expire time in 'expire' command";
        assert_eq!(error(&["expire", "k", "9223372036854775807"]), invalid);
        assert_eq!(error(&["expire", "k", "-9223372036854775808"]), invalid);
        let invalid = "ERR invalid expire time in 'pexpire' command";
        assert_eq!(error(&["pexpire", "k", "9223372036854775807"]), invalid);
        assert_eq!(of(&["pexpire", "k", "-9223372036854775808"]).0, Expiry::AtMs(0));
        let none = "ERR value is not an integer or out of range";
        assert_eq!(error(&["expire", "k", "soon"]), none);
    }

    #[test]
    fn answers_are_shown() {
        let version = Version(1);
        let words = &["expire", "k", "1"];
        let expires = Reply::Expires { version, deadline_ms: Some(1) };
        assert_eq!(shown(words, expires), RespValue::Integer(1));
        assert_eq!(shown(words, Reply::Deleted { version }), RespValue::Integer(1));
        assert_eq!(shown(words, Reply::NotFound), RespValue::Integer(0));
        let failed = Reply::ConditionFailed { current: Some(version) };
        assert_eq!(shown(words, failed), RespValue::Integer(0));
    }
}
