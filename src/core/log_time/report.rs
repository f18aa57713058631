//! Whether this node's own clock is wrong, as the others see it.

use std::collections::{BTreeMap, VecDeque};

use super::{AGREE_US, DRIFT_PPM, SECOND, majority_of};
use crate::types::NodeId;

/// A rate is measured over a minute; a wrong one shows over two seconds already.
const LONG_US: u64 = 60 * SECOND;
const SHORT_US: u64 = 2 * SECOND;
/// How far a rate may be off over the long and the short time, parts of a million.
const LONG_PPM: u64 = 2 * DRIFT_PPM;
const SHORT_PPM: u64 = 10_000;
/// Measurements of a peer that are kept: one every two seconds.
const KEPT: usize = 64;

/// How a node's clock is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deviation {
    /// Its wall is so far ahead of the cluster's, milliseconds; negative if behind.
    Wall {
        /// Milliseconds ahead.
        ahead_ms: i64,
    },
    /// It runs so much faster than a majority, parts of a million; negative if slower.
    Rate {
        /// Parts of a million faster.
        faster_ppm: i64,
    },
}

/// This node's wall held against the cluster's, both in microseconds. One that nobody has set is off
/// as well.
pub fn wall_deviation(own_wall_us: i64, cluster_wall_us: Option<i64>) -> Option<Deviation> {
    let cluster_us = cluster_wall_us?;
    let off = own_wall_us.abs_diff(cluster_us) > AGREE_US;
    off.then(|| Deviation::Wall { ahead_ms: own_wall_us.saturating_sub(cluster_us) / 1_000 })
}

/// Boot clocks of peers against this node's, at each answer: own microseconds, the peer's, and how far
/// apart in time the two were read at most.
#[derive(Debug, Default)]
pub struct Rates {
    peers: BTreeMap<NodeId, VecDeque<(u64, u64, u64)>>,
}

impl Rates {
    /// A peer answered with its boot clock. One that started anew is measured anew.
    pub fn measured(&mut self, peer: NodeId, own_us: u64, peer_us: u64, round_trip_us: u64) {
        let known = self.peers.entry(peer).or_default();
        if known.back().is_some_and(|(own, theirs, _)| peer_us < *theirs || own_us < *own) {
            known.clear();
        }
        if known.len() == KEPT {
            known.pop_front();
        }
        known.push_back((own_us.saturating_sub(round_trip_us / 2), peer_us, round_trip_us / 2));
    }

    /// Forgets peers that are configured no more.
    pub fn retain(&mut self, stays: impl Fn(NodeId) -> bool) {
        self.peers.retain(|peer, _| stays(*peer));
    }

    /// How this node's rate is wrong against that of a majority of the `nodes` configured nodes, which
    /// it is not one of.
    pub fn deviation(&self, own_us: u64, nodes: usize) -> Option<Deviation> {
        let wrong = |long_us: u64, off_ppm: u64| {
            let rates = self.peers.values().filter_map(|known| faster_ppm(known, own_us, long_us));
            let mut off: Vec<i64> =
                rates.filter_map(|(ppm, doubt)| surely_off(ppm, doubt, off_ppm)).collect();
            off.sort_unstable();
            let faster = off.iter().filter(|ppm| **ppm > 0).count();
            let slower = off.len() - faster;
            let same = faster.max(slower);
            (same >= majority_of(nodes) && same > 0).then(|| Deviation::Rate {
                faster_ppm: off[if faster > slower { slower + faster / 2 } else { slower / 2 }],
            })
        };
        wrong(LONG_US, LONG_PPM).or_else(|| wrong(SHORT_US, SHORT_PPM))
    }
}

/// How much faster this node runs than a peer, parts of a million, measured over at least `long_us` up
/// to now, and how far the measurement may be off.
fn faster_ppm(known: &VecDeque<(u64, u64, u64)>, now_us: u64, long_us: u64) -> Option<(i64, u64)> {
    let (own, theirs, half) = *known.back()?;
    if now_us.saturating_sub(own) > 4 * SECOND + long_us / 4 {
        return None;
    }
    let first = known.iter().rev().find(|(at, _, _)| own.saturating_sub(*at) >= long_us)?;
    let (ran, peer_ran) = (own - first.0, theirs.saturating_sub(first.1));
    if peer_ran == 0 {
        return None;
    }
    let difference = i128::from(ran) - i128::from(peer_ran);
    let per_million = |us: i128| us * 1_000_000 / i128::from(peer_ran);
    let ppm = i64::try_from(per_million(difference)).ok()?;
    Some((ppm, u64::try_from(per_million(i128::from(half + first.2))).ok()?))
}

/// A rate that is off by more than `off_ppm` however the messages were delayed.
fn surely_off(ppm: i64, doubt_ppm: u64, off_ppm: u64) -> Option<i64> {
    (ppm.unsigned_abs().saturating_sub(doubt_ppm) > off_ppm).then_some(ppm)
}

#[cfg(test)]
mod tests {
    use super::super::MS;
    use super::*;

    /// Two peers for `seconds` of their time, while this node runs at `own` thousandths of theirs,
    /// and the first of them at `first`.
    fn run(seconds: u64, own: u64, first: u64) -> Option<Deviation> {
        let mut rates = Rates::default();
        for at in (0..=seconds).step_by(2) {
            let (own_us, round_trip_us) = (at * own * MS, MS);
            rates.measured(NodeId(2), own_us, at * first * MS, round_trip_us);
            rates.measured(NodeId(3), own_us, at * 1_000 * MS, round_trip_us);
        }
        rates.deviation(seconds * own * MS, 3)
    }

    #[test]
    fn who_runs_unlike_a_majority_knows_it() {
        assert_eq!(run(120, 1_000, 1_000), None);
        assert_eq!(run(120, 1_001, 1_000), None, "within what clocks drift");
        assert_eq!(run(120, 1_004, 1_000), Some(Deviation::Rate { faster_ppm: 4_000 }));
        assert_eq!(run(4, 2_000, 1_000), Some(Deviation::Rate { faster_ppm: 1_000_000 }));
        assert_eq!(run(6, 500, 1_000), Some(Deviation::Rate { faster_ppm: -500_000 }));
        assert_eq!(run(120, 1_000, 2_000), None, "a peer is off, not this node");
        assert_eq!(run(1, 2_000, 1_000), None, "too short to tell");
    }

    #[test]
    fn a_wall_is_off_beyond_half_a_second() {
        assert_eq!(wall_deviation(1_000_000, None), None);
        assert_eq!(wall_deviation(1_400_000, Some(1_000_000)), None);
        let fast = wall_deviation(3_601_000_000, Some(1_000_000));
        assert_eq!(fast, Some(Deviation::Wall { ahead_ms: 3_600_000 }));
    }
}
