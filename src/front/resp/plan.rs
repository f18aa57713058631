//! What a data command of Redis becomes: operations of the one request type, and how their answers
//! are shown.

use bytes::Bytes;

use super::procedure::Procedure;
use super::{table, words};
use crate::codec::resp::value::RespValue;
use crate::front::FrontLimits;
use crate::service::{Operation, Response};
use crate::types::{Consistency, Error, Step};

/// Shows the answer of one operation. A closure that captures nothing costs no allocation.
pub type RenderOne = Box<dyn FnOnce(Result<Response, Error>) -> RespValue + Send>;

/// Shows the answers of several: takes from the iterator exactly as many as there were steps, in
/// their order, so that the answers of many commands can be shown one after the other.
pub type RenderAll =
    Box<dyn FnOnce(&mut dyn Iterator<Item = Result<Response, Error>>) -> RespValue + Send>;

/// What a command becomes. Everything in it is within `Context::limits`, so no command spoils the
/// request it is joined into.
pub enum Plan {
    /// One step. It may be joined with those of other commands into one `Multi` (a pipeline, `EXEC`),
    /// or run alone as `Operation::Write` or `Operation::Read`.
    Step {
        /// What to do.
        step: Step,
        /// Shows its answer.
        render: RenderOne,
    },
    /// Several steps, at least one, that may be joined as well. There may be more of them (or more bytes)
    /// than one request takes: outside of `EXEC` they are split, in their order.
    Steps {
        /// What to do.
        steps: Vec<Step>,
        /// Shows their answers.
        render: RenderAll,
    },
    /// An operation of its own (scan, size, flush, `MSETNX`); not joined with others.
    Operation {
        /// What to do.
        operation: Operation,
        /// Shows its answer.
        render: RenderOne,
    },
    /// Several operations one after the other; not joined with others.
    Procedure(Procedure),
    /// Answered here, without the service.
    Reply(RespValue),
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Plan::Step { step, .. } => f.debug_tuple("Step").field(step).finish(),
            Plan::Steps { steps, .. } => f.debug_tuple("Steps").field(steps).finish(),
            Plan::Operation { operation, .. } => {
                f.debug_tuple("Operation").field(operation).finish()
            }
            Plan::Procedure(procedure) => f.debug_tuple("Procedure").field(procedure).finish(),
            Plan::Reply(value) => f.debug_tuple("Reply").field(value).finish(),
        }
    }
}

/// What the translation of a command depends on beside its words.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// What the door accepts.
    pub limits: &'a FrontLimits,
    /// The wall clock, milliseconds since the Unix epoch: decides only whether a deadline is one Redis
    /// would refuse or has come already; what is relative stays relative to log time.
    pub now_ms: u64,
    /// How fresh reads are.
    pub consistency: Consistency,
}

impl Plan {
    /// One step and how its answer is shown.
    pub fn one(
        step: Step,
        render: impl FnOnce(Result<Response, Error>) -> RespValue + Send + 'static,
    ) -> Plan {
        Plan::Step { step, render: Box::new(render) }
    }

    /// Several steps and how their answers are shown.
    pub fn many(
        steps: Vec<Step>,
        render: impl FnOnce(&mut dyn Iterator<Item = Result<Response, Error>>) -> RespValue
        + Send
        + 'static,
    ) -> Plan {
        Plan::Steps { steps, render: Box::new(render) }
    }

    /// An operation of its own and how its answer is shown.
    pub fn operation(
        operation: Operation,
        render: impl FnOnce(Result<Response, Error>) -> RespValue + Send + 'static,
    ) -> Plan {
        Plan::Operation { operation, render: Box::new(render) }
    }
}

/// Translates a data command. `args[0]` is its name; the case does not matter. `None` if it is not a
/// data command (but one of the connection, the server or the cluster, or unknown).
///
/// # Errors
/// Redis's error, text for text, where the arguments are wrong; ours where they are past a limit.
pub fn plan(args: &[Bytes], context: &Context<'_>) -> Option<Result<Plan, RespValue>> {
    let at = table::position(args.first()?)?;
    let translate = words::translation(at)?;
    let checked = table::COMMANDS[at].resolve(args);
    Some(checked.and_then(|command| translate(command, args, context)))
}

/// The keys a command names, in their order (for `MOVED`, `CROSSSLOT` and `COMMAND GETKEYS`); none if
/// it is unknown or its arity is wrong.
pub fn keys(args: &[Bytes]) -> Vec<&Bytes> {
    match table::resolve(args) {
        Some(Ok(command)) => command.keys(args),
        Some(Err(_)) | None => Vec::new(),
    }
}
