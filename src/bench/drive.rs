//! One caller, or one connection that takes several operations at once: closed loop, or at the pace
//! that all share.

use std::time::Duration;

use super::shared::{Shared, Tally};
use super::workload::{Op, Workload};
use crate::types::clock::{Instant, now};

/// Longest sleep of a caller that has nothing to do: it must notice the end.
const NAP: Duration = Duration::from_millis(50);

/// Between two attempts to connect anew.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// What became of an operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was answered; a read found its key.
    Done,
    /// A read found nothing.
    Missed,
    /// Why it failed.
    Failed(String),
}

impl Outcome {
    /// Of a write, or of a read that tells whether it found its key.
    pub fn of<E: ToString>(answer: Result<bool, E>) -> Outcome {
        match answer {
            Ok(true) => Outcome::Done,
            Ok(false) => Outcome::Missed,
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }
}

/// An answer: to the operation in this slot, and what it was.
pub type Answered = (usize, Outcome);

/// A connection that carries operations, or a caller of a shared one.
pub trait Lane: Send {
    /// Puts an operation under way; the slot is free.
    fn start(&mut self, slot: usize, op: Op) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Sends what was put under way, if that was not done before.
    fn flush(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send {
        std::future::ready(Ok(()))
    }

    /// Waits for an answer to an operation under way. If the wait is broken off, nothing is lost,
    /// unless there is only one slot: then it is never broken off.
    fn next(&mut self) -> impl Future<Output = anyhow::Result<Answered>> + Send;

    /// An answer that is there already.
    fn ready(&mut self) -> anyhow::Result<Option<Answered>> {
        Ok(None)
    }

    /// Connects anew after an error; what was under way gets no answer any more.
    fn reopen(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send {
        std::future::ready(Ok(()))
    }
}

/// A lane of one slot over a call.
pub trait Call: Send {
    /// One operation.
    fn call(&mut self, op: Op) -> impl Future<Output = Outcome> + Send;
}

/// See [`Call`].
#[derive(Debug)]
pub struct Single<C> {
    caller: C,
    op: Option<(usize, Op)>,
}

impl<C> Single<C> {
    /// A lane of one slot.
    pub fn new(caller: C) -> Self {
        Single { caller, op: None }
    }
}

impl<C: Call> Lane for Single<C> {
    async fn start(&mut self, slot: usize, op: Op) -> anyhow::Result<()> {
        self.op = Some((slot, op));
        Ok(())
    }

    async fn next(&mut self) -> anyhow::Result<Answered> {
        let (slot, op) = self.op.take().expect("an operation is under way");
        Ok((slot, self.caller.call(op).await))
    }
}

/// What a lane does until the run ends.
struct Driver<'a> {
    shared: &'a Shared,
    workload: Workload,
    /// By slot: when the operation under way began, or was due.
    began: Vec<Option<Instant>>,
    free: Vec<usize>,
    /// When the next one is due, if that is known and still to come.
    due: Option<Instant>,
    /// Nothing will be due any more.
    over: bool,
    tally: Tally,
}

impl Driver<'_> {
    /// When to begin the next operation: now in a closed loop; `None` if that is still to come, or
    /// never.
    fn begins(&mut self) -> Option<Instant> {
        let shared = self.shared;
        let Some(pace) = &shared.pace else { return Some(now()) };
        if self.due.is_none() && !self.over {
            self.due = pace.take();
            self.over = self.due.is_none();
        }
        self.due.take_if(|due| *due <= now())
    }

    async fn start(&mut self, lane: &mut impl Lane) -> anyhow::Result<()> {
        let mut started = false;
        while let Some(slot) = self.free.last().copied() {
            let Some(began) = self.begins() else { break };
            self.free.pop();
            self.began[slot] = Some(began);
            lane.start(slot, self.workload.draw()).await?;
            started = true;
        }
        if started { lane.flush().await } else { Ok(()) }
    }

