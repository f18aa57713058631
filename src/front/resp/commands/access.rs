//! What `COMMAND` tells of commands that the table has no column for: categories and the use of keys, as
//! Redis 7.0 has them.

use bytes::Bytes;

use crate::front::resp::table::Command;

/// ACL categories (`@string`), each once: those that follow from the flags as in
/// `setImplicitACLCategories` of Redis, then those of the group.
pub(super) fn categories(command: &Command) -> Vec<&'static str> {
    let has = |flag: &str| command.flags.contains(&flag);
    let dangerous = matches!(command.name, "flushall" | "flushdb" | "info" | "keys");
    let mut categories = Vec::new();
    for (holds, category) in [
        (is_keyspace(command), "@keyspace"),
        (has("write"), "@write"),
        (has("readonly"), "@read"),
        (command.group == "string", "@string"),
        (has("admin"), "@admin"),
        (has("fast"), "@fast"),
        (!has("fast"), "@slow"),
        (has("admin") || dangerous, "@dangerous"),
        (is_connection(command), "@connection"),
        (command.group == "transactions", "@transaction"),
    ] {
        if holds {
            categories.push(category);
        }
    }
    categories
}

fn is_keyspace(command: &Command) -> bool {
    match command.name {
        "dbsize" | "flushall" | "flushdb" => true,
        "object" | "wait" => false,
        _ => command.group == "generic",
    }
}

fn is_connection(command: &Command) -> bool {
    match command.name {
        "client" => false,
        "asking" | "readonly" | "readwrite" | "wait" => true,
        name => command.group == "connection" || name.split('|').next() == Some("command"),
    }
}

/// How a command uses the key at place `at` among its own: the flags of its key specification
/// (<https://redis.io/docs/latest/develop/reference/key-specs/>).
pub(super) fn key_flags(command: &Command, at: usize) -> &'static [&'static str] {
    match command.name {
        "append" => &["RW", "insert"],
        "copy" if at == 0 => &["RO", "access"],
        "mset" | "psetex" | "setex" | "copy" => &["OW", "update"],
        "del" | "unlink" => &["RM", "delete"],
        "decr" | "decrby" | "getex" | "getset" | "incr" | "incrby" | "incrbyfloat" => {
            &["RW", "access", "update"]
        }
        "getdel" => &["RW", "access", "delete"],
        "rename" | "renamenx" if at == 0 => &["RW", "access", "delete"],
        "rename" => &["OW", "update"],
        "msetnx" | "setnx" | "renamenx" => &["OW", "insert"],
        "set" => &["RW", "access", "update", "variable_flags"],
        "expiretime" | "get" | "getrange" | "mget" | "pexpiretime" | "pttl" | "substr" | "ttl" => {
            &["RO", "access"]
        }
        _ if command.flags.contains(&"write") => &["RW", "update"],
        _ => &["RO"],
    }
}

/// The same of one call: what depends on the words of `SET` is known then.
pub(super) fn key_flags_of_call(
    command: &Command,
    args: &[Bytes],
    at: usize,
) -> &'static [&'static str] {
    match command.name {
        "set" if args.iter().skip(3).any(|word| super::is(word, "get")) => {
            &["RW", "access", "update"]
        }
        "set" => &["OW", "update"],
        _ => key_flags(command, at),
    }
}
