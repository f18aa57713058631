//! The task that gathers operations for one node into frames.
//!
//! A **lane** is what may share a frame: one group, and either writes or reads of one consistency.
//! Each lane has a few frames in flight; what comes meanwhile waits and leaves together. A lane
//! that is stuck (a group without a quorum) holds up no other. What waited too long in a lane that
//! stands is refused instead of sent (`core::queue_delay`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use prometheus::{Histogram, IntCounter};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::forward::{Ask, Outgoing, Served, exhausted};
use super::options::ForwardLimits;
use crate::codec::forward::{Operations, Request, Response, Results};
use crate::core::table::RoutingTable;
use crate::raft::delay::DelayWatch;
use crate::transport::{self, FrameKind, SharedTransport};
use crate::types::clock::{Instant, now};
use crate::types::limits::BATCH_WRITES_MAX;
use crate::types::watch;
use crate::types::{
    Consistency, Error, GroupId, NodeId, Outcome, Query, Reason, RoutingEpoch, ShardId,
};

/// What the forwarding tasks share.
pub(super) struct Links {
    pub(super) node: NodeId,
    pub(super) transport: SharedTransport,
    pub(super) table: watch::Receiver<Arc<RoutingTable>>,
    pub(super) forwarded: IntCounter,
    /// Called with the epoch of every answer.
    pub(super) learn_epoch: Box<dyn Fn(RoutingEpoch) + Send + Sync>,
    /// Number of the last frame.
    pub(super) batches: AtomicU64,
    pub(super) limits: ForwardLimits,
    /// Seconds operations waited to be sent.
    pub(super) waited_seconds: Histogram,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("node", &self.node).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Writes,
    Linearizable,
    Lease,
    Bounded(u64),
    Stale,
}

type LaneId = (GroupId, Kind);

#[derive(Debug)]
struct Lane {
    queued: VecDeque<Outgoing>,
    in_flight: usize,
    delay: DelayWatch,
}

/// What the delay of a lane is called in refusals.
const DELAY: &str = "milliseconds of queueing on the way to another node";

impl Lane {
    fn new(links: &Links) -> Self {
        let delay = DelayWatch::new(links.limits.delay, DELAY, links.waited_seconds.clone());
        Lane { queued: VecDeque::new(), in_flight: 0, delay }
    }
}

struct Landed {
    lane: LaneId,
    sent: Vec<Outgoing>,
    answer: Result<Bytes, transport::Error>,
}

/// The task of one node.
pub(super) struct Lanes {
    to: NodeId,
    links: Arc<Links>,
    incoming: mpsc::Receiver<Outgoing>,
    stop: CancellationToken,
    lanes: BTreeMap<LaneId, Lane>,
    flying: FuturesUnordered<BoxFuture<'static, Landed>>,
}

impl Lanes {
    pub(super) fn new(
        to: NodeId,
        links: Arc<Links>,
        incoming: mpsc::Receiver<Outgoing>,
        stop: CancellationToken,
    ) -> Self {
        let (lanes, flying) = (BTreeMap::new(), FuturesUnordered::new());
        Lanes { to, links, incoming, stop, lanes, flying }
    }

