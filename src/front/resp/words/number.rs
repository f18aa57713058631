//! `INCR`, `DECR`, `INCRBY`, `DECRBY`, `INCRBYFLOAT`.

use bytes::Bytes;

use super::parse::{key, whole};
use super::show;
use crate::codec::resp::value::RespValue;
use crate::front::resp::plan::{Context, Plan};
use crate::front::resp::table;
use crate::service::Response;
use crate::types::limits::FLOAT_BYTES_MAX;
use crate::types::{Command, Error, Increment, IncrementFloat, Reply, Step};

/// `INCR key`, `DECR key`, `INCRBY key number`, `DECRBY key number`.
pub fn increment(
    command: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let number = args.get(2).map_or(Ok(1), |arg| whole(arg))?;
    let delta = match command.name.starts_with("decr") {
        true => number.checked_neg(),
        false => Some(number),
    };
    let delta = delta.ok_or_else(|| RespValue::error("ERR decrement would overflow"))?;
    let increment = Increment { key: key(&args[1], context)?, delta };
    Ok(Plan::one(Step::Write(Command::Increment(increment)), |result| {
        show::answer(result, |response| match response {
            Response::Written(Reply::Integer { value, .. }) => Some(RespValue::Integer(*value)),
            _ => None,
        })
    }))
}

/// `INCRBYFLOAT key number`.
pub fn increment_float(
    _: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let (key, delta) = (key(&args[1], context)?, args[2].clone());
    if delta.len() > FLOAT_BYTES_MAX {
        return Err(RespValue::error("ERR value is not a valid float"));
    }
    let increment = Command::IncrementFloat(IncrementFloat { key, delta });
    Ok(Plan::one(Step::Write(increment), float))
}

/// Redis answers the sum as the text it stored.
fn float(result: Result<Response, Error>) -> RespValue {
    show::answer(result, |response| match response {
        Response::Written(Reply::Float { text, .. }) => Some(RespValue::text(text.to_string())),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use crate::types::{Reason, Version};

    fn delta(words: &[&str]) -> i64 {
        match step(words) {
            Step::Write(Command::Increment(increment)) => increment.delta,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_added() {
        assert_eq!(delta(&["incr", "k"]), 1);
        assert_eq!(delta(&["DECR", "k"]), -1);
        assert_eq!(delta(&["incrby", "k", "-7"]), -7);
        assert_eq!(delta(&["decrby", "k", "7"]), -7);
        assert_eq!(delta(&["incrby", "k", "-9223372036854775808"]), i64::MIN);
        let least = error(&["decrby", "k", "-9223372036854775808"]);
        assert_eq!(least, "ERR decrement would overflow");
        let none = error(&["incrby", "k", "1.5"]);
        assert_eq!(none, "ERR value is not an integer or out of range");
        let long = "1".repeat(FLOAT_BYTES_MAX + 1);
        assert_eq!(error(&["incrbyfloat", "k", &long]), "ERR value is not a valid float");
    }

    #[test]
    fn answers_are_shown() {
        let version = Version(1);
        assert_eq!(
            shown(&["incr", "k"], Reply::Integer { version, value: 5 }),
            RespValue::Integer(5)
        );
        let text = "1.5".into();
        let float = shown(&["incrbyfloat", "k", "1"], Reply::Float { version, text });
        assert_eq!(float, RespValue::text("1.5"));
        let texts = [
            (Reason::NotInteger, "ERR value is not an integer or out of range"),
            (Reason::Overflow, "ERR increment or decrement would overflow"),
            (Reason::NotFloat, "ERR value is not a valid float"),
            (Reason::NotFinite, "ERR increment would produce NaN or Infinity"),
        ];
        for (reason, text) in texts {
            let shown = render(&["incr", "k"], Err(reason.into()));
            assert_eq!(shown, RespValue::error(text));
        }
    }
}
