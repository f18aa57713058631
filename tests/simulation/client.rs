//! Clients: each does one operation after another, through any node that runs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use raftcache::service::{Execute, Request, Response};
use raftcache::types::clock::{Instant, now};
use raftcache::types::limits::SESSION_REPLIES_MAX;
use raftcache::types::random::Random;
use raftcache::types::{Consistency, Error, Named, Outcome, Reason, RequestId, Sent};
use tokio_util::sync::CancellationToken;

use crate::book::Book;
use crate::cluster::Cluster;
use crate::fills::Leading;
use crate::intent::{Intent, operation};
use crate::model::If;
use crate::plan::Bug;

/// Tries of one write under one request id.
const TRIES_MAX: u32 = 4;
/// Answered writes that a client may send again later.
const ANSWERED_MAX: usize = 6;
/// How long a caller waits, milliseconds: at least, and up to so many more.
const DEADLINE_MS: (u64, u64) = (800, 1_200);

/// How one try ended.
enum Tried {
    Answered(u64, Response),
    Failed(Error),
    /// The node crashed.
    Gone,
}

/// How an operation ended.
#[derive(Clone, Debug)]
pub enum Ended {
    /// With this answer, given by or through this node.
    Answered(u64, Response),
    /// It was surely not applied.
    Rejected,
    /// It may have been applied, or may yet.
    Unknown,
}

/// A write that was answered.
struct Answered {
    key: String,
    intent: Intent,
    request_id: RequestId,
    sent_at: Instant,
    response: Response,
}

/// A lock that this client held last, as far as it knows, or a token to fill with.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) key: String,
    pub(crate) token: u64,
}

/// An earlier try of the same batch may have been applied: what is rejected now may be as well.
fn doubt(response: &mut Response) {
    let Response::Multi(results) = response else { return };
    for result in results.iter_mut().filter(|result| result.is_err()) {
        *result = Err(Reason::Lost { detail: "in an earlier try".to_owned() }.into());
    }
}

/// One client.
pub struct Client {
    pub(crate) id: u32,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) book: Arc<Book>,
    pub(crate) random: Random,
    /// Writes so far: each has a value and a sequence of its own.
    pub(crate) writes: u64,
    /// Version of each plain key as last seen, and of the pair behind them.
    pub(crate) seen: Vec<u64>,
    pub(crate) locks: VecDeque<Held>,
    pub(crate) fill: Option<Held>,
    answered: VecDeque<Answered>,
    era: u64,
}

impl Client {
    pub fn new(id: u32, cluster: Arc<Cluster>, book: Arc<Book>) -> Self {
        let random = Random::new(cluster.plan.seed ^ (u64::from(id) << 32) ^ 0xc11e);
        let seen = vec![0; cluster.plan.keys as usize + 1];
        let era = book.era_number();
        let (locks, answered) = (VecDeque::new(), VecDeque::new());
        Client { id, cluster, book, random, writes: 0, seen, locks, fill: None, answered, era }
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.random.bits() % end
    }

    /// Works until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let book = Arc::clone(&self.book);
        while !stop.is_cancelled() {
            let at_work = book.rest.read().await;
            self.remember_this_era();
            let surely = if self.answered.len() == ANSWERED_MAX && self.below(12) == 0 {
                self.ask_again().await
            } else {
                let (key, intent) = self.choose();
                self.one(&key, intent).await
            };
            drop(at_work);
            // Who failed waits a little, as clients do.
            let most = if surely { 100 } else { 300 };
            let pause = Duration::from_micros(1 + self.below(most * 1000));
            let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }

    /// What was remembered of groups that began again empty is worth nothing.
    fn remember_this_era(&mut self) {
        let era = self.book.era_number();
        if self.era != era {
            self.era = era;
            self.seen.fill(0);
            self.locks.clear();
            self.answered.clear();
            self.fill = None;
        }
    }

