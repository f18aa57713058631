//! Commands of the connection, the server and the cluster.

mod access;
mod client;
mod cluster;
mod command;
mod config;
mod connection;
mod help;
mod info;
mod server;

use bytes::Bytes;

use super::dispatch::Turn;
use super::serve::Resp;
use super::session::Session;
use super::table::Command;
use super::transaction;
use crate::codec::resp::value::RespValue;
use crate::service::Execute;

/// Takes up a command that is no data command.
pub(super) fn run<S: Execute>(
    resp: &Resp<S>,
    session: &mut Session,
    command: &'static Command,
    args: Vec<Bytes>,
) -> Turn {
    let (name, sub) = command.name.split_once('|').unwrap_or((command.name, ""));
    if let Some(lines) = (sub == "help").then(|| help::help(name)).flatten() {
        return Turn::Reply(lines);
    }
    match name {
        "ping" => Turn::Reply(connection::ping(&args)),
        "echo" => Turn::Reply(args.into_iter().nth(1).map_or(RespValue::Null, RespValue::Bulk)),
        "hello" => Turn::Reply(connection::hello(session, &args)),
        "auth" => Turn::Reply(connection::auth(&args)),
        "select" => Turn::Reply(connection::select(&args)),
        "asking" => Turn::Reply(RespValue::OK),
        "quit" => {
            session.leaving = true;
            Turn::Reply(RespValue::OK)
        }
        "reset" => Turn::Switch(Box::new(|session| {
            session.reset();
            RespValue::Simple("RESET")
        })),
        "readonly" => connection::set_readonly(true),
        "readwrite" => connection::set_readonly(false),
        "multi" => Turn::Reply(transaction::multi(session)),
        "exec" => Turn::Exec,
        "discard" => Turn::Reply(transaction::discard(session)),
        "watch" if session.queue.is_some() => Turn::error("ERR WATCH inside MULTI is not allowed"),
        "watch" => Turn::Watch(args.into_iter().skip(1).collect()),
        "unwatch" => Turn::Reply(transaction::unwatch(session)),
        "client" => client::run(resp, session, command, &args),
        "cluster" => cluster::run(resp, session, command, &args),
        "command" => Turn::Reply(command::run(command, &args)),
        "config" => Turn::Reply(config::run(resp, command, &args)),
        "info" => Turn::Reply(info::info(resp, &args)),
        "time" => Turn::Reply(server::time(resp)),
        "wait" => Turn::Reply(server::wait(resp, &args)),
        "debug" => server::debug(resp, &args),
        name => Turn::error(format!("ERR '{name}' is not served here")),
    }
}

/// Whether a command that is no data command may stand between `MULTI` and `EXEC`.
pub(super) fn may_be_queued(command: &Command) -> bool {
    !matches!(
        command.name,
        "hello"
            | "auth"
            | "debug"
            | "client|reply"
            | "cluster|countkeysinslot"
            | "cluster|getkeysinslot"
            // What these answer is large: a thousand of them at one moment would be too much.
            | "cluster|nodes"
            | "cluster|shards"
            | "cluster|slots"
            | "client|list"
            | "command"
            | "command|docs"
            | "command|info"
            | "command|list"
            | "info"
    )
}

/// A whole number of the client's.
///
/// # Errors
/// Redis's text.
fn integer(word: &Bytes) -> Result<i64, RespValue> {
    let text = std::str::from_utf8(word).ok();
    // No plus, no leading zeros, as `string2ll` has it.
    let plain = |text: &&str| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        **text == *"0" || digits.starts_with(|c: char| ('1'..='9').contains(&c))
    };
    let number = text.filter(plain).and_then(|text| text.parse().ok());
    number.ok_or_else(|| RespValue::error("ERR value is not an integer or out of range"))
}

/// Whether a word of the client's is this one; the case does not matter.
fn is(word: &Bytes, expected: &str) -> bool {
    word.eq_ignore_ascii_case(expected.as_bytes())
}

/// Redis's text for options that do not fit together.
fn syntax_error() -> RespValue {
    RespValue::error("ERR syntax error")
}
