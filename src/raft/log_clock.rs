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
    /// Microseconds, or calls a little over a millisecond apart would each lose a part of one.
    shown_us: u64,
}

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
        let wall_us = self.wall.wall_ms().saturating_mul(1_000);
        let log_time_us = log_time_ms.saturating_mul(1_000);
        let shown_us = match *running {
            Some(before) if before.term == term => {
                let elapsed = at.saturating_duration_since(before.at).as_micros();
                let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX / 4);
                let slowest = before.shown_us.saturating_add(elapsed / 2);
                let fastest = before.shown_us.saturating_add(elapsed + elapsed / 2);
                wall_us.clamp(slowest, fastest)
            }
            _ => wall_us,
        };
        let shown_us = shown_us.max(log_time_us);
        *running = Some(Running { term, at, shown_us });
        shown_us / 1_000
    }
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
    async fn many_calls_do_not_slow_it_down() {
        let clock = LogClock::new(SimClock::new(1_000_000));
        let start = clock.now_ms(1, 0);
        for _ in 0..10_000 {
            tokio::time::advance(Duration::from_micros(1_900)).await;
            clock.now_ms(1, 0);
        }
        let shown = clock.now_ms(1, 0) - start;
        assert!((18_999..=19_000).contains(&shown), "19 s passed, it shows {shown} ms");
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
