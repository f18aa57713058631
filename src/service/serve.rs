//! The serving side of forwarding: a frame of a peer's operations for a group of this node.
//!
//! One hop: what was forwarded here is never forwarded on. If this node does not lead, it says so,
//! with a hint, and the origin follows it.

use std::time::Duration;

use bytes::Bytes;
use tracing::Instrument;

use super::execute::{Inner, Service};
use super::local_group::LocalGroup;
use super::router::Located;
use crate::codec::forward::{Operations, Request, Response, Results, answer_bytes, reply_bytes};
use crate::raft::delay::RETRY_AFTER;
use crate::transport::Refusal;
use crate::types::clock::{Instant, now};
use crate::types::limits::{
    APPEND_BYTES_MAX, FRAME_BYTES_MAX, TRANSACTION_OPERATIONS_MAX, TRANSACTION_REPLY_BYTES_MAX,
};
use crate::types::{
    Answer, Command, Consistency, Error, GroupId, NodeId, Query, Reason, Step, Write,
};

/// Longest time a peer may have us work on a frame.
const DEADLINE_MS_MAX: u64 = 60_000;
/// Bytes of values in one answer, not counting the one that crosses the line.
const ANSWER_BYTES_MAX: usize = APPEND_BYTES_MAX;
/// Largest result: a transaction's. The one step that answers no value counts as well.
const RESULT_BYTES_MAX: usize = TRANSACTION_REPLY_BYTES_MAX + 64 * (TRANSACTION_OPERATIONS_MAX + 1);
/// What is told of a shard elsewhere, of whose nodes no majority is connected: at least as long as the
/// connections take to find out.
const NOT_CONNECTED_MS: u64 = 500;
const _: () = assert!(ANSWER_BYTES_MAX + RESULT_BYTES_MAX < FRAME_BYTES_MAX);

impl<G: LocalGroup> Service<G> {
    /// Serves a frame of operations that the node `from` forwarded. The frame is one unit: what
    /// the group fails, fails for all of it. Refuses only what it cannot read, and did nothing
    /// then.
    pub async fn handle_forward(
        &self,
        from: NodeId,
        group: GroupId,
        payload: Bytes,
    ) -> Result<Bytes, Refusal> {
        let bytes = payload.len();
        let request = Request::decode(payload).map_err(|error| Refusal(error.to_string()))?;
        let inner = &self.inner;
        inner.router.learn_epoch(request.epoch);
        let span = tracing::debug_span!(
            "serve_forward", origin = %from, %group, batch = request.batch,
            operations = request.operations.len(), traces = tracing::field::Empty
        );
        if !span.is_disabled() && !request.traces.is_empty() {
            span.record("traces", trace_ids(&request.traces));
        }
        let deadline = now() + Duration::from_millis(request.deadline_ms.min(DEADLINE_MS_MAX));
        let serve = async {
            let served = inner.serve(group, request.operations, bytes, deadline).await;
            tracing::debug!(error = served.as_ref().err().map(tracing::field::display), "served");
            served
        };
        let served = serve.instrument(span).await;
        let results = served.unwrap_or_else(Results::Failed);
        Ok(Response { epoch: inner.router.epoch(), results }.encode())
    }
}

impl<G: LocalGroup> Inner<G> {
    /// Why there is nobody to try.
    pub(super) fn nobody(&self, at: &Located<G>) -> Error {
        if let Some(error) = at.local.as_ref().and_then(LocalGroup::lost_quorum) {
            return error;
        }
        let group = GroupId::of_shard(at.shard);
        if at.local.is_none() && self.status.out_of_reach().contains(&group) {
            let silent_ms = NOT_CONNECTED_MS;
            return Error::from(Reason::NoQuorum { group, silent_ms }).retry_after(RETRY_AFTER);
        }
        match self.status.storage_problem().filter(|_| at.local.is_none()) {
            Some(detail) => Reason::StorageFailed { detail },
            None => Reason::NoLeader { group: GroupId::of_shard(at.shard) },
        }
        .into()
    }

