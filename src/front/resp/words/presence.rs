//! `EXISTS`, `DEL`, `UNLINK`, `TOUCH`, `TYPE`: whether keys are there, and that they are not any more.

use bytes::Bytes;

use super::parse::key;
use super::{show, steps};
use crate::codec::resp::value::RespValue;
use crate::front::resp::plan::{Context, Plan};
use crate::front::resp::table;
use crate::types::Step;

/// `EXISTS key [key ...]`: a key named twice counts twice.
pub fn exists(
    _: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    if let [_, arg] = args {
        return Ok(Plan::one(steps::inspect(key(arg, context)?), show::took_effect));
    }
    let steps = each(args, context, steps::inspect)?;
    let count = steps.len();
    Ok(Plan::many(steps, move |results| show::found(results, count)))
}

/// `DEL key [key ...]`, and `UNLINK`: memory is given back in the same way by both.
pub fn del(
    _: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    if let [_, arg] = args {
        return Ok(Plan::one(steps::delete(key(arg, context)?), show::took_effect));
    }
    let steps = each(args, context, steps::delete)?;
    let count = steps.len();
    Ok(Plan::many(steps, move |results| show::count(results, count)))
}

/// `TOUCH key [key ...]`: makes them the most recent ones.
pub fn touch(
    _: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let steps = each(args, context, steps::touch)?;
    let count = steps.len();
    // A touch that took effect and one that failed change no value: the failure says all.
    Ok(Plan::many(steps, move |results| show::found(results, count)))
}

/// `TYPE key`: every value is a string.
pub fn type_of(
    _: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    Ok(Plan::one(steps::inspect(key(&args[1], context)?), |result| {
        show::meta(result, |meta| RespValue::Simple(meta.map_or("none", |_| "string")))
    }))
}

fn each(
    args: &[Bytes],
    context: &Context<'_>,
    step: fn(Bytes) -> Step,
) -> Result<Vec<Step>, RespValue> {
    args[1..].iter().map(|arg| key(arg, context).map(step)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use crate::service::Response;
    use crate::types::{Answer, Freshness, Meta, Reason, Reply, ValueKind, Version};

    fn meta() -> Meta {
        let (version, kind) = (Version(1), ValueKind::Bytes);
        Meta { version, value_bytes: 1, kind, ttl_ms: None, deadline_ms: None }
    }

    #[test]
    fn keys_are_counted() {
        let there = |meta| {
            let (answer, freshness) = (Answer::Meta(meta), Freshness::default());
            Ok(Response::Read { answer, freshness })
        };
        let words = &["exists", "a", "b", "a"];
        let shown = shown_all(words, vec![there(Some(meta())), there(None), there(Some(meta()))]);
        assert_eq!(shown, RespValue::Integer(2));
        assert_eq!(read(&["exists", "a"], Answer::Meta(None)), RespValue::Integer(0));
        let version = Version(1);
        let results = || {
            let deleted = Ok(Response::Written(Reply::Deleted { version }));
            vec![deleted, Ok(Response::Written(Reply::NotFound))]
        };
        assert_eq!(shown_all(&["del", "a", "b"], results()), RespValue::Integer(1));
        assert_eq!(shown_all(&["unlink", "a", "b"], results()), RespValue::Integer(1));
        let touched = Ok(Response::Written(Reply::Expires { version, deadline_ms: None }));
        assert_eq!(shown_all(&["touch", "a"], vec![touched]), RespValue::Integer(1));
    }

    /// INV-5: a shard that refused while another deleted is no refusal.
    #[test]
    fn a_deletion_that_is_half_done_is_unknown() {
        let deleted = Ok(Response::Written(Reply::Deleted { version: Version(1) }));
        let results = vec![deleted, Err(Reason::Stopping.into())];
        let text = "UNKNOWN 1 of the keys were changed; the node is stopping";
        assert_eq!(shown_all(&["del", "a", "b"], results), RespValue::error(text));
    }

    #[test]
    fn every_value_is_a_string() {
        let words = &["type", "k"];
        assert_eq!(read(words, Answer::Meta(Some(meta()))), RespValue::Simple("string"));
        assert_eq!(read(words, Answer::Meta(None)), RespValue::Simple("none"));
    }
}