    /// Does one operation and notes it. True if its outcome is known.
    pub(crate) async fn one(&mut self, key: &str, intent: Intent) -> bool {
        let leading = self.leading(key, &intent);
        let span = self.book.begin();
        let ended = self.tries(key, &intent).await;
        let span = self.book.end(span);
        let leading = (leading, self.leading(key, &intent));
        self.book.note(format_args!("client {} {key} {ended:?}", self.id));
        let count = |add: fn(&mut crate::book::Counts)| add(&mut self.book.counts.lock());
        match &ended {
            Ended::Answered(..) => count(|counts| counts.ok += 1),
            Ended::Rejected => count(|counts| counts.rejected += 1),
            Ended::Unknown if intent.writes() => count(|counts| counts.unknown += 1),
            Ended::Unknown => count(|counts| counts.rejected += 1),
        }
        if matches!(ended, Ended::Unknown) && self.cluster.plan.bug == Bug::UnknownAsRejected {
            return true;
        }
        self.record(key, &intent, span, &ended, leading);
        !matches!(ended, Ended::Unknown) || !intent.writes()
    }

    fn leading(&self, key: &str, intent: &Intent) -> Leading {
        match intent {
            Intent::GetOrLease { .. } => self.cluster.leading(key.as_bytes()),
            _ => None,
        }
    }

    async fn tries(&mut self, key: &str, intent: &Intent) -> Ended {
        let write = intent.writes();
        let reused = self.cluster.plan.bug == Bug::ReusedRequestId;
        let request_id = (write && (reused || self.below(2) == 0)).then(|| {
            let sequence = if reused { self.writes / 2 } else { self.writes };
            RequestId { session: 0xc11e_0000 + u128::from(self.id), sequence }
        });
        let mut unknown = false;
        let sent_at = now();
        for attempt in 0..TRIES_MAX {
            let sent = match attempt {
                _ if reused => Sent::Unsaid,
                0 => Sent::First,
                _ => Sent::First.again_after(now() - sent_at),
            };
            let named = request_id.map(|id| Named { id, sent });
            match self.try_once(key, intent, named).await {
                Tried::Answered(node, mut response) => {
                    if unknown {
                        doubt(&mut response);
                    }
                    self.remember(key, intent, request_id.map(|id| (id, sent_at)), &response);
                    return Ended::Answered(node, response);
                }
                Tried::Failed(error) if error.outcome() == Outcome::Rejected && !unknown => {
                    return Ended::Rejected;
                }
                Tried::Failed(error) if error.reason == Reason::SessionExpired => {
                    return Ended::Unknown;
                }
                Tried::Failed(_) | Tried::Gone => unknown |= write,
            }
            if request_id.is_none() || attempt + 1 == TRIES_MAX {
                break;
            }
            self.book.counts.lock().retries += 1;
            let pause = Duration::from_millis(1 + self.below(200));
            tokio::time::sleep(pause).await;
        }
        if unknown { Ended::Unknown } else { Ended::Rejected }
    }

    async fn try_once(&mut self, key: &str, intent: &Intent, request_id: Option<Named>) -> Tried {
        let running = self.cluster.running();
        let Some(at) = running.get(self.random.bits() as usize % running.len().max(1)).copied()
        else {
            return Tried::Failed(Reason::NotReady.into());
        };
        let Some(life) = self.cluster.life(at) else {
            return Tried::Failed(Reason::NotReady.into());
        };
        let deadline = now() + Duration::from_millis(DEADLINE_MS.0 + self.below(DEADLINE_MS.1));
        let operation = operation(self.id, key, intent);
        let request = Request { operation, request_id, arrived: now(), deadline, trace: 0 };
        let execute = life.service.execute(request);
        tokio::select! {
            biased;
            () = life.dead.cancelled() => Tried::Gone,
            answer = execute => match answer {
                Ok(response) => Tried::Answered(at, response),
                Err(error) => {
                    self.book.note(format_args!("client {} n{at} {error}", self.id));
                    Tried::Failed(error)
                }
            },
        }
    }