    fn answered(&mut self, (slot, outcome): Answered) -> anyhow::Result<()> {
        let began = self.began.get_mut(slot).and_then(Option::take);
        let began = began.ok_or_else(|| anyhow::anyhow!("an answer nobody waits for"))?;
        self.free.push(slot);
        self.shared.count(&mut self.tally, began, outcome);
        Ok(())
    }

    /// The connection is broken: what was under way has failed, and nothing is sent until there is
    /// another. False if there is none before the end.
    async fn recover(&mut self, lane: &mut impl Lane, error: &anyhow::Error) -> bool {
        for slot in 0..self.began.len() {
            if let Some(began) = self.began[slot].take() {
                self.free.push(slot);
                self.shared.count(&mut self.tally, began, Outcome::Failed(format!("{error:#}")));
            }
        }
        while !self.shared.is_over() {
            tokio::time::sleep(RECONNECT_PAUSE).await;
            // Who hangs does not even refuse.
            let opened = tokio::time::timeout_at(self.shared.give_up_at, lane.reopen()).await;
            if matches!(opened, Ok(Ok(()))) {
                return true;
            }
        }
        false
    }

    /// One turn; false if there will be nothing more to do.
    async fn turn(&mut self, lane: &mut impl Lane) -> anyhow::Result<bool> {
        let patience = self.shared.give_up_at.max(now()) + NAP;
        match tokio::time::timeout_at(patience, self.start(lane)).await {
            Ok(started) => started?,
            // It takes no more requests.
            Err(_) => return Ok(false),
        }
        let nap = now() + NAP;
        if self.free.len() == self.began.len() {
            // Only at a rate is there ever nothing under way.
            if !self.over {
                tokio::time::sleep_until(self.due.map_or(nap, |due| due.min(nap))).await;
            }
            return Ok(!self.over);
        }
        let until = match self.due {
            Some(due) if !self.free.is_empty() => due,
            _ => self.shared.give_up_at.max(now()) + NAP,
        };
        let answered = tokio::select! { biased;
            answered = lane.next() => answered?,
            () = tokio::time::sleep_until(until) => return Ok(now() < self.shared.give_up_at),
        };
        self.answered(answered)?;
        while let Some(answered) = lane.ready()? {
            self.answered(answered)?;
        }
        Ok(true)
    }
}

/// Keeps up to `slots` operations of `workload` under way until the run ends.
pub async fn drive(
    mut lane: impl Lane,
    slots: usize,
    workload: Workload,
    shared: &Shared,
) -> Tally {
    let (began, free) = (vec![None; slots], (0..slots).collect());
    let tally = Tally::default();
    let mut driver = Driver { shared, workload, began, free, due: None, over: false, tally };
    while !shared.stopped() {
        match driver.turn(&mut lane).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) if driver.recover(&mut lane, &error).await => {}
            Err(_) => break,
        }
    }
    let Driver { began, due, mut tally, .. } = driver;
    for began in began.into_iter().chain([due]).flatten() {
        shared.unanswered(&mut tally, began);
    }
    tally
}

/// Sets each of the keys `numbers` once, so that reads find something.
pub async fn fill(
    mut lane: impl Lane,
    slots: usize,
    mut workload: Workload,
    mut numbers: impl Iterator<Item = u64>,
) -> anyhow::Result<()> {
    let mut free: Vec<usize> = (0..slots).collect();
    loop {
        while !free.is_empty()
            && let Some(number) = numbers.next()
        {
            let slot = free.pop().expect("looked at above");
            lane.start(slot, workload.set(number)).await?;
        }
        lane.flush().await?;
        if free.len() == slots {
            return Ok(());
        }
        let (slot, outcome) = lane.next().await?;
        if let Outcome::Failed(failure) = outcome {
            anyhow::bail!("cannot fill the keys: {failure}");
        }
        free.push(slot);
    }
}
