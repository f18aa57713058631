//! Replicas whose logs are gone: what the cluster makes of it.

use std::collections::BTreeSet;

use super::{ClusterMachine, ClusterReply, hash_seed};
use crate::types::limits::LOST_REPORTED_MAX;
use crate::types::probe::{Probe, reached};
use crate::types::{NodeId, ReplicaId};

/// A node tells that replicas are gone: its own, whose logs it does not find, or another node's,
/// which answered its leader with a log shorter than what it had acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReportLost {
    /// Who tells. It must be registered.
    pub node: NodeId,
    /// Its restart count: a late report of an earlier life is refused, the next life tells itself.
    pub incarnation: u64,
    /// The replicas, at most `LOST_REPORTED_MAX`. Replica ids are never used twice, so what is said
    /// of one stays true. One that is lost already, or not placed anywhere any more, changes nothing.
    pub replicas: Vec<ReplicaId>,
}

impl ClusterMachine {
    pub(super) fn report_lost(&mut self, report: &ReportLost) -> Option<ClusterReply> {
        if self.state.table.cluster_id == 0 {
            return Some(ClusterReply::NotFormed);
        }
        match self.state.incarnations.get(&report.node) {
            None => {
                let problem = format!("node: {} is not registered", report.node);
                return Some(ClusterReply::Invalid { problem });
            }
            Some(known) if *known > report.incarnation => {
                return Some(ClusterReply::Superseded { incarnation: *known });
            }
            Some(_) => {}
        }
        if let Err(problem) = self.check_lost(&report.replicas) {
            return Some(ClusterReply::Invalid { problem });
        }
        self.lose(&report.replicas);
        None
    }

    /// An id that was never given is refused: it would be lost before it is given.
    pub(super) fn check_lost(&self, replicas: &[ReplicaId]) -> Result<(), String> {
        if replicas.len() > LOST_REPORTED_MAX {
            let count = replicas.len();
            return Err(format!("replicas: {count} are more than {LOST_REPORTED_MAX}"));
        }
        match replicas.iter().find(|replica| replica.0 >= self.state.next_replica) {
            Some(unknown) => Err(format!("replicas: {unknown} was never given to a replica")),
            None => Ok(()),
        }
    }

    /// Replicas that the table places on a node, whether they ever ran or not.
    pub(super) fn placed_on(&self, node: NodeId) -> Vec<ReplicaId> {
        let all = self.state.table.shards.values().flat_map(|placement| &placement.replicas);
        all.filter(|replica| replica.node == node).map(|replica| replica.replica).collect()
    }

    /// The logs of these replicas are gone. A shard that keeps a majority goes on without them; one
    /// that does not starts again empty, in a new generation (INV-7).
    pub(super) fn lose(&mut self, replicas: &[ReplicaId]) {
        let gone: BTreeSet<ReplicaId> = replicas.iter().copied().collect();
        let (seed, unix_ms) = (self.state.settings.seed, self.state.unix_ms);
        let table = &mut self.state.table;
        for (shard, placement) in &mut table.shards {
            let here = placement.replicas.iter().map(|replica| replica.replica);
            table.lost.extend(here.filter(|replica| gone.contains(replica)));
            let all = placement.replicas.len();
            let lost = placement.replicas.iter().filter(|r| table.lost.contains(&r.replica));
            if all - lost.count() > all / 2 {
                reached(Probe::MinorityLost);
                continue;
            }
            reached(Probe::NewGeneration);
            placement.generation.0 += 1;
            table.alarms.majority_lost(*shard, placement.generation, unix_ms);
            placement.hash_seed = hash_seed(seed, *shard, placement.generation);
            for replica in &mut placement.replicas {
                table.lost.remove(&replica.replica);
                replica.replica = ReplicaId(self.state.next_replica);
                self.state.next_replica += 1;
            }
        }
    }
}
