//! How old what a leader and its followers know of one another is.

use std::collections::VecDeque;

use super::{AGREE_US, AHEAD_US_MIN, BAND_US_MAX, BAND_US_MIN};

/// Round trips that are remembered.
const KEPT: usize = 16;

/// The round trips to one follower of late.
#[derive(Clone, Debug, Default)]
pub struct RoundTrips {
    recent_us: VecDeque<u64>,
}

impl RoundTrips {
    /// An answer came after so long.
    pub fn heard(&mut self, round_trip_us: u64) {
        if self.recent_us.len() == KEPT {
            self.recent_us.pop_front();
        }
        self.recent_us.push_back(round_trip_us);
    }

    /// The shortest: what came late because a connection stalled is not how far the follower is.
    pub fn shortest_us(&self) -> Option<u64> {
        self.recent_us.iter().min().copied()
    }
}

/// How often appends are sent at least, and how long their answers take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Time between two heartbeats.
    pub beat_us: u64,
    /// From an append to its answer: the shortest of late.
    pub round_trip_us: u64,
}

impl Pace {
    /// How far an estimate may be ahead of the leader's. What the leader sends is as old as a
    /// heartbeat and a round trip: a band below that would slow sound clocks down.
    pub fn band_us(&self) -> u64 {
        let band_us = self.fresh_us().max(self.round_trip_us.saturating_mul(2));
        band_us.clamp(BAND_US_MIN, BAND_US_MAX.max(self.beat_us.saturating_mul(2)))
    }

    /// How long ago the appends were sent that a majority answered, while messages come as usual.
    pub fn fresh_us(&self) -> u64 {
        let round_trip_us = self.round_trip_us.saturating_mul(2).min(BAND_US_MAX);
        BAND_US_MIN.max(round_trip_us.saturating_add(self.beat_us.saturating_mul(3) / 2))
    }

    /// The same for a leader that stamps: by this much a time to live could begin before it was asked
    /// for.
    pub fn stale_us(&self) -> u64 {
        self.fresh_us().max(self.ahead_us() + AGREE_US / 2)
    }

    /// How far the leader's clock goes on by itself beyond the last answers.
    pub fn ahead_us(&self) -> u64 {
        AHEAD_US_MIN.max(self.beat_us.saturating_mul(3) / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MS, SECOND};
    use super::*;

    #[test]
    fn the_band_covers_how_old_what_a_leader_sends_may_be() {
        let band_ms = |beat_ms: u64, round_trip_ms: u64| {
            let pace = Pace { beat_us: beat_ms * MS, round_trip_us: round_trip_ms * MS };
            pace.band_us() / MS
        };
        assert_eq!(band_ms(150, 1), 250);
        assert_eq!(band_ms(150, 200), 625);
        assert_eq!(band_ms(150, 400), 1_000);
        assert_eq!(band_ms(150, 2_000), 1_000);
        let mut heard = RoundTrips::default();
        (1..=20).for_each(|stalled| heard.heard(stalled * SECOND));
        heard.heard(MS);
        (1..=15).for_each(|stalled| heard.heard(stalled * SECOND));
        assert_eq!(heard.shortest_us(), Some(MS));
        let far = Pace { beat_us: 150 * MS, round_trip_us: 9_000 * MS };
        assert_eq!(far.fresh_us(), 1_225 * MS, "a stall is no round trip");
        assert_eq!(band_ms(1_000, 1), 1_502, "a cluster with a slow heartbeat");
    }
}
