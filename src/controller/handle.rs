//! The controller as a node sees it: propose commands, follow the routing table, answer peers.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use super::formation::Formation;
use super::founders::{Founders, FoundersStore};
use super::messages::{ControlAnswer, ControlRequest, decode, encode};
pub use super::standing::Standing;
use super::waiting::TELL_EVERY;
use crate::codec::cluster_record;
use crate::core::cluster::{ClusterCommand, ClusterReply, Founder};
use crate::core::table::{NodeInfo, RoutingTable};
use crate::raft::cluster_machine::ClusterStateMachine;
use crate::raft::machine::Applied;
use crate::raft::replica::Replica;
use crate::transport::{self, FrameKind, SharedTransport};
use crate::types::clock::{Instant, SharedClock, now};
use crate::types::log_limit::LogLimit;
use crate::types::watch;
use crate::types::{Error, GroupId, NodeId, Outcome, Reason, ReplicaId, RoutingEpoch};

/// Longest one attempt to reach the controller's leader may take.
pub(super) const ATTEMPT: Duration = Duration::from_secs(2);
/// Pause before another attempt when nothing says where the leader is.
const PAUSE: Duration = Duration::from_millis(100);

/// Who this node is and how its cluster should be formed.
#[derive(Clone, Debug)]
pub struct ControllerSettings {
    /// This node.
    pub node: NodeId,
    /// Its store, addresses and zone. The store id must change when any of its logs is lost.
    pub info: NodeInfo,
    /// Its restart count: larger in every life.
    pub incarnation: u64,
    /// Replicas of shards that ran here in earlier lives and whose logs are gone.
    pub lost: Vec<ReplicaId>,
    /// Peer addresses of the nodes that form the cluster; the same list on every node.
    pub seeds: Vec<String>,
    /// Nodes that form the cluster, this one included; the number of seeds if 0.
    pub expected_nodes: usize,
    /// Shards of a new cluster.
    pub shards: u16,
    /// Replicas of a shard of a new cluster.
    pub replicas: u16,
    /// Logical bytes of a shard of a new cluster.
    pub bytes_max: u64,
    /// Random: a new cluster draws its hash seeds from it.
    pub seed: u64,
    /// Tells people when something happened; nothing is decided by it.
    pub clock: SharedClock,
}

impl ControllerSettings {
    /// Nodes that form the cluster.
    pub fn expected(&self) -> usize {
        if self.expected_nodes == 0 { self.seeds.len().max(1) } else { self.expected_nodes }
    }
}

/// Opens the controller's replica on this node.
pub trait ControllerHost: Send + Sync + 'static {
    /// Opens its log, or begins one, and starts it; waits while the disk lets nothing run. Called
    /// again when the replica opened before has ended.
    ///
    /// # Errors
    /// What is retryable is tried again; the rest stands for a replica that must not run.
    fn open(
        &self,
        replica: ReplicaId,
    ) -> BoxFuture<'static, Result<Replica<ClusterStateMachine>, Error>>;

    /// Waits until the replica opened last must end, because the disk under it failed.
    fn over(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

/// The controller as a node sees it. Cheap to clone.
#[derive(Clone)]
pub struct Controller {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) settings: ControllerSettings,
    pub(super) transport: SharedTransport,
    pub(super) host: Arc<dyn ControllerHost>,
    pub(super) founders: Arc<dyn FoundersStore>,
    pub(super) cancel: CancellationToken,
    /// Held for a look, never across an await.
    pub(super) formation: Mutex<Formation>,
    /// Held while the founders are saved (one small file, once in a node's life).
    pub(super) saving: Mutex<()>,
    /// Wakes formation when a peer's hello changed what is known.
    pub(super) called: Notify,
    pub(super) replica: watch::Sender<Option<Replica<ClusterStateMachine>>>,
    pub(super) table: watch::Sender<Arc<RoutingTable>>,
    pub(super) standing: watch::Sender<Standing>,
    /// Newest epoch a peer spoke of, and that peer.
    pub(super) rumour: watch::Sender<(RoutingEpoch, NodeId)>,
    /// Leader of the controller as last heard of.
    pub(super) hint: watch::Sender<Option<NodeId>>,
    /// Name of the cluster, once the founders are saved.
    pub(super) cluster_id: OnceLock<u128>,
    /// Every seed was asked once who it is, since the cluster is known.
    pub(super) greeted: watch::Sender<bool>,
    /// Nodes of other clusters that were told of.
    pub(super) foreign_told: LogLimit<NodeId>,
}

