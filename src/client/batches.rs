//! The way of several operations through their attempts.
//!
//! The client splits a batch by shard, and each part goes to the leader of its shard under a request
//! id of its own. A node could split it as well; but then one lost answer would leave everything
//! unknown, one node would carry what three can, and every part but its own would be forwarded. In
//! this way what becomes of one shard says nothing of the others.
//!
//! A part stays what it was in all its attempts, also if slots move meanwhile: a shard answers a
//! request id with what it did under it first. What is told of an operation once stands; an operation
//! that failed for now is tried again together with its part, and those that were applied get their
//! first answers (INV-6).

use std::collections::BTreeMap;

use futures_util::{FutureExt as _, StreamExt as _, stream};

use super::answers::{Found, Read, Value, Written};
use super::ask::{Answer, Ask};
use super::attempts::Attempts;
use super::batch::{Batch, Done, Step, Transacted, Watch};
use super::calls::{Client, Task};
use super::error::{Error, Failure};
use super::messages;
use super::operations::other_answer;
use super::requests::{Consistency, GetOptions};
use crate::core::slot::slot_of;
use crate::pb;
use crate::types::Outcome;

/// Parts of one batch that are under way at once.
const PARTS_TOGETHER_MAX: usize = 64;

type Outcomes = Vec<Result<Done, Error>>;

/// What is known so far of the operations of one part, in order.
struct Known<'a> {
    steps: Vec<&'a Step>,
    results: Vec<Option<Result<Done, Error>>>,
}

impl<'a> Known<'a> {
    fn new(steps: Vec<&'a Step>) -> Self {
        let results = vec![None; steps.len()];
        Known { steps, results }
    }

    fn writes(&self) -> bool {
        self.steps.iter().any(|step| step.writes())
    }

    /// Takes the results of a transaction, all of which are final: a shard that is asked again under the
    /// same request id answers the same.
    fn take_all(
        &mut self,
        results: Vec<pb::BatchResult>,
        before: &Attempts,
    ) -> Result<(), Failure> {
        if results.len() != self.steps.len() {
            return Err(Failure::bad_answer("other results than operations"));
        }
        for (i, result) in results.into_iter().enumerate() {
            let end = |failure| before.final_error(failure, self.steps[i].writes());
            self.results[i] = Some(Done::of(result).map_err(end));
        }
        Ok(())
    }

    /// Takes the results of an attempt that say how an operation ended. If others are to be tried
    /// again, why.
    fn take(&mut self, results: Vec<pb::BatchResult>, before: &Attempts) -> Result<(), Failure> {
        if results.len() != self.steps.len() {
            return Err(Failure::bad_answer("other results than operations"));
        }
        let mut again: Option<Failure> = None;
        for (i, result) in results.into_iter().enumerate() {
            if self.results[i].is_some() {
                continue;
            }
            match Done::of(result) {
                Ok(done) => self.results[i] = Some(Ok(done)),
                // One that may have been applied decides for all that are tried again.
                Err(failure) if failure.again() => {
                    let worse = failure.outcome == Outcome::Unknown;
                    if again.as_ref().is_none_or(|known| worse && known.outcome != failure.outcome)
                    {
                        again = Some(failure);
                    }
                }
                Err(failure) => {
                    let error = before.final_error(failure, self.steps[i].writes());
                    self.results[i] = Some(Err(error));
                }
            }
        }
        again.map_or(Ok(()), Err)
    }

    /// What became of each, where `failed` is what became of those of which nothing was told.
    fn end(self, failed: Option<&Error>) -> Outcomes {
        let nothing = Error::rejected("bad_answer", "nothing was told of the operation");
        let end = |(step, result): (&Step, Option<_>)| {
            result.unwrap_or_else(|| {
                let error = failed.unwrap_or(&nothing).clone();
                // Reads change nothing, whatever becomes of the writes beside them.
                let outcome = if step.writes() { error.outcome } else { Outcome::Rejected };
                Err(Error { outcome, ..error })
            })
        };
        self.steps.into_iter().zip(self.results).map(end).collect()
    }
}

fn message(steps: &[&Step], consistency: Consistency) -> pb::BatchRequest {
    let operation = |step: &&Step| pb::BatchOperation { operation: Some(step.operation.clone()) };
    let (consistency, max_staleness) = messages::consistency(consistency);
    pb::BatchRequest {
        operations: steps.iter().map(operation).collect(),
        consistency,
        max_staleness,
        ..pb::BatchRequest::default()
    }
}