    /// Runs until told to stop.
    pub(super) async fn run(mut self) {
        let mut received = Vec::with_capacity(BATCH_WRITES_MAX);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                Some(landed) = self.flying.next(), if !self.flying.is_empty() => {
                    let lane = landed.lane;
                    self.land(landed);
                    self.launch(lane);
                }
                count = self.incoming.recv_many(&mut received, BATCH_WRITES_MAX) => {
                    if count == 0 {
                        return;
                    }
                    let touched: BTreeSet<LaneId> =
                        received.drain(..).map(|outgoing| self.accept(outgoing)).collect();
                    touched.into_iter().for_each(|lane| self.launch(lane));
                }
            }
        }
    }

    fn accept(&mut self, outgoing: Outgoing) -> LaneId {
        let kind = match &outgoing.ask {
            Ask::Write(_) => Kind::Writes,
            Ask::Read(_, Consistency::Linearizable) => Kind::Linearizable,
            Ask::Read(_, Consistency::Lease) => Kind::Lease,
            Ask::Read(_, Consistency::Bounded { staleness_ms_max }) => {
                Kind::Bounded(*staleness_ms_max)
            }
            Ask::Read(_, Consistency::Stale) => Kind::Stale,
            Ask::Lease(_) => unreachable!("it travels alone"),
        };
        let id = (outgoing.group, kind);
        let (links, queue_max) = (&self.links, self.links.limits.queue_max);
        let lane = self.lanes.entry(id).or_insert_with(|| Lane::new(links));
        if lane.queued.len() >= queue_max {
            refuse(outgoing, exhausted("forward queue", queue_max));
        } else if lane.queued.len() >= lane.delay.room() {
            lane.delay.refused();
            refuse(outgoing, lane.delay.refusal());
        } else {
            lane.queued.push_back(outgoing);
        }
        id
    }

    /// Sends frames of a lane while it has something queued and may have more in flight.
    fn launch(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        while lane.in_flight < self.links.limits.in_flight_max {
            let sent = take_frame(lane, &self.links.limits);
            if sent.is_empty() {
                break;
            }
            lane.in_flight += 1;
            self.flying.push(send(&self.links, self.to, id, sent));
        }
        if lane.in_flight == 0 && lane.queued.is_empty() {
            self.lanes.remove(&id);
        }
    }

    /// Hands the replies of a frame back. What did not fit the answer goes again, first: a read is
    /// read again, a write gets its remembered reply.
    fn land(&mut self, landed: Landed) {
        let Landed { lane, sent, answer: bytes } = landed;
        let Some(shard) = sent.first().map(|outgoing| outgoing.shard) else { return };
        let results = self.results(lane, shard, sent.len(), bytes);
        let mut sent = sent.into_iter();
        match results {
            Ok(Results::Writes(replies)) => {
                // In this order: a zip asks its first side first, and must not take an operation
                // for which there is no result.
                for (reply, outgoing) in replies.into_iter().zip(sent.by_ref()) {
                    answer(outgoing, Ok(Served::Reply(reply)));
                }
            }
            Ok(Results::Reads { answers, freshness }) => {
                for (found, outgoing) in answers.into_iter().zip(sent.by_ref()) {
                    answer(outgoing, Ok(Served::Read(found, freshness)));
                }
            }
            Ok(Results::Leased(_)) => unreachable!("an odd answer is an error"),
            Ok(Results::Failed(error)) | Err(error) => {
                for outgoing in sent.by_ref() {
                    let error = honest(&outgoing, error.clone());
                    answer(outgoing, Err(error));
                }
            }
        }
        let lane = self.lanes.get_mut(&lane).expect("a lane lives while a frame of it flies");
        lane.in_flight -= 1;
        for mut unanswered in sent.rev() {
            unanswered.served = true;
            unanswered.ask.sent_before(unanswered.queued_at);
            lane.queued.push_front(unanswered);
        }
    }

    /// The results in an answer, one for each operation of a prefix of the frame.
    fn results(
        &self,
        (_, kind): LaneId,
        shard: ShardId,
        asked: usize,
        answer: Result<Bytes, transport::Error>,
    ) -> Result<Results, Error> {
        let bytes = answer.map_err(|error| match error {
            transport::Error::Unreachable { .. } | transport::Error::Refused { .. } => {
                tracing::debug!(to = %self.to, %error, "not delivered");
                Error::from(Reason::NoLeader { group: GroupId::of_shard(shard) })
            }
            transport::Error::NoAnswer { .. } => lost(kind, error.to_string()),
        })?;
        let response = Response::decode(bytes).map_err(|error| lost(kind, error.to_string()))?;
        (self.links.learn_epoch)(response.epoch);
        let fits = match (&response.results, kind) {
            (Results::Failed(_), _) => true,
            (Results::Leased(_), _) => false,
            (Results::Writes(replies), Kind::Writes) => (1..=asked).contains(&replies.len()),
            (Results::Writes(_), _) | (Results::Reads { .. }, Kind::Writes) => false,
            (Results::Reads { answers, .. }, _) => (1..=asked).contains(&answers.len()),
        };
        if fits { Ok(response.results) } else { Err(lost(kind, "an odd answer".to_owned())) }
    }
}

