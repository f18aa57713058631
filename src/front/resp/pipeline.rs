//! Commands that came together, worked on together.
//!
//! Steps of consecutive commands become one request of several, which the service splits by shard:
//! what belongs to one shard is done in order and, if there is a write among it, in one Raft entry.
//! A command that is an operation of its own, or must see what those before it did (`EXEC`, `WATCH`),
//! waits for them. Replies leave in the order of the commands.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::dispatch::{self, Turn};
use super::parts::{Steps, repeatable};
use super::pending::{Pending, lacking};
use super::plan::Plan;
use super::serve::Resp;
use super::session::Session;
use super::transaction;
use crate::codec::resp::encode::{Output, Protocol};
use crate::codec::resp::value::RespValue;
use crate::front::activity::Activity;
use crate::front::door::{Call, Kind};
use crate::service::{Execute, Multi, Operation, Response};
use crate::types::clock::{Instant, now};
use crate::types::{Consistency, Error, Reason, Step};

/// See the module's text.
pub(super) struct Pipeline<'a, S> {
    pub(super) resp: &'a Resp<S>,
    pub(super) session: &'a mut Session,
    activity: Option<&'a Activity>,
    /// How long what is worked on now has waited for the node; what this connection's own commands
    /// take does not count.
    waited: Duration,
    /// Of the commands in `slots`, in their order.
    steps: Vec<Step>,
    /// How fresh the reads among them are; `None` without any.
    reads: Option<Consistency>,
    /// Commands whose replies are not encoded yet.
    slots: Vec<Slot>,
    output: Output,
}

/// A command that was taken up.
struct Slot {
    reply: Pending,
    /// What its client spoke then.
    protocol: Protocol,
    /// Its reply is not wanted.
    silent: bool,
}

impl<'a, S: Execute> Pipeline<'a, S> {
    pub(super) fn new(
        resp: &'a Resp<S>,
        session: &'a mut Session,
        activity: Option<&'a Activity>,
        arrived: Instant,
    ) -> Self {
        let (steps, reads, slots, output) = (Vec::new(), None, Vec::new(), Output::default());
        let waited = now().saturating_duration_since(arrived);
        Pipeline { resp, session, activity, waited, steps, reads, slots, output }
    }

    /// Works on the commands, in order, until all are done or their replies take more than they may
    /// before some are written.
    pub(super) async fn run(&mut self, requests: &mut VecDeque<Vec<Bytes>>) {
        let output_bytes_max = self.resp.door.limits.resp.output_bytes_max;
        while let Some(request) = requests.pop_front() {
            self.session.begin();
            let turn = dispatch::take_up(self.resp, self.session, request);
            self.turn(turn).await;
            self.session.end();
            if self.session.leaving {
                requests.clear();
            }
            // An answer that waits for nobody is encoded at once, so that what it takes is counted.
            let together_max = self.session.replies_together_max(output_bytes_max);
            if self.steps.is_empty() || self.slots.len() >= together_max {
                self.flush().await;
            }
            if self.output.len() > output_bytes_max {
                break;
            }
        }
        self.flush().await;
    }

    /// The encoded replies.
    pub(super) fn into_output(self) -> Output {
        self.output
    }

    async fn turn(&mut self, turn: Turn) {
        let reply = match turn {
            Turn::Reply(value) => {
                if is_long(&value) {
                    // Encoded at once, so that a thousand of them are not held at the same time.
                    self.flush().await;
                }
                Pending::Done(value)
            }
            Turn::Plan(plan, consistency) => self.plan(plan, consistency).await,
            Turn::Switch(switch) => {
                self.flush().await;
                Pending::Done(switch(self.session))
            }
            Turn::Watch(keys) => {
                self.flush().await;
                Pending::Done(Box::pin(transaction::watch(self, keys)).await)
            }
            Turn::Exec => {
                self.flush().await;
                Pending::Done(Box::pin(transaction::exec(self)).await)
            }
            Turn::Sleep(time) => {
                self.flush().await;
                tokio::time::sleep(time).await;
                self.waited = Duration::ZERO;
                Pending::Done(RespValue::OK)
            }
        };
        let (protocol, silent) = (self.session.protocol, self.session.is_silent());
        self.slots.push(Slot { reply, protocol, silent });
    }

    /// Takes the steps of a data command up, or does at once what is not done in steps.
    async fn plan(&mut self, plan: Plan, consistency: Consistency) -> Pending {
        match plan {
            Plan::Reply(value) => Pending::Done(value),
            Plan::Step { step, render } => {
                self.make_way(std::slice::from_ref(&step), consistency).await;
                self.steps.push(step);
                Pending::One(render)
            }
            Plan::Steps { steps, render } => {
                self.make_way(&steps, consistency).await;
                let count = steps.len();
                self.steps.extend(steps);
                Pending::All(render, count)
            }
            Plan::Operation { operation, render } => {
                self.flush().await;
                Pending::Done(render(self.execute(operation).await))
            }
            Plan::Procedure(procedure) => {
                self.flush().await;
                let call = self.call();
                let done = Box::pin(procedure.run(self.resp, call)).await;
                self.waited = Duration::ZERO;
                Pending::Done(done)
            }
        }
    }

