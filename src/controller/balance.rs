//! Leader balance: give a leadership back to the replica the table prefers, gently. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::table::RoutingTable;
use crate::types::clock::Instant;
use crate::types::{LogKey, ReplicaId};

/// A leadership must have lasted this long before it is given away: no flapping.
const STABLE: Duration = Duration::from_secs(10);
/// Pause between two hand-overs of this node.
const PAUSE: Duration = Duration::from_secs(2);

/// A group this node leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leadership {
    /// Term of the leadership.
    pub term: u64,
    /// Other voters that answer and lack next to nothing of the log.
    pub caught_up: Vec<ReplicaId>,
}

/// Remembers how long leaderships have lasted.
#[derive(Debug, Default)]
pub struct Balancer {
    since: BTreeMap<LogKey, (u64, Instant)>,
    last: Option<Instant>,
}

impl Balancer {
    /// The one hand-over that is due, as (group's replica here, replica that should lead).
    /// Whoever gets an answer performs it; the next one is due after a pause.
    pub fn pick(
        &mut self,
        now: Instant,
        table: &RoutingTable,
        leading: &BTreeMap<LogKey, Leadership>,
    ) -> Option<(LogKey, ReplicaId)> {
        self.since.retain(|key, (term, _)| leading.get(key).is_some_and(|l| l.term == *term));
        for (key, leadership) in leading {
            self.since.entry(*key).or_insert((leadership.term, now));
        }
        if self.last.is_some_and(|last| now < last + PAUSE) {
            return None;
        }
        let stable = |key: &LogKey| self.since.get(key).is_some_and(|(_, at)| now >= *at + STABLE);
        let due = leading.iter().filter(|(key, _)| stable(key)).find_map(|(key, leadership)| {
            let preferred = preferred(table, *key)?;
            let wanted = preferred != key.replica && leadership.caught_up.contains(&preferred);
            wanted.then_some((*key, preferred))
        })?;
        // A hand-over that fails is not due again before it has been stable again.
        self.since.remove(&due.0);
        self.last = Some(now);
        Some(due)
    }
}

/// The replica that should lead the group of `key`; `None` if `key` is not of the table.
fn preferred(table: &RoutingTable, key: LogKey) -> Option<ReplicaId> {
    let replicas = &table.placement(key.group)?.replicas;
    replicas.iter().find(|replica| replica.replica == key.replica)?;
    replicas.iter().map(|r| r.replica).find(|replica| !table.lost.contains(replica))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::table::{ReplicaPlacement, ShardPlacement};
    use crate::types::{Generation, GroupId, NodeId, ShardId, clock};

    fn key(shard: u16, replica: u64) -> LogKey {
        LogKey { group: GroupId::of_shard(ShardId(shard)), replica: ReplicaId(replica) }
    }

    /// Shard `s` has replicas 10s+1, 10s+2, 10s+3 on nodes 1, 2, 3.
    fn table(shards: u16) -> RoutingTable {
        let replicas = |shard: u16| {
            (1..=3u64)
                .map(|node| ReplicaPlacement {
                    replica: ReplicaId(u64::from(shard) * 10 + node),
                    node: NodeId(node),
                })
                .collect()
        };
        let placement = |shard| ShardPlacement {
            generation: Generation(1),
            bytes_max: 0,
            hash_seed: 0,
            replicas: replicas(shard),
        };
        let shards = (0..shards).map(|shard| (ShardId(shard), placement(shard))).collect();
        RoutingTable { shards, ..RoutingTable::default() }
    }

    fn leads(key: LogKey, term: u64, caught_up: &[u64]) -> (LogKey, Leadership) {
        let caught_up = caught_up.iter().map(|replica| ReplicaId(*replica)).collect();
        (key, Leadership { term, caught_up })
    }

    #[tokio::test(start_paused = true)]
    async fn gives_back_when_stable_and_caught_up_one_at_a_time() {
        let table = table(2);
        let mut balancer = Balancer::default();
        let start = clock::now();
        let leading = BTreeMap::from([leads(key(0, 2), 1, &[1, 3]), leads(key(1, 12), 1, &[11])]);
        assert_eq!(balancer.pick(start, &table, &leading), None);
        assert_eq!(balancer.pick(start + STABLE / 2, &table, &leading), None);
        let stable = start + STABLE;
        assert_eq!(balancer.pick(stable, &table, &leading), Some((key(0, 2), ReplicaId(1))));
        assert_eq!(balancer.pick(stable, &table, &leading), None, "one at a time");
        let later = stable + PAUSE;
        assert_eq!(balancer.pick(later, &table, &leading), Some((key(1, 12), ReplicaId(11))));
        // The first failed: it waits until it has been stable again.
        assert_eq!(balancer.pick(later + PAUSE, &table, &leading), None);
        let again = later + STABLE + PAUSE;
        assert_eq!(balancer.pick(again, &table, &leading), Some((key(0, 2), ReplicaId(1))));
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_what_is_preferred_lagging_lost_or_of_a_new_term() {
        let mut table = table(1);
        let start = clock::now();
        let pick =
            |table: &RoutingTable, first: (LogKey, Leadership), then: (LogKey, Leadership)| {
                let mut balancer = Balancer::default();
                balancer.pick(start, table, &BTreeMap::from([first]));
                balancer.pick(start + STABLE, table, &BTreeMap::from([then]))
            };
        let preferred = leads(key(0, 1), 1, &[2, 3]);
        assert_eq!(pick(&table, preferred.clone(), preferred), None);
        let lagging = leads(key(0, 2), 1, &[3]);
        assert_eq!(pick(&table, lagging.clone(), lagging), None);
        let foreign = leads(key(0, 99), 1, &[1]);
        assert_eq!(pick(&table, foreign.clone(), foreign), None);
        let (old, new) = (leads(key(0, 2), 1, &[1]), leads(key(0, 2), 2, &[1]));
        assert_eq!(pick(&table, old.clone(), new), None);
        assert_eq!(pick(&table, old.clone(), old.clone()), Some((key(0, 2), ReplicaId(1))));
        table.lost.insert(ReplicaId(1));
        assert_eq!(pick(&table, old.clone(), old), None, "2 is the first that is not lost");
    }
}
