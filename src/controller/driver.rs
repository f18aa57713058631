//! The driver of a node: runs what the routing table places here, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::balance::{Balancer, Leadership};
use super::handle::{Controller, Standing};
use super::membership::Backoff;
use crate::core::cluster::{ClusterCommand, ClusterReply, ReportLost};
use crate::core::reconcile::{Action, StartReplica, abandoned, diff, wanted};
use crate::core::table::RoutingTable;
use crate::types::clock::{Instant, now};
use crate::types::limits::LOST_REPORTED_MAX;
use crate::types::{Error, LogKey, NodeId, ReplicaId, RoutingEpoch};

/// How often leaderships are looked at.
const BALANCE_EVERY: Duration = Duration::from_secs(1);
/// Longest one hand-over may take.
const HAND_OVER: Duration = Duration::from_secs(2);
/// Longest one report of lost replicas may take before it is made again.
const REPORT: Duration = Duration::from_secs(5);

/// Why a node could not do what the driver asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HostError {
    /// The replica ran before and its log is gone or damaged: it must not run under this id again.
    #[error("the log of {0} is lost")]
    LogLost(LogKey),
    /// What the replica left cannot be read in this life of the node.
    #[error("the log or the snapshot of {0} cannot be read")]
    Unreadable(LogKey),
    /// Tried again later.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// What runs replicas on a node. Implemented where the node is wired.
pub trait ReplicaHost: Send + Sync + 'static {
    /// Starts a replica of a shard; done if it runs already.
    fn start_replica(&self, start: StartReplica) -> BoxFuture<'_, Result<(), HostError>>;

    /// Stops a replica and keeps its log; done if it does not run.
    fn stop_replica(&self, key: LogKey) -> BoxFuture<'_, Result<(), HostError>>;

    /// Stops a replica that is placed here no more, keeps what it holds on the disk, and never starts
    /// it again; done if there is nothing of it.
    fn set_aside(&self, key: LogKey) -> BoxFuture<'_, Result<(), HostError>>;

    /// Replicas of shards that run now.
    fn running(&self) -> BTreeSet<LogKey>;

    /// False while the disk lets nothing start.
    fn may_start(&self) -> bool {
        true
    }

    /// Replicas of shards that left something on the disk, running or not, and are not set aside.
    fn present(&self) -> BoxFuture<'_, Result<BTreeSet<LogKey>, HostError>> {
        Box::pin(std::future::ready(Ok(BTreeSet::new())))
    }

    /// Replicas of shards, here and on nodes that this one leads, whose log was found shorter than
    /// what they acknowledged.
    fn found_lost(&self) -> BTreeSet<LogKey> {
        BTreeSet::new()
    }

    /// Makes `members` the first members of the replica's group; done if it has members.
    fn initialize(
        &self,
        key: LogKey,
        members: Vec<(ReplicaId, NodeId)>,
    ) -> BoxFuture<'_, Result<(), Error>>;

    /// Groups led from here.
    fn leading(&self) -> BTreeMap<LogKey, Leadership>;

    /// Hands the leadership of the replica's group to another replica.
    fn hand_over(
        &self,
        key: LogKey,
        to: ReplicaId,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<(), Error>>;
}

/// Runs what the routing table places on this node.
pub struct Driver {
    controller: Controller,
    host: Arc<dyn ReplicaHost>,
    node: NodeId,
    store_id: u128,
    /// Replicas whose log is lost, or cannot be read: said once, never started again in this life.
    lost: BTreeSet<LogKey>,
    /// Those of them that the cluster is not told of yet.
    unreported: BTreeSet<ReplicaId>,
    /// Groups initialized from here.
    initialized: BTreeSet<LogKey>,
    /// Epoch of the table by which the disk was tidied.
    tidied: RoutingEpoch,
    balancer: Balancer,
}

impl Driver {
    /// A driver for the node of `controller`.
    pub fn new(controller: Controller, host: Arc<dyn ReplicaHost>) -> Self {
        let settings = &controller.inner.settings;
        Driver {
            node: settings.node,
            store_id: settings.info.store_id,
            host,
            lost: BTreeSet::new(),
            unreported: BTreeSet::new(),
            initialized: BTreeSet::new(),
            tidied: RoutingEpoch(0),
            balancer: Balancer::default(),
            controller,
        }
    }