impl Client {
    /// Does several operations, each with a result of its own, in order. They are split by shard: those
    /// of one shard are done in order and, if there is a write among them, at one moment; different
    /// shards go on at the same time, and one that fails says nothing of the others.
    pub async fn batch(&self, batch: &Batch) -> Vec<Result<Done, Error>> {
        let table = self.inner.router.table();
        let mut parts: BTreeMap<Option<u16>, Vec<usize>> = BTreeMap::new();
        for (at, step) in batch.steps.iter().enumerate() {
            parts.entry(table.shard_at(step.slot)).or_default().push(at);
        }
        let parts: Vec<_> = parts
            .into_values()
            .map(|places| {
                let steps = places.iter().map(|at| &batch.steps[*at]).collect();
                let part = self.part(steps, batch.consistency);
                part.map(|results| places.into_iter().zip(results)).boxed()
            })
            .collect();
        let mut ended: Vec<_> = stream::iter(parts)
            .buffer_unordered(PARTS_TOGETHER_MAX)
            .flat_map(stream::iter)
            .collect()
            .await;
        ended.sort_unstable_by_key(|(at, _)| *at);
        ended.into_iter().map(|(_, result)| result).collect()
    }

    /// Operations of one shard.
    async fn part(&self, steps: Vec<&Step>, consistency: Consistency) -> Outcomes {
        let mut message = message(&steps, consistency);
        let (slot, mut known) = (steps[0].slot, Known::new(steps));
        let _ticket;
        let task = if known.writes() {
            match self.ticket() {
                Ok(ticket) => {
                    message.request_id = Some(ticket.id());
                    _ticket = ticket;
                }
                Err(error) => return known.end(Some(&error)),
            }
            Task::write(Ask::Batch(message), slot)
        } else {
            Task::read(Ask::Batch(message), slot, consistency)
        };
        let read = |answer, before: &Attempts| match answer {
            Answer::Batch(reply) => known.take(reply.results, before),
            _ => other_answer("a batch"),
        };
        let ended = self.run(task, read).await;
        known.end(ended.err().as_ref())
    }

    /// Does several operations of one shard as one transaction, or, if a watch does not hold, none. All
    /// keys, those of the watches as well, must belong to one shard: give them one `{hash tag}`.
    ///
    /// # Errors
    /// As [`Client::set`]; `cross_shard` if the keys belong to several shards.
    pub async fn atomic(&self, batch: &Batch, watches: &[Watch]) -> Result<Transacted, Error> {
        let steps: Vec<&Step> = batch.steps.iter().collect();
        let watched = watches.first().map(|watch| slot_of(&watch.key));
        let Some(slot) = steps.first().map(|step| step.slot).or(watched) else {
            return Ok(Transacted::Done(Vec::new()));
        };
        let ticket = self.ticket()?;
        let message = pb::BatchRequest {
            atomic: true,
            watches: watches.iter().map(Watch::message).collect(),
            request_id: Some(ticket.id()),
            ..message(&steps, Consistency::Linearizable)
        };
        let mut known = Known::new(steps);
        let read = |answer, before: &Attempts| match answer {
            Answer::Batch(reply) if reply.aborted => Ok(Some(Transacted::Aborted {
                watch: reply.aborted_watch as usize,
                version: reply.current_version,
            })),
            Answer::Batch(reply) => known.take_all(reply.results, before).map(|()| None),
            _ => other_answer("a transaction"),
        };
        let aborted = self.run(Task::write(Ask::Batch(message), slot), read).await?;
        Ok(aborted.unwrap_or_else(|| Transacted::Done(known.end(None))))
    }

    /// Reads many keys, each at its own moment.
    pub async fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Vec<Result<Option<Found>, Error>> {
        let reads = self.multi_get_with(keys, GetOptions::default()).await;
        reads.into_iter().map(|read| Ok(read?.found)).collect()
    }

