//! `COMMAND`: which commands there are, from the one table.

use bytes::Bytes;

use crate::codec::resp::value::RespValue;
use crate::front::resp::plan;
use crate::front::resp::table::{self, COMMANDS, Command};

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
        "command|list" => {
            RespValue::Array(COMMANDS.iter().map(|command| RespValue::text(command.name)).collect())
        }
        "command|info" if !names.is_empty() => {
            let info = |name| find(name).map_or(RespValue::NullArray, info);
            RespValue::Array(names.iter().map(info).collect())
        }
        "command|docs" if !names.is_empty() => {
            RespValue::Map(names.iter().filter_map(|name| find(name)).map(docs).collect())
        }
        "command|docs" => RespValue::Map(COMMANDS.iter().map(docs).collect()),
        "command|getkeys" => match keys(names) {
            Ok(keys) => RespValue::Array(keys.into_iter().map(RespValue::Bulk).collect()),
            Err(error) => error,
        },
        _ => RespValue::Array(COMMANDS.iter().map(info).collect()),
    }
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

/// The keys among the arguments of a whole command.
fn keys(args: &[Bytes]) -> Result<Vec<Bytes>, RespValue> {
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
    Ok(plan::keys(args).into_iter().cloned().collect())
}

/// Ten elements, as Redis 7.0 has them.
fn info(command: &'static Command) -> RespValue {
    let integer = |number: i32| RespValue::Integer(i64::from(number));
    let flags = command.flags.iter().map(|flag| RespValue::Simple(flag)).collect();
    RespValue::Array(vec![
        RespValue::text(command.name),
        integer(command.arity),
        RespValue::Set(flags),
        integer(command.first_key),
        integer(command.last_key),
        integer(command.step),
        RespValue::Set(categories(command)),
        RespValue::Set(Vec::new()),
        RespValue::Set(key_specs(command)),
        RespValue::Array(command.subcommands().map(info).collect()),
    ])
}

/// ACL categories that follow from what the table has.
fn categories(command: &Command) -> Vec<RespValue> {
    let mut categories = Vec::new();
    for (flag, category) in
        [("write", "@write"), ("readonly", "@read"), ("admin", "@admin"), ("fast", "@fast")]
    {
        if command.flags.contains(&flag) {
            categories.push(RespValue::Simple(category));
        }
    }
    let group = match command.group {
        "string" => "@string",
        "generic" => "@keyspace",
        "connection" => "@connection",
        "transactions" => "@transaction",
        _ => "@slow",
    };
    categories.push(RespValue::Simple(group));
    categories
}

/// Where the keys stand, in the form of Redis 7.0
/// (<https://redis.io/docs/latest/develop/reference/key-specs/>).
fn key_specs(command: &Command) -> Vec<RespValue> {
    if command.first_key == 0 {
        return Vec::new();
    }
    let pair = |key: &str, value| (RespValue::text(key), value);
    let integer = |number: i32| RespValue::Integer(i64::from(number));
    let access = if command.flags.contains(&"write") { "RW" } else { "RO" };
    // Counted from the first key, or from the end if negative.
    let last =
        if command.last_key < 0 { command.last_key } else { command.last_key - command.first_key };
    let begin = vec![
        pair("type", RespValue::text("index")),
        pair("spec", RespValue::Map(vec![pair("index", integer(command.first_key))])),
    ];
    let range = vec![
        pair("lastkey", integer(last)),
        pair("keystep", integer(command.step)),
        pair("limit", integer(0)),
    ];
    let find = vec![pair("type", RespValue::text("range")), pair("spec", RespValue::Map(range))];
    vec![RespValue::Map(vec![
        pair("flags", RespValue::Set(vec![RespValue::Simple(access)])),
        pair("begin_search", RespValue::Map(begin)),
        pair("find_keys", RespValue::Map(find)),
    ])]
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