impl Controller {
    /// Goes on with what the node had saved. Nothing runs before `Controller::run`.
    ///
    /// # Errors
    /// The saved founders cannot be read.
    pub fn open(
        settings: ControllerSettings,
        transport: SharedTransport,
        host: Arc<dyn ControllerHost>,
        founders: Arc<dyn FoundersStore>,
        cancel: CancellationToken,
    ) -> std::io::Result<Self> {
        let me = Founder { node: settings.node, store_id: settings.info.store_id };
        let saved = founders.load()?;
        let formation = Formation::new(me, settings.seeds.clone(), settings.expected(), saved);
        let forming = Standing::Forming { waiting_for: "start".to_owned() };
        let inner = Inner {
            transport,
            host,
            founders,
            cancel,
            formation: Mutex::new(formation),
            saving: Mutex::new(()),
            called: Notify::new(),
            replica: watch::Sender::new(None),
            table: watch::Sender::new(Arc::new(RoutingTable::default())),
            standing: watch::Sender::new(forming),
            rumour: watch::Sender::new((RoutingEpoch(0), settings.node)),
            hint: watch::Sender::new(None),
            cluster_id: OnceLock::new(),
            greeted: watch::Sender::new(false),
            foreign_told: LogLimit::new(TELL_EVERY),
            settings,
        };
        let controller = Controller { inner: Arc::new(inner) };
        controller.know_cluster();
        Ok(controller)
    }

    /// From the time on when the founders are saved, peers hear of the cluster and it does not change.
    pub(super) fn know_cluster(&self) {
        let settled = self.inner.formation.lock().settled().map(Founders::cluster_id);
        if let Some(id) = settled {
            let known = *self.inner.cluster_id.get_or_init(|| id);
            assert_eq!(known, id, "a node belongs to one cluster");
            self.inner.transport.set_cluster(id);
        }
    }

    /// The cluster this node belongs to; 0 while it knows none.
    pub fn cluster_id(&self) -> u128 {
        self.inner.cluster_id.get().copied().unwrap_or(0)
    }

    /// The routing table, newest known here.
    pub fn table(&self) -> watch::Receiver<Arc<RoutingTable>> {
        self.inner.table.subscribe()
    }

