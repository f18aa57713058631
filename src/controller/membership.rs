//! The controller's long-lived work on a node: form or find the cluster, and register.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::answer::check_founders;
use super::formation::{Missing, Verdict};
use super::handle::{Controller, Standing};
use super::messages::{Hello, decode, encode};
use crate::core::cluster::{ClusterCommand, ClusterReply, Form, RegisterNode};
use crate::raft::cluster_machine::ClusterStateMachine;
use crate::raft::replica::Replica;
use crate::transport::FrameKind;
use crate::types::clock::now;
use crate::types::{Error, NodeId, Reason, ReplicaId};

/// Longest a seed may take to answer a hello.
pub(super) const HELLO_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest one proposal of this node may take before it is logged and made again.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest a look at something without a signal is put off.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// Pauses that grow from 50 ms to 1 s.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    turns: u32,
}

impl Backoff {
    /// The next pause.
    pub(super) fn next(&mut self) -> Duration {
        let pause = Duration::from_millis(50 << self.turns.min(5)).min(Duration::from_secs(1));
        self.turns = self.turns.saturating_add(1);
        pause
    }
}

impl Controller {
    /// Does the controller's work on this node until it is cancelled, then stops the replica.
    pub async fn run(self) {
        // Boxed: every task that runs it would carry its size on its stack.
        let work = Box::pin(async {
            tokio::join!(
                self.keep_formation(),
                self.keep_formed(),
                self.keep_registered(),
                self.keep_table(),
                self.keep_addresses(),
                self.keep_telling(),
                self.tell_ignored(),
                self.keep_alarms(),
            )
        });
        self.inner.cancel.run_until_cancelled(work).await;
        if let Some(replica) = self.inner.replica.send_replace(None) {
            replica.shutdown().await;
        }
    }

    fn stand(&self, standing: Standing) {
        self.inner.standing.send_if_modified(|now| {
            // Nothing that goes on elsewhere makes a failure good.
            let changed = !now.is_final() && *now != standing;
            if changed {
                // What is waited for changes often, and is told by `keep_telling`.
                if std::mem::discriminant(now) != std::mem::discriminant(&standing) {
                    tracing::info!(?standing, "controller");
                }
                *now = standing;
            }
            changed
        });
    }

    fn fail(&self, problem: String) {
        tracing::error!(problem, "this node cannot take part in its cluster");
        self.stand(Standing::Failed { problem });
    }

    /// Forms or finds the cluster, runs the controller's replica if there is one here, and goes on
    /// saying hello until every seed has heard of this life's addresses.
    async fn keep_formation(&self) {
        let mut backoff = Backoff::default();
        loop {
            let verdict = self.inner.formation.lock().verdict();
            match verdict {
                Verdict::Found(_) | Verdict::Adopt(_) => {
                    if !self.adopt(true) {
                        sleep(backoff.next()).await;
                    }
                }
                Verdict::Wait(missing) => self.wait_round(missing, &mut backoff).await,
                Verdict::Failed(error) => return self.fail(error.to_string()),
                Verdict::StoreLost { known } => {
                    tracing::error!(known, "the store of this founder is gone: it only forwards");
                    self.stand(Standing::StoreLost { known });
                    break;
                }
                Verdict::Follow => {
                    self.stand(joining("the controller".to_owned()));
                    break;
                }
                Verdict::Run { initialize } => {
                    self.stand(joining("the controller".to_owned()));
                    tokio::join!(self.run_replica(initialize), self.greet_seeds());
                    return;
                }
            }
        }
        self.greet_seeds().await;
    }

    /// Saves the founders this node decided on or was told of, if there is something to save.
    /// Only then it tells them or votes. False if they could not be saved. Without `decide` only
    /// what it was told counts: a decision is made at the end of a round, on fresh answers.
    pub(super) fn adopt(&self, decide: bool) -> bool {
        let _saving = self.inner.saving.lock();
        let verdict = self.inner.formation.lock().verdict();
        let founders = match verdict {
            Verdict::Adopt(founders) => founders,
            Verdict::Found(founders) if decide => founders,
            _ => return true,
        };
        match self.inner.founders.save(&founders) {
            Ok(()) => {
                tracing::info!(?founders, "the cluster is known");
                self.inner.formation.lock().settle(founders);
                self.know_cluster();
                true
            }
            Err(error) => {
                let waiting_for = format!("the founders to be saved: {error}");
                tracing::warn!(%error, "cannot save the founders");
                self.stand(Standing::Forming { waiting_for });
                false
            }
        }
    }

