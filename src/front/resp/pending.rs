//! How the reply to a command comes about, once the steps it came to are done.

use super::fault::fault;
use super::plan::{RenderAll, RenderOne};
use crate::codec::resp::value::RespValue;
use crate::service::Response;
use crate::types::{Error, Reason};

/// See the module's text.
pub(super) enum Pending {
    /// It is known already.
    Done(RespValue),
    /// Of one step.
    One(RenderOne),
    /// Of so many.
    All(RenderAll, usize),
}

impl Pending {
    /// How many steps it takes the results of.
    pub(super) fn steps(&self) -> usize {
        match self {
            Pending::Done(_) => 0,
            Pending::One(_) => 1,
            Pending::All(_, steps) => *steps,
        }
    }

    /// Takes its results, exactly as many as it had steps, and shows them.
    pub(super) fn show(
        self,
        results: &mut impl Iterator<Item = Result<Response, Error>>,
    ) -> RespValue {
        match self {
            Pending::Done(value) => value,
            Pending::One(render) => render(results.next().unwrap_or_else(|| Err(lacking()))),
            Pending::All(render, steps) => {
                let mut own = results.by_ref().take(steps);
                let value = render(&mut own);
                // Whatever it did not look at is still its own.
                own.for_each(drop);
                value
            }
        }
    }
}

/// Results are as many as steps; if they were not, nobody could say whose are missing.
pub(super) fn lacking() -> Error {
    Reason::Internal { detail: "a result is missing".to_owned() }.into()
}

/// The reply to an operation that was expected to answer something else.
pub(super) fn odd(result: Result<Response, Error>) -> RespValue {
    match result {
        Ok(_) => fault(&lacking()),
        Err(error) => fault(&error),
    }
}
