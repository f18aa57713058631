//! How old what a follower shows can be, without synchronised clocks.
//!
//! A follower answers every append with its own clock `e`. The leader sends the newest `e` it has
//! seen back with the next append, together with the age `q` of its last quorum acknowledgement and
//! the index it has itself applied after it looked at `e`. When the follower has applied that index
//! too, what it shows holds every write acknowledged before real time `e - q`: this leader applies
//! before it acknowledges, its own term's first entry comes after all that its predecessors
//! acknowledged, and no later leader can have acknowledged a write before the quorum round of age `q`
//! began.
//!
//! A replica that restarted begins another life: its clock begins again, and what it held when it
//! answered in the life before says nothing of what it holds now. So an echo names the life it is
//! of, and counts in that life alone.
//!
//! The age is counted by the follower's own clock. It is stretched by the rate of that clock against
//! the leader's, as measured on the appends, and by the drift that is allowed (`core::clock_rate`).

use parking_lot::Mutex;

use super::countermeasure::{Countermeasure, taken_out};
use super::frame_codec::{AppendExtras, LifeClock};
use super::runtime::random_u64;
use crate::core::clock_rate::{RateMeter, age_bound_ms};
use crate::types::clock::{Instant, now};
use crate::types::probe::{Probe, reached};

/// When an append arrived, by the follower's own clock, microseconds since its start.
#[derive(Clone, Copy, Debug)]
pub struct Arrived(u64);

/// What a follower knows of its age. Times are those of its own clock since its start.
#[derive(Debug, Default)]
struct Known {
    /// When the applied state was complete for the last time; milliseconds.
    fresh_as_of_ms: Option<u64>,
    /// Commit index to reach, and what the state is worth then, milliseconds.
    pending: Option<(u64, u64)>,
    /// Rate of the leader's clock against the own one.
    rate: RateMeter,
    /// Term of the leader whose clock is measured: a term has one.
    term: u64,
}

impl Known {
    fn heard(
        &mut self,
        term: u64,
        arrived: Arrived,
        elapsed_us: u64,
        worth: Option<(u64, u64)>,
        applied_index: u64,
    ) {
        if term < self.term {
            // It came before the others and was handled after them.
            return;
        }
        if term > self.term {
            self.term = term;
            self.rate.begin();
        }
        self.rate.see(arrived.0, elapsed_us);
        let Some((complete_index, worth_ms)) = worth else { return };
        if applied_index >= complete_index {
            self.fresh_as_of_ms = self.fresh_as_of_ms.max(Some(worth_ms));
            return;
        }
        // Keep the older one while it is unreached, or a busy follower would never be fresh.
        self.settle(applied_index);
        self.pending.get_or_insert((complete_index, worth_ms));
    }

    /// What waited for an index that is applied by now counts.
    fn settle(&mut self, applied_index: u64) {
        if let Some((_, worth_ms)) = self.pending.take_if(|(index, _)| applied_index >= *index) {
            self.fresh_as_of_ms = self.fresh_as_of_ms.max(Some(worth_ms));
        }
    }

    fn age_ms(&mut self, own_us: u64, applied_index: u64) -> Option<u64> {
        self.settle(applied_index);
        let as_of_ms = self.fresh_as_of_ms?;
        let rate_ppm = self.rate.rate_ppm(own_us)?;
        // Rounded up: it is a bound.
        Some(age_bound_ms(own_us.div_ceil(1_000).saturating_sub(as_of_ms), rate_ppm))
    }
}

/// Freshness of one replica in one life.
#[derive(Debug)]
pub struct FreshnessTracker {
    /// Never 0.
    life: u64,
    start: Instant,
    /// Held for moments.
    known: Mutex<Known>,
}

impl Default for FreshnessTracker {
    fn default() -> Self {
        FreshnessTracker { life: random_u64().max(1), start: now(), known: Mutex::default() }
    }
}

impl FreshnessTracker {
    fn own_us(&self) -> u64 {
        u64::try_from(now().duration_since(self.start).as_micros()).unwrap_or(u64::MAX)
    }

    /// Milliseconds since this replica started, by its own clock.
    pub fn now_ms(&self) -> u64 {
        self.own_us() / 1_000
    }

    /// This replica's clock, for the answer to an append.
    pub fn clock(&self) -> LifeClock {
        LifeClock { life: self.life, ms: self.now_ms() }
    }

    /// To be called when an append arrives, before it is handled: its handling takes time.
    pub fn arrived(&self) -> Arrived {
        Arrived(self.own_us())
    }

    /// An append of the leader of `term` was taken: with an echo of our clock, the leader's
    /// quorum age and the index whose state is complete.
    pub fn heard(&self, term: u64, arrived: Arrived, extras: &AppendExtras, applied_index: u64) {
        // What this replica said in an earlier life is no news of this one.
        let own = extras.echo.life == self.life || taken_out(Countermeasure::EchoOfThisLife);
        if !own {
            reached(Probe::StaleEchoDropped);
        }
        let counts = own && extras.quorum_age_ms != u64::MAX;
        let worth_ms = extras.echo.ms.checked_sub(extras.quorum_age_ms).filter(|_| counts);
        let worth = worth_ms.map(|worth_ms| (extras.complete_index, worth_ms));
        self.known.lock().heard(term, arrived, extras.elapsed_us, worth, applied_index);
    }

