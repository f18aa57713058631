//! The one entry: an operation from its door to its answer.
//!
//! slot of the key -> routing table -> the group's leader, here or on another node -> answer. What
//! fails on the way is tried again until the deadline, by the rules of `attempts`.
//!
//! **Request ids.** What may have been proposed is tried again only under a request id, so every
//! write that leaves this node has one: its caller's, else one of the node's own pool
//! (`request_ids`). A write that this node's own replica proposes gets one as well unless
//! `Options::local_ids` is off: it costs about 24 bytes in the log and a remembered reply, and it
//! is what turns a change of leader in the middle of a proposal from a `Lost` that the client must
//! deal with into a pause (a rolling restart moves every leadership once).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::watch;

use super::admission::Admission;
use super::api::{Execute, NodeStatus, Operation, Request, Response};
use super::attempts::{Attempts, Next};
use super::forward::{Answer, Ask, Forwarder};
use super::forward_lane::Links;
use super::local_group::LocalGroup;
use super::measure::Measures;
use super::options::Options;
use super::registry::Registry;
use super::request_ids::{Lease, RequestIds};
use super::router::{Located, Router, Target};
use super::status::{self, StatusSource};
use crate::core::table::RoutingTable;
use crate::transport::SharedTransport;
use crate::types::clock::{Instant, now};
use crate::types::metrics::Metrics;
use crate::types::{
    Command, Consistency, Error, NodeId, Reason, Refusal, Reply, RequestId, RoutingEpoch, Write,
};

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
    options: Options,
    ids: RequestIds,
    forwarder: Forwarder,
    pub(super) status: Arc<dyn StatusSource>,
}

/// One operation under way.
struct Run<'a> {
    operation: &'a Operation,
    /// The caller's id.
    request_id: Option<RequestId>,
    /// The node's own, from the first attempt that needs it.
    lease: Option<Lease<'a>>,
    deadline: Instant,
    trace: u128,
    attempts: Attempts,
    /// Where the last answer pointed.
    hint: Option<NodeId>,
    /// Node that failed last, without a hint.
    avoid: Option<NodeId>,
    /// The local replica knew no leader for too long.
    doubt_local: bool,
    /// A replica was too stale: ask the leader.
    leader_only: bool,
}

impl<G: LocalGroup> Service<G> {
    /// Puts the parts together. Must be called within a runtime only once something is executed.
    pub fn new(parts: Parts<G>) -> Self {
        let Parts { node, options, registry, transport, table, epoch_seen, metrics, .. } = parts;
        let router = Arc::new(Router::new(node, registry, table.clone(), epoch_seen));
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
        self.inner.execute(&request).await
    }

    fn status(&self) -> NodeStatus {
        let inner = &self.inner;
        let (registry, stopping) = (inner.router.registry(), inner.admission.is_stopping());
        let table = inner.router.table();
        status::assemble(inner.node, &table, registry, stopping, inner.status.as_ref())
    }

    fn table(&self) -> Arc<RoutingTable> {
        self.inner.router.table()
    }
}

impl<G: LocalGroup> Inner<G> {
    async fn execute(&self, request: &Request) -> Result<Response, Error> {
        let bytes = request.operation.bytes();
        let _permit = self.admission.admit_arrived(bytes, request.arrived)?;
        self.options.limits.check(&request.operation)?;
        let mut run = Run::new(request);
        loop {
            let at = self.router.locate(request.operation.key());
            if now() >= run.deadline {
                return Err(run.attempts.expired(at.ok().map(|at| at.shard)));
            }
            let at = match at {
                Ok(at) => at,
                Err(seen) => {
                    self.router.changed(None, None, seen, run.deadline).await;
                    continue;
                }
            };
            let believed = at.local.as_ref().and_then(LocalGroup::leader);
            let target = self.target(&mut run, &at);
            let error = match self.attempt(&mut run, &at, target).await {
                Some(Ok(response)) => return Ok(response),
                Some(Err(error)) => error,
                None => self.nobody(&at),
            };
            match self.after(&mut run, &at, target, error) {
                Next::Answer(error) => return Err(self.measures.refused(error)),
                Next::Follow(leader) => run.hint = Some(leader),
                Next::Pause => self.pause(&mut run, &at, target, believed).await,
            }
            self.measures.retried.inc();
        }
    }

    fn target(&self, run: &mut Run<'_>, at: &Located<G>) -> Target {
        if let Some(hint) = run.hint.take() {
            return self.router.to_hint(at, hint);
        }
        let turn = run.attempts.pauses();
        if run.any_replica() {
            return self.router.to_any(at, run.avoid, turn);
        }
        self.router.to_leader(at, run.avoid, turn, run.doubt_local)
    }

