//! What a node knows of its peers' clocks.

use super::report::{Deviation, Rates, wall_deviation};
use super::wall::{ClusterWall, Sample};
use crate::types::NodeId;

/// A peer's answer to a ping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pong {
    /// This node's boot clock when the answer came.
    pub boot_us: u64,
    /// From the ping to the answer.
    pub round_trip_us: u64,
    /// The peer's boot clock.
    pub peer_boot_us: u64,
    /// The peer's wall, microseconds since the Unix epoch.
    pub wall_us: i64,
}

/// This node's clocks and how many nodes are configured, itself included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Own {
    /// The boot clock.
    pub boot_us: u64,
    /// The wall, microseconds since the Unix epoch.
    pub wall_us: i64,
    /// Configured nodes.
    pub nodes: usize,
}

/// Walls and rates of the peers, as this node's clock measures them.
#[derive(Debug)]
pub struct PeerClocks {
    walls: ClusterWall,
    rates: Rates,
}

impl PeerClocks {
    /// Nothing is known yet. A wall before `earliest_us` is none.
    pub fn new(earliest_us: i64) -> Self {
        PeerClocks { walls: ClusterWall::new(earliest_us), rates: Rates::default() }
    }

    /// A peer answered a ping.
    pub fn measured(&mut self, peer: NodeId, pong: Pong) {
        let Pong { boot_us, round_trip_us, peer_boot_us, wall_us } = pong;
        self.walls.measured(peer, Sample { boot_us, round_trip_us, wall_us });
        self.rates.measured(peer, boot_us, peer_boot_us, round_trip_us);
    }

    /// Forgets peers that are configured no more.
    pub fn retain(&mut self, stays: impl Fn(NodeId) -> bool) {
        self.walls.retain(&stays);
        self.rates.retain(&stays);
    }

    /// The cluster's wall now (see `ClusterWall::now_us`). None at a node whose own clock runs at
    /// another rate: what it measured a moment ago is another time by now.
    pub fn wall_us(&self, own: Own) -> Option<i64> {
        let rate = self.rates.deviation(own.boot_us, own.nodes);
        self.measured_wall_us(own).filter(|_| rate.is_none())
    }

    /// The same, also where this node's own clock runs at another rate: off by what that makes of the
    /// time since the last answers.
    pub fn measured_wall_us(&self, own: Own) -> Option<i64> {
        self.walls.now_us(own.boot_us, own.wall_us, own.nodes)
    }

    /// How this node's clock is wrong, if a majority says so.
    pub fn deviation(&self, own: Own) -> Option<Deviation> {
        let rate = self.rates.deviation(own.boot_us, own.nodes);
        rate.or_else(|| wall_deviation(own.wall_us, self.measured_wall_us(own)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MS, SECOND};
    use super::*;

    const WALL: i64 = 1_800_000_000_000_000;

    #[test]
    fn a_node_that_runs_at_half_the_rate_knows_no_wall() {
        let mut clocks = PeerClocks::new(0);
        for at in 0..10 {
            for peer in [2, 3] {
                let boot_us = 10 * SECOND + at * SECOND;
                let wall_us = WALL + (2 * at * SECOND).cast_signed();
                let peer_boot_us = 2 * at * SECOND;
                let pong = Pong { boot_us, round_trip_us: MS, peer_boot_us, wall_us };
                clocks.measured(NodeId(peer), pong);
            }
        }
        let own = Own { boot_us: 19 * SECOND, wall_us: WALL, nodes: 3 };
        assert_eq!(clocks.wall_us(own), None);
        assert_eq!(clocks.deviation(own), Some(Deviation::Rate { faster_ppm: -500_000 }));
    }

    #[test]
    fn a_node_an_hour_fast_knows_it() {
        let mut clocks = PeerClocks::new(0);
        for peer in [2, 3] {
            let pong = Pong { boot_us: SECOND, round_trip_us: 0, peer_boot_us: 5, wall_us: WALL };
            clocks.measured(NodeId(peer), pong);
        }
        let own = Own { boot_us: SECOND, wall_us: WALL + 3_600_000_000, nodes: 3 };
        assert_eq!(clocks.wall_us(own), Some(WALL));
        assert_eq!(clocks.deviation(own), Some(Deviation::Wall { ahead_ms: 3_600_000 }));
    }
}
