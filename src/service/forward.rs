//! Operations on their way to another node: one task a node gathers what is queued into frames.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use super::forward_lane::{Lanes, Links};
use crate::codec::forward::query_bytes;
use crate::codec::log_record::write_bytes;
use crate::raft::delay::RETRY_AFTER;
use crate::types::clock::{Instant, now};
use crate::types::task::spawn;
use crate::types::{
    Answer, Consistency, Error, Freshness, GetOrLease, GroupId, Leased, NodeId, Query, Reason,
    Reply, Sent, ShardId, Write,
};

/// What one forwarded operation asks for.
#[derive(Debug)]
pub(super) enum Ask {
    Write(Write),
    Read(Query, Consistency),
    /// Never queued: see `forward_alone`.
    Lease(GetOrLease),
}

impl Ask {
    /// A write that goes again may have been applied.
    pub(super) fn sent_before(&mut self, since: Instant) {
        if let Ask::Write(Write { request_id: Some(once), .. }) = self
            && once.age_ms_max.is_none()
        {
            once.age_ms_max = Sent::First.again_after(since.elapsed()).age_ms_max();
        }
    }

    /// Bytes on the wire.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Ask::Write(write) => write_bytes(write),
            Ask::Read(query, _) => query_bytes(query),
            Ask::Lease(ask) => ask.key.len(),
        }
    }
}

/// What it gets.
#[derive(Debug)]
pub(super) enum Served {
    Reply(Reply),
    Read(Answer, Freshness),
    Leased(Box<Leased>),
}

/// One operation on its way.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) group: GroupId,
    pub(super) shard: ShardId,
    pub(super) ask: Ask,
    pub(super) queued_at: Instant,
    /// Its bytes, counted until it is answered.
    pub(super) held: Held,
    pub(super) deadline: Instant,
    /// 0 if nobody follows it.
    pub(super) trace: u128,
    pub(super) claim: Claim,
    /// It was served already, and its answer did not fit the frame.
    pub(super) served: bool,
    pub(super) reply: oneshot::Sender<Result<Served, Error>>,
}

/// Bytes on their way to a node, given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    count: Arc<AtomicUsize>,
    pub(super) bytes: usize,
}

