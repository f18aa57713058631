//! Clients: each does one operation after another, through any node that runs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use raftcache::service::{Execute, Operation, Request, Response};
use raftcache::types::clock::{Instant, now};
use raftcache::types::random::Random;
use raftcache::types::{
    Answer, Command, Condition, Consistency, Delete, Error, Expiry, Outcome, Query, Reason, Reply,
    RequestId, Set, Value, ValueKind, Version,
};
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::history::{Event, History};
use crate::model::{If, Step, Wrote};
use crate::plan::Bug;
use crate::trace::Trace;

/// Tries of one write under one request id.
const TRIES_MAX: u32 = 4;

/// What all clients of a run share.
pub struct Book {
    pub history: Mutex<History>,
    pub trace: Trace,
    pub counts: Mutex<Counts>,
    started: Instant,
    clock: Mutex<i64>,
}

/// How operations ended.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    pub ok: u64,
    pub rejected: u64,
    pub unknown: u64,
    /// Tries again under the same request id.
    pub retries: u64,
}

impl Book {
    pub fn new() -> Arc<Self> {
        Arc::new(Book {
            history: Mutex::default(),
            trace: Trace::default(),
            counts: Mutex::default(),
            started: now(),
            clock: Mutex::default(),
        })
    }

    /// The next position in the order of all calls and returns.
    fn tick(&self) -> i64 {
        let mut clock = self.clock.lock();
        *clock += 1;
        *clock
    }

    pub fn now_ms(&self) -> u64 {
        (now() - self.started).as_millis() as u64
    }

    /// Notes something that happened.
    pub fn note(&self, what: std::fmt::Arguments<'_>) {
        self.trace.note((now() - self.started).as_nanos(), what);
    }
}

/// How one try ended.
enum Tried {
    Answered(Response),
    Failed(Error),
    /// The node crashed.
    Gone,
}

/// One client.
pub struct Client {
    id: u32,
    cluster: Arc<Cluster>,
    book: Arc<Book>,
    random: Random,
    writes: u64,
    /// Version of each plain key as last seen.
    seen: Vec<u64>,
}

/// What to do, and how to note it once the answer is there.
enum Intent {
    Get,
    Set { value: u64, ttl_ms: Option<u64>, condition: If },
    Delete { condition: If },
}

impl Client {
    pub fn new(id: u32, cluster: Arc<Cluster>, book: Arc<Book>) -> Self {
        let random = Random::new(cluster.plan.seed ^ (u64::from(id) << 32) ^ 0xc11e);
        let seen = vec![0; cluster.plan.keys as usize];
        Client { id, cluster, book, random, writes: 0, seen }
    }

