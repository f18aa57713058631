//! `KEYS`, `SCAN`, `RANDOMKEY`, `DBSIZE`, `FLUSHDB`, `FLUSHALL`: what is about all keys of the cluster.

use bytes::Bytes;

use super::parse::{c_string, is, syntax, whole};
use super::show;
use crate::codec::resp::value::RespValue;
use crate::front::resp::fault::fault;
use crate::front::resp::plan::{Context, Plan};
use crate::front::resp::procedure::Procedure;
use crate::front::resp::table;
use crate::front::validate;
use crate::service::{Operation, Response, ScanRequest};
use crate::types::Reply;
use crate::types::limits::SCAN_KEYS_MAX;

/// Keys a call of `SCAN` looks at without `COUNT`.
const COUNT_DEFAULT: u32 = 10;

/// `KEYS pattern`.
pub fn keys(
    _: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let pattern = pattern(&args[1])?;
    Ok(Plan::Procedure(Procedure::Keys { pattern, consistency: context.consistency }))
}

/// `RANDOMKEY`.
pub fn random_key(
    _: &'static table::Command,
    _: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    Ok(Plan::Procedure(Procedure::RandomKey { consistency: context.consistency }))
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`. A count above `SCAN_KEYS_MAX` is shortened
/// to it: it is a hint.
pub fn scan(
    _: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let cursor = cursor(&args[1])?;
    let (mut count, mut matching, mut strings) = (COUNT_DEFAULT, None, true);
    for option in args[2..].chunks(2) {
        let [word, argument] = option else { return Err(syntax()) };
        if is(word, "count") {
            let asked = whole(argument)?;
            if asked < 1 {
                return Err(syntax());
            }
            count = u32::try_from(asked).unwrap_or(u32::MAX).min(SCAN_KEYS_MAX);
        } else if is(word, "match") {
            matching = pattern(argument)?;
        } else if is(word, "type") {
            strings = is(argument, "string");
        } else {
            return Err(syntax());
        }
    }
    let consistency = context.consistency;
    let scan = ScanRequest { cursor, count, pattern: matching, consistency };
    Ok(Plan::operation(Operation::Scan(scan), move |result| {
        show::answer(result, |response| match response {
            Response::Scanned { cursor, keys } => {
                let keys = keys.iter().filter(|_| strings).cloned().map(RespValue::Bulk);
                let keys = RespValue::Array(keys.collect());
                Some(RespValue::Array(vec![RespValue::text(cursor.to_string()), keys]))
            }
            _ => None,
        })
    }))
}

/// `DBSIZE`.
pub fn size(
    _: &'static table::Command,
    _: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let consistency = context.consistency;
    Ok(Plan::operation(Operation::Size { consistency }, |result| {
        show::answer(result, |response| match response {
            Response::Size(keys) => Some(show::integer(*keys)),
            _ => None,
        })
    }))
}

/// `FLUSHDB [ASYNC | SYNC]`, `FLUSHALL [ASYNC | SYNC]`: always at once for callers, and the memory is
/// given back in the background.
pub fn flush(
    _: &'static table::Command,
    args: &[Bytes],
    _: &Context<'_>,
) -> Result<Plan, RespValue> {
    match &args[1..] {
        [] => {}
        [word] if is(word, "async") || is(word, "sync") => {}
        _ => return Err(syntax()),
    }
    Ok(Plan::operation(Operation::Flush, |result| {
        show::answer(result, |response| match response {
            Response::Written(Reply::Done) => Some(RespValue::OK),
            _ => None,
        })
    }))
}

/// `None` for the pattern that every key matches.
fn pattern(arg: &Bytes) -> Result<Option<Bytes>, RespValue> {
    validate::pattern(arg).map_err(|error| fault(&error))?;
    Ok((&arg[..] != b"*").then(|| arg.clone()))
}

/// A cursor as `strtoul` of C reads it.
fn cursor(arg: &[u8]) -> Result<u64, RespValue> {
    let invalid = || RespValue::error("ERR invalid cursor");
    let text = c_string(arg);
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if text.is_empty() {
        return Ok(0);
    }
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(invalid());
    }
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok());
    let number = number.ok_or_else(invalid)?;
    Ok(if negative { number.wrapping_neg() } else { number })
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use crate::types::limits::PATTERN_BYTES_MAX;

    fn request(words: &[&str]) -> ScanRequest {
        match operation(words) {
            Operation::Scan(scan) => scan,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_scan_takes_its_options_in_any_order() {
        let plain = request(&["scan", "0"]);
        assert_eq!((plain.cursor, plain.count, plain.pattern), (0, 10, None));
        let all = request(&["SCAN", "42", "COUNT", "5", "type", "string", "match", "a*"]);
        assert_eq!((all.cursor, all.count, all.pattern), (42, 5, Some("a*".into())));
        assert_eq!(request(&["scan", "0", "count", "99999999"]).count, SCAN_KEYS_MAX);
        assert_eq!(request(&["scan", "0", "match", "*"]).pattern, None);
        assert_eq!(error(&["scan", "0", "count"]), "ERR syntax error");
        assert_eq!(error(&["scan", "0", "count", "0"]), "ERR syntax error");
        assert_eq!(error(&["scan", "0", "other", "1"]), "ERR syntax error");
        let none = "ERR value is not an integer or out of range";
        assert_eq!(error(&["scan", "0", "count", "x"]), none);
        for wrong in ["x", " 1", "1x", "18446744073709551616", "-"] {
            assert_eq!(error(&["scan", wrong]), "ERR invalid cursor", "{wrong}");
        }
        assert_eq!(request(&["scan", ""]).cursor, 0);
        assert_eq!(request(&["scan", "-1"]).cursor, u64::MAX);
    }

    #[test]
    fn keys_found_are_shown_unless_another_type_was_asked_for() {
        let found = || Ok(Response::Scanned { cursor: 7, keys: vec!["a".into()] });
        let of = |keys| RespValue::Array(vec![RespValue::text("7"), RespValue::Array(keys)]);
        let shown = render(&["scan", "0"], found());
        assert_eq!(shown, of(vec![RespValue::text("a")]));
        assert_eq!(render(&["scan", "0", "type", "hash"], found()), of(Vec::new()));
    }

    #[test]
    fn all_keys_are_counted_and_removed() {
        assert_eq!(render(&["dbsize"], Ok(Response::Size(3))), RespValue::Integer(3));
        for words in [&["flushdb"][..], &["flushall", "ASYNC"], &["flushdb", "sync"]] {
            assert_eq!(shown(words, Reply::Done), RespValue::OK);
        }
        assert_eq!(error(&["flushall", "now"]), "ERR syntax error");
        assert_eq!(error(&["flushall", "sync", "async"]), "ERR syntax error");
        let long = "k".repeat(PATTERN_BYTES_MAX + 1);
        assert_eq!(
            error(&["keys", &long]),
            "ERR pattern: has 1025 bytes; at most 1024 are allowed"
        );
    }
}
