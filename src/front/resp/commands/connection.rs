//! `PING`, `HELLO`, `AUTH`, `SELECT`, `READONLY`: a connection as Redis without a password has it.

use bytes::Bytes;

use super::client::set_name;
use super::{integer, is};
use crate::codec::resp::encode::Protocol;
use crate::codec::resp::value::RespValue;
use crate::front::resp::dispatch::Turn;
use crate::front::resp::session::Session;
use crate::front::resp::table::shown;

/// The version of Redis whose behaviour clients may expect.
pub(super) const REDIS_VERSION: &str = "7.0.15";

pub(super) fn ping(args: &[Bytes]) -> RespValue {
    match args {
        [_] => RespValue::Simple("PONG"),
        [_, text] => RespValue::Bulk(text.clone()),
        _ => RespValue::error("ERR wrong number of arguments for 'ping' command"),
    }
}

/// `AUTH`, where no password is set.
pub(super) fn auth(args: &[Bytes]) -> RespValue {
    match args {
        [_, _] => RespValue::error(
            "ERR AUTH <password> called without any password configured for the default user. Are \
             you sure your configuration is correct?",
        ),
        [_, user, _] => login(user),
        _ => super::syntax_error(),
    }
}

/// The default user has every password; there is no other.
fn login(user: &Bytes) -> RespValue {
    match &user[..] {
        b"default" => RespValue::OK,
        _ => RespValue::error("WRONGPASS invalid username-password pair or user is disabled."),
    }
}

/// There is one database.
pub(super) fn select(args: &[Bytes]) -> RespValue {
    match args.get(1).map(integer) {
        Some(Ok(0)) => RespValue::OK,
        Some(Ok(_)) => RespValue::error("ERR DB index is out of range"),
        Some(Err(error)) => error,
        None => super::syntax_error(),
    }
}

/// `READONLY` and `READWRITE`.
pub(super) fn set_readonly(readonly: bool) -> Turn {
    Turn::Switch(Box::new(move |session| {
        session.readonly = readonly;
        session.listed.client.tell(|told| told.readonly = readonly);
        RespValue::OK
    }))
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`. Nothing changes if any part is wrong.
pub(super) fn hello(session: &mut Session, args: &[Bytes]) -> RespValue {
    let mut protocol = session.protocol;
    if let Some(version) = args.get(1) {
        protocol = match integer(version) {
            Ok(2) => Protocol::Resp2,
            Ok(3) => Protocol::Resp3,
            Ok(_) => return RespValue::error("NOPROTO unsupported protocol version"),
            Err(_) => {
                return RespValue::error("ERR Protocol version is not an integer or out of range");
            }
        };
    }
    let mut rest = args.get(2..).unwrap_or_default();
    let mut name = None;
    loop {
        rest = match rest {
            [] => break,
            [word, user, _password, after @ ..] if is(word, "auth") => {
                if let error @ RespValue::Error(_) = login(user) {
                    return error;
                }
                after
            }
            [word, given, after @ ..] if is(word, "setname") => {
                name = Some(given);
                after
            }
            [word, ..] => {
                let word = shown(word);
                return RespValue::error(format!("ERR Syntax error in HELLO option '{word}'"));
            }
        };
    }
    if let Some(name) = name
        && let error @ RespValue::Error(_) = set_name(session, name)
    {
        return error;
    }
    session.protocol = protocol;
    session.listed.client.tell(|told| told.protocol = protocol);
    let id = i64::try_from(session.listed.client.id).unwrap_or(i64::MAX);
    let pair = |key: &str, value| (RespValue::text(key), value);
    RespValue::Map(vec![
        pair("server", RespValue::text("redis")),
        pair("version", RespValue::text(REDIS_VERSION)),
        pair("proto", RespValue::Integer(protocol.number())),
        pair("id", RespValue::Integer(id)),
        pair("mode", RespValue::text("cluster")),
        pair("role", RespValue::text("master")),
        pair("modules", RespValue::Array(Vec::new())),
    ])
}
