//! A network under virtual time: the whole cluster in one thread, faults at will, and a seed
//! replays a run. Deterministic on a current-thread runtime with its clock paused.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::sim_link::{Parcel, SimLink};
use super::{Error, FrameKind, Handler, SharedTransport, Transport};
use crate::types::clock::{Instant, now};
use crate::types::limits::FRAME_BYTES_MAX;
use crate::types::random::Random;
use crate::types::{GroupId, NodeId};

/// Says whether a frame passes; asked when it is sent, and for its answer as well. It must not
/// call the network.
pub type Filter = Box<dyn Fn(NodeId, NodeId, FrameKind) -> bool + Send + Sync>;

/// The network. Cheap to clone; all clones are one network.
#[derive(Clone)]
pub struct SimNetwork {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    seed: u64,
    nodes: BTreeMap<NodeId, Node>,
    links: BTreeMap<(NodeId, NodeId), Arc<SimLink>>,
    /// One random stream a direction, so that a fault on one link leaves the others as they were.
    random: BTreeMap<(NodeId, NodeId), Random>,
    cuts: BTreeSet<(NodeId, NodeId)>,
    filter: Option<Filter>,
    delay: Range<Duration>,
    drop_probability: f64,
    reorder: bool,
    panics: u64,
}

#[derive(Default)]
struct Node {
    /// `None` while the node does not run: connections to it are refused.
    handler: Option<Arc<dyn Handler>>,
    /// Counts crashes, so that what a crashed node left running cannot speak any more.
    incarnation: u64,
}

/// What becomes of a frame in one direction.
pub(super) enum Fate {
    /// It arrives then.
    Arrives(Instant),
    /// It is lost, and nobody is told.
    Lost,
}

impl std::fmt::Debug for SimNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimNetwork").field("seed", &self.inner.lock().seed).finish_non_exhaustive()
    }
}

impl SimNetwork {
    /// A network without faults; frames take 0.2 to 2 ms one way.
    pub fn new(seed: u64) -> Self {
        let inner = Inner {
            seed,
            nodes: BTreeMap::new(),
            links: BTreeMap::new(),
            random: BTreeMap::new(),
            cuts: BTreeSet::new(),
            filter: None,
            delay: Duration::from_micros(200)..Duration::from_millis(2),
            drop_probability: 0.0,
            reorder: false,
            panics: 0,
        };
        SimNetwork { inner: Arc::new(Mutex::new(inner)) }
    }

    /// The transport of `node` as it runs now; of no use any more after [`Self::unregister`].
    pub fn transport(&self, node: NodeId) -> SharedTransport {
        let incarnation = self.inner.lock().nodes.entry(node).or_default().incarnation;
        Arc::new(SimTransport { network: self.clone(), node, incarnation })
    }

    /// `node` runs: `handler` serves it.
    pub fn register(&self, node: NodeId, handler: Arc<dyn Handler>) {
        let mut inner = self.inner.lock();
        inner.nodes.entry(node).or_default().handler = Some(handler);
    }

    /// `node` crashes: its connections break (calls end with `NoAnswer`), the handler futures it
    /// was running are dropped, and its transport sends nothing any more.
    pub fn unregister(&self, node: NodeId) {
        let broken: Vec<Arc<SimLink>> = {
            let mut inner = self.inner.lock();
            let entry = inner.nodes.entry(node).or_default();
            entry.handler = None;
            entry.incarnation += 1;
            let ends = |(from, to): &(NodeId, NodeId)| *from == node || *to == node;
            let keys: Vec<_> = inner.links.keys().filter(|key| ends(key)).copied().collect();
            keys.iter().filter_map(|key| inner.links.remove(key)).collect()
        };
        for link in broken {
            link.reset();
        }
    }

    /// Only frames and answers that `filter(from, to, kind)` lets through arrive.
    pub fn set_filter(&self, filter: Filter) {
        self.inner.lock().filter = Some(filter);
    }

    /// Cuts the network into `sides` that cannot reach each other. Nodes in none reach everyone.
    pub fn partition(&self, sides: &[&[NodeId]]) {
        let mut inner = self.inner.lock();
        for (i, side) in sides.iter().enumerate() {
            for other in sides.iter().skip(i + 1) {
                for (a, b) in side.iter().flat_map(|a| other.iter().map(move |b| (*a, *b))) {
                    inner.cuts.insert((a, b));
                    inner.cuts.insert((b, a));
                }
            }
        }
    }

