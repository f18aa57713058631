//! What the host says of itself: replicas, readiness, the disk.

use std::sync::atomic::Ordering;

use super::host::Host;
use crate::controller::Standing;
use crate::raft::lost_replicas::LostReplica;
use crate::raft::machine::StateMachine;
use crate::raft::replica::Replica;
use crate::service::{ReplicaStatus, StatusSource};
use crate::types::GroupId;

/// The part of a status that every replica has.
fn replica_status<M: StateMachine>(replica: &Replica<M>) -> ReplicaStatus {
    let progress = replica.progress();
    let key = replica.key();
    ReplicaStatus {
        group: key.group,
        replica: key.replica,
        role: progress.role.to_owned(),
        leader: replica.leader().map(|leader| leader.node),
        term: progress.term,
        last_index: progress.last_index,
        committed_index: progress.committed_index,
        applied_index: progress.applied_index,
        keys: 0,
        bytes: 0,
        bytes_max: 0,
        evictions: 0,
        expirations: 0,
        digest: format!("{:016x}", replica.with_machine(StateMachine::digest)),
        log_bytes: progress.log_bytes,
        snapshot_index: progress.snapshot_index,
    }
}

impl StatusSource for Host {
    fn replicas(&self) -> Vec<ReplicaStatus> {
        let controller = self.controller_replica();
        let mut all: Vec<_> = controller.iter().map(replica_status).collect();
        for (_, group) in self.registry.all() {
            let stats = group.replica().with_machine(crate::core::machine::Machine::stats);
            let status = replica_status(group.replica());
            all.push(ReplicaStatus {
                keys: stats.keys,
                bytes: stats.bytes,
                bytes_max: stats.bytes_max,
                evictions: stats.evictions,
                expirations: stats.expirations,
                ..status
            });
        }
        all
    }

    fn not_ready_because(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        match self.standing.get().map(|standing| standing.borrow().clone()) {
            None => reasons.push("the node is starting".to_owned()),
            Some(Standing::Registered { .. }) => {}
            Some(Standing::Forming { waiting_for }) => {
                reasons.push(format!("the cluster is forming, waiting for {waiting_for}"));
            }
            Some(Standing::Joining { waiting_for }) => {
                reasons.push(format!("the node is not registered, waiting for {waiting_for}"));
            }
            Some(Standing::StoreLost { known }) => reasons.push(format!(
                "this node's store is not the one the cluster knows ({known:032x}): its logs are gone"
            )),
            Some(Standing::Failed { problem } | Standing::Refused { problem }) => {
                reasons.push(problem);
            }
        }
        if let Some(stall) = self.storage.health.stall() {
            let stopped = self.stalled.load(Ordering::Relaxed);
            reasons.push(format!("disk: {}, {stopped} replicas stopped", stall.why));
        }
        for (key, why) in self.lost.lock().iter() {
            reasons.push(format!("replica {key} is lost: {why}"));
        }
        for (key, replica) in self.shortened.subscribe().borrow().iter() {
            if replica.node == self.node {
                reasons.push(format!("replica {key} is lost: {}", replica.why));
            }
        }
        // Whoever restarts nodes one after another waits for this one to be a full voter again.
        let still = |group: GroupId| format!("{group} restarted just now and does not vote yet");
        if self.controller_replica().is_some_and(|replica| replica.keeps_still()) {
            reasons.push(still(GroupId::CONTROLLER));
        }
        for (group, running) in self.registry.all() {
            if running.replica().keeps_still() {
                reasons.push(still(group));
            }
            if running.replica().leader().is_none() {
                reasons.push(format!("{group} has no leader as far as this node knows"));
            }
        }
        reasons
    }

    fn warnings(&self) -> Vec<String> {
        let low = self.storage.health.watch().borrow().low;
        let mut warnings: Vec<_> = low.iter().map(|low| format!("disk: {low}")).collect();
        for (key, replica) in self.shortened.subscribe().borrow().iter() {
            let LostReplica { node, why } = replica;
            warnings.push(format!("replica {key} on {node} is lost: {why}"));
        }
        warnings
    }

    fn durability(&self) -> &'static str {
        match (self.durable(), self.storage.health.unflushed()) {
            (false, _) => "memory",
            (true, false) => "wal",
            (true, true) => "wal-async",
        }
    }

    fn storage_problem(&self) -> Option<String> {
        let stall = self.storage.health.stall().filter(|_| self.durable())?;
        Some(format!("{}: {}", self.node, stall.why))
    }
}
