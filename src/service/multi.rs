//! Several operations as one request: split by shard, or one transaction.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};

use super::api::{Multi, Response};
use super::execute::Inner;
use super::forward::Served;
use super::local_group::LocalGroup;
use super::unit::{Caller, Route, Unit, Work, result_of};
use crate::core::slot::slot_of;
use crate::types::limits::FIELD_WORK;
use crate::types::{
    Command, Consistency, Error, Reason, Reply, ShardId, Slot, Step, Transaction, Watch,
};

type Results = Vec<(usize, Result<Response, Error>)>;

/// Reads of one shard under way before it is known how large the values are.
const READS_FIRST: usize = 16;
/// And afterwards at most.
const READS_TOGETHER_MAX: usize = 1024;

impl<G: LocalGroup> Inner<G> {
    pub(super) async fn multi(&self, multi: Multi, caller: Caller) -> Result<Response, Error> {
        let Multi { steps, atomic, watches, consistency } = multi;
        let table = self.placed(caller.deadline).await?;
        let shard_of = |slot: Slot| table.owner(slot).unwrap_or_default();
        if atomic {
            return self.atomic(steps, watches, caller, shard_of).await;
        }
        let mut parts: BTreeMap<ShardId, Vec<(usize, Step)>> = BTreeMap::new();
        let count = steps.len();
        let mut results: Vec<Option<Result<Response, Error>>> = vec![None; count];
        for (at, step) in steps.into_iter().enumerate() {
            if let Err(error) = self.one_shard(step.key(), step.target()) {
                results[at] = Some(Err(error));
                continue;
            }
            let slot = slot_of_step(&step)?;
            parts.entry(shard_of(slot)).or_default().push((at, step));
        }
        let shown = AtomicUsize::new(0);
        let parts = parts.into_values().map(|part| self.part(part, consistency, caller, &shown));
        for (at, result) in join_all(parts).await.into_iter().flatten() {
            results[at] = Some(result);
        }
        let results = results.into_iter().map(|result| result.expect("each step is in one part"));
        Ok(Response::Multi(results.collect()))
    }

    async fn atomic(
        &self,
        steps: Vec<Step>,
        watches: Vec<Watch>,
        caller: Caller,
        shard_of: impl Fn(Slot) -> ShardId,
    ) -> Result<Response, Error> {
        let stepped = steps.iter().map(slot_of_step);
        let targets = steps.iter().filter_map(Step::target).map(|key| Ok(slot_of(key)));
        let watched = watches.iter().map(|watch| Ok(slot_of(&watch.key)));
        let slots = stepped.chain(targets).chain(watched).collect::<Result<Vec<Slot>, Error>>()?;
        let shards: std::collections::BTreeSet<ShardId> =
            slots.iter().map(|slot| shard_of(*slot)).collect();
        let Some(slot) = slots.first() else { return Ok(Response::Multi(Vec::new())) };
        if shards.len() > 1 {
            return Err(Reason::CrossShard { shards: shards.len() as u64 }.into());
        }
        let count = steps.len();
        let command = Command::Transaction(Transaction { watches, steps });
        let unit = Unit { work: Work::Write(command), route: Route::Slot(*slot), caller };
        let served = self.run(&unit).await.inspect_err(|error| self.count_work(error))?;
        match served {
            Served::Reply(Reply::Transaction(replies)) if replies.len() == count => {
                Ok(Response::Multi(replies.into_iter().map(result_of).collect()))
            }
            Served::Reply(aborted @ Reply::Aborted { .. }) => Ok(Response::Written(aborted)),
            other => Err(odd(&other)),
        }
    }