    fn remember(
        &mut self,
        key: &str,
        intent: &Intent,
        request_id: Option<(RequestId, Instant)>,
        response: &Response,
    ) {
        let request_id = request_id.filter(|_| intent.repeats());
        let Some((request_id, sent_at)) = request_id else { return };
        // The oldest stay for a while: what comes late is worth more.
        if self.answered.len() == ANSWERED_MAX {
            let at = self.random.bits() as usize % ANSWERED_MAX;
            self.answered.remove(at);
        }
        let (key, intent, response) = (key.to_owned(), intent.clone(), response.clone());
        self.answered.push_back(Answered { key, intent, request_id, sent_at, response });
    }

    /// Sends again what was answered some time ago: the answer is the first one, or that it is no
    /// longer known (INV-6). True if it was answered.
    async fn ask_again(&mut self) -> bool {
        let at = self.random.bits() as usize % self.answered.len();
        let Some(first) = self.answered.remove(at) else { return true };
        self.book.counts.lock().late_retries += 1;
        let sent = Sent::First.again_after(now() - first.sent_at);
        let named = Named { id: first.request_id, sent };
        let tried = self.try_once(&first.key, &first.intent, Some(named)).await;
        let Tried::Answered(node, response) = tried else { return false };
        self.book.note(format_args!("client {} again {} {response:?}", self.id, first.key));
        if response != first.response {
            self.book.violated(format!(
                "INV-6: client {} sent {:?} of {} again under {:?}: n{node} answers {response:?}, \
                 the first answer was {:?}",
                self.id, first.intent, first.key, first.request_id, first.response
            ));
        }
        true
    }

    /// More increments under one session than it remembers; the first is then sent again.
    pub async fn outlives_its_session(&mut self) {
        let first = RequestId { session: 0xc11f_0000 + u128::from(self.id), sequence: 0 };
        let key = "count-0";
        let (mut answered, sent_at) = (None, now());
        for sequence in 0..SESSION_REPLIES_MAX as u64 + 16 {
            let named = Named { id: RequestId { sequence, ..first }, sent: Sent::First };
            let span = self.book.begin();
            let tried = self.try_once(key, &Intent::Add, Some(named)).await;
            let span = self.book.end(span);
            let ended = match tried {
                Tried::Answered(node, response) => Ended::Answered(node, response),
                Tried::Failed(error) if error.outcome() == Outcome::Rejected => Ended::Rejected,
                Tried::Failed(_) | Tried::Gone => Ended::Unknown,
            };
            self.record(key, &Intent::Add, span, &ended, (None, None));
            if let (0, Ended::Answered(_, response)) = (sequence, ended) {
                answered = Some(response);
            }
        }
        if let Some(response) = answered {
            let (key, intent) = (key.to_owned(), Intent::Add);
            self.answered.clear();
            let request_id = first;
            self.answered.push_back(Answered { key, intent, request_id, sent_at, response });
            self.ask_again().await;
        }
    }

    /// Liveness: a write of every plain key must succeed in time.
    pub async fn writes_everywhere(&mut self, patience: Duration) -> Result<(), String> {
        let until = now() + patience;
        for slot in 0..self.cluster.plan.keys as usize {
            let key = format!("key-{slot}");
            loop {
                self.writes += 1;
                let value = u64::from(self.id) << 32 | self.writes;
                let before = self.seen[slot];
                let set = Intent::Set { value, ttl_ms: None, condition: If::Always };
                self.one(&key, set).await;
                if self.seen[slot] > before {
                    break;
                }
                if now() >= until {
                    return Err(format!("liveness: {key} was not written within {patience:?}"));
                }
            }
            self.one(&key, Intent::Get { consistency: Consistency::Linearizable }).await;
        }
        for key in ["mortal-0", "mortal-1", "fill-0", "fill-1"] {
            self.one(key, Intent::Get { consistency: Consistency::Linearizable }).await;
        }
        for (key, look) in [
            ("count-0", Intent::Sum),
            ("count-1", Intent::Sum),
            ("pair", Intent::GetPair),
            ("long-0", Intent::GetLong),
            ("long-1", Intent::GetLong),
        ] {
            self.one(key, look).await;
        }
        Ok(())
    }
}
