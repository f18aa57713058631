//! Says in the log when groups of this node lose their quorum and when they have it again: one line
//! each, however many groups there are. Notes as well which shards without a replica here are out of
//! reach.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::host::Host;
use crate::raft::quorum::{Quorum, QuorumState};
use crate::types::clock::{Instant, now};
use crate::types::{GroupId, ShardId};

/// How often is looked.
const LOOK: Duration = Duration::from_millis(100);
/// Groups lose their quorum one after another, by a heartbeat or two: a line that was not complete is
/// followed by another, but not sooner.
const NEXT_LINE: Duration = Duration::from_secs(1);
/// A majority of the nodes that hold a shard may be away for so long before this node says that it
/// does not reach it. The connections take a second and a half to notice a peer that is silent.
const OUT_OF_REACH: Duration = Duration::from_millis(500);

/// Runs until cancelled.
pub(super) async fn run(host: Arc<Host>, cancel: CancellationToken) {
    let mut told = Told::default();
    while cancel.run_until_cancelled(sleep(LOOK)).await.is_some() {
        told.look(&host.quorums());
        host.look_for_shards_elsewhere();
    }
}

/// What the log says by now.
#[derive(Debug, Default)]
struct Told {
    lost: BTreeSet<GroupId>,
    /// When the first was lost, and when the last line was written.
    since: Option<(Instant, Instant)>,
}

impl Told {
    fn look(&mut self, quorums: &[(GroupId, Quorum)]) {
        let lost = |quorum: &Quorum| quorum.state == QuorumState::Lost;
        let any = quorums.iter().any(|(_, quorum)| lost(quorum));
        match (any, self.since) {
            (true, None) => self.warn(quorums, now()),
            (true, Some((first, last))) if now() >= last + NEXT_LINE => {
                let more = quorums.iter().any(|(id, q)| lost(q) && !self.lost.contains(id));
                if more {
                    self.warn(quorums, first);
                }
            }
            (true, Some(_)) => {}
            (false, Some((first, _))) => {
                let after_ms = first.elapsed().as_millis();
                tracing::info!(
                    after_ms,
                    groups = names(&self.lost),
                    "this node has a quorum again"
                );
                *self = Told::default();
            }
            (false, None) => {}
        }
    }

    fn warn(&mut self, quorums: &[(GroupId, Quorum)], first: Instant) {
        // The next ones to be lost as well: they miss the same nodes.
        let missing = |quorum: &Quorum| match quorum.age {
            Some(age) => age + OUT_OF_REACH >= quorum.limit,
            None => quorum.state == QuorumState::Lost,
        };
        let lost = quorums.iter().filter(|(_, quorum)| missing(quorum)).map(|(id, _)| *id);
        self.lost.extend(lost);
        let silent = quorums.iter().filter_map(|(_, quorum)| quorum.age).max();
        let silent_ms = silent.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let (of, groups) = (quorums.len(), names(&self.lost));
        tracing::warn!(
            groups,
            of,
            silent_ms,
            "no quorum: no majority of the replicas is heard of; requests for these groups are refused"
        );
        self.since = Some((first, now()));
    }
}

/// The controller and ranges of shards, for example `controller, s0-s3, s7`.
pub(super) fn names(groups: &BTreeSet<GroupId>) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for shard in groups.iter().filter_map(|group| group.shard()) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == shard.0 => *last = shard.0,
            _ => ranges.push((shard.0, shard.0)),
        }
    }
    let controller = groups.contains(&GroupId::CONTROLLER).then(|| "controller".to_owned());
    let shards = ranges.into_iter().map(|(first, last)| match first == last {
        true => ShardId(first).to_string(),
        false => format!("{}-{}", ShardId(first), ShardId(last)),
    });
    controller.into_iter().chain(shards).collect::<Vec<_>>().join(", ")
}

impl Host {
    /// What each group that runs on this node knows of its quorum.
    pub(super) fn quorums(&self) -> Vec<(GroupId, Quorum)> {
        let controller = self.controller_replica();
        let controller = controller.map(|replica| (GroupId::CONTROLLER, replica.quorum()));
        let groups = self.registry.all().into_iter();
        // One that was stopped hears of nobody, which says nothing of the others.
        let groups = groups.filter(|(_, group)| group.replica().check_runs().is_ok());
        controller
            .into_iter()
            .chain(groups.map(|(id, group)| (id, group.replica().quorum())))
            .collect()
    }

    /// Notes since when a majority of the nodes that hold a shard is not connected, of shards without a
    /// replica on this node.
    fn look_for_shards_elsewhere(&self) {
        let Some(table) = self.table.get().map(|table| Arc::clone(&table.borrow())) else { return };
        let mut away = self.away.lock();
        away.retain(|shard, _| table.shards.contains_key(shard));
        for (shard, placement) in &table.shards {
            let nodes = || placement.replicas.iter().map(|replica| replica.node);
            let connected = nodes().filter(|node| self.transport.is_connected(*node)).count();
            let here = nodes().any(|node| node == self.node);
            if here || connected > placement.replicas.len() / 2 {
                away.remove(shard);
            } else {
                away.entry(*shard).or_insert_with(now);
            }
        }
    }

    /// Shards without a replica on this node that it does not reach.
    pub(super) fn out_of_reach(&self) -> BTreeSet<GroupId> {
        let away = self.away.lock();
        let long = away.iter().filter(|(_, since)| since.elapsed() >= OUT_OF_REACH);
        long.map(|(shard, _)| GroupId::of_shard(*shard)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_named_in_ranges() {
        let of = |shards: &[u16]| -> BTreeSet<GroupId> {
            shards.iter().map(|shard| GroupId::of_shard(ShardId(*shard))).collect()
        };
        assert_eq!(names(&of(&[])), "");
        assert_eq!(names(&of(&[3])), "s3");
        let mut some = of(&[0, 1, 2, 7, 9, 10]);
        some.insert(GroupId::CONTROLLER);
        assert_eq!(names(&some), "controller, s0-s2, s7, s9-s10");
    }

    #[tokio::test(start_paused = true)]
    async fn one_line_tells_it_and_one_that_it_is_over() {
        let limit = Duration::from_millis(2_000);
        let shard = |shard: u16, age_ms: u64| {
            let age = Some(Duration::from_millis(age_ms));
            let state = if age_ms >= 2_000 { QuorumState::Lost } else { QuorumState::Held };
            (GroupId::of_shard(ShardId(shard)), Quorum { state, age, led_age: age, limit })
        };
        let mut told = Told::default();
        told.look(&[shard(0, 300), shard(1, 1_999)]);
        assert_eq!(told.since, None);
        told.look(&[shard(0, 300), shard(1, 2_000), shard(2, 1_800)]);
        assert_eq!(names(&told.lost), "s1-s2", "2 is about to be lost as well");
        let first = told.since;
        told.look(&[shard(0, 2_000), shard(1, 2_500)]);
        assert_eq!(told.since, first, "not another line at once");
        tokio::time::advance(NEXT_LINE).await;
        told.look(&[shard(0, 2_000), shard(1, 2_500)]);
        assert_eq!(names(&told.lost), "s0-s2");
        let second = told.since;
        assert_ne!(second, first);
        tokio::time::advance(NEXT_LINE).await;
        told.look(&[shard(0, 4_000), shard(1, 100)]);
        assert_eq!(told.since, second, "nothing new");
        told.look(&[shard(0, 10), shard(1, 100)]);
        assert_eq!((told.since, told.lost.len()), (None, 0));
    }
}