    /// Drives until cancelled. What runs goes on running: the node stops it in its own order.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut tables = self.controller.table();
        let mut standings = self.controller.standing();
        let mut backoff = Backoff::default();
        loop {
            let table = Arc::clone(&tables.borrow_and_update());
            let standing = standings.borrow_and_update().clone();
            // Never dropped in the middle: a replica that has just started must not be forgotten.
            let settled = self.step(&table, &standing, &cancel).await;
            let pause = if settled {
                backoff = Backoff::default();
                BALANCE_EVERY
            } else {
                backoff.next()
            };
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                changed = tables.changed() => if changed.is_err() { return },
                changed = standings.changed() => if changed.is_err() { return },
                () = sleep(pause) => {}
            }
        }
    }

    /// One pass. True if nothing is left to be tried again.
    async fn step(
        &mut self,
        table: &RoutingTable,
        standing: &Standing,
        cancel: &CancellationToken,
    ) -> bool {
        match standing {
            Standing::Forming { .. } | Standing::Joining { .. } => true,
            // A table older than the registration may name replicas of an earlier life, whose
            // logs are gone.
            Standing::Registered { epoch } if table.epoch < *epoch => true,
            Standing::Registered { .. } => {
                let reconciled = self.reconcile(table, cancel).await;
                // These change nothing that must be brought to an end.
                let rest = async {
                    let reported = self.report_lost().await;
                    let initialized = self.initialize(table).await;
                    self.balance(table).await;
                    reported && initialized
                };
                let initialized = cancel.run_until_cancelled(rest).await.unwrap_or(true);
                let tidy = !reconciled || cancel.is_cancelled() || self.tidy(table).await;
                reconciled && initialized && tidy
            }
            Standing::StoreLost { .. } | Standing::Failed { .. } | Standing::Refused { .. } => {
                self.stop_all().await
            }
        }
    }

    /// Stops what runs and keeps its logs: an operator may put right what is wrong.
    async fn stop_all(&mut self) -> bool {
        let mut settled = true;
        for key in self.host.running() {
            if let Err(error) = self.host.stop_replica(key).await {
                tracing::warn!(%key, %error, "stop: tried again");
                settled = false;
            }
        }
        settled
    }

    async fn reconcile(&mut self, table: &RoutingTable, cancel: &CancellationToken) -> bool {
        if !self.host.may_start() {
            // Looked at again every `BALANCE_EVERY`; what runs is stopped elsewhere.
            return true;
        }
        let actions = diff(table, self.node, self.store_id, &self.host.running());
        let mut settled = true;
        for action in actions {
            if cancel.is_cancelled() {
                return true;
            }
            let result = match action {
                Action::Start(start) if self.lost.contains(&start.key) => continue,
                Action::Start(start) => {
                    tracing::info!(key = %start.key, generation = %start.generation, "start");
                    self.host.start_replica(start).await
                }
                // One that is placed here and lost keeps its log where it is.
                Action::Stop(key) if self.is_placed(table, key) => {
                    tracing::warn!(%key, "stop: the cluster counts it as lost");
                    self.host.stop_replica(key).await
                }
                Action::Stop(key) => {
                    tracing::info!(%key, "stop: it is placed here no more");
                    self.host.set_aside(key).await
                }
            };
            match result {
                Ok(()) => {}
                Err(HostError::LogLost(key)) => {
                    tracing::error!(%key, "log lost: the replica needs a fresh id");
                    self.lost.insert(key);
                    self.unreported.insert(key.replica);
                }
                Err(HostError::Unreadable(key)) => {
                    tracing::error!(%key, "log or snapshot not readable: the replica does not run");
                    self.lost.insert(key);
                }
                Err(HostError::Failed(error)) => {
                    tracing::warn!(%error, "replica: tried again");
                    settled = false;
                }
            }
        }
        settled
    }

    fn is_placed(&self, table: &RoutingTable, key: LogKey) -> bool {
        abandoned(table, self.node, self.store_id, &BTreeSet::from([key])).is_empty()
    }

    /// Tells the cluster which replicas were found lost after the node had registered.
    async fn report_lost(&mut self) -> bool {
        for key in self.host.found_lost() {
            if self.lost.insert(key) {
                self.unreported.insert(key.replica);
            }
        }
        if self.unreported.is_empty() {
            return true;
        }
        let report = ClusterCommand::ReportLost(ReportLost {
            node: self.node,
            incarnation: self.controller.inner.settings.incarnation,
            replicas: self.unreported.iter().copied().take(LOST_REPORTED_MAX).collect(),
        });
        match self.controller.propose(&report, now() + REPORT).await {
            Ok(ClusterReply::Done { .. }) => {
                self.unreported.clear();
                true
            }
            Ok(reply) => {
                tracing::error!(?reply, "the cluster takes no note of lost replicas");
                self.unreported.clear();
                true
            }
            Err(error) => {
                tracing::warn!(%error, "lost replicas: told again");
                false
            }
        }
    }

    /// The node of the replica that initializes makes the members known to their group.
    async fn initialize(&mut self, table: &RoutingTable) -> bool {
        let running = self.host.running();
        self.initialized.retain(|key| running.contains(key));
        let mut settled = true;
        for start in wanted(table, self.node, self.store_id) {
            let due = start.initializes && running.contains(&start.key);
            if !due || self.initialized.contains(&start.key) {
                continue;
            }
            let members = start.members.iter().map(|m| (m.replica, m.node)).collect();
            match self.host.initialize(start.key, members).await {
                Ok(()) => {
                    self.initialized.insert(start.key);
                }
                Err(error) => {
                    tracing::warn!(key = %start.key, %error, "initialize: tried again");
                    settled = false;
                }
            }
        }
        settled
    }

    /// Sets aside what replicas left that the table no longer places here, once for each table: those
    /// that were moved away, or lost, while this node was down.
    async fn tidy(&mut self, table: &RoutingTable) -> bool {
        if self.tidied == table.epoch || !self.host.may_start() {
            return true;
        }
        let present = match self.host.present().await {
            Ok(present) => present,
            Err(error) => {
                tracing::warn!(%error, "the disk is tidied later");
                return false;
            }
        };
        for key in abandoned(table, self.node, self.store_id, &present) {
            if let Err(error) = self.host.set_aside(key).await {
                tracing::warn!(%key, %error, "not set aside: tried again");
                return false;
            }
            self.lost.remove(&key);
        }
        self.tidied = table.epoch;
        true
    }

    async fn balance(&mut self, table: &RoutingTable) {
        let due = self.balancer.pick(now(), table, &self.host.leading());
        let Some((key, to)) = due else { return };
        match self.host.hand_over(key, to, now() + HAND_OVER).await {
            Ok(()) => tracing::info!(%key, %to, "leadership handed over"),
            Err(error) => tracing::warn!(%key, %to, %error, "leadership not handed over"),
        }
    }
}

#[cfg(test)]
mod tests;
