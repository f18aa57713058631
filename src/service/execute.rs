//! The one entry: an operation from its door to its answer.
//!
//! What is about one key, or one shard, runs as one unit (`run`): slot of the key -> routing table ->
//! the group's leader, here or on another node -> answer. What fails on the way is tried again until
//! the deadline, by the rules of `attempts`. What is about several is split into units (`multi`,
//! `spread`).
//!
//! **Request ids.** What may have been proposed is tried again only under a request id, so every
//! write that leaves this node has one: its caller's, else one of the node's own pool
//! (`request_ids`). A write that this node's own replica proposes gets one as well unless
//! `Options::local_ids` is off: it costs about 24 bytes in the log and a remembered reply, and it
//! is what turns a change of leader in the middle of a proposal from a `Lost` that the client must
//! deal with into a pause (a rolling restart moves every leadership once).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;

use super::admission::Admission;
use super::alarms::AlarmControl;
use super::api::{Execute, NodeStatus, Operation, Request, Response};
use super::forward::Forwarder;
use super::forward_lane::Links;
use super::local_group::LocalGroup;
use super::measure::Measures;
use super::options::Options;
use super::registry::Registry;
use super::request_ids::RequestIds;
use super::router::Router;
use super::status::{self, StatusSource};
use super::unit::{Caller, Unit};
use crate::core::cluster::alarms::{AckAlarms, Alarm};
use crate::core::slot::slot_of;
use crate::core::table::RoutingTable;
use crate::transport::SharedTransport;
use crate::types::clock::{Instant, now};
use crate::types::metrics::Metrics;
use crate::types::watch;
use crate::types::{Error, GroupId, NodeId, Reason, RoutingEpoch, ShardId};

/// What a service is made of.
pub struct Parts<G> {
    /// This node.
    pub node: NodeId,
    /// What a user may set.
    pub options: Options,
    /// The groups of this node; the caller keeps a clone and adds and removes groups.
    pub registry: Registry<G>,
    /// Calls peers.
    pub transport: SharedTransport,
    /// The routing table this node holds.
    pub table: watch::Receiver<Arc<RoutingTable>>,
    /// Gets the largest epoch seen in any answer; who fetches the table watches it.
    pub epoch_seen: Arc<watch::Sender<RoutingEpoch>>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Replicas and readiness.
    pub status: Arc<dyn StatusSource>,
    /// Reaches the controller.
    pub alarms: Arc<dyn AlarmControl>,
    /// Drawn at random at each start of the node: no two starts may share request ids.
    pub session_seed: u128,
}

/// The service of a node. Clones are handles to the same one.
pub struct Service<G> {
    pub(super) inner: Arc<Inner<G>>,
}

impl<G> Clone for Service<G> {
    fn clone(&self) -> Self {
        Service { inner: Arc::clone(&self.inner) }
    }
}

pub(super) struct Inner<G> {
    pub(super) node: NodeId,
    pub(super) router: Arc<Router<G>>,
    pub(super) admission: Admission,
    pub(super) measures: Measures,
    pub(super) options: Options,
    pub(super) ids: RequestIds,
    pub(super) forwarder: Forwarder,
    pub(super) status: Arc<dyn StatusSource>,
    pub(super) alarms: Arc<dyn AlarmControl>,
}

impl<G: LocalGroup> Service<G> {
    /// Puts the parts together. Must be called within a runtime only once something is executed.
    pub fn new(parts: Parts<G>) -> Self {
        let Parts { node, options, registry, transport, table, epoch_seen, metrics, .. } = parts;
        let wire = Arc::clone(&transport);
        let router = Arc::new(Router::new(node, registry, wire, table.clone(), epoch_seen));
        let learner = Arc::clone(&router);
        let forwarder = Forwarder::new(Links {
            node,
            transport,
            table,
            forwarded: metrics.forwarded.clone(),
            learn_epoch: Box::new(move |epoch| learner.learn_epoch(epoch)),
            batches: AtomicU64::new(1),
            limits: options.forward,
            waited_seconds: metrics.queue_delay.with_label_values(&["forward"]),
        });
        let inner = Inner {
            node,
            router,
            admission: Admission::new(options.admission, &metrics),
            measures: Measures::new(&metrics),
            options,
            ids: RequestIds::new(parts.session_seed),
            forwarder,
            status: parts.status,
            alarms: parts.alarms,
        };
        Service { inner: Arc::new(inner) }
    }

