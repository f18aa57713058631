//! `CLIENT`: what a connection says and asks about connections.

use bytes::Bytes;

use super::is;
use crate::codec::resp::value::RespValue;
use crate::front::resp::clients::Told;
use crate::front::resp::dispatch::Turn;
use crate::front::resp::options::Redirect;
use crate::front::resp::serve::Resp;
use crate::front::resp::session::{Replies, Session};
use crate::front::resp::table::{Command, shown};

/// Longest name of a client or its library, bytes: each is kept.
const NAME_BYTES_MAX: usize = 256;

pub(super) fn run<S>(
    resp: &Resp<S>,
    session: &mut Session,
    command: &Command,
    args: &[Bytes],
) -> Turn {
    let first = args.get(2);
    let reply = match (command.name, first) {
        ("client|id", _) => {
            RespValue::Integer(i64::try_from(session.listed.client.id).unwrap_or(i64::MAX))
        }
        ("client|getname", _) => match session.listed.client.told().name {
            name if name.is_empty() => RespValue::Null,
            name => RespValue::text(name),
        },
        ("client|setname", Some(name)) => set_name(session, name),
        ("client|setinfo", Some(what)) => set_info(session, what, args.get(3)),
        ("client|info", _) => RespValue::Verbatim(session.listed.client.line()),
        ("client|list", _) => RespValue::Verbatim(resp.clients.list()),
        ("client|no-evict" | "client|no-touch", Some(word)) => match on_off(word) {
            // Nothing of a client is ever evicted, and reads of every client count alike.
            Some(_) => RespValue::OK,
            None => super::syntax_error(),
        },
        ("client|reply", Some(word)) => return reply_mode(session, word),
        ("client|redirect", Some(word)) => set_redirect(session, word),
        ("client|tracking", Some(word)) if is(word, "off") => RespValue::OK,
        ("client|tracking", _) => RespValue::error(
            "ERR client side caching is not served: nobody would tell the client of changes",
        ),
        ("client|getredir", _) => RespValue::Integer(-1),
        (name, _) => RespValue::error(format!("ERR '{name}' is not served here")),
    };
    Turn::Reply(reply)
}

/// Gives the client a name; an empty one takes it away.
pub(super) fn set_name(session: &Session, name: &Bytes) -> RespValue {
    match checked(name) {
        Some(name) => {
            session.listed.client.tell(|told| told.name = name);
            RespValue::OK
        }
        None => RespValue::error(
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ),
    }
}

/// `CLIENT SETINFO LIB-NAME|LIB-VER`, which is of Redis 7.2: client libraries send it unasked.
fn set_info(session: &Session, what: &Bytes, value: Option<&Bytes>) -> RespValue {
    let Some(value) = value else { return super::syntax_error() };
    let set: fn(&mut Told, String) = match what {
        what if is(what, "lib-name") => |told, value| told.library = value,
        what if is(what, "lib-ver") => |told, value| told.library_version = value,
        what => {
            let what = shown(what);
            return RespValue::error(format!("ERR Unrecognized option '{what}'"));
        }
    };
    match checked(value) {
        Some(value) => {
            session.listed.client.tell(|told| set(told, value));
            RespValue::OK
        }
        None => {
            let what = shown(what).to_ascii_lowercase();
            RespValue::error(format!(
                "ERR {what} cannot contain spaces, newlines or special characters."
            ))
        }
    }
}

/// What stands in one field of a line of the list: printable ASCII without spaces.
fn checked(name: &Bytes) -> Option<String> {
    let fits = name.len() <= NAME_BYTES_MAX && name.iter().all(u8::is_ascii_graphic);
    fits.then(|| String::from_utf8_lossy(name).into_owned())
}

fn on_off(word: &Bytes) -> Option<bool> {
    match word {
        word if is(word, "on") => Some(true),
        word if is(word, "off") => Some(false),
        _ => None,
    }
}

/// `CLIENT REPLY ON|OFF|SKIP`: only `ON` is answered.
fn reply_mode(session: &mut Session, word: &Bytes) -> Turn {
    session.replies = match word {
        word if is(word, "on") => Replies::All,
        word if is(word, "off") => Replies::None,
        word if is(word, "skip") => match session.replies {
            Replies::None => Replies::None,
            _ => Replies::SkipNext,
        },
        _ => return Turn::Reply(super::syntax_error()),
    };
    Turn::Reply(RespValue::OK)
}

/// `CLIENT REDIRECT AUTO|MOVED|FORWARD`, which is ours: whether this connection is told which node
/// leads a key or gets the answer from there.
fn set_redirect(session: &mut Session, word: &Bytes) -> RespValue {
    session.redirect = match word {
        word if is(word, "auto") => Redirect::Auto,
        word if is(word, "moved") => Redirect::Moved,
        word if is(word, "forward") => Redirect::Forward,
        _ => return super::syntax_error(),
    };
    RespValue::OK
}
