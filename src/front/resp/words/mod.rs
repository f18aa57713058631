//! The data commands of Redis, one small family a file: their words are read with [`parse`], become
//! steps with [`steps`], and the answers are shown with [`show`].

use std::sync::LazyLock;

use bytes::Bytes;

use super::plan::{Context, Plan};
use super::table;
use crate::codec::resp::value::RespValue;

mod expire;
mod expiry;
mod get_set;
mod many;
mod number;
mod object;
mod parse;
mod part;
mod presence;
mod rename;
mod set;
mod show;
mod steps;
mod ttl;
mod walk;

#[cfg(test)]
mod testkit;

/// Translates a command (or subcommand) whose arity is right.
pub type Translation =
    fn(&'static table::Command, &[Bytes], &Context<'_>) -> Result<Plan, RespValue>;

/// How the command at this place of `table::COMMANDS` is translated, if it is a data command.
pub fn translation(at: usize) -> Option<Translation> {
    static ALL: LazyLock<Vec<Option<Translation>>> =
        LazyLock::new(|| table::COMMANDS.iter().map(|command| of_name(command.name)).collect());
    ALL.get(at).copied().flatten()
}

fn of_name(name: &str) -> Option<Translation> {
    Some(match name {
        "get" => part::get,
        "strlen" => part::strlen,
        "getrange" | "substr" => part::get_range,
        "append" => part::append,
        "setrange" => part::set_range,
        "set" => set::set,
        "setnx" => set::set_nx,
        "setex" | "psetex" => set::set_ex,
        "getset" => get_set::get_set,
        "getdel" => get_set::get_del,
        "getex" => get_set::get_ex,
        "mget" => many::mget,
        "mset" => many::mset,
        "msetnx" => many::mset_nx,
        "incr" | "decr" | "incrby" | "decrby" => number::increment,
        "incrbyfloat" => number::increment_float,
        "exists" => presence::exists,
        "del" | "unlink" => presence::del,
        "touch" => presence::touch,
        "type" => presence::type_of,
        "expire" | "expireat" | "pexpire" | "pexpireat" => expire::expire,
        "persist" => expire::persist,
        "ttl" | "pttl" | "expiretime" | "pexpiretime" => ttl::ttl,
        "rename" | "renamenx" => rename::rename,
        "copy" => rename::copy,
        "keys" => walk::keys,
        "scan" => walk::scan,
        "randomkey" => walk::random_key,
        "dbsize" => walk::size,
        "flushdb" | "flushall" => walk::flush,
        "object" => object::object,
        "memory" => object::memory,
        _ => return None,
    })
}