    async fn serve(
        &self,
        group: GroupId,
        operations: Operations,
        bytes: usize,
        deadline: Instant,
    ) -> Result<Results, Error> {
        let _permit = self.admission.admit(operations.len(), bytes)?;
        let Some(local) = self.router.registry().get(group) else {
            tracing::debug!("no replica of the group runs here");
            if let Some(detail) = self.status.storage_problem() {
                return Err(Reason::StorageFailed { detail }.into());
            }
            return Err(Reason::NotOwner { epoch: self.router.epoch() }.into());
        };
        if now() >= deadline {
            return Err(Reason::DeadlineBeforePropose.into());
        }
        match operations {
            Operations::Writes(writes) => {
                let writes = prefix_that_fits(&local, writes, deadline).await;
                // Without an id it could not be asked for again.
                let repeatable = writes.iter().all(|write| write.request_id.is_some());
                let replies = local.write(writes, deadline).await?;
                self.measures.wrote(&replies);
                Ok(Results::Writes(match repeatable {
                    true => fitting(replies, reply_bytes),
                    false => replies,
                }))
            }
            Operations::Reads { consistency, queries } => {
                let (answers, freshness) = local.read(queries, consistency, deadline).await?;
                let answers = fitting(answers, answer_bytes);
                self.measures.read(&answers);
                Ok(Results::Reads { answers, freshness })
            }
            Operations::Lease(ask) => {
                let leased = local.get_or_lease(&ask, deadline).await?;
                self.measures.leased(&leased);
                Ok(Results::Leased(Box::new(leased)))
            }
        }
    }
}

/// The first writes, as many as have replies that fit one answer, going by the values that are there
/// now; the origin sends the rest again. Where they grow meanwhile, what does not fit is asked for
/// again as well and found among the remembered replies.
async fn prefix_that_fits<G: LocalGroup>(
    local: &G,
    mut writes: Vec<Write>,
    deadline: Instant,
) -> Vec<Write> {
    let queries: Vec<Query> =
        writes.iter().flat_map(shown_keys).map(|key| Query::Inspect { key: key.clone() }).collect();
    if queries.is_empty() || writes.len() == 1 {
        return writes;
    }
    let Ok((metas, _)) = local.read(queries, Consistency::Stale, deadline).await else {
        return writes;
    };
    let mut sizes = metas.into_iter().map(|answer| match answer {
        Answer::Meta(Some(meta)) => meta.value_bytes,
        _ => 0,
    });
    let mut bytes = 0;
    let fit = writes.iter().take_while(|write| {
        let fits = bytes < ANSWER_BYTES_MAX as u64;
        bytes += sizes.by_ref().take(shown_keys(write).count()).sum::<u64>();
        fits
    });
    let fit = fit.count();
    writes.truncate(fit);
    writes
}

fn shown_keys(write: &Write) -> impl Iterator<Item = &Bytes> {
    let steps = match &write.command {
        Command::Transaction(transaction) => &transaction.steps[..],
        _ => &[],
    };
    write.command.shown_key().into_iter().chain(steps.iter().filter_map(Step::shown_key))
}

/// Trace ids as `traceparent` writes them, separated by commas.
fn trace_ids(ids: &[u128]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| format!("{id:032x}")).collect();
    ids.join(",")
}

/// The first results, as many as fit one answer; the origin asks again for the rest.
fn fitting<T>(mut results: Vec<T>, bytes_of: impl Fn(&T) -> usize) -> Vec<T> {
    let mut bytes = 0;
    let fit = results
        .iter()
        .take_while(|result| {
            let fits = bytes < ANSWER_BYTES_MAX;
            bytes += bytes_of(result);
            fits
        })
        .count();
    results.truncate(fit);
    results
}
