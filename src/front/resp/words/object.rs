//! `OBJECT` and `MEMORY USAGE`: what can be told of a value here.

use bytes::Bytes;

use super::parse::{is, key, syntax, whole};
use super::{show, steps};
use crate::codec::resp::value::RespValue;
use crate::core::keyspace::logical_bytes;
use crate::front::resp::plan::{Context, Plan};
use crate::front::resp::table;
use crate::service::Response;
use crate::types::{Answer, Error, Query, Step};

/// Longest string that Redis keeps in one allocation with its object
/// (`OBJ_ENCODING_EMBSTR_SIZE_LIMIT`), bytes.
const EMBEDDED_BYTES_MAX: usize = 44;

/// Redis's text where no frequencies are kept.
const NO_FREQUENCY: &str = "ERR An LFU maxmemory policy is not selected, access frequency not \
    tracked. Please note that when switching between policies at runtime LRU and LFU data will \
    take some time to adjust.";

const NO_IDLE_TIME: &str = "ERR OBJECT IDLETIME is not supported: keys are kept in the order of \
    their use, without the time of it";

const OBJECT_HELP: &[&str] = &[
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Prints this help.",
];

const MEMORY_HELP: &[&str] = &[
    "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "USAGE <key> [SAMPLES <count>]",
    "    Return the logical bytes that <key> and its value count for at the limit of",
    "    their shard. SAMPLES is of no effect: no value is nested.",
    "HELP",
    "    Prints this help.",
];

/// `OBJECT ENCODING | FREQ | IDLETIME | REFCOUNT key`, `OBJECT HELP`.
pub fn object(
    command: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let there = |shown: RespValue| {
        let step = key(&args[2], context).map(steps::inspect)?;
        let show = move |meta: Option<&_>| meta.map_or(RespValue::Null, |_| shown);
        Ok(Plan::one(step, move |result| show::meta(result, show)))
    };
    match command.name {
        "object|encoding" => {
            // One byte more than the longest embedded string tells all longer ones.
            let (start, end) = (0, EMBEDDED_BYTES_MAX as i64);
            let query = Query::GetRange { key: key(&args[2], context)?, start, end };
            Ok(Plan::one(Step::Read(query), encoding))
        }
        "object|refcount" => there(RespValue::Integer(1)),
        "object|freq" => there(RespValue::error(NO_FREQUENCY)),
        "object|idletime" => there(RespValue::error(NO_IDLE_TIME)),
        _ => Ok(help(OBJECT_HELP)),
    }
}

/// `MEMORY USAGE key [SAMPLES count]`, `MEMORY HELP`.
pub fn memory(
    command: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    if command.name != "memory|usage" {
        return Ok(help(MEMORY_HELP));
    }
    for option in args[3..].chunks(2) {
        let [word, samples] = option else { return Err(syntax()) };
        if !is(word, "samples") || whole(samples)? < 0 {
            return Err(syntax());
        }
    }
    let key = key(&args[2], context)?;
    let key_len = key.len();
    Ok(Plan::one(steps::inspect(key), move |result| {
        show::meta(result, |meta| match meta {
            None => RespValue::Null,
            Some(meta) => {
                let value_len = usize::try_from(meta.value_bytes).unwrap_or(usize::MAX / 2);
                show::integer(logical_bytes(key_len + value_len))
            }
        })
    }))
}

fn help(lines: &[&'static str]) -> Plan {
    Plan::Reply(RespValue::Array(lines.iter().map(|line| RespValue::Simple(line)).collect()))
}

/// What Redis would say of a value that was set to these bytes.
fn encoding(result: Result<Response, Error>) -> RespValue {
    show::answer(result, |response| match response {
        Response::Read { answer: Answer::Value(None), .. } => Some(RespValue::Null),
        Response::Read { answer: Answer::Value(Some(found)), .. } => {
            let data = &found.value.data;
            let name = match data.len() {
                0..=EMBEDDED_BYTES_MAX if whole(data).is_ok() => "int",
                0..=EMBEDDED_BYTES_MAX => "embstr",
                _ => "raw",
            };
            Some(RespValue::Bulk(Bytes::from_static(name.as_bytes())))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use crate::types::{Meta, ValueKind, Version};

    #[test]
    fn the_encoding_is_that_of_a_value_that_was_set() {
        let words = &["object", "encoding", "k"];
        let of = |text: &str| read(words, Answer::Value(Some(found(text))));
        assert_eq!(of("12"), RespValue::text("int"));
        assert_eq!(of("012"), RespValue::text("embstr"));
        assert_eq!(of(&"v".repeat(44)), RespValue::text("embstr"));
        assert_eq!(of(&"v".repeat(45)), RespValue::text("raw"));
        assert_eq!(read(words, Answer::Value(None)), RespValue::Null);
    }

    #[test]
    fn what_is_not_kept_is_told_of_keys_that_are_there() {
        let (version, kind) = (Version(1), ValueKind::Bytes);
        let meta = Meta { version, value_bytes: 9, kind, ttl_ms: None, deadline_ms: None };
        let of = |words: &[&str]| read(words, Answer::Meta(Some(meta)));
        assert_eq!(of(&["object", "freq", "k"]), RespValue::error(NO_FREQUENCY));
        assert_eq!(of(&["object", "idletime", "k"]), RespValue::error(NO_IDLE_TIME));
        assert_eq!(of(&["OBJECT", "RefCount", "k"]), RespValue::Integer(1));
        assert_eq!(of(&["memory", "usage", "k", "samples", "0"]), RespValue::Integer(80));
        for words in [&["object", "freq", "k"], &["memory", "usage", "k"]] {
            assert_eq!(read(words, Answer::Meta(None)), RespValue::Null);
        }
        assert_eq!(error(&["memory", "usage", "k", "samples"]), "ERR syntax error");
        assert_eq!(error(&["memory", "usage", "k", "samples", "-1"]), "ERR syntax error");
    }

    #[test]
    fn help_is_an_array_of_lines() {
        for words in [&["object", "help"], &["memory", "help"]] {
            let Plan::Reply(RespValue::Array(lines)) = plan_of(words) else { panic!("lines") };
            assert!(lines.len() > 3);
        }
        let text = "ERR unknown subcommand 'other'. Try OBJECT HELP.";
        assert_eq!(error(&["object", "other"]), text);
    }
}