    /// Tries once; `None` if there is nobody to try.
    async fn attempt<'a>(
        &'a self,
        run: &mut Run<'a>,
        at: &Located<G>,
        target: Target,
    ) -> Option<Result<Response, Error>> {
        let ask = match target {
            Target::Nowhere => return None,
            Target::Local => run.ask(&self.ids, self.options.local_ids),
            Target::Remote(_) => run.ask(&self.ids, true),
        };
        let ask = match ask {
            Ok(ask) => ask,
            Err(error) => return Some(Err(error)),
        };
        let answer = match (target, &at.local) {
            (Target::Remote(node), _) => {
                let to = (at.group, at.shard);
                self.forwarder.call(node, to, ask, (run.deadline, run.trace)).await
            }
            (_, Some(local)) => self.serve_one(local, ask, run.deadline).await,
            (_, None) => return None,
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Some(Err(error)),
        };
        if let Target::Remote(node) = target
            && at.local.is_none()
            && !run.any_replica()
        {
            self.router.learn_leader(at.group, node);
        }
        Some(match answer {
            Answer::Found(found, freshness) => Ok(Response::Read { found, freshness }),
            Answer::Reply(Reply::Refused(refusal)) => Err(refused(&refusal)),
            Answer::Reply(reply) => Ok(Response::Written(reply)),
        })
    }

    /// Has this node's replica serve one operation.
    async fn serve_one(&self, local: &G, ask: Ask, deadline: Instant) -> Result<Answer, Error> {
        let odd = || Error::from(Reason::Internal { detail: "one reply was due".to_owned() });
        match ask {
            Ask::Write(write) => {
                let replies = local.write(vec![write], deadline).await?;
                self.measures.wrote(&replies);
                replies.into_iter().next().map(Answer::Reply).ok_or_else(odd)
            }
            Ask::Read(query, consistency) => {
                let (found, freshness) = local.read(vec![query], consistency, deadline).await?;
                self.measures.read(&found);
                let found = found.into_iter().next().ok_or_else(odd)?;
                Ok(Answer::Found(found, freshness))
            }
        }
    }

    /// Learns from a failed attempt and decides what follows.
    fn after(&self, run: &mut Run<'_>, at: &Located<G>, target: Target, error: Error) -> Next {
        run.avoid = None;
        if let Reason::NotOwner { epoch } = &error.reason {
            self.router.learn_epoch(*epoch);
        }
        match target {
            Target::Remote(node) => {
                self.router.forget_leader(at.group, node);
                run.avoid = Some(node);
            }
            Target::Local if run.any_replica() => run.avoid = Some(self.node),
            Target::Local | Target::Nowhere => {}
        }
        if let Reason::NotLeader { leader: Some(leader), .. } = &error.reason {
            self.router.learn_leader(at.group, *leader);
        }
        if matches!(error.reason, Reason::TooStale { .. }) && run.any_replica() {
            run.leader_only = true;
            return Next::Pause;
        }
        run.attempts.failed(error)
    }

    /// Waits until another attempt makes sense, at most until the deadline.
    async fn pause(
        &self,
        run: &mut Run<'_>,
        at: &Located<G>,
        target: Target,
        believed: Option<NodeId>,
    ) {
        let leaderless = target == Target::Nowhere && at.local.is_some() && believed.is_none();
        let until = match leaderless && !run.doubt_local {
            true => self.router.leaderless_until(),
            false => now() + Duration::from_millis(run.attempts.pause_ms()),
        };
        let until = until.min(run.deadline);
        let changed = self.router.changed(Some(at), believed, at.seen, until).await;
        run.doubt_local = !changed && (leaderless || run.doubt_local);
    }
}

impl<'a> Run<'a> {
    fn new(request: &'a Request) -> Self {
        let attempts = match &request.operation {
            Operation::Set(_) | Operation::Delete(_) => {
                Attempts::of_write(request.request_id.is_some())
            }
            Operation::Get { .. } => Attempts::of_read(),
        };
        Run {
            operation: &request.operation,
            request_id: request.request_id,
            lease: None,
            deadline: request.deadline,
            trace: request.trace,
            attempts,
            hint: None,
            avoid: None,
            doubt_local: false,
            leader_only: false,
        }
    }

    /// Whether any replica may serve it.
    fn any_replica(&self) -> bool {
        match self.operation {
            Operation::Set(_) | Operation::Delete(_) => false,
            Operation::Get { consistency, .. } => match consistency {
                Consistency::Linearizable | Consistency::Lease => false,
                Consistency::Bounded { .. } | Consistency::Stale => !self.leader_only,
            },
        }
    }

    /// What to ask a group for. The id stays the same through all attempts.
    fn ask(&mut self, ids: &'a RequestIds, with_id: bool) -> Result<Ask, Error> {
        let command = match self.operation {
            Operation::Get { query, consistency } => {
                return Ok(Ask::Read(query.clone(), *consistency));
            }
            Operation::Set(set) => Command::Set(set.clone()),
            Operation::Delete(delete) => Command::Delete(delete.clone()),
        };
        if with_id && self.request_id.is_none() && self.lease.is_none() {
            self.lease = Some(ids.take()?);
            self.attempts.has_request_id();
        }
        let request_id = self.request_id.or_else(|| self.lease.as_ref().map(Lease::id));
        Ok(Ask::Write(Write { request_id, command }))
    }
}

/// A refusal at apply, as the caller sees it.
fn refused(refusal: &Refusal) -> Error {
    match refusal {
        Refusal::NotOwner { epoch } => Reason::NotOwner { epoch: *epoch },
        Refusal::TooLarge { bytes, bytes_max } => {
            Reason::TooLarge { bytes: *bytes, bytes_max: *bytes_max }
        }
        Refusal::SessionExpired => Reason::SessionExpired,
    }
    .into()
}
