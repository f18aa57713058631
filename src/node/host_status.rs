//! What the host says of itself: replicas, readiness, the disk.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::host::Host;
use super::quorum_guard::names;
use crate::controller::Standing;
use crate::raft::lost_replicas::LostReplica;
use crate::raft::machine::StateMachine;
use crate::raft::quorum::{Quorum, QuorumState};
use crate::raft::replica::Replica;
use crate::service::{ReplicaStatus, StatusSource};
use crate::types::GroupId;

/// Why this node cannot serve every shard: a leader that is missing for a moment is no reason, nor is a
/// node that is away.
fn unserved(quorums: &[(GroupId, Quorum)], out_of_reach: &BTreeSet<GroupId>) -> Vec<String> {
    let shards = || quorums.iter().filter(|(group, _)| group.shard().is_some());
    let named = |wanted: &dyn Fn(&Quorum) -> bool| {
        let found = shards().filter(|(_, quorum)| wanted(quorum));
        found.map(|(group, _)| *group).collect::<BTreeSet<GroupId>>()
    };
    let is_lost = |quorum: &Quorum| quorum.state == QuorumState::Lost;
    let lost = named(&is_lost);
    let new = named(&|quorum: &Quorum| !is_lost(quorum) && quorum.led_age.is_none());
    let leaderless =
        named(&|quorum: &Quorum| !is_lost(quorum) && quorum.led_age.is_some() && !quorum.is_led());
    let of = shards().count();
    let mut reasons = Vec::new();
    if !lost.is_empty() {
        let ages = shards().filter(|(_, quorum)| is_lost(quorum)).filter_map(|(_, q)| q.age);
        let silent = ages
            .max()
            .map_or("since the start".to_owned(), |age| format!("for {} ms", millis(age)));
        reasons.push(format!(
            "no quorum for {} ({} of {of} shards here): no majority of their replicas is heard of \
             {silent}",
            names(&lost),
            lost.len()
        ));
    }
    if !new.is_empty() {
        reasons.push(format!("{} has no leader yet as far as this node knows", names(&new)));
    }
    if !leaderless.is_empty() {
        reasons.push(format!("{} has had no leader for too long", names(&leaderless)));
    }
    if !out_of_reach.is_empty() {
        reasons.push(format!(
            "no quorum within reach for {}: no majority of the nodes that hold them is connected",
            names(out_of_reach)
        ));
    }
    reasons
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The part of a status that every replica has.
fn replica_status<M: StateMachine>(replica: &Replica<M>) -> ReplicaStatus {
    let (progress, quorum) = (replica.progress(), replica.quorum());
    let key = replica.key();
    ReplicaStatus {
        group: key.group,
        replica: key.replica,
        role: progress.role.to_owned(),
        leader: replica.leader().map(|leader| leader.node),
        has_quorum: quorum.state == QuorumState::Held,
        quorum_age_ms: quorum.age.map(millis),
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
            if running.replica().check_runs().is_err() {
                reasons.push(format!("the replica of {group} has stopped"));
            }
        }
        reasons.extend(unserved(&self.quorums(), &self.out_of_reach()));
        reasons
    }

    fn out_of_reach(&self) -> BTreeSet<GroupId> {
        Host::out_of_reach(self)
    }

    fn peers(&self) -> (usize, usize) {
        let Some(table) = self.table.get().map(|table| Arc::clone(&table.borrow())) else {
            return (0, 0);
        };
        let others = || table.nodes.keys().filter(|node| **node != self.node);
        let connected = others().filter(|node| self.transport.is_connected(**node)).count();
        (others().count(), connected)
    }

    fn warnings(&self) -> Vec<String> {
        let low = self.storage.health.watch().borrow().low;
        let mut warnings: Vec<_> = low.iter().map(|low| format!("disk: {low}")).collect();
        for (key, replica) in self.shortened.subscribe().borrow().iter() {
            let LostReplica { node, why } = replica;
            warnings.push(format!("replica {key} on {node} is lost: {why}"));
        }
        // Keys are served without it.
        if self.controller_replica().is_some_and(|replica| replica.has_lost_quorum()) {
            warnings.push("no quorum of the controller: nothing is placed or moved".to_owned());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ShardId;

    /// What a shard's replica knows: since when of a majority, and since when of a leader.
    fn shard(shard: u16, age_ms: Option<u64>, led_ms: Option<u64>) -> (GroupId, Quorum) {
        let limit = Duration::from_millis(2_000);
        let state = match age_ms {
            None => QuorumState::Starting,
            Some(age_ms) if age_ms < 2_000 => QuorumState::Held,
            Some(_) => QuorumState::Lost,
        };
        let (age, led_age) = (age_ms.map(Duration::from_millis), led_ms.map(Duration::from_millis));
        (GroupId::of_shard(ShardId(shard)), Quorum { state, age, led_age, limit })
    }

    #[test]
    fn a_node_is_ready_unless_it_cannot_serve_a_shard_for_long() {
        let none = BTreeSet::new();
        let well = shard(0, Some(100), Some(100));
        // A leader was killed a moment ago, and its successor is being elected.
        let election = shard(1, Some(20), Some(1_990));
        assert_eq!(unserved(&[well, election], &none), Vec::<String>::new());
        let (id, quorum) = shard(0, Some(60_000), Some(60_000));
        assert_ne!(id, GroupId::CONTROLLER);
        let controller = (GroupId::CONTROLLER, quorum);
        assert_eq!(unserved(&[controller, well], &none), Vec::<String>::new(), "keys are served");

        let lost = [well, shard(1, Some(2_000), Some(2_000)), shard(2, Some(2_034), Some(2_500))];
        let told = "no quorum for s1-s2 (2 of 3 shards here): no majority of their replicas is heard \
                    of for 2034 ms";
        assert_eq!(unserved(&lost, &none), [told]);
        let new = unserved(&[well, shard(1, None, None)], &none);
        assert_eq!(new, ["s1 has no leader yet as far as this node knows"]);
        let leaderless = unserved(&[shard(3, Some(20), Some(2_000))], &none);
        assert_eq!(leaderless, ["s3 has had no leader for too long"]);
        let away = unserved(&[well], &BTreeSet::from([GroupId::of_shard(ShardId(7))]));
        assert!(away[0].starts_with("no quorum within reach for s7:"), "{away:?}");
    }
}