    /// Works until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let (key, slot, intent) = self.choose();
            let surely = self.one(&key, slot, intent).await;
            // Who failed waits a little, as clients do.
            let most = if surely { 100 } else { 300 };
            let pause = Duration::from_micros(1 + self.random.bits() % (most * 1000));
            let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }

    fn choose(&mut self) -> (String, Option<usize>, Intent) {
        self.writes += 1;
        let value = u64::from(self.id) << 32 | self.writes;
        if self.random.bits().is_multiple_of(6) {
            let key = format!("mortal-{}", self.random.bits() % 2);
            let ttl_ms = Some(1 + self.random.bits() % 4_000);
            let intent = match self.random.bits() % 8 {
                0..=3 => Intent::Get,
                4..=6 => Intent::Set { value, ttl_ms, condition: If::Always },
                _ => Intent::Delete { condition: If::Always },
            };
            return (key, None, intent);
        }
        let slot = (self.random.bits() % self.cluster.plan.keys) as usize;
        let seen = If::Version(self.seen[slot]);
        let set = |condition| Intent::Set { value, ttl_ms: None, condition };
        let intent = match self.random.bits() % 20 {
            0..=8 => Intent::Get,
            9..=12 => set(If::Always),
            13 | 14 => set(seen),
            15 => set(If::Absent),
            16 => set(If::Present),
            17 | 18 => Intent::Delete { condition: If::Always },
            _ => Intent::Delete { condition: seen },
        };
        (format!("key-{slot}"), Some(slot), intent)
    }

    /// Does one operation and notes it. True if its outcome is known.
    async fn one(&mut self, key: &str, slot: Option<usize>, intent: Intent) -> bool {
        let (call, call_ms) = (self.book.tick(), self.book.now_ms());
        let answer = self.tries(key, &intent).await;
        let (returned, returned_ms) = (self.book.tick(), self.book.now_ms());
        self.book.note(format_args!("client {} {key} {answer:?}", self.id));
        let step = match (answer, &intent) {
            (Some(Ok(response)), _) => {
                self.book.counts.lock().ok += 1;
                step(&intent, Some(&response))
            }
            (Some(Err(())), _) | (None, Intent::Get) => {
                self.book.counts.lock().rejected += 1;
                return true;
            }
            (None, _) => {
                self.book.counts.lock().unknown += 1;
                if self.cluster.plan.bug == Bug::UnknownAsRejected {
                    return true;
                }
                step(&intent, None)
            }
        };
        if let (Some(slot), Some(version)) = (slot, version_seen(&step)) {
            self.seen[slot] = version;
        }
        let known = !step.is_unknown();
        let event = Event { client: self.id, step, call, returned, call_ms, returned_ms };
        self.book.history.lock().push(key, event);
        known
    }

    /// `None` if the outcome is unknown, `Some(Err)` if the operation was surely not applied.
    async fn tries(&mut self, key: &str, intent: &Intent) -> Option<Result<Response, ()>> {
        let write = !matches!(intent, Intent::Get);
        let reused = self.cluster.plan.bug == Bug::ReusedRequestId;
        let request_id = (write && (reused || self.random.bits().is_multiple_of(2))).then(|| {
            let sequence = if reused { self.writes / 2 } else { self.writes };
            RequestId { session: 0xc11e_0000 + u128::from(self.id), sequence }
        });
        let mut unknown = false;
        for attempt in 0..TRIES_MAX {
            match self.try_once(key, intent, request_id).await {
                Tried::Answered(response) => return Some(Ok(response)),
                Tried::Failed(error) if error.outcome() == Outcome::Rejected && !unknown => {
                    return Some(Err(()));
                }
                Tried::Failed(error) if error.reason == Reason::SessionExpired => return None,
                Tried::Failed(_) | Tried::Gone => unknown |= write,
            }
            if request_id.is_none() || attempt + 1 == TRIES_MAX {
                break;
            }
            self.book.counts.lock().retries += 1;
            let pause = Duration::from_millis(1 + self.random.bits() % 200);
            tokio::time::sleep(pause).await;
        }
        if unknown { None } else { Some(Err(())) }
    }

    async fn try_once(
        &mut self,
        key: &str,
        intent: &Intent,
        request_id: Option<RequestId>,
    ) -> Tried {
        let running = self.cluster.running();
        let Some(at) = running.get(self.random.bits() as usize % running.len().max(1)) else {
            return Tried::Failed(Reason::NotReady.into());
        };
        let Some(life) = self.cluster.life(*at) else {
            return Tried::Failed(Reason::NotReady.into());
        };
        let deadline = now() + Duration::from_millis(800 + self.random.bits() % 1_200);
        let operation = operation(key, intent, self.cluster.plan.bug);
        let request_id = request_id.map(Into::into);
        let request = Request { operation, request_id, arrived: now(), deadline, trace: 0 };
        let execute = life.service.execute(request);
        tokio::select! {
            biased;
            () = life.dead.cancelled() => Tried::Gone,
            answer = execute => match answer {
                Ok(response) => Tried::Answered(response),
                Err(error) => {
                    self.book.note(format_args!("client {} n{at} {error}", self.id));
                    Tried::Failed(error)
                }
            },
        }
    }
}