impl Held {
    pub(super) fn new(count: &Arc<AtomicUsize>, bytes: usize) -> Self {
        count.fetch_add(bytes, Ordering::Relaxed);
        Held { count: Arc::clone(count), bytes }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.count.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Who decides the fate of a queued operation: the task that sends it, or the caller that gives up.
/// Exactly one of them wins, so a caller that gave up first knows that nothing was sent (INV-5).
#[derive(Clone, Debug, Default)]
pub(super) struct Claim(Arc<AtomicU8>);

const QUEUED: u8 = 0;
const SENT: u8 = 1;
const GIVEN_UP: u8 = 2;

impl Claim {
    /// True if the operation may be sent, now or again.
    pub(super) fn send(&self) -> bool {
        match self.0.compare_exchange(QUEUED, SENT, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(state) => state == SENT,
        }
    }

    /// True if the operation was sent before.
    pub(super) fn is_sent(&self) -> bool {
        self.0.load(Ordering::Acquire) == SENT
    }

    /// True if the operation was not sent and will not be.
    pub(super) fn give_up(&self) -> bool {
        self.0.compare_exchange(QUEUED, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Sends operations to other nodes.
#[derive(Debug)]
pub(super) struct Forwarder {
    pub(super) links: Arc<Links>,
    pub(super) stop: CancellationToken,
    /// Callers that wait at other nodes.
    pub(super) waiting: Arc<AtomicUsize>,
    // parking_lot: a look-up in a map, never across an await. A task is started under it.
    peers: Mutex<BTreeMap<NodeId, Peer>>,
}

#[derive(Debug)]
struct Peer {
    queue: mpsc::Sender<Outgoing>,
    bytes: Arc<AtomicUsize>,
    task: JoinHandle<Option<()>>,
}

impl Forwarder {
    pub(super) fn new(links: Links) -> Self {
        Forwarder {
            links: Arc::new(links),
            stop: CancellationToken::new(),
            waiting: Arc::default(),
            peers: Mutex::default(),
        }
    }

    /// Has `to` serve an operation. Ends by `deadline`. `NoAnswer` of the transport becomes `Lost`
    /// for a write and `ReadFailed` for a read; what was surely not delivered, `NoLeader`.
    pub(super) async fn call(
        &self,
        to: NodeId,
        (group, shard): (GroupId, ShardId),
        ask: Ask,
        (deadline, trace): (Instant, u128),
    ) -> Result<Served, Error> {
        let ask = match ask {
            Ask::Lease(ask) => return self.alone(to, (group, shard), ask, deadline, trace).await,
            queued => queued,
        };
        let (reply, answer) = oneshot::channel();
        let claim = Claim::default();
        let (write, bytes) = (matches!(ask, Ask::Write(_)), ask.bytes());
        let claimed = claim.clone();
        let outgoing = |held| {
            let queued_at = now();
            Outgoing {
                group,
                shard,
                ask,
                queued_at,
                held,
                deadline,
                trace,
                claim: claimed,
                served: false,
                reply,
            }
        };
        self.queue(to, bytes, outgoing)?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) if claim.give_up() => Err(Reason::Stopping.into()),
            Ok(Err(_)) if write => {
                Err(Reason::Lost { detail: "the node is stopping".to_owned() }.into())
            }
            Ok(Err(_)) => Err(Reason::Stopping.into()),
            Err(_) if claim.give_up() || !write => Err(Reason::DeadlineBeforePropose.into()),
            Err(_) => Err(Reason::DeadlineAfterPropose.into()),
        }
    }

    fn queue(
        &self,
        to: NodeId,
        bytes: usize,
        outgoing: impl FnOnce(Held) -> Outgoing,
    ) -> Result<(), Error> {
        if self.stop.is_cancelled() {
            return Err(Reason::Stopping.into());
        }
        let limits = &self.links.limits;
        let mut peers = self.peers.lock();
        if peers.get(&to).is_some_and(|peer| peer.queue.is_closed()) {
            // Its task panicked, which has been logged; its callers know. Begin afresh.
            peers.remove(&to);
        }
        let peer = peers.entry(to).or_insert_with(|| {
            let (queue, incoming) = mpsc::channel(limits.queue_max);
            let lanes = Lanes::new(to, Arc::clone(&self.links), incoming, self.stop.clone());
            Peer { queue, bytes: Arc::default(), task: spawn("forward", lanes.run()) }
        });
        if peer.bytes.load(Ordering::Relaxed) > limits.queue_bytes_max {
            return Err(exhausted("bytes of the forward queue", limits.queue_bytes_max));
        }
        let held = Held::new(&peer.bytes, bytes);
        peer.queue.try_send(outgoing(held)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => exhausted("forward queue", limits.queue_max),
            mpsc::error::TrySendError::Closed(_) => Reason::Stopping.into(),
        })
    }

    /// Stops the tasks and awaits them. What is still queued or under way ends with `Stopping` or
    /// `Lost`: drain first.
    pub(super) async fn shutdown(&self) {
        self.stop.cancel();
        let peers = std::mem::take(&mut *self.peers.lock());
        for (node, peer) in peers {
            drop(peer.queue);
            if let Err(error) = peer.task.await {
                tracing::warn!(%node, %error, "forwarding task did not end by itself");
            }
        }
    }
}

/// What a caller gets who finds a queue full.
pub(super) fn exhausted(what: &'static str, limit: usize) -> Error {
    let limit = limit as u64;
    Error::from(Reason::ResourceExhausted { what, limit }).retry_after(RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_side_decides_and_a_sent_operation_may_be_sent_again() {
        let claim = Claim::default();
        assert!(claim.send());
        assert!(claim.send(), "a read that did not fit the answer goes again");
        assert!(!claim.give_up(), "too late to say that nothing was sent");
        let claim = Claim::default();
        assert!(claim.give_up());
        assert!(!claim.send());
    }
}