    /// What belongs to one shard. Reads alone go each its own way; with a write among them all go
    /// through the log as one, in order and under the one request id.
    fn part<'a>(
        &'a self,
        part: Vec<(usize, Step)>,
        consistency: Consistency,
        caller: Caller,
        shown: &'a AtomicUsize,
    ) -> BoxFuture<'a, Results> {
        if part.iter().all(|(_, step)| matches!(step, Step::Read(_))) {
            return self.reads(part, consistency, caller, shown).boxed();
        }
        self.writes(part, consistency, caller).boxed()
    }

    /// All as one; what touches more of large values than one entry may, in two halves, one after the
    /// other. Not under a caller's request id: under that, a shard does one thing.
    async fn writes(
        &self,
        part: Vec<(usize, Step)>,
        consistency: Consistency,
        caller: Caller,
    ) -> Results {
        let (mut results, mut left) = (Results::with_capacity(part.len()), vec![part]);
        while let Some(part) = left.pop() {
            let caller = Caller { part: ordinal(&part), ..caller };
            if part.len() == 1 {
                for (at, step) in part {
                    results.push((at, self.alone(step, consistency, caller).await));
                }
                continue;
            }
            let (places, steps): (Vec<usize>, Vec<Step>) = part.into_iter().unzip();
            match self.together(steps, caller).await {
                Ok(replies) => {
                    results.extend(places.into_iter().zip(replies.into_iter().map(result_of)));
                }
                Err((error, steps)) if is_too_much_work(&error) && caller.request_id.is_none() => {
                    let mut first: Vec<(usize, Step)> = places.into_iter().zip(steps).collect();
                    let second = first.split_off(first.len() / 2);
                    left.extend([second, first]);
                }
                Err((error, _)) => {
                    self.count_work(&error);
                    results.extend(places.into_iter().map(|at| (at, Err(error.clone()))));
                }
            }
        }
        results
    }

    /// Reads, many at a time, until all parts together have answered as many bytes as they may.
    async fn reads(
        &self,
        part: Vec<(usize, Step)>,
        consistency: Consistency,
        caller: Caller,
        shown: &AtomicUsize,
    ) -> Results {
        let mut results = Results::with_capacity(part.len());
        let mut part = part.into_iter();
        let mut together = READS_FIRST;
        let bytes_max = self.options.limits.reads_reply_bytes_max;
        while part.len() > 0 {
            let before = shown.load(Ordering::Relaxed);
            if before > bytes_max {
                self.measures.limited("reads_reply");
                let (bytes, bytes_max) = (before as u64, bytes_max as u64);
                let refused = Error::from(Reason::ReplyTooLarge { bytes, bytes_max });
                results.extend(part.by_ref().map(|(at, _)| (at, Err(refused.clone()))));
                break;
            }
            let some = part
                .by_ref()
                .take(together)
                .map(|(at, step)| async move { (at, self.alone(step, consistency, caller).await) });
            let found = join_all(some).await;
            let bytes: usize =
                found.iter().flat_map(|(_, result)| result).map(Response::payload_bytes).sum();
            let shown_now = shown.fetch_add(bytes, Ordering::Relaxed) + bytes;
            // As many as likely fit, by the size of those just read.
            let left = bytes_max.saturating_sub(shown_now);
            together = (left / (bytes / found.len().max(1)).max(1)).clamp(1, READS_TOGETHER_MAX);
            results.extend(found);
        }
        results
    }

    async fn alone(
        &self,
        step: Step,
        consistency: Consistency,
        caller: Caller,
    ) -> Result<Response, Error> {
        let unit = match step {
            Step::Write(command) => Unit::write(command, caller)?,
            Step::Read(query) => Unit::read(query, consistency, caller)?,
        };
        match self.run(&unit).await? {
            other @ Served::Reply(Reply::Transaction(_)) => Err(odd(&other)),
            served => Ok(served.into()),
        }
    }

    /// A failure gives the steps back.
    async fn together(
        &self,
        steps: Vec<Step>,
        caller: Caller,
    ) -> Result<Vec<Reply>, (Error, Vec<Step>)> {
        let count = steps.len();
        let slot = match slot_of_step(&steps[0]) {
            Ok(slot) => slot,
            Err(error) => return Err((error, steps)),
        };
        let command = Command::Transaction(Transaction { watches: Vec::new(), steps });
        let unit = Unit { work: Work::Write(command), route: Route::Slot(slot), caller };
        let error = match self.run(&unit).await {
            Ok(Served::Reply(Reply::Transaction(all))) if all.len() == count => return Ok(all),
            Ok(other) => odd(&other),
            Err(error) => error,
        };
        match unit.work {
            Work::Write(Command::Transaction(transaction)) => Err((error, transaction.steps)),
            _ => Err((error, Vec::new())),
        }
    }

    /// Counts what was refused for its work.
    fn count_work(&self, error: &Error) {
        if is_too_much_work(error) {
            self.measures.limited("transaction_work");
        }
    }
}

/// The transaction touches more of large values than one may; nothing of it was done.
fn is_too_much_work(error: &Error) -> bool {
    matches!(&error.reason, Reason::InvalidArgument { field: FIELD_WORK, .. })
}

/// Which part of its request this is.
fn ordinal(part: &[(usize, Step)]) -> u16 {
    let first = part.first().map_or(0, |(at, _)| *at);
    u16::try_from(first).expect("operations of a request are bounded")
}

fn slot_of_step(step: &Step) -> Result<Slot, Error> {
    let problem = || "an operation is not about one key".to_owned();
    let none = || Error::from(Reason::InvalidArgument { field: "operations", problem: problem() });
    step.key().map(|key| slot_of(key)).ok_or_else(none)
}

/// The remembered reply of another operation: the caller used its request id twice, or slots moved
/// between a call and its retry, which then had other parts. Something was applied.
fn odd(served: &Served) -> Error {
    let got = match served {
        Served::Reply(Reply::Transaction(replies)) => format!("{} replies", replies.len()),
        Served::Reply(_) => "the reply of one operation".to_owned(),
        Served::Read(..) | Served::Leased(_) => "the answer of a read".to_owned(),
    };
    Reason::Lost { detail: format!("the request id was used for another operation: {got}") }.into()
}