    async fn wait_round(&self, missing: Missing, backoff: &mut Backoff) {
        let waiting_for = match missing {
            Missing::Seeds(seeds) => format!("seeds {}", seeds.join(", ")),
            Missing::Nodes { known, expected } => format!("nodes: {known} of {expected} known"),
            Missing::Founder(node) => format!("{node} to found the cluster"),
            Missing::Duplicate(node) => format!("one of two nodes with id {node} to go"),
        };
        self.inner.formation.lock().begin_round();
        self.ask_seeds().await;
        let verdict = self.inner.formation.lock().verdict();
        if matches!(verdict, Verdict::Wait(_)) {
            self.stand(Standing::Forming { waiting_for });
            // A peer's hello may bring the answer sooner.
            let _ = timeout(backoff.next(), self.inner.called.notified()).await;
        }
    }

    /// Asks every seed that has not answered in this round, all at once.
    async fn ask_seeds(&self) {
        let seeds = self.inner.formation.lock().unanswered();
        join_all(seeds.iter().map(|(at, seed)| self.ask(*at, seed))).await;
    }

    async fn ask(&self, at: usize, seed: &str) {
        let hello = encode(&self.hello());
        let until = now() + HELLO_TIMEOUT;
        let answer = self.inner.transport.call_address(seed, FrameKind::Hello, hello, until).await;
        let hello: Hello = match answer.map_err(|error| error.to_string()).and_then(|bytes| {
            let hello = decode(&bytes, "hello").map_err(|refusal| refusal.to_string())?;
            check_founders(&hello).map_err(|refusal| refusal.to_string())?;
            Ok(hello)
        }) {
            Ok(hello) => hello,
            Err(error) => return tracing::debug!(seed, error, "no hello"),
        };
        if let Some(theirs) = self.foreign(&hello) {
            self.tell_foreign(&hello, theirs);
            self.inner.formation.lock().foreign(at, hello.node, theirs);
            return;
        }
        self.inner.formation.lock().answered(at, &hello);
        self.learn(&hello);
    }

    /// Tells every seed once who is here now: addresses may have changed since the last life, and
    /// the others may still be waiting to be told the founders.
    async fn greet_seeds(&self) {
        self.inner.formation.lock().begin_round();
        let mut backoff = Backoff::default();
        loop {
            self.ask_seeds().await;
            if let Some(error) = self.inner.formation.lock().astray()
                // One that found its cluster while a seed kept silent may stay.
                && !self.inner.standing.borrow().is_registered()
            {
                tracing::error!(%error, "this node can never join its cluster");
                return self.stand(Standing::Refused { problem: error.to_string() });
            }
            self.inner.greeted.send_replace(true);
            if self.inner.formation.lock().unanswered().is_empty() {
                return;
            }
            sleep(backoff.next()).await;
        }
    }

    /// Runs the replica; when the disk under it fails it ends, and begins again under the same id
    /// once the disk takes writes, as after a restart of the process.
    async fn run_replica(&self, initialize: bool) {
        let id = ReplicaId(self.node().0);
        let mut backoff = Backoff::default();
        loop {
            let replica = match self.inner.host.open(id).await {
                Ok(replica) => replica,
                Err(error) if error.retryable() => {
                    tracing::warn!(%error, "the controller's replica: tried again");
                    sleep(backoff.next()).await;
                    continue;
                }
                Err(error) => return self.fail(format!("the controller's replica: {error}")),
            };
            backoff = Backoff::default();
            self.inner.replica.send_replace(Some(replica.clone()));
            tokio::select! {
                biased;
                () = self.inner.host.over() => {}
                () = self.keep_initialized(&replica, initialize) => {}
            }
            self.inner.replica.send_replace(None);
            replica.shutdown().await;
        }
    }

    /// Makes the founders members, if that is this node's to do. Never comes back.
    async fn keep_initialized(&self, replica: &Replica<ClusterStateMachine>, initialize: bool) {
        if initialize {
            self.initialize_founders(replica).await;
        }
        std::future::pending().await
    }

