//! How words are read, and the errors of Redis where they are wrong.

use bytes::Bytes;

use crate::codec::resp::value::RespValue;
use crate::front::resp::fault::{NOT_INTEGER, fault};
use crate::front::resp::plan::Context;
use crate::front::validate;
use crate::types::{Value, ValueKind};

/// Whether an argument is this word; the case does not matter. What follows a zero byte is not looked at,
/// as in Redis, which compares C strings here.
pub fn is(arg: &[u8], word: &str) -> bool {
    c_string(arg).eq_ignore_ascii_case(word.as_bytes())
}

/// What C sees of an argument.
pub fn c_string(arg: &[u8]) -> &[u8] {
    let end = arg.iter().position(|byte| *byte == 0).unwrap_or(arg.len());
    &arg[..end]
}

/// `ERR syntax error`.
pub fn syntax() -> RespValue {
    RespValue::error("ERR syntax error")
}

/// A whole number of 64 bits in the only form Redis takes (`string2ll`): no space, no `+`, no leading
/// zero, no `-0`.
///
/// # Errors
/// `ERR value is not an integer or out of range`.
pub fn whole(arg: &[u8]) -> Result<i64, RespValue> {
    let digits = arg.strip_prefix(b"-").unwrap_or(arg);
    let plain = match digits {
        [b'0'] => arg.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let text = if plain { std::str::from_utf8(arg).ok() } else { None };
    text.and_then(|text| text.parse().ok()).ok_or_else(|| RespValue::error(NOT_INTEGER))
}

/// A key within the limits of the door.
///
/// # Errors
/// If it is empty or too long, by name of the limit.
pub fn key(arg: &Bytes, context: &Context<'_>) -> Result<Bytes, RespValue> {
    validate::key(context.limits, arg.clone()).map_err(|error| fault(&error))
}

/// A value within the limits of the door.
///
/// # Errors
/// If it is too long, by name of the limit.
pub fn value(arg: &Bytes, context: &Context<'_>) -> Result<Value, RespValue> {
    let data = validate::value(context.limits, arg.clone()).map_err(|error| fault(&error))?;
    Ok(Value { data, kind: ValueKind::Bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_redis() {
        for n in [0, 1, -1, 10, i64::MAX, i64::MIN] {
            assert_eq!(whole(n.to_string().as_bytes()), Ok(n));
        }
        let none: [&[u8]; 12] = [
            b"",
            b"-",
            b"+1",
            b" 1",
            b"1 ",
            b"01",
            b"-0",
            b"1.0",
            b"1e3",
            b"1\0",
            b"9223372036854775808",
            b"\xff",
        ];
        for text in none {
            assert_eq!(whole(text), Err(RespValue::error(NOT_INTEGER)), "{text:?}");
        }
    }

    #[test]
    fn words_end_at_a_zero_byte() {
        assert!(is(b"kEEpttl", "keepttl"));
        assert!(is(b"nx\0other", "nx"));
        assert!(!is(b"n", "nx"));
    }
}