    /// The groups of this node.
    pub fn registry(&self) -> &Registry<G> {
        self.inner.router.registry()
    }

    /// Counts requests; `stop` and `drain` are the way to a graceful end.
    pub fn admission(&self) -> &Admission {
        &self.inner.admission
    }

    /// Stops the forwarding tasks and awaits them. Drain first.
    pub async fn shutdown(&self) {
        self.inner.admission.stop();
        self.inner.forwarder.shutdown().await;
    }
}

impl<G: LocalGroup> Execute for Service<G> {
    async fn execute(&self, request: Request) -> Result<Response, Error> {
        self.inner.execute(request).await
    }

    fn status(&self) -> NodeStatus {
        let inner = &self.inner;
        status::assemble(inner.node, inner.not_ready_because(), inner.status.as_ref())
    }

    fn is_ready(&self) -> bool {
        self.inner.not_ready_because().is_empty()
    }

    fn table(&self) -> Arc<RoutingTable> {
        self.inner.router.table()
    }

    fn leader(&self, shard: ShardId) -> Option<NodeId> {
        self.inner.router.leader(GroupId::of_shard(shard))
    }

    async fn acknowledge(&self, which: AckAlarms, deadline: Instant) -> Result<Vec<Alarm>, Error> {
        self.inner.alarms.acknowledge(which, deadline).await
    }

    fn has_quorum(&self, shard: ShardId) -> bool {
        let group = GroupId::of_shard(shard);
        match self.inner.router.registry().get(group) {
            Some(local) => local.lost_quorum().is_none(),
            None => !self.inner.status.out_of_reach().contains(&group),
        }
    }

    fn is_connected(&self, node: NodeId) -> bool {
        self.inner.router.is_connected(node)
    }
}

impl<G: LocalGroup> Inner<G> {
    fn not_ready_because(&self) -> Vec<String> {
        let (registry, stopping) = (self.router.registry(), self.admission.is_stopping());
        let table = self.router.table();
        status::not_ready_because(self.node, &table, registry, stopping, self.status.as_ref())
    }

    async fn execute(&self, mut request: Request) -> Result<Response, Error> {
        let (weight, bytes) = (request.operation.weight(), request.operation.bytes());
        let _permit = self.admission.admit_arrived(weight, bytes, request.arrived)?;
        self.options.limits.stamp(&mut request.operation);
        self.options.limits.check(&request.operation)?;
        self.measures.asked(request.operation.name());
        let Request { operation, request_id, deadline, trace, .. } = request;
        let caller = Caller { request_id, part: 0, deadline, trace };
        match operation {
            Operation::Write(command) => {
                self.one_shard(command.key(), command.target())?;
                let unit = Unit::write(command, caller)?;
                self.run(&unit).await.map(Response::from)
            }
            Operation::Read { query, consistency } => {
                let unit = Unit::read(query, consistency, caller)?;
                self.run(&unit).await.map(Response::from)
            }
            // Boxed: every request would carry their size.
            Operation::Multi(multi) => Box::pin(self.multi(multi, caller)).await,
            Operation::Scan(scan) => Box::pin(self.scan(scan, caller)).await,
            Operation::Size { consistency } => Box::pin(self.size(consistency, caller)).await,
            Operation::Flush => Box::pin(self.flush(caller)).await,
            Operation::GetOrLease(ask) => {
                self.run(&Unit::lease(ask, caller)).await.map(Response::from)
            }
        }
    }

    /// Refuses what is about two keys of several shards. A slot that moves later makes the machine refuse.
    pub(super) fn one_shard(&self, key: Option<&Bytes>, to: Option<&Bytes>) -> Result<(), Error> {
        let (Some(key), Some(to)) = (key, to) else { return Ok(()) };
        let table = self.router.table();
        match table.owner(slot_of(key)) == table.owner(slot_of(to)) {
            true => Ok(()),
            false => Err(Reason::CrossShard { shards: 2 }.into()),
        }
    }

    /// The routing table, once shards are placed.
    pub(super) async fn placed(&self, deadline: Instant) -> Result<Arc<RoutingTable>, Error> {
        loop {
            let (seen, table) = (self.router.seen(), self.router.table());
            if !table.slots.is_empty() {
                return Ok(table);
            }
            if now() >= deadline {
                return Err(Reason::NotReady.into());
            }
            self.router.changed(None, None, seen, deadline).await;
        }
    }
}