    /// One request has one freshness of reads: steps that read with another wait for those so far.
    async fn make_way(&mut self, steps: &[Step], consistency: Consistency) {
        if !steps.iter().any(|step| matches!(step, Step::Read(_))) {
            return;
        }
        if self.reads.is_some_and(|reads| reads != consistency) {
            self.flush().await;
        }
        self.reads = Some(consistency);
    }

    /// Does what the commands so far ask for, and encodes their replies.
    async fn flush(&mut self) {
        let steps = std::mem::take(&mut self.steps);
        let results = if steps.is_empty() { Vec::new() } else { self.run_steps(steps).await };
        self.reads = None;
        let mut results = results.into_iter();
        let (slots, before) = (self.slots.len(), self.output.len());
        for Slot { reply, protocol, silent } in self.slots.drain(..) {
            let value = reply.show(&mut results);
            if !silent {
                self.output.put(value, protocol);
            }
        }
        assert_eq!(results.len(), 0, "each result belongs to a command");
        if slots > 0 {
            self.session.replied(slots, self.output.len() - before);
        }
    }

    /// One result for each step, in order. A command has one deadline, however many parts it takes: each
    /// part gets a new one but for those that go on with a command.
    async fn run_steps(&mut self, steps: Vec<Step>) -> Vec<Result<Response, Error>> {
        let mut results = Vec::with_capacity(steps.len());
        let mut steps = Steps::new(steps, self.slots.iter().map(|slot| &slot.reply));
        let (mut bytes, mut deadline) = (0, None);
        let limits = &self.resp.door.limits.resp;
        while let Some(part) = steps.next_part(limits, &self.session.lengths) {
            if !part.continues {
                deadline = None;
            }
            let deadline = *deadline.get_or_insert_with(|| self.call().deadline);
            let (first, part) = (results.len(), part.steps);
            let count = part.len();
            let bytes_max = limits.reads_reply_bytes_max;
            if bytes > bytes_max && part.iter().all(|s| matches!(s, Step::Read(_))) {
                self.resp.metrics.refused.with_label_values(&["reads_reply"]).inc();
                let (bytes, bytes_max) = (bytes as u64, bytes_max as u64);
                let refused = Error::from(Reason::ReplyTooLarge { bytes, bytes_max });
                results.extend((0..count).map(|_| Err(refused.clone())));
                continue;
            }
            let again = repeatable(&part);
            let shows = part.iter().filter(|step| step.shown_key().is_some()).count();
            match self.execute_until(self.together(part), deadline).await {
                Ok(Response::Multi(all)) if count > 1 => results.extend(all),
                Ok(one) if count == 1 => results.push(Ok(one)),
                Ok(_) => results.extend((0..count).map(|_| Err(lacking()))),
                Err(error) => results.extend((0..count).map(|_| Err(error.clone()))),
            }
            let mut longest = 0;
            let mut note = |result: &Result<Response, Error>| {
                let shown = result.as_ref().map_or(0, Response::payload_bytes);
                longest = shown.max(longest);
                shown
            };
            bytes += results[first..].iter().map(&mut note).sum::<usize>();
            for (at, step) in again {
                if !results.get(first + at).is_some_and(does_not_fit) {
                    continue;
                }
                if bytes > bytes_max {
                    self.resp.metrics.refused.with_label_values(&["reads_reply"]).inc();
                    break;
                }
                let alone = self.together(vec![step]);
                results[first + at] = self.execute_until(alone, deadline).await;
                bytes += note(&results[first + at]);
            }
            self.session.lengths.saw(shows, longest);
        }
        results
    }

    fn together(&self, mut steps: Vec<Step>) -> Operation {
        let consistency = self.reads.unwrap_or_default();
        match (steps.pop(), steps.is_empty()) {
            (Some(Step::Write(command)), true) => Operation::Write(command),
            (Some(Step::Read(query)), true) => Operation::Read { query, consistency },
            (last, _) => {
                steps.extend(last);
                let watches = Vec::new();
                Operation::Multi(Multi { steps, atomic: false, watches, consistency })
            }
        }
    }

    /// Runs one operation.
    pub(super) async fn execute(&mut self, operation: Operation) -> Result<Response, Error> {
        let deadline = self.call().deadline;
        self.execute_until(operation, deadline).await
    }

    async fn execute_until(
        &mut self,
        operation: Operation,
        deadline: Instant,
    ) -> Result<Response, Error> {
        let kind = Kind::of(&operation);
        let call = Call { deadline, ..self.call() };
        let result = self.resp.door.run(kind, Ok((operation, None)), call).await;
        // What follows has waited for this, not for the node.
        self.waited = Duration::ZERO;
        result
    }

    fn call(&self) -> Call<'a> {
        let at = now();
        let arrived = at.checked_sub(self.waited).unwrap_or(at);
        let deadline = self.resp.door.deadline(arrived, None);
        Call { arrived, deadline, trace: None, activity: self.activity }
    }
}

/// Whether a reply takes much more than a word.
fn is_long(value: &RespValue) -> bool {
    match value {
        RespValue::Array(items) | RespValue::Set(items) | RespValue::Push(items) => {
            items.len() > 16
        }
        RespValue::Map(items) => items.len() > 16,
        RespValue::Bulk(text) => text.len() > 4096,
        RespValue::Verbatim(text) => text.len() > 4096,
        _ => false,
    }
}

fn does_not_fit(result: &Result<Response, Error>) -> bool {
    matches!(result, Err(Error { reason: Reason::ReplyTooLarge { .. }, .. }))
}