    async fn initialize_founders(&self, replica: &Replica<ClusterStateMachine>) {
        let mut backoff = Backoff::default();
        loop {
            match self.initialize(replica).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "cannot initialize the controller"),
            }
            sleep(backoff.next()).await;
        }
    }

    async fn initialize(&self, replica: &Replica<ClusterStateMachine>) -> Result<(), Error> {
        if replica.is_initialized().await? {
            return Ok(());
        }
        let members: Vec<(ReplicaId, NodeId)> = {
            let formation = self.inner.formation.lock();
            let founders = formation.settled().ok_or(Reason::NotReady)?;
            let placements = founders.members().iter().map(|founder| founder.placement());
            placements.map(|placement| (placement.replica, placement.node)).collect()
        };
        replica.initialize(&members).await
    }

    /// While this node leads a controller that has no settings yet, proposes them.
    async fn keep_formed(&self) {
        let mut replicas = self.inner.replica.subscribe();
        let mut tables = self.table();
        while tables.borrow_and_update().cluster_id == 0 {
            // Another one takes its place when the disk under it failed.
            let replica = match replicas.wait_for(Option::is_some).await {
                Ok(found) => found.clone().expect("waited for it"),
                Err(_) => return,
            };
            if replica.is_leader() && !self.propose_form().await {
                return;
            }
            let leader = replica.leader();
            tokio::select! {
                biased;
                _ = tables.changed() => {}
                _ = replica.leader_changed(leader) => {}
                _ = replicas.changed() => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    /// False if the settings were refused: trying again cannot help.
    async fn propose_form(&self) -> bool {
        let Some(form) = self.form() else { return true };
        match self.propose(&ClusterCommand::Form(form), now() + PROPOSE_TIMEOUT).await {
            Ok(ClusterReply::Done { epoch }) => tracing::info!(%epoch, "cluster formed"),
            Ok(reply) => {
                self.fail(format!("the cluster cannot be formed: {reply:?}"));
                return false;
            }
            Err(error) => tracing::warn!(%error, "forming the cluster is tried again"),
        }
        true
    }

    fn form(&self) -> Option<Form> {
        let formation = self.inner.formation.lock();
        let founders = formation.settled()?;
        let settings = &self.inner.settings;
        Some(Form {
            cluster_id: founders.cluster_id(),
            founders: founders.members().to_vec(),
            nodes_min: u16::try_from(settings.expected()).unwrap_or(u16::MAX),
            shards: settings.shards,
            replicas: settings.replicas,
            bytes_max: settings.bytes_max,
            seed: settings.seed,
        })
    }

    /// Registers this life of the node, once the cluster is known.
    async fn keep_registered(&self) {
        let mut standing = self.standing();
        let known = |standing: &Standing| matches!(standing, Standing::Joining { .. });
        if standing.wait_for(known).await.is_err() {
            return;
        }
        // Every seed was asked first: a node that was given those of another cluster is refused before
        // it takes part anywhere.
        let mut greeted = self.inner.greeted.subscribe();
        if greeted.wait_for(|greeted| *greeted).await.is_err() {
            return;
        }
        let command = ClusterCommand::RegisterNode(RegisterNode {
            node: self.node(),
            info: self.inner.settings.info.clone(),
            incarnation: self.inner.settings.incarnation,
            lost: self.inner.settings.lost.clone(),
        });
        let mut backoff = Backoff::default();
        loop {
            match self.propose(&command, now() + PROPOSE_TIMEOUT).await {
                Ok(ClusterReply::Done { epoch }) => {
                    return self.stand(Standing::Registered { epoch });
                }
                Ok(ClusterReply::StoreConflict { known }) => {
                    tracing::error!(known, "the cluster knows this node with another store");
                    return self.stand(Standing::StoreLost { known });
                }
                Ok(ClusterReply::NotFormed) => {
                    let mut tables = self.table();
                    let formed = tables.wait_for(|table| table.cluster_id != 0);
                    let _ = timeout(backoff.next(), formed).await;
                }
                Ok(ClusterReply::Superseded { incarnation }) => {
                    let problem = self.superseded(incarnation);
                    tracing::error!(problem, "this node can never join its cluster");
                    return self.stand(Standing::Refused { problem });
                }
                Ok(ClusterReply::Invalid { problem }) => {
                    return self
                        .fail(format!("the cluster does not register this node: {problem}"));
                }
                Ok(reply) => return self.fail(format!("registration refused: {reply:?}")),
                Err(error) => {
                    // Told by `keep_telling`, now and then.
                    tracing::debug!(%error, "registration is tried again");
                    self.stand(joining(self.no_controller(&error)));
                    sleep(backoff.next()).await;
                }
            }
        }
    }
}

fn joining(waiting_for: String) -> Standing {
    Standing::Joining { waiting_for }
}