    /// Upper bound of the age in milliseconds of what is shown at `applied_index`; `None` if this
    /// replica did not hear enough to tell.
    pub fn age_ms(&self, applied_index: u64) -> Option<u64> {
        // The lock comes first: a clock read before it could be older than what it is compared with.
        let mut known = self.known.lock();
        known.age_ms(self.own_us(), applied_index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: u64 = 4;

    fn extras(echo: LifeClock, quorum_age_ms: u64, complete_index: u64) -> AppendExtras {
        AppendExtras { echo, quorum_age_ms, complete_index, ..AppendExtras::default() }
    }

    /// Lets two seconds of heartbeats pass that carry no echo, so that the rate is known.
    async fn measured(tracker: &FreshnessTracker) {
        for n in 0..20u64 {
            let extras = AppendExtras { elapsed_us: n * 100_000, ..AppendExtras::default() };
            tracker.heard(TERM, tracker.arrived(), &extras, 0);
            tokio::time::advance(std::time::Duration::from_millis(100)).await;
        }
    }

    fn hear(tracker: &FreshnessTracker, extras: AppendExtras, applied_index: u64) {
        let arrived = tracker.arrived();
        tracker.heard(
            TERM,
            arrived,
            &AppendExtras { elapsed_us: arrived.0, ..extras },
            applied_index,
        );
    }

    #[tokio::test(start_paused = true)]
    async fn age_counts_from_the_echo_and_the_quorum() {
        let tracker = FreshnessTracker::default();
        assert_eq!(tracker.age_ms(0), None);
        measured(&tracker).await;
        let echo = tracker.clock();
        tokio::time::advance(std::time::Duration::from_millis(300)).await;
        hear(&tracker, extras(echo, 200, 5), 5);
        // 500 ms, and two thousandths of it for the drift of both clocks.
        assert_eq!(tracker.age_ms(5), Some(501));
        tokio::time::advance(std::time::Duration::from_millis(500)).await;
        assert_eq!(tracker.age_ms(5), Some(1_002));
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_not_applied_yet_counts_only_when_it_is() {
        let tracker = FreshnessTracker::default();
        measured(&tracker).await;
        hear(&tracker, extras(tracker.clock(), 0, 9), 5);
        assert_eq!(tracker.age_ms(5), None);
        assert_eq!(tracker.age_ms(9), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_without_a_quorum_proves_nothing() {
        let tracker = FreshnessTracker::default();
        measured(&tracker).await;
        hear(&tracker, extras(tracker.clock(), u64::MAX, 1), 1);
        assert_eq!(tracker.age_ms(1), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_echo_of_another_life_proves_nothing() {
        let tracker = FreshnessTracker::default();
        measured(&tracker).await;
        let LifeClock { life, ms } = tracker.clock();
        for other in [0, life ^ 1] {
            hear(&tracker, extras(LifeClock { life: other, ms: ms + 60_000 }, 0, 1), 1);
            assert_eq!(tracker.age_ms(1), None, "life {other}");
        }
        hear(&tracker, extras(LifeClock { life, ms }, 0, 1), 1);
        assert_eq!(tracker.age_ms(1), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_measured_rate_no_age_is_known() {
        let tracker = FreshnessTracker::default();
        hear(&tracker, extras(tracker.clock(), 0, 1), 1);
        assert_eq!(tracker.age_ms(1), None);
        measured(&tracker).await;
        hear(&tracker, extras(tracker.clock(), 0, 1), 1);
        assert_eq!(tracker.age_ms(1), Some(0));
        tokio::time::advance(std::time::Duration::from_millis(10_001)).await;
        assert_eq!(tracker.age_ms(1), None, "not measured for 10 s");
    }

    /// A follower whose clock counts `own_ppm` millionths of what the leader's does hears it for 5 s
    /// and then no more. Returns how old, in true milliseconds, what it serves as at most 1 s old is.
    fn oldest_served_as_a_second_old(own_ppm: u64) -> u64 {
        let own_us = |true_ms: u64| true_ms * own_ppm / 1_000;
        let mut known = Known::default();
        let mut echo_ms = None;
        let mut true_ms = 0;
        while true_ms <= 5_000 {
            let worth = echo_ms.map(|ms| (1, ms));
            known.heard(TERM, Arrived(own_us(true_ms)), true_ms * 1_000, worth, 1);
            echo_ms = Some(own_us(true_ms) / 1_000);
            true_ms += 100;
        }
        // The last echo was of the append before the last.
        let fresh_ms = true_ms - 200;
        while known.age_ms(own_us(true_ms), 1).expect("measured") <= 1_000 {
            true_ms += 1;
        }
        true_ms - 1 - fresh_ms
    }

    #[test]
    fn a_clock_of_any_rate_serves_nothing_older_than_the_bound() {
        for own_ppm in [500_000, 800_000, 999_000, 1_000_000, 1_001_000, 2_000_000] {
            let oldest = oldest_served_as_a_second_old(own_ppm);
            assert!(oldest <= 1_000, "{oldest} ms old at a rate of {own_ppm} millionths");
            let slack = if own_ppm > 1_001_000 { 510 } else { 10 };
            assert!(oldest + slack >= 1_000, "only {oldest} ms at {own_ppm} millionths");
        }
    }
}
