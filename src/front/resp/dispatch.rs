//! What is to be done about one command: answered at once, planned, queued behind `MULTI`, or refused.

use std::time::Duration;

use bytes::Bytes;

use super::commands;
use super::plan::{self, Context, Plan};
use super::redirect;
use super::serve::Resp;
use super::session::{Queue, Session};
use super::table::{self, Command, shown};
use crate::codec::resp::value::RespValue;
use crate::service::Execute;
use crate::types::Consistency;

/// Most bytes of the arguments that the error for an unknown command repeats, as Redis has it.
const UNKNOWN_ARGUMENTS_BYTES_MAX: usize = 128;

/// Arguments below this are copied when they are kept, bytes.
const OWNED_BYTES_MAX: usize = 16 * 1024;

/// What a command comes to.
pub(super) enum Turn {
    /// Answered.
    Reply(RespValue),
    /// What the data commands come to, and how fresh their reads are.
    Plan(Plan, Consistency),
    /// Changes how what follows is read: what came before is done first.
    Switch(Box<dyn FnOnce(&mut Session) -> RespValue + Send>),
    /// `WATCH` of these keys.
    Watch(Vec<Bytes>),
    /// `EXEC` of what was queued.
    Exec,
    /// `DEBUG SLEEP`.
    Sleep(Duration),
}

impl Turn {
    /// An error of the client's.
    pub(super) fn error(text: impl Into<String>) -> Turn {
        Turn::Reply(RespValue::error(text))
    }
}

/// Takes one command up.
pub(super) fn take_up<S: Execute>(resp: &Resp<S>, session: &mut Session, args: Vec<Bytes>) -> Turn {
    resp.clients.commands.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let command = match table::resolve(&args) {
        Some(Ok(command)) => command,
        Some(Err(error)) => return refuse(session, error),
        None => {
            // What a browser sends for another page, which must not become commands: as Redis does.
            let http = |name: &Bytes| {
                name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
            };
            session.leaving |= args.first().is_some_and(http);
            return refuse(session, unknown(&args));
        }
    };
    session.listed.client.tell(|told| told.last_command = command.name);
    if let Some(error) = redirect::check(resp, session, command, &args) {
        return refuse(session, error);
    }
    if session.queue.is_some() && !is_immediate(command) {
        return queue(resp, session, command, args);
    }
    now(resp, session, command, args)
}

/// Takes a command up outside of `MULTI`, or one that `EXEC` has come to.
pub(super) fn now<S: Execute>(
    resp: &Resp<S>,
    session: &mut Session,
    command: &'static Command,
    args: Vec<Bytes>,
) -> Turn {
    let consistency = consistency(resp, session, command);
    match planned(resp, consistency, &args) {
        Some(Ok(plan)) => Turn::Plan(plan, consistency),
        Some(Err(error)) => Turn::Reply(error),
        None => commands::run(resp, session, command, args),
    }
}

/// The plan of a data command.
fn planned<S>(
    resp: &Resp<S>,
    consistency: Consistency,
    args: &[Bytes],
) -> Option<Result<Plan, RespValue>> {
    let context = Context { limits: &resp.door.limits, now_ms: resp.clock.wall_ms(), consistency };
    plan::plan(args, &context)
}

/// How fresh the reads of a command are. What Redis calls a write is never stale, also where it comes to
/// a read (`GETEX` without a time, `SETRANGE` of nothing): its clients take the answer for the key's.
fn consistency<S>(resp: &Resp<S>, session: &Session, command: &Command) -> Consistency {
    match command.flags.contains(&"write") {
        true => Consistency::Linearizable,
        false => session.consistency(resp.options.readonly_staleness_ms),
    }
}

/// Commands that a connection between `MULTI` and `EXEC` does not queue.
fn is_immediate(command: &Command) -> bool {
    matches!(command.name, "multi" | "exec" | "discard" | "watch" | "quit" | "reset")
}

fn refuse(session: &mut Session, error: RespValue) -> Turn {
    session.spoil();
    Turn::Reply(error)
}

/// Queues a command behind `MULTI`. What cannot be part of one transaction is refused now.
fn queue<S: Execute>(
    resp: &Resp<S>,
    session: &mut Session,
    command: &'static Command,
    args: Vec<Bytes>,
) -> Turn {
    let limits = &resp.door.limits.resp;
    let bytes = args.iter().map(|argument| size_of::<Bytes>() + argument.len()).sum::<usize>();
    let plan = planned(resp, consistency(resp, session, command), &args);
    let Some(queue) = &mut session.queue else { return Turn::error("ERR EXEC without MULTI") };
    let refused = match &plan {
        Some(Ok(Plan::Operation { .. } | Plan::Procedure(_))) => Some(format!(
            "ERR '{}' cannot be part of a transaction here: it is no operation on keys of one shard",
            command.name
        )),
        None if !commands::may_be_queued(command) => {
            Some("ERR Command not allowed inside a transaction".to_owned())
        }
        _ if queue.requests.len() >= limits.operations_max => {
            let max = limits.operations_max;
            Some(format!("ERR a transaction has at most {max} commands"))
        }
        _ if queue.bytes + bytes > limits.operations_bytes_max => {
            let max = limits.operations_bytes_max;
            Some(format!("ERR a transaction has at most {max} bytes"))
        }
        _ => None,
    };
    if let Some(text) = refused {
        queue.spoiled = true;
        return Turn::error(text);
    }
    queue.bytes += bytes;
    queue.requests.push(args.into_iter().map(own).collect());
    tell_queued(session);
    Turn::Reply(RespValue::Simple("QUEUED"))
}

/// An argument that is kept: a short one must not keep the whole buffer it was read into.
pub(super) fn own(argument: Bytes) -> Bytes {
    if argument.len() < OWNED_BYTES_MAX { Bytes::copy_from_slice(&argument) } else { argument }
}

/// Shows in the list of clients what is queued and watched.
pub(super) fn tell_queued(session: &Session) {
    let queued = session.queue.as_ref().map(|queue: &Queue| queue.requests.len());
    let watches = session.watches.len();
    session.listed.client.tell(|told| (told.queued, told.watches) = (queued, watches));
}

/// The error for a name that is no command here. Redis's text where Redis knows none either; where
/// Redis has one, ours says what is here.
fn unknown(args: &[Bytes]) -> RespValue {
    let Some((name, rest)) = args.split_first() else { return RespValue::error("ERR no command") };
    if table::is_of_redis_alone(name) {
        let name = shown(name).to_ascii_uppercase();
        return RespValue::error(format!(
            "ERR '{name}' is not served: this cache holds strings, with counters, expiry, scans and \
             transactions over them; COMMAND LIST names what there is"
        ));
    }
    let mut text = format!("ERR unknown command '{}', with args beginning with: ", shown(name));
    let begin = text.len();
    for argument in rest {
        let left = UNKNOWN_ARGUMENTS_BYTES_MAX.saturating_sub(text.len() - begin);
        if left == 0 {
            break;
        }
        // Only what is repeated is looked at.
        let part = shown(&argument[..argument.len().min(left)]);
        text.push('\'');
        text.push_str(&part);
        text.push_str("' ");
    }
    RespValue::error(text)
}