/// Takes what goes into one frame; what its caller gave up is dropped, what waited too long refused.
fn take_frame(lane: &mut Lane, limits: &ForwardLimits) -> Vec<Outgoing> {
    let (mut taken, mut positions, mut bytes) = (Vec::new(), 0, 0);
    while let Some(next) = lane.queued.front() {
        let next_positions = match &next.ask {
            Ask::Write(write) => write.command.positions(),
            Ask::Read(..) | Ask::Lease(_) => 1,
        };
        // A unit that is large by itself goes alone.
        let full = positions + next_positions > limits.frame_operations_max
            || bytes >= limits.frame_bytes_max;
        if full && !taken.is_empty() {
            break;
        }
        let Some(outgoing) = lane.queued.pop_front() else { break };
        // A caller that went away before anything was sent takes its operation along.
        if outgoing.reply.is_closed() {
            continue;
        }
        // What did not fit the last answer has waited for it, not for its turn.
        if !outgoing.claim.is_sent()
            && let Err(error) = lane.delay.take(outgoing.queued_at, 1)
        {
            refuse(outgoing, error);
            continue;
        }
        if outgoing.claim.send() {
            positions += next_positions;
            bytes += outgoing.held.bytes;
            taken.push(outgoing);
        }
    }
    if lane.queued.is_empty() {
        lane.delay.emptied();
    }
    taken
}

/// Answers what will not be sent, unless its caller has given it up.
fn refuse(outgoing: Outgoing, error: Error) {
    if outgoing.claim.give_up() {
        answer(outgoing, Err(error));
    }
}

fn send(
    links: &Arc<Links>,
    to: NodeId,
    lane: LaneId,
    sent: Vec<Outgoing>,
) -> BoxFuture<'static, Landed> {
    let deadline = sent.iter().map(|outgoing| outgoing.deadline).max().unwrap_or_else(now);
    let batch = links.batches.fetch_add(1, Ordering::Relaxed);
    let request = Request {
        epoch: links.table.borrow().epoch,
        batch,
        deadline_ms: left_ms(deadline),
        operations: operations(&sent),
        traces: sent.iter().map(|outgoing| outgoing.trace).filter(|id| *id != 0).collect(),
    };
    links.forwarded.inc_by(sent.len() as u64);
    let span = tracing::debug_span!(
        "forward", origin = %links.node, %to, group = %lane.0, batch, operations = sent.len()
    );
    // Queued here, before the future is polled, so frames leave in the order they were made.
    let call = {
        let _entered = span.enter();
        links.transport.call(to, lane.0, FrameKind::Forward, request.encode(), deadline)
    };
    Box::pin(async move { Landed { lane, sent, answer: call.await } }.instrument(span))
}

fn operations(sent: &[Outgoing]) -> Operations {
    let mut writes = Vec::new();
    let mut reads: Option<(Consistency, Vec<Query>)> = None;
    for outgoing in sent {
        match &outgoing.ask {
            Ask::Write(write) => writes.push(write.clone()),
            Ask::Read(query, consistency) => {
                reads.get_or_insert((*consistency, Vec::new())).1.push(query.clone());
            }
            Ask::Lease(_) => unreachable!("it travels alone"),
        }
    }
    match reads {
        None => Operations::Writes(writes),
        Some((consistency, queries)) => {
            assert!(writes.is_empty(), "a lane mixes reads and writes");
            Operations::Reads { consistency, queries }
        }
    }
}

pub(super) fn left_ms(deadline: Instant) -> u64 {
    u64::try_from(deadline.saturating_duration_since(now()).as_millis()).unwrap_or(u64::MAX)
}

fn lost(kind: Kind, detail: String) -> Error {
    match kind {
        Kind::Writes => Reason::Lost { detail }.into(),
        _ => Reason::ReadFailed { detail }.into(),
    }
}

/// What a write that was served before is told when it is refused now: not that it was rejected
/// (INV-5). It has a request id, so it may be asked for again.
fn honest(outgoing: &Outgoing, error: Error) -> Error {
    let write = matches!(outgoing.ask, Ask::Write(_));
    if outgoing.served && write && error.outcome() == Outcome::Rejected {
        return lost(Kind::Writes, format!("served, and then refused its answer: {error}"));
    }
    error
}

fn answer(outgoing: Outgoing, result: Result<Served, Error>) {
    // A caller that went away needs no answer.
    drop(outgoing.reply.send(result));
}