    /// Where this node stands with its cluster.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.inner.standing.subscribe()
    }

    /// The controller's replica on this node, if it holds one and it runs.
    pub fn replica(&self) -> Option<Replica<ClusterStateMachine>> {
        self.inner.replica.borrow().clone()
    }

    /// A peer spoke of an epoch; if it is newer than the one here, the table is fetched from it.
    pub fn saw_epoch(&self, from: NodeId, epoch: RoutingEpoch) {
        if epoch > self.inner.table.borrow().epoch {
            self.inner.rumour.send_if_modified(|rumour| {
                let newer = epoch > rumour.0;
                if newer {
                    *rumour = (epoch, from);
                }
                newer
            });
        }
    }

    /// Has `command` applied by the controller, here or on its leader's node, trying again until
    /// `deadline`: commands are idempotent, so an unknown outcome may be repeated.
    ///
    /// # Errors
    /// `DeadlineBeforePropose` if surely nothing was proposed, `DeadlineAfterPropose` if it may
    /// have been; `Stopping`; what is not retryable.
    pub async fn propose(
        &self,
        command: &ClusterCommand,
        deadline: Instant,
    ) -> Result<ClusterReply, Error> {
        let payload = cluster_record::encode_command(command);
        let mut unknown = false;
        let mut turn = 0;
        while now() < deadline {
            if self.inner.cancel.is_cancelled() {
                break;
            }
            let attempt = deadline.min(now() + ATTEMPT);
            let error = match self.attempt(payload.clone(), turn, attempt).await {
                Ok(reply) => {
                    return cluster_record::decode_reply(reply)
                        .map_err(|error| internal(format!("controller's reply: {error}")));
                }
                Err(error) => error,
            };
            unknown |= error.outcome() == Outcome::Unknown;
            if !error.retryable() && error.reason != Reason::DeadlineBeforePropose {
                return Err(error);
            }
            let hint = match error.reason {
                Reason::NotLeader { leader, .. } => leader.filter(|l| *l != self.node()),
                _ => None,
            };
            self.inner.hint.send_replace(hint);
            turn += 1;
            // A hint is followed at once, but a circle of wrong hints must not spin.
            if hint.is_none() || turn % 3 == 0 {
                self.wait_for_leader(deadline.min(now() + PAUSE)).await;
            }
        }
        Err(Error::from(if unknown {
            Reason::DeadlineAfterPropose
        } else if self.inner.cancel.is_cancelled() {
            Reason::Stopping
        } else {
            Reason::DeadlineBeforePropose
        }))
    }

    /// Waits until the local replica learns of another leader, or until `until`.
    async fn wait_for_leader(&self, until: Instant) {
        let change = async {
            match self.replica() {
                Some(replica) => {
                    replica.leader_changed(replica.leader()).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.inner.cancel.cancelled() => {}
            _ = timeout_at(until, change) => {}
        }
    }

    async fn attempt(&self, command: Bytes, turn: usize, until: Instant) -> Result<Bytes, Error> {
        let replica = self.replica();
        if let Some(replica) = replica.as_ref().filter(|replica| replica.is_leader()) {
            return self.propose_here(replica, command, until).await;
        }
        let here = replica.and_then(|replica| replica.leader()).map(|leader| leader.node);
        let hint = *self.inner.hint.borrow();
        let target = hint.or(here.filter(|node| *node != self.node())).or(self.some_peer(turn));
        match target {
            Some(target) => self.forward(target, command, until).await,
            None => Err(Reason::NotReady.into()),
        }
    }

    /// A node that holds a replica of the controller, another one each turn.
    pub(super) fn some_peer(&self, turn: usize) -> Option<NodeId> {
        let mut nodes: Vec<NodeId> =
            self.inner.table.borrow().controller.iter().map(|replica| replica.node).collect();
        if nodes.is_empty() {
            let formation = self.inner.formation.lock();
            let founders = formation.settled().map(|founders| founders.members());
            nodes = founders.unwrap_or_default().iter().map(|founder| founder.node).collect();
        }
        nodes.retain(|node| *node != self.node());
        nodes.get(turn.checked_rem(nodes.len())?).copied()
    }

    async fn forward(&self, to: NodeId, command: Bytes, until: Instant) -> Result<Bytes, Error> {
        let left = until.saturating_duration_since(now()).as_millis();
        let timeout_ms = u64::try_from(left).unwrap_or(u64::MAX);
        let request = encode(&ControlRequest { timeout_ms, command });
        let transport = &self.inner.transport;
        let answer = transport
            .call(to, GroupId::CONTROLLER, FrameKind::Control, request, until)
            .await
            .map_err(|error| match error {
                transport::Error::Unreachable { .. } | transport::Error::Refused { .. } => {
                    Error::from(Reason::NotReady)
                }
                transport::Error::NoAnswer { .. } => lost(error.to_string()),
            })?;
        match decode(&answer, "control answer").map_err(|refusal| lost(refusal.to_string()))? {
            ControlAnswer::Reply(reply) => Ok(reply),
            ControlAnswer::NotLeader(leader) => Err(not_leader(leader)),
            ControlAnswer::Failed { unknown: true, detail } => Err(lost(detail)),
            ControlAnswer::Failed { unknown: false, .. } => Err(Reason::NotReady.into()),
        }
    }

    /// Has the command applied by the local replica, which leads. Undecodable commands are refused
    /// here: in the log they would stop every replica.
    pub(super) async fn propose_here(
        &self,
        replica: &Replica<ClusterStateMachine>,
        command: Bytes,
        until: Instant,
    ) -> Result<Bytes, Error> {
        if let Err(error) = cluster_record::decode_command(command.clone()) {
            let problem = error.to_string();
            return Err(Reason::InvalidArgument { field: "command", problem }.into());
        }
        let entry = cluster_record::encode_entry(self.inner.settings.clock.wall_ms(), &command);
        match replica.propose(entry, until).await? {
            Applied::Opaque(reply) => Ok(reply),
            other => Err(internal(format!("the controller answered {other:?}"))),
        }
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.inner.settings.node
    }
}

fn not_leader(leader: Option<NodeId>) -> Error {
    Reason::NotLeader { group: GroupId::CONTROLLER, leader }.into()
}

fn lost(detail: String) -> Error {
    Reason::Lost { detail }.into()
}

pub(super) fn internal(detail: String) -> Error {
    Reason::Internal { detail }.into()
}

#[cfg(test)]
pub(super) mod tests;
