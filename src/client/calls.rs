//! The client, and the way of one operation through its attempts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use super::ask::{Answer, Ask};
use super::attempts::{Attempts, Next};
use super::error::{Error, Failure};
use super::node::Node;
use super::options::Options;
use super::requests::Consistency;
use super::router::{Choice, Router};
use super::sessions::Sessions;
use crate::types::Slot;
use crate::types::clock::{Instant, now};
use crate::types::limits::MESSAGE_BYTES_MAX;
use crate::types::task;

#[derive(Debug)]
pub(super) struct Inner {
    pub options: Options,
    pub router: Arc<Router>,
    pub sessions: Sessions,
    /// Ends the task that keeps the table fresh.
    _fresh: DropGuard,
}

/// A client of one cluster. Cheap to clone; clones share connections and sessions. It lives on the
/// runtime of tokio it was made on.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) inner: Arc<Inner>,
    pub(super) deadline: Duration,
}

/// What a client has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stats {
    /// Attempts sent, or tried to.
    pub attempts: u64,
    /// Those of them that followed one that failed.
    pub retries: u64,
    /// Reads that were asked for at a second node.
    pub hedges: u64,
    /// Times the routing table was looked at.
    pub refreshes: u64,
    /// Version of the routing table; 0 if the cluster has not formed yet.
    pub epoch: u64,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub ask: Ask,
    pub slot: Slot,
    pub write: bool,
    /// Any replica may answer.
    pub any: bool,
    /// A second node may be asked while the first is silent.
    pub hedge: bool,
    /// How long the node may wait for another caller before it answers.
    pub wait: Duration,
}

impl Task {
    /// A read.
    pub fn read(ask: Ask, slot: Slot, consistency: Consistency) -> Task {
        let any = consistency.any();
        Task { ask, slot, write: false, any, hedge: true, wait: Duration::ZERO }
    }

    /// A write. It is never asked for twice at once.
    pub fn write(ask: Ask, slot: Slot) -> Task {
        Task { ask, slot, write: true, any: false, hedge: false, wait: Duration::ZERO }
    }

    /// Waits at the node from now on as long as is left of its wait, since `started`, and of all the
    /// time there is, but for an eighth in which the answer can come back. How long.
    fn wait_left(&mut self, started: Instant, ends: Instant) -> Duration {
        let now = now();
        let time = ends.saturating_duration_since(now);
        let left = self.wait.saturating_sub(now - started).min(time - time / 8);
        self.ask.wait(left);
        left
    }
}

/// Longest message of a request: what nodes take, less what goes around it in a stream.
const REQUEST_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 256;

/// Longest deadline of an operation; also keeps any number from overflowing the clock.
const DEADLINE_MAX: Duration = Duration::from_secs(24 * 3_600);

impl Client {
    /// Learns the routing table from a seed. A cluster that has not formed yet is no error;
    /// operations wait for it until their deadline.
    ///
    /// # Errors
    /// If an option makes no sense, or no seed answers: each is asked once.
    pub async fn connect(options: Options) -> Result<Client, Error> {
        options.check().map_err(|problem| Error::rejected("invalid_argument", problem))?;
        let router = Router::new(options.clone())?;
        router.refresh().await.map_err(|failure| {
            let seeds = options.seeds.join(", ");
            let message = format!("no seed of {seeds} answers: {}", failure.message);
            Error { retry_after: failure.retry_after, ..Error::rejected("unreachable", message) }
        })?;
        let cancel = CancellationToken::new();
        task::spawn("client routing", Arc::clone(&router).keep_fresh(cancel.clone()));
        let deadline = options.deadline;
        let sessions = Sessions::default();
        let inner = Inner { options, router, sessions, _fresh: cancel.drop_guard() };
        Ok(Client { inner: Arc::new(inner), deadline })
    }

    /// The same client with another deadline for each operation, attempts and pauses together.
    #[must_use]
    pub fn within(&self, deadline: Duration) -> Client {
        Client { deadline, ..self.clone() }
    }

    /// What was done so far, by all clones.
    pub fn stats(&self) -> Stats {
        let counts = &self.inner.router.counts;
        let load = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        Stats {
            attempts: load(&counts.attempts),
            retries: load(&counts.retries),
            hedges: load(&counts.hedges),
            refreshes: load(&counts.refreshes),
            epoch: self.inner.router.table().epoch,
        }
    }

    /// Takes an operation through its attempts; `read` makes of an answer what the caller wants, and
    /// may find that the operation has to be tried again. It is told what was gone through before.
    pub(super) async fn run<T>(
        &self,
        mut task: Task,
        mut read: impl FnMut(Answer, &Attempts) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let Inner { options, router, .. } = &*self.inner;
        let bytes = task.ask.bytes();
        if bytes > REQUEST_BYTES_MAX {
            // A node ends the stream of everybody at a message that is too long for it.
            let problem =
                format!("the request has {bytes} bytes; at most {REQUEST_BYTES_MAX} are allowed");
            return Err(Error::rejected("too_large", problem));
        }
        let started = now();
        let ends = started + self.deadline.min(DEADLINE_MAX);
        let mut attempts = Attempts::new(task.write, options);
        let mut follow: Option<Choice> = None;
        let mut avoid: Option<Arc<Node>> = None;
        loop {
            if attempts.made() > 0 && now() >= ends {
                return Err(attempts.out_of_time());
            }
            let pick = || router.pick(task.slot, task.any, avoid.as_deref());
            let choice = follow.take().or_else(pick);
            let failure = match &choice {
                None => Failure::silent(false, "every node is left alone for a while"),
                Some(choice) => {
                    if attempts.made() > 0 {
                        task.ask.sent_before(started.elapsed());
                    }
                    // A node that waits as it was told is not silent.
                    let wait = task.wait_left(started, ends);
                    let until = ends.min(now() + options.attempt + wait);
                    let answer = self.hedged(choice, &task, until, attempts.made()).await;
                    match answer.and_then(|answer| read(answer, &attempts)) {
                        Ok(done) => return Ok(done),
                        Err(failure) => failure,
                    }
                }
            };
            let silent = failure.silent || failure.reason == "too_stale";
            match attempts.failed(failure, rand::random()) {
                Next::Answer(error) => return Err(error),
                Next::Follow(id, address) => follow = router.hinted(task.slot, id, &address),
                Next::Pause(pause) => {
                    if pause >= ends.saturating_duration_since(now()) {
                        return Err(attempts.out_of_time());
                    }
                    tokio::time::sleep(pause).await;
                }
            }
            // Who answered may be asked again; who was silent only if there is nobody else.
            avoid = choice.filter(|_| silent).map(|choice| choice.node);
        }
    }
}
