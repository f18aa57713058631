//! `COMMAND`: which commands there are, from the one table.

use bytes::Bytes;

use super::access::{categories, key_flags, key_flags_of_call};
use super::is;
use crate::codec::resp::value::RespValue;
use crate::core::glob;
use crate::front::resp::fault::fault;
use crate::front::resp::table::{self, COMMANDS, Command};
use crate::front::validate;

pub(super) fn run(command: &Command, args: &[Bytes]) -> RespValue {
    let names = args.get(2..).unwrap_or_default();
    match command.name {
        // Each name is answered with much more than it takes to ask.
        "command|info" | "command|docs" if names.len() > COMMANDS.len() => {
            RespValue::error(format!(
                "ERR {} names are more than the {} commands there are",
                names.len(),
                COMMANDS.len()
            ))
        }
        "command|count" => RespValue::Integer(i64::try_from(COMMANDS.len()).unwrap_or(i64::MAX)),
        "command|list" => list(names).unwrap_or_else(|error| error),
        "command|info" if !names.is_empty() => {
            let info = |name| find(name).map_or(RespValue::NullArray, info);
            RespValue::Array(names.iter().map(info).collect())
        }
        "command|docs" if !names.is_empty() => {
            RespValue::Map(names.iter().filter_map(|name| find(name)).map(docs).collect())
        }
        "command|docs" => RespValue::Map(COMMANDS.iter().map(docs).collect()),
        "command|getkeys" => match keys(names) {
            Ok((_, keys)) => RespValue::Array(keys.into_iter().map(RespValue::Bulk).collect()),
            Err(error) => error,
        },
        "command|getkeysandflags" => match keys(names) {
            Ok((command, keys)) => {
                let one = |(at, key)| {
                    let flags = simple(key_flags_of_call(command, names, at));
                    RespValue::Array(vec![RespValue::Bulk(key), RespValue::Set(flags)])
                };
                RespValue::Array(keys.into_iter().enumerate().map(one).collect())
            }
            Err(error) => error,
        },
        _ => RespValue::Array(COMMANDS.iter().map(info).collect()),
    }
}

fn simple(words: &[&'static str]) -> Vec<RespValue> {
    words.iter().map(|word| RespValue::Simple(word)).collect()
}

/// `COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]`: subcommands follow their
/// container. There are no modules.
fn list(words: &[Bytes]) -> Result<RespValue, RespValue> {
    let matches: Box<dyn Fn(&Command) -> bool> = match words {
        [] => Box::new(|_| true),
        [by, kind, _] if is(by, "filterby") && is(kind, "module") => Box::new(|_| false),
        [by, kind, category] if is(by, "filterby") && is(kind, "aclcat") => {
            let named = |one: &&str| category.eq_ignore_ascii_case(&one.as_bytes()[1..]);
            Box::new(move |command| categories(command).iter().any(named))
        }
        [by, kind, pattern] if is(by, "filterby") && is(kind, "pattern") => {
            validate::pattern(pattern).map_err(|error| fault(&error))?;
            let pattern = pattern.to_ascii_lowercase();
            Box::new(move |command| glob::matches(&pattern, command.name.as_bytes()).0)
        }
        _ => return Err(super::syntax_error()),
    };
    let all =
        COMMANDS.iter().flat_map(|command| [command].into_iter().chain(command.subcommands()));
    let names = all.filter(|command| matches(command)).map(|command| RespValue::text(command.name));
    Ok(RespValue::Array(names.collect()))
}

/// A command, or `container|subcommand`.
fn find(name: &Bytes) -> Option<&'static Command> {
    let lower = name.to_ascii_lowercase();
    match lower.iter().position(|byte| *byte == b'|') {
        None => table::find(&lower),
        Some(at) => table::find(lower.get(..at)?)?
            .subcommands()
            .find(|sub| sub.name.as_bytes() == lower.as_slice()),
    }
}

/// A whole command and the keys among its arguments.
fn keys(args: &[Bytes]) -> Result<(&'static Command, Vec<Bytes>), RespValue> {
    let invalid = || RespValue::error("ERR Invalid command specified");
    let command = match table::resolve(args) {
        Some(Ok(command)) => command,
        Some(Err(_)) if table::find(args.first().ok_or_else(invalid)?).is_some() => {
            return Err(RespValue::error("ERR Invalid number of arguments specified for command"));
        }
        Some(Err(_)) | None => return Err(invalid()),
    };
    if command.first_key == 0 {
        return Err(RespValue::error("ERR The command has no key arguments"));
    }
    Ok((command, command.keys(args).into_iter().cloned().collect()))
}

/// Ten elements, as Redis 7.0 has them.
fn info(command: &'static Command) -> RespValue {
    let integer = |number: i32| RespValue::Integer(i64::from(number));
    RespValue::Array(vec![
        RespValue::text(command.name),
        integer(command.arity),
        RespValue::Set(simple(command.flags)),
        integer(command.first_key),
        integer(command.last_key),
        integer(command.step),
        RespValue::Set(simple(&categories(command))),
        RespValue::Set(Vec::new()),
        RespValue::Set(key_specs(command)),
        RespValue::Array(command.subcommands().map(info).collect()),
    ])
}

/// Where the keys stand, in the form of Redis 7.0
/// (<https://redis.io/docs/latest/develop/reference/key-specs/>). Two keys that are used in two ways have
/// a specification each.
fn key_specs(command: &Command) -> Vec<RespValue> {
    let (first, last) = (command.first_key, command.last_key);
    match first {
        0 => Vec::new(),
        _ if last > first => {
            (first..=last).zip(0..).map(|(key, at)| key_spec(command, key, 0, at)).collect()
        }
        // Counted from the first key, or from the end if negative.
        _ => vec![key_spec(command, first, last.min(0), 0)],
    }
}

fn key_spec(command: &Command, first: i32, last: i32, at: usize) -> RespValue {
    let pair = |key: &str, value| (RespValue::text(key), value);
    let integer = |number: i32| RespValue::Integer(i64::from(number));
    let begin = vec![
        pair("type", RespValue::text("index")),
        pair("spec", RespValue::Map(vec![pair("index", integer(first))])),
    ];
    let range = vec![
        pair("lastkey", integer(last)),
        pair("keystep", integer(command.step)),
        pair("limit", integer(0)),
    ];
    let find = vec![pair("type", RespValue::text("range")), pair("spec", RespValue::Map(range))];
    RespValue::Map(vec![
        pair("flags", RespValue::Set(simple(key_flags(command, at)))),
        pair("begin_search", RespValue::Map(begin)),
        pair("find_keys", RespValue::Map(find)),
    ])
}

fn docs(command: &'static Command) -> (RespValue, RespValue) {
    let pair = |key: &str, value| (RespValue::text(key), value);
    let mut fields = vec![
        pair("summary", RespValue::text(command.summary)),
        pair("since", RespValue::text("1.0.0")),
        pair("group", RespValue::text(command.group)),
    ];
    let subcommands: Vec<_> = command.subcommands().map(docs).collect();
    if !subcommands.is_empty() {
        fields.push(pair("subcommands", RespValue::Map(subcommands)));
    }
    (RespValue::text(command.name), RespValue::Map(fields))
}
