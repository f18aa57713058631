//! `MGET`, `MSET`, `MSETNX`: several keys at once.

use bytes::Bytes;

use super::parse::{key, value};
use super::{show, steps};
use crate::codec::resp::value::RespValue;
use crate::front::resp::fault::{fault, partly};
use crate::front::resp::plan::{Context, Plan};
use crate::front::resp::table;
use crate::service::{Multi, Operation, Response};
use crate::types::{Error, Reason, Reply, Step, Watch};

/// `MGET key [key ...]`. Keys of one shard are read at one moment only among writes.
pub fn mget(
    _: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let keys = args[1..].iter().map(|arg| key(arg, context));
    let steps = keys.map(|key| key.map(steps::get)).collect::<Result<Vec<Step>, RespValue>>()?;
    let count = steps.len();
    Ok(Plan::many(steps, move |results| {
        let values: Vec<RespValue> = results.take(count).map(show::value).collect();
        let failed = values.iter().position(|value| matches!(value, RespValue::Error(_)));
        match failed {
            Some(at) => values.into_iter().nth(at).expect("it was found there"),
            None => RespValue::Array(values),
        }
    }))
}

/// `MSET key value [key value ...]`. At one moment for keys of one shard; each shard at its own.
pub fn mset(
    command: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let steps = sets(command, args, context)?;
    let count = steps.len();
    Ok(Plan::many(steps, move |results| {
        show::tally(results, count).map_or_else(|error| error, |_| RespValue::OK)
    }))
}

/// `MSETNX key value [key value ...]`: a transaction that watches all keys to be absent.
pub fn mset_nx(
    command: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let steps = sets(command, args, context)?;
    let keys = steps.iter().filter_map(Step::key);
    let watches = keys.map(|key| Watch::of(key.clone(), None)).collect();
    let consistency = context.consistency;
    let multi = Multi { steps, atomic: true, watches, consistency };
    Ok(Plan::operation(Operation::Multi(multi), set_all))
}

fn sets(
    command: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Vec<Step>, RespValue> {
    if args.len().is_multiple_of(2) {
        let name = command.name;
        return Err(RespValue::error(format!(
            "ERR wrong number of arguments for '{name}' command"
        )));
    }
    let pairs = args[1..].chunks_exact(2);
    pairs.map(|pair| Ok(steps::set(key(&pair[0], context)?, value(&pair[1], context)?))).collect()
}

/// 1 if all keys were set, 0 if one of them was there.
fn set_all(result: Result<Response, Error>) -> RespValue {
    let results = match result {
        Ok(Response::Written(Reply::Aborted { .. })) => return RespValue::Integer(0),
        Ok(Response::Multi(results)) => results,
        Ok(other) => {
            let detail = format!("answer of another operation: {other:?}");
            return fault(&Reason::Internal { detail }.into());
        }
        Err(error) => return fault(&error),
    };
    let set = results.iter().filter(|result| result.is_ok()).count();
    match results.into_iter().find_map(Result::err) {
        Some(error) => partly(&error, set),
        None => RespValue::Integer(1),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use crate::types::{Answer, Found, Freshness, Version};

    fn read(found: Option<Found>) -> Result<Response, Error> {
        Ok(Response::Read { answer: Answer::Value(found), freshness: Freshness::default() })
    }

    #[test]
    fn mget_shows_each_value_or_nothing() {
        let words = &["mget", "a", "b"];
        assert_eq!(steps(words).len(), 2);
        let values = shown_all(words, vec![read(Some(found("1"))), read(None)]);
        assert_eq!(values, RespValue::Array(vec![RespValue::text("1"), RespValue::Null]));
        let failed = vec![read(None), Err(Reason::Stopping.into())];
        let error = RespValue::error("TRYAGAIN the node is stopping");
        assert_eq!(shown_all(words, failed), error);
    }

    #[test]
    fn mset_needs_pairs() {
        for name in ["mset", "msetnx"] {
            let text = format!("ERR wrong number of arguments for '{name}' command");
            assert_eq!(error(&[name, "a"]), text);
            assert_eq!(error(&[name, "a", "1", "b"]), text);
        }
        let words = &["mset", "a", "1", "b", "2"];
        let version = Version(1);
        let set = || Ok(Response::Written(Reply::Set { version }));
        assert_eq!(shown_all(words, vec![set(), set()]), RespValue::OK);
        let text = "UNKNOWN 1 of the keys were changed; the node is stopping";
        let half = shown_all(words, vec![set(), Err(Reason::Stopping.into())]);
        assert_eq!(half, RespValue::error(text), "INV-5");
    }

    #[test]
    fn msetnx_watches_all_keys_to_be_absent() {
        let words = &["msetnx", "a", "1", "b", "2"];
        let Operation::Multi(multi) = operation(words) else { panic!("several") };
        assert!(multi.atomic);
        assert!(multi.watches.iter().all(|watch| watch.version.is_none()));
        assert_eq!((multi.watches.len(), multi.steps.len()), (2, 2));
        let aborted = Reply::Aborted { watch: 0, current: Some(Version(1)) };
        assert_eq!(shown(words, aborted), RespValue::Integer(0));
        let set = || Ok(Response::Written(Reply::Set { version: Version(1) }));
        let done = render(words, Ok(Response::Multi(vec![set(), set()])));
        assert_eq!(done, RespValue::Integer(1));
        let across = render(words, Err(Reason::CrossShard { shards: 2 }.into()));
        let text = "CROSSSLOT Keys in request don't hash to the same slot";
        assert_eq!(across, RespValue::error(text));
    }
}