    /// Nothing goes from `from` to `to`, neither frames nor answers; the other way is open.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.inner.lock().cuts.insert((from, to));
    }

    /// Ends partitions, cuts and the filter, and loses nothing more; delays stay.
    pub fn heal(&self) {
        let mut inner = self.inner.lock();
        inner.cuts.clear();
        inner.filter = None;
        inner.drop_probability = 0.0;
    }

    /// Time each frame takes one way, drawn evenly. An empty range means its start.
    pub fn set_delay(&self, delay: Range<Duration>) {
        self.inner.lock().delay = delay;
    }

    /// Share of frames, and of answers, that are lost: 0 to 1.
    pub fn set_drop_probability(&self, probability: f64) {
        assert!((0.0..=1.0).contains(&probability), "a probability is 0 to 1");
        self.inner.lock().drop_probability = probability;
    }

    /// Whether frames of one link may overtake each other; off at first.
    pub fn set_reordering(&self, reorder: bool) {
        self.inner.lock().reorder = reorder;
    }

    /// Panics of handlers so far; their callers got no answer. A test wants 0.
    pub fn panics(&self) -> u64 {
        self.inner.lock().panics
    }

    pub(super) fn count_panic(&self) {
        self.inner.lock().panics += 1;
    }

    /// Draws the fate of a frame or an answer that leaves `from` for `to` now.
    pub(super) fn fate(&self, from: NodeId, to: NodeId, kind: FrameKind) -> Fate {
        self.inner.lock().fate(from, to, kind)
    }

    /// The handler of `node`, if it runs.
    pub(super) fn handler(&self, node: NodeId) -> Option<Arc<dyn Handler>> {
        self.inner.lock().nodes.get(&node).and_then(|node| node.handler.clone())
    }

    fn send(
        &self,
        (from, incarnation): (NodeId, u64),
        to: NodeId,
        group: GroupId,
        kind: FrameKind,
        payload: Bytes,
    ) -> Result<oneshot::Receiver<Result<Bytes, Error>>, Error> {
        if payload.len() > FRAME_BYTES_MAX {
            let size = payload.len();
            let detail = format!("a frame of {size} bytes is over the limit of {FRAME_BYTES_MAX}");
            return Err(Error::Refused { peer: to, detail });
        }
        let unreachable = |detail: &str| Error::Unreachable { peer: to, detail: detail.to_owned() };
        let (sender, answer) = oneshot::channel();
        let mut inner = self.inner.lock();
        if inner.nodes.get(&from).is_some_and(|node| node.incarnation != incarnation) {
            return Err(unreachable("the calling node has crashed"));
        }
        let fate = inner.fate(from, to, kind);
        let cut = inner.cuts.contains(&(from, to)) || inner.cuts.contains(&(to, from));
        if !cut && inner.nodes.get(&to).is_none_or(|node| node.handler.is_none()) {
            return Err(unreachable("connection refused"));
        }
        let reorder = inner.reorder;
        let link = Arc::clone(
            inner.links.entry((from, to)).or_insert_with(|| SimLink::open(self.clone(), from, to)),
        );
        drop(inner);
        link.send(Parcel { group, kind, payload, answer: sender }, fate, reorder);
        Ok(answer)
    }
}

impl Inner {
    fn fate(&mut self, from: NodeId, to: NodeId, kind: FrameKind) -> Fate {
        let random = self
            .random
            .entry((from, to))
            .or_insert_with(|| Random::new(self.seed ^ (from.0 << 32) ^ to.0));
        // Always two draws, so that a fault does not shift what comes after it.
        let lost = random.unit() < self.drop_probability;
        let delay = random.duration(&self.delay);
        let passes = !self.cuts.contains(&(from, to))
            && self.filter.as_ref().is_none_or(|filter| filter(from, to, kind));
        if lost || !passes { Fate::Lost } else { Fate::Arrives(now() + delay) }
    }
}

/// One node's end of the network.
#[derive(Debug)]
struct SimTransport {
    network: SimNetwork,
    node: NodeId,
    incarnation: u64,
}

impl Transport for SimTransport {
    fn call(
        &self,
        to: NodeId,
        group: GroupId,
        kind: FrameKind,
        payload: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, Error>> {
        let answer =
            match self.network.send((self.node, self.incarnation), to, group, kind, payload) {
                Ok(answer) => answer,
                Err(error) => return ready(Err(error)).boxed(),
            };
        async move {
            let no_answer =
                |detail: &str| Err(Error::NoAnswer { peer: to, detail: detail.to_owned() });
            match tokio::time::timeout_at(deadline, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => no_answer("connection reset"),
                Err(_) => no_answer("deadline passed"),
            }
        }
        .boxed()
    }

    /// As a keepalive would find out, but at once.
    fn is_connected(&self, peer: NodeId) -> bool {
        let inner = self.network.inner.lock();
        let cut = |from, to| inner.cuts.contains(&(from, to));
        let runs = inner.nodes.get(&peer).is_some_and(|node| node.handler.is_some());
        runs && !cut(self.node, peer) && !cut(peer, self.node)
    }

    /// Nothing to learn: every node of the simulation can be found.
    fn set_address(&self, _peer: NodeId, _address: &str) {}

    /// Addresses are the nodes' names, such as `n1`.
    fn call_address(
        &self,
        address: &str,
        kind: FrameKind,
        payload: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, Error>> {
        match address.strip_prefix('n').and_then(|number| number.parse().ok()) {
            Some(number) => self.call(NodeId(number), GroupId::CONTROLLER, kind, payload, deadline),
            None => {
                let detail = format!("no address of the simulation: {address}");
                ready(Err(Error::Unreachable { peer: NodeId(0), detail })).boxed()
            }
        }
    }
}
