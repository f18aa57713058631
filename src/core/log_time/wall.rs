//! The wall clock that a majority of the nodes agree on, as one node measures it.

use std::collections::BTreeMap;

use super::{AGREE_US, DRIFT_PPM, SECOND, majority_of, parts};
use crate::types::NodeId;

/// For how long the best measurement of a peer's wall stands.
const KEPT_US: u64 = 30 * SECOND;

/// One measurement of a peer's wall clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// This node's boot clock when the answer came.
    pub boot_us: u64,
    /// From the question to the answer.
    pub round_trip_us: u64,
    /// What the peer's wall showed, microseconds since the Unix epoch.
    pub wall_us: i64,
}

/// A peer's wall less this node's boot clock.
#[derive(Clone, Copy, Debug)]
struct Offset {
    us: i64,
    /// The true offset was within this of `us`.
    half_us: u64,
    at_us: u64,
}

impl Offset {
    /// How far the true offset may be from it by now: both clocks may drift.
    fn within_us(&self, boot_us: u64) -> u64 {
        self.half_us + parts(boot_us.saturating_sub(self.at_us), 2 * DRIFT_PPM)
    }
}

/// What a node knows of the wall clocks of the cluster.
#[derive(Debug)]
pub struct ClusterWall {
    /// A wall before this shows that nobody has set it, microseconds since the Unix epoch.
    earliest_us: i64,
    peers: BTreeMap<NodeId, Offset>,
}

impl ClusterWall {
    /// Nothing is known yet. A wall before `earliest_us` is none.
    pub fn new(earliest_us: i64) -> Self {
        ClusterWall { earliest_us, peers: BTreeMap::new() }
    }

    /// A peer answered. Of those of the last 30 seconds the one of the shortest round trip counts,
    /// unless a later one shows that the clock was set.
    pub fn measured(&mut self, peer: NodeId, sample: Sample) {
        if sample.wall_us < self.earliest_us {
            self.peers.remove(&peer);
            return;
        }
        let half_us = sample.round_trip_us / 2;
        let asked_us = sample.boot_us.saturating_sub(half_us);
        let us = sample.wall_us.saturating_sub(signed(asked_us));
        let new = Offset { us, half_us, at_us: sample.boot_us };
        let stands = self.peers.get(&peer).is_some_and(|kept| {
            let age_us = sample.boot_us.saturating_sub(kept.at_us);
            let within_us = kept.within_us(sample.boot_us);
            let agrees = kept.us.abs_diff(us) <= within_us + half_us;
            age_us <= KEPT_US && agrees && within_us <= half_us
        });
        if !stands {
            self.peers.insert(peer, new);
        }
    }

    /// Forgets peers that are configured no more.
    pub fn retain(&mut self, stays: impl Fn(NodeId) -> bool) {
        self.peers.retain(|peer, _| stays(*peer));
    }

    /// The cluster's wall now, microseconds since the Unix epoch: the median of the walls of at least a
    /// majority of the `nodes` configured nodes, this one included, that are within `AGREE_US` of one
    /// another. `None` if there is no such majority.
    pub fn now_us(&self, boot_us: u64, own_wall_us: i64, nodes: usize) -> Option<i64> {
        let own_us = own_wall_us.saturating_sub(signed(boot_us));
        let own = (own_wall_us >= self.earliest_us).then_some(own_us);
        let known = self.peers.values().filter(|offset| {
            let age_us = boot_us.saturating_sub(offset.at_us);
            age_us <= KEPT_US && offset.within_us(boot_us) <= AGREE_US
        });
        let mut offsets: Vec<i64> = own.into_iter().chain(known.map(|o| o.us)).collect();
        offsets.sort_unstable();
        let agreeing = |from: usize| {
            let first = offsets[from];
            offsets[from..].partition_point(|us| us.abs_diff(first) <= AGREE_US)
        };
        // The first of the largest sets: every node that knows the same takes the same.
        let (from, count) = (0..offsets.len())
            .map(|from| (from, agreeing(from)))
            .max_by_key(|(from, count)| (*count, usize::MAX - from))?;
        let median_us = offsets[from + (count - 1) / 2];
        (count >= majority_of(nodes)).then(|| median_us.saturating_add(signed(boot_us)))
    }
}

fn signed(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::MS;
    use super::*;

    /// 2026-11-01, about.
    const EARLIEST: i64 = 1_793_000_000_000_000;
    const WALL: i64 = 1_800_000_000_000_000;

    fn sample(boot_s: u64, round_trip_ms: u64, ahead_ms: i64) -> Sample {
        let (boot_us, round_trip_us) = (boot_s * SECOND, round_trip_ms * MS);
        let wall_us = WALL + signed(boot_us - round_trip_us / 2) + ahead_ms * 1_000;
        Sample { boot_us, round_trip_us, wall_us }
    }

    fn own(boot_s: u64, ahead_ms: i64) -> i64 {
        WALL + signed(boot_s * SECOND) + ahead_ms * 1_000
    }

    #[test]
    fn a_majority_within_half_a_second_is_the_wall() {
        let mut wall = ClusterWall::new(EARLIEST);
        assert_eq!(wall.now_us(SECOND, own(1, 0), 1), Some(own(1, 0)), "one node alone");
        assert_eq!(wall.now_us(SECOND, own(1, 0), 3), None);
        wall.measured(NodeId(2), sample(1, 20, 100));
        assert_eq!(wall.now_us(SECOND, own(1, 0), 3), Some(own(1, 0)));
        wall.measured(NodeId(3), sample(1, 20, 3_600_000));
        assert_eq!(wall.now_us(SECOND, own(1, 0), 3), Some(own(1, 0)), "not the one that is off");
        wall.measured(NodeId(2), sample(2, 20, 3_600_100));
        let now = wall.now_us(2 * SECOND, own(2, 0), 3);
        assert_eq!(now, Some(own(2, 3_600_000)), "this node is off");
    }

    #[test]
    fn walls_that_nobody_set_or_that_differ_are_none() {
        let mut wall = ClusterWall::new(EARLIEST);
        let unset = Sample { boot_us: SECOND, round_trip_us: MS, wall_us: 5_000_000 };
        wall.measured(NodeId(2), unset);
        wall.measured(NodeId(3), unset);
        assert_eq!(wall.now_us(SECOND, 5_000_000, 3), None);
        wall.measured(NodeId(2), sample(1, 2, 600));
        wall.measured(NodeId(3), sample(1, 2, -600));
        assert_eq!(wall.now_us(SECOND, own(1, 0), 3), None);
    }

    #[test]
    fn the_shortest_round_trip_counts_until_the_clock_is_set() {
        let mut wall = ClusterWall::new(EARLIEST);
        wall.measured(NodeId(2), sample(1, 2, 100));
        // A slow answer whose way back took all of the time: 100 ms off, and not believed.
        let mut slow = sample(3, 200, 100);
        slow.wall_us += 100_000;
        wall.measured(NodeId(2), slow);
        assert_eq!(wall.now_us(3 * SECOND, 0, 1), Some(own(3, 100)));
        wall.measured(NodeId(2), sample(5, 200, -40_000));
        assert_eq!(wall.now_us(5 * SECOND, 0, 1), Some(own(5, -40_000)), "it was set");
        assert_eq!(wall.now_us(40 * SECOND, 0, 1), None, "and not heard of for too long");
    }
}
