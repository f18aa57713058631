//! Commands that came together, worked on together.
//!
//! Steps of consecutive commands become one request of several, which the service splits by shard:
//! what belongs to one shard is done in order and, if there is a write among it, in one Raft entry.
//! A command that is an operation of its own, or must see what those before it did (`EXEC`, `WATCH`),
//! waits for them. Replies leave in the order of the commands.

use std::collections::{HashSet, VecDeque};

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
use crate::types::{Error, Reason, Step};

/// See the module's text.
pub(super) struct Pipeline<'a, S> {
    pub(super) resp: &'a Resp<S>,
    pub(super) session: &'a mut Session,
    activity: Option<&'a Activity>,
    /// When what is worked on now came in.
    arrived: Instant,
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
        Pipeline { resp, session, activity, arrived, steps, slots, output }
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
            if self.slots.len() >= self.session.replies_together_max(output_bytes_max) {
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
            Turn::Reply(value) => Pending::Done(value),
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
                Pending::Done(Box::pin(procedure.run(&self.resp.door, call)).await)
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
        while steps.peek().is_some() {
            let part = self.take_part(&mut steps);
            let (first, count) = (results.len(), part.len());
            let again = shows(&part);
            match self.execute(self.together(part)).await {
                Ok(Response::Multi(all)) if count > 1 => results.extend(all),
                Ok(one) if count == 1 => results.push(Ok(one)),
                Ok(_) => results.extend((0..count).map(|_| Err(lacking()))),
                Err(error) => results.extend((0..count).map(|_| Err(error.clone()))),
            }
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
        self.arrived = now();
        result
    }

    fn call(&self) -> Call<'a> {
        let deadline = self.resp.door.deadline(self.arrived, None);
        Call { arrived: self.arrived, deadline, trace: None, activity: self.activity }
    }
}

/// Steps among writes that answer a value, and that no later step could disturb: their values together
/// may be more than a request with writes may answer. Then those left out are done by themselves.
fn shows(part: &[Step]) -> Vec<(usize, Step)> {
    if part.len() < 2 || part.iter().all(|step| matches!(step, Step::Read(_))) {
        return Vec::new();
    }
    let (mut later, mut shows) = (HashSet::new(), Vec::new());
    for (at, step) in part.iter().enumerate().rev() {
        if later.insert(step.key().map(|key| &key[..])) && step.shown_key().is_some() {
            shows.push((at, step.clone()));
        }
    }
    shows
}
