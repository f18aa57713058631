//! `MULTI`, `EXEC`, `DISCARD`, `WATCH`, `UNWATCH`
//! (<https://redis.io/docs/latest/develop/interact/transactions/>).
//!
//! `WATCH` reads the version a key has; `EXEC` asks for one atomic request of all that was queued, which
//! is applied only if every watched key still has its version. Versions only grow, so a key that was
//! changed and changed back counts as changed, as in Redis. An absent key has no version: that of the
//! state it was absent in stands for it, and whatever was removed since is known by its own. All keys belong to one shard.

use bytes::Bytes;

use super::dispatch::{self, Turn, own, tell_queued};
use super::fault::fault;
use super::pending::{Pending, lacking, odd};
use super::pipeline::Pipeline;
use super::plan::Plan;
use super::session::{Queue, Session};
use super::table;
use crate::codec::resp::value::RespValue;
use crate::service::{Execute, Multi, Operation, Response};
use crate::types::{Answer, Consistency, Query, Reply, Step, Watch};

/// `MULTI`.
pub(super) fn multi(session: &mut Session) -> RespValue {
    if session.queue.is_some() {
        return RespValue::error("ERR MULTI calls can not be nested");
    }
    session.queue = Some(Queue::default());
    tell_queued(session);
    RespValue::OK
}

/// `DISCARD`.
pub(super) fn discard(session: &mut Session) -> RespValue {
    if session.queue.take().is_none() {
        return RespValue::error("ERR DISCARD without MULTI");
    }
    unwatch(session)
}

/// `UNWATCH`.
pub(super) fn unwatch(session: &mut Session) -> RespValue {
    session.watches.clear();
    tell_queued(session);
    RespValue::OK
}

/// `WATCH`: remembers which versions these keys have now.
pub(super) async fn watch<S: Execute>(
    pipeline: &mut Pipeline<'_, S>,
    keys: Vec<Bytes>,
) -> RespValue {
    let operations_max = pipeline.resp.door.limits.resp.operations_max;
    let mut new: Vec<Bytes> = Vec::new();
    for key in keys {
        // A key that is watched already keeps its version.
        let known = pipeline.session.watches.iter().any(|watch| watch.key == key);
        if !known && !new.contains(&key) {
            new.push(own(key));
        }
        if pipeline.session.watches.len() + new.len() > operations_max {
            return RespValue::error(format!("ERR at most {operations_max} keys can be watched"));
        }
    }
    let steps = new.iter().map(|key| Step::Read(Query::Inspect { key: key.clone() })).collect();
    let multi = Multi { steps, consistency: Consistency::Linearizable, ..Multi::default() };
    let results = match pipeline.execute(Operation::Multi(multi)).await {
        Ok(Response::Multi(results)) => results,
        other => return odd(other),
    };
    let mut watches = Vec::with_capacity(new.len());
    for (key, result) in new.into_iter().zip(results) {
        match result {
            Ok(Response::Read { answer: Answer::Meta(Some(meta)), .. }) => {
                watches.push(Watch::of(key, Some(meta.version)));
            }
            Ok(Response::Read { answer: Answer::Meta(None), freshness }) => {
                watches.push(Watch::absent_since(key, freshness.version));
            }
            other => return odd(other),
        }
    }
    pipeline.session.watches.extend(watches);
    tell_queued(pipeline.session);
    RespValue::OK
}

/// `EXEC`.
pub(super) async fn exec<S: Execute>(pipeline: &mut Pipeline<'_, S>) -> RespValue {
    let Some(queue) = pipeline.session.queue.take() else {
        return RespValue::error("ERR EXEC without MULTI");
    };
    let watches = std::mem::take(&mut pipeline.session.watches);
    tell_queued(pipeline.session);
    if queue.spoiled {
        return RespValue::error("EXECABORT Transaction discarded because of previous errors.");
    }
    let (mut steps, mut parts) = (Vec::new(), Vec::with_capacity(queue.requests.len()));
    for request in queue.requests {
        parts.push(part(pipeline, request, &mut steps));
    }
    let mut results = Vec::new().into_iter();
    if !steps.is_empty() || !watches.is_empty() {
        let consistency = Consistency::Linearizable;
        let multi = Multi { steps, atomic: true, watches, consistency };
        results = match pipeline.execute(Operation::Multi(multi)).await {
            Ok(Response::Multi(results)) => results.into_iter(),
            Ok(Response::Written(Reply::Aborted { .. })) => return RespValue::NullArray,
            other => return odd(other),
        };
    }
    let values = parts.into_iter().map(|part| part.show(&mut results));
    RespValue::Array(values.collect())
}

/// A queued command, when its turn has come. What it asks of keys goes to `steps`.
fn part<S: Execute>(
    pipeline: &mut Pipeline<'_, S>,
    request: Vec<Bytes>,
    steps: &mut Vec<Step>,
) -> Pending {
    let command = match table::resolve(&request) {
        Some(Ok(command)) => command,
        Some(Err(error)) => return Pending::Done(error),
        None => return Pending::Done(fault(&lacking())),
    };
    match dispatch::now(pipeline.resp, pipeline.session, command, request) {
        Turn::Reply(value) | Turn::Plan(Plan::Reply(value), _) => Pending::Done(value),
        Turn::Switch(switch) => Pending::Done(switch(pipeline.session)),
        Turn::Plan(Plan::Step { step, render }, _) => {
            steps.push(step);
            Pending::One(render)
        }
        Turn::Plan(Plan::Steps { steps: more, render }, _) => {
            let count = more.len();
            steps.extend(more);
            Pending::All(render, count)
        }
        // Not queued in the first place.
        Turn::Plan(Plan::Operation { .. } | Plan::Procedure(_), _)
        | Turn::Watch(_)
        | Turn::Exec
        | Turn::Sleep(_) => {
            Pending::Done(RespValue::error("ERR the command cannot be part of a transaction here"))
        }
    }
}
