//! Commands that came together, worked on together.
//!
//! Steps of consecutive commands become one request of several, which the service splits by shard:
//! what belongs to one shard is done in order and, if there is a write among it, in one Raft entry.
//! A command that is an operation of its own, or must see what those before it did (`EXEC`, `WATCH`),
//! waits for them. Replies leave in the order of the commands.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::dispatch::{self, Turn};
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
use crate::types::limits::READS_REPLY_BYTES_MAX;
use crate::types::{Error, Reason, Step};

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
        let (steps, slots, output) = (Vec::new(), Vec::new(), Output::default());
        let waited = now().saturating_duration_since(arrived);
        Pipeline { resp, session, activity, waited, steps, slots, output }
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
            Turn::Plan(Plan::Reply(value)) => Pending::Done(value),
            Turn::Plan(Plan::Step { step, render }) => {
                self.steps.push(step);
                Pending::One(render)
            }
            Turn::Plan(Plan::Steps { steps, render }) => {
                let count = steps.len();
                self.steps.extend(steps);
                Pending::All(render, count)
            }
            Turn::Plan(Plan::Operation { operation, render }) => {
                self.flush().await;
                Pending::Done(render(self.execute(operation).await))
            }
            Turn::Plan(Plan::Procedure(procedure)) => {
                self.flush().await;
                let call = self.call();
                let done = Box::pin(procedure.run(&self.resp.door, call)).await;
                self.waited = Duration::ZERO;
                Pending::Done(done)
            }
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

    /// Does what the commands so far ask for, and encodes their replies.
    async fn flush(&mut self) {
        let steps = std::mem::take(&mut self.steps);
        let results = if steps.is_empty() { Vec::new() } else { self.run_steps(steps).await };
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

    /// One result for each step, in order.
    async fn run_steps(&mut self, steps: Vec<Step>) -> Vec<Result<Response, Error>> {
        let mut results = Vec::with_capacity(steps.len());
        let mut steps = steps.into_iter().peekable();
        let mut bytes = 0;
        while steps.peek().is_some() {
            let part = self.take_part(&mut steps);
            let (first, count) = (results.len(), part.len());
            if bytes > READS_REPLY_BYTES_MAX && part.iter().all(|s| matches!(s, Step::Read(_))) {
                let (bytes, bytes_max) = (bytes as u64, READS_REPLY_BYTES_MAX as u64);
                let refused = Error::from(Reason::ReplyTooLarge { bytes, bytes_max });
                results.extend((0..count).map(|_| Err(refused.clone())));
                continue;
            }
            let again = shows(&part);
            match self.execute(self.together(part)).await {
                Ok(Response::Multi(all)) if count > 1 => results.extend(all),
                Ok(one) if count == 1 => results.push(Ok(one)),
                Ok(_) => results.extend((0..count).map(|_| Err(lacking()))),
                Err(error) => results.extend((0..count).map(|_| Err(error.clone()))),
            }
            bytes += results[first..].iter().flatten().map(Response::payload_bytes).sum::<usize>();
            for (at, step) in again {
                let result = results.get_mut(first + at);
                if let Some(Err(Error { reason: Reason::ReplyTooLarge { .. }, .. })) = result {
                    results[first + at] = self.execute(self.together(vec![step])).await;
                }
            }
        }
        results
    }

    /// As many steps as one request takes, at least one.
    fn take_part(&self, steps: &mut std::iter::Peekable<std::vec::IntoIter<Step>>) -> Vec<Step> {
        let limits = &self.resp.door.limits.resp;
        let (mut part, mut bytes) = (Vec::new(), 0);
        while part.len() < limits.operations_max {
            let within = |step: &Step| bytes + step.payload_bytes() <= limits.operations_bytes_max;
            let Some(step) = steps.next_if(|step| part.is_empty() || within(step)) else { break };
            bytes += step.payload_bytes();
            part.push(step);
        }
        part
    }

    fn together(&self, mut steps: Vec<Step>) -> Operation {
        let consistency = self.session.consistency(self.resp.options.readonly_staleness_ms);
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
        let kind = Kind::of(&operation);
        let call = self.call();
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

/// Steps among writes that answer a value, and whose key no later step writes: their values together
/// may be more than a request with writes may answer. Then those left out are done by themselves.
fn shows(part: &[Step]) -> Vec<(usize, Step)> {
    if part.len() < 2 || part.iter().all(|step| matches!(step, Step::Read(_))) {
        return Vec::new();
    }
    let (mut written, mut shows) = (HashSet::new(), Vec::new());
    for (at, step) in part.iter().enumerate().rev() {
        let key = step.key().map(|key| &key[..]);
        if !written.contains(&key) && step.shown_key().is_some() {
            shows.push((at, step.clone()));
        }
        if matches!(step, Step::Write(_)) {
            written.insert(key);
            written.extend(step.target().map(|target| Some(&target[..])));
        }
    }
    shows
}
