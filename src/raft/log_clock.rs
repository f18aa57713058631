//! The leader's clock: what it stamps entries with.
//!
//! At election it starts at the later of the wall clock and the group's log time, then follows
//! monotonic time. Where the wall clock has gone elsewhere since (a jump, a drift), it is approached
//! by running up to half again as fast, or half as fast, never backwards and never by a leap: so a
//! jump of the wall clock cannot expire or revive anything at once. (etcd v3 resets leases at a
//! leader change, etcd#9395 and #15247; log time does not.)

use parking_lot::Mutex;

use crate::types::clock::{Instant, SharedClock, now};

#[derive(Debug, Clone, Copy)]
struct Running {
    term: u64,
    at: Instant,
    /// In microseconds: a clock asked every 1.9 ms that counted whole milliseconds would run at
    /// half speed, and every time to live would last twice as long.
    shown_us: u64,
}

/// Microseconds of a millisecond.
const MS: u64 = 1_000;

/// Log time as the leader of a group sees it.
#[derive(Debug)]
pub struct LogClock {
    wall: SharedClock,
    /// Held for moments.
    running: Mutex<Option<Running>>,
}

impl LogClock {
    /// A clock that has not led yet.
    pub fn new(wall: SharedClock) -> Self {
        LogClock { wall, running: Mutex::new(None) }
    }

    /// Log time now in milliseconds, for a leader of `term` whose machine is at `log_time_ms`.
    pub fn now_ms(&self, term: u64, log_time_ms: u64) -> u64 {
        let mut running = self.running.lock();
        let at = now();
        let wall_us = self.wall.wall_ms().saturating_mul(MS);
        let log_time_us = log_time_ms.saturating_mul(MS);
        let shown_us = match *running {
            // Term 0: no leader is known at the moment, which is no new leadership.
            Some(before) if before.term == term || term == 0 => {
                let elapsed = at.saturating_duration_since(before.at).as_micros();
                let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
                before.shown_us.saturating_add(pace(before.shown_us, elapsed, wall_us))
            }
            _ => wall_us,
        };
        let shown_us = shown_us.max(log_time_us);
        let term = if term == 0 { running.map_or(0, |before| before.term) } else { term };
        *running = Some(Running { term, at, shown_us });
        shown_us / MS
    }
}

/// How far a clock that showed `shown` moves in `elapsed`, all in microseconds. The wall clock is
/// known to the millisecond: within that it is as it should be, and the clock keeps its pace.
fn pace(shown: u64, elapsed: u64, wall: u64) -> u64 {
    let target =
        wall.clamp(shown.saturating_add(elapsed / 2), shown.saturating_add(elapsed + elapsed / 2));
    let even = shown.saturating_add(elapsed);
    if wall <= even && even < wall.saturating_add(MS) { elapsed } else { target - shown }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::types::clock::SimClock;

    #[tokio::test(start_paused = true)]
    async fn follows_the_wall_clock() {
        let clock = LogClock::new(SimClock::new(1_000_000));
        assert_eq!(clock.now_ms(1, 0), 1_000_000);
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(clock.now_ms(1, 0), 1_000_250);
    }

    #[tokio::test(start_paused = true)]
    async fn asked_often_it_does_not_fall_behind() {
        let clock = LogClock::new(SimClock::new(1_000_000));
        let start = clock.now_ms(1, 0);
        for _ in 0..10_000 {
            tokio::time::advance(Duration::from_micros(1_900)).await;
            clock.now_ms(1, 0);
        }
        let ran = clock.now_ms(1, 0) - start;
        assert!((18_999..=19_001).contains(&ran), "19 s took {ran} ms");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_successor_starts_at_log_time_and_goes_on() {
        // INV-4: the next leader's clock is 10 s behind.
        let clock = LogClock::new(SimClock::new(990_000));
        assert_eq!(clock.now_ms(2, 1_000_000), 1_000_000);
        tokio::time::advance(Duration::from_millis(100)).await;
        let then = clock.now_ms(2, 1_000_000);
        assert!((1_000_050..=1_000_100).contains(&then), "{then}");
    }

    #[tokio::test(start_paused = true)]
    async fn jumps_are_taken_in_bounded_steps() {
        let wall = SimClock::new(1_000_000);
        let clock = LogClock::new(wall.clone());
        let start = clock.now_ms(1, 0);
        wall.jump(3_600_000);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(clock.now_ms(1, 0), start + 150);
        wall.jump(-7_200_000);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(clock.now_ms(1, 0), start + 200);
    }

    #[tokio::test(start_paused = true)]
    async fn never_backwards() {
        let wall = SimClock::new(1_000_000);
        let clock = LogClock::new(wall.clone());
        let mut last = 0;
        for step in 0..200u64 {
            wall.jump(if step % 3 == 0 { -50_000 } else { 40_000 });
            tokio::time::advance(Duration::from_millis(step % 7)).await;
            let shown = clock.now_ms(1 + step / 50, last);
            assert!(shown >= last);
            last = shown;
        }
    }
}