    /// The same, as fresh as asked for.
    pub async fn multi_get_with<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
        options: GetOptions,
    ) -> Vec<Result<Read, Error>> {
        let mut batch = Batch::new();
        batch.consistency(options.consistency);
        for key in keys {
            batch.get(key);
        }
        let read = |done| match done {
            Done::Get(read) => Ok(read),
            _ => Err(Error::rejected("bad_answer", "another answer than that of a read")),
        };
        self.batch(&batch).await.into_iter().map(|done| done.and_then(read)).collect()
    }

    /// Sets many keys. Each has its own result; [`Client::atomic`] sets all or none.
    pub async fn multi_set<K: AsRef<[u8]>, V: Into<Value>>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Vec<Result<Written, Error>> {
        let mut batch = Batch::new();
        for (key, value) in entries {
            batch.set(key, value);
        }
        let read = |done| match done {
            Done::Set(written) => Ok(written),
            _ => Err(Error {
                outcome: Outcome::Unknown,
                ..Error::rejected("bad_answer", "another answer than that of a set")
            }),
        };
        self.batch(&batch).await.into_iter().map(|done| done.and_then(read)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Options;
    use crate::client::attempts::Next;

    fn attempts() -> Attempts {
        Attempts::new(true, &Options::new(["a:1"]))
    }

    fn results(results: Vec<pb::batch_result::Result>) -> Vec<pb::BatchResult> {
        results.into_iter().map(|result| pb::BatchResult { result: Some(result) }).collect()
    }

    fn set(version: u64) -> pb::batch_result::Result {
        pb::batch_result::Result::Set(pb::SetResponse { applied: true, version, old: None })
    }

    fn failure(reason: &str, unknown: bool, retryable: bool) -> pb::batch_result::Result {
        use pb::error_detail::Outcome;
        let outcome = if unknown { Outcome::Unknown } else { Outcome::Rejected };
        let detail = pb::ErrorDetail {
            outcome: outcome.into(),
            reason: reason.to_owned(),
            retryable,
            ..pb::ErrorDetail::default()
        };
        let message = reason.to_owned();
        pb::batch_result::Result::Failure(pb::Failure { code: 9, message, detail: Some(detail) })
    }

    fn three_sets() -> Batch {
        let mut batch = Batch::new();
        batch.set("a", "1").set("b", "2").get("c");
        batch
    }

    #[test]
    fn what_was_told_once_stands_and_the_rest_is_tried_again() {
        let (batch, mut before) = (three_sets(), attempts());
        let mut known = Known::new(batch.steps.iter().collect());
        let read = || pb::batch_result::Result::Get(pb::GetResponse::default());
        let first = vec![set(7), failure("no_leader", false, true), read()];
        let again = known.take(results(first), &before).unwrap_err();
        assert_eq!((again.reason.as_str(), again.outcome), ("no_leader", Outcome::Rejected));
        assert!(matches!(before.failed(again, 0.5), Next::Pause(_)));
        let second = vec![set(9), set(8), failure("not_ready", false, true)];
        known.take(results(second), &before).unwrap();
        let versions: Vec<u64> = known
            .end(None)
            .into_iter()
            .map(|done| match done.unwrap() {
                Done::Set(written) => written.version,
                Done::Get(read) => read.index,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(versions, [7, 8, 0]);
    }

    #[test]
    fn an_operation_of_a_part_that_got_lost_stays_unknown_and_a_read_never_is() {
        let (batch, mut before) = (three_sets(), attempts());
        let mut known = Known::new(batch.steps.iter().collect());
        let first = vec![
            failure("no_leader", false, true),
            failure("lost", true, true),
            failure("lost", true, true),
        ];
        let again = known.take(results(first), &before).unwrap_err();
        assert_eq!(again.reason, "lost", "the one that may have been applied decides");
        assert!(matches!(before.failed(again, 0.5), Next::Pause(_)));
        let refused = || failure("too_large", false, false);
        known.take(results(vec![refused(), refused(), refused()]), &before).unwrap();
        let outcomes: Vec<Outcome> =
            known.end(None).into_iter().map(|done| done.unwrap_err().outcome).collect();
        assert_eq!(outcomes, [Outcome::Unknown, Outcome::Unknown, Outcome::Rejected]);
    }

    #[test]
    fn what_was_refused_for_good_at_once_is_rejected() {
        let batch = three_sets();
        let mut known = Known::new(batch.steps.iter().collect());
        let refused = failure("not_integer", false, false);
        known.take(results(vec![set(1), refused, set(1)]), &attempts()).unwrap();
        let error = known.end(None).remove(1).unwrap_err();
        assert_eq!((error.outcome, error.reason.as_str()), (Outcome::Rejected, "not_integer"));
        let mut known = Known::new(batch.steps.iter().collect());
        let odd = known.take(results(vec![set(1)]), &attempts()).unwrap_err();
        assert_eq!((odd.outcome, odd.reason.as_str()), (Outcome::Unknown, "bad_answer"));
    }
}