fn condition(of: If) -> Condition {
    match of {
        If::Always => Condition::Always,
        If::Absent => Condition::IfAbsent,
        If::Present => Condition::IfPresent,
        If::Version(version) => Condition::IfVersion(Version(version)),
    }
}

fn operation(key: &str, intent: &Intent, bug: Bug) -> Operation {
    let key = Bytes::copy_from_slice(key.as_bytes());
    match intent {
        Intent::Get => Operation::Read {
            query: Query::Get { key },
            consistency: match bug {
                Bug::StaleReads => Consistency::Stale,
                _ => Consistency::Linearizable,
            },
        },
        Intent::Set { value, ttl_ms, condition: of } => Operation::Write(Command::Set(Set {
            key,
            value: Value {
                data: Bytes::copy_from_slice(&value.to_be_bytes()),
                kind: ValueKind::Bytes,
            },
            expiry: ttl_ms.map_or(Expiry::Never, Expiry::AfterMs),
            condition: condition(*of),
        })),
        Intent::Delete { condition: of } => {
            Operation::Write(Command::Delete(Delete { key, condition: condition(*of) }))
        }
    }
}

/// The operation with its answer; `None` if nobody knows.
fn step(intent: &Intent, response: Option<&Response>) -> Step {
    if let (Intent::Get, Some(Response::Read { answer: Answer::Value(found), .. })) =
        (intent, response)
    {
        return Step::Get(found.as_ref().map(|found| {
            let bytes: [u8; 8] = found.value.data[..].try_into().expect("values are numbers");
            (u64::from_be_bytes(bytes), found.version.0)
        }));
    }
    let wrote = match response {
        None => Wrote::Unknown,
        Some(Response::Written(Reply::Set { version } | Reply::Deleted { version })) => {
            Wrote::Done(version.0)
        }
        Some(Response::Written(Reply::NotFound)) => Wrote::NotFound,
        Some(Response::Written(Reply::ConditionFailed { current })) => {
            Wrote::Failed(current.map(|version| version.0))
        }
        Some(other) => panic!("no answer to this operation: {other:?}"),
    };
    match intent {
        Intent::Set { value, ttl_ms, condition } => {
            Step::Set { value: *value, mortal: ttl_ms.is_some(), condition: *condition, wrote }
        }
        Intent::Delete { condition } => Step::Delete { condition: *condition, wrote },
        Intent::Get => panic!("a read has no unknown outcome"),
    }
}

fn version_seen(step: &Step) -> Option<u64> {
    match step {
        Step::Get(found) => found.map(|(_, version)| version),
        Step::Set { wrote, .. } | Step::Delete { wrote, .. } => match wrote {
            Wrote::Done(version) => Some(*version),
            Wrote::Failed(current) => *current,
            Wrote::NotFound | Wrote::Unknown => None,
        },
    }
}

impl Client {
    /// Liveness: a write of every plain key through every node must succeed in time.
    pub async fn writes_everywhere(&mut self, patience: Duration) -> Result<(), String> {
        let until = now() + patience;
        for slot in 0..self.cluster.plan.keys as usize {
            let key = format!("key-{slot}");
            loop {
                self.writes += 1;
                let value = u64::from(self.id) << 32 | self.writes;
                let before = self.seen[slot];
                let set = Intent::Set { value, ttl_ms: None, condition: If::Always };
                self.one(&key, Some(slot), set).await;
                if self.seen[slot] > before {
                    break;
                }
                if now() >= until {
                    return Err(format!("liveness: {key} was not written within {patience:?}"));
                }
            }
            self.one(&key, Some(slot), Intent::Get).await;
        }
        for mortal in ["mortal-0", "mortal-1"] {
            self.one(mortal, None, Intent::Get).await;
        }
        Ok(())
    }
}
