//! The rate of one clock as measured by another, from messages that carry the sender's clock, and
//! what it makes of an age that was counted on the slower of the two.
//!
//! A clock may run fast or slow by `DRIFT_PER_MILLE` against another and nobody needs to know: the
//! bound of an age has that much taken off (twice, once for each clock). A clock that is further off
//! is found by measuring: an age is multiplied by the measured ratio where the own clock is the
//! slower one. Messages are late by amounts that differ; of each `BUCKET_US` the one that was the
//! least late counts.

use std::collections::VecDeque;

/// How far the rates of clocks may be off without being measured, in thousandths.
pub const DRIFT_PER_MILLE: u64 = 1;
/// A rate that was not measured for this long is not known any more, microseconds.
pub const MEASURED_US_MAX: u64 = 10_000_000;
/// Clocks that run alike, in parts per million.
pub const EVEN_PPM: u64 = 1_000_000;

/// Of all messages within this time one counts, microseconds.
const BUCKET_US: u64 = 500_000;
/// Longest time a rate is measured over, in buckets.
const BUCKETS_MAX: usize = 16;
/// Shortest time a rate is measured over, microseconds: less, and the differences between delays
/// would count for more than those between clocks.
const SPAN_US_MIN: u64 = 1_000_000;

/// What both clocks showed when a message arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sample {
    own_us: u64,
    other_us: u64,
}

impl Sample {
    /// How far the other clock is ahead; larger for a message that was less late.
    fn ahead(self) -> i128 {
        i128::from(self.other_us) - i128::from(self.own_us)
    }
}

/// One bucket: where it began, and its least late message.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    begin_us: u64,
    best: Sample,
}

/// Measures the rate of another clock.
#[derive(Debug, Default)]
pub struct RateMeter {
    /// Invariant: `begin_us` grows, by at least `BUCKET_US` from one to the next.
    buckets: VecDeque<Bucket>,
    /// The other clock's rate in millionths of the own one's, and when it was measured.
    measured: Option<(u64, u64)>,
}

impl RateMeter {
    /// A message arrived at `own_us` of the own clock that left at `other_us` of the other one.
    pub fn see(&mut self, own_us: u64, other_us: u64) {
        let sample = Sample { own_us, other_us };
        match self.buckets.back_mut() {
            // Also one that was handled after a later one.
            Some(bucket) if own_us < bucket.begin_us.saturating_add(BUCKET_US) => {
                if sample.ahead() > bucket.best.ahead() {
                    bucket.best = sample;
                }
            }
            _ => {
                self.measure(own_us);
                self.buckets.push_back(Bucket { begin_us: own_us, best: sample });
                if self.buckets.len() > BUCKETS_MAX {
                    self.buckets.pop_front();
                }
            }
        }
    }

    /// Measures over the buckets that are complete.
    fn measure(&mut self, own_us: u64) {
        let (Some(first), Some(last)) = (self.buckets.front(), self.buckets.back()) else { return };
        let own = last.best.own_us.saturating_sub(first.best.own_us);
        let other = last.best.other_us.saturating_sub(first.best.other_us);
        if own < SPAN_US_MIN {
            return;
        }
        let ppm = u128::from(other) * u128::from(EVEN_PPM) / u128::from(own);
        self.measured = Some((u64::try_from(ppm).unwrap_or(u64::MAX), own_us));
    }

    /// From here on another clock is measured. The last rate stands until it is too old: which clock
    /// it was measured against says little about the own one.
    pub fn begin(&mut self) {
        self.buckets.clear();
    }

    /// The other clock's rate in millionths of the own one's, at `own_us`; `None` if it was not
    /// measured within `MEASURED_US_MAX`.
    pub fn rate_ppm(&self, own_us: u64) -> Option<u64> {
        let (rate_ppm, at_us) = self.measured?;
        (own_us.saturating_sub(at_us) <= MEASURED_US_MAX).then_some(rate_ppm)
    }
}

/// Upper bound of an age that the own clock counted as `age_ms`: where the own clock is the slower
/// one it counted too little, and both may drift.
pub fn age_bound_ms(age_ms: u64, rate_ppm: u64) -> u64 {
    let slow = u128::from(rate_ppm.max(EVEN_PPM));
    let parts = u128::from(EVEN_PPM) * 1_000;
    let drift = u128::from(1_000 + 2 * DRIFT_PER_MILLE);
    let bound = (u128::from(age_ms) * slow * drift).div_ceil(parts);
    u64::try_from(bound).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds a message every 150 ms, each late by what `late_us` says, to a clock that counts
    /// `own_ppm` millionths; the time it took, in its own microseconds.
    fn feed(
        meter: &mut RateMeter,
        own_ppm: u64,
        messages: u64,
        late_us: impl Fn(u64) -> u64,
    ) -> u64 {
        let mut own_us = 0;
        for n in 0..messages {
            let sent_us = n * 150_000;
            own_us = (sent_us + late_us(n)) * own_ppm / EVEN_PPM;
            meter.see(own_us, 77_000_000 + sent_us);
        }
        own_us
    }

    #[test]
    fn a_rate_is_known_after_a_second_and_forgotten_ten_seconds_after_the_last_message() {
        let mut meter = RateMeter::default();
        assert_eq!(meter.rate_ppm(0), None);
        let at = feed(&mut meter, EVEN_PPM, 5, |_| 0);
        assert_eq!(meter.rate_ppm(at), None, "{at} us are too little");
        let at = feed(&mut meter, EVEN_PPM, 20, |_| 0);
        assert_eq!(meter.rate_ppm(at), Some(EVEN_PPM));
        assert_eq!(meter.rate_ppm(at + MEASURED_US_MAX), None);
    }

    #[test]
    fn a_new_leader_is_measured_anew_and_the_last_rate_stands_meanwhile() {
        let mut meter = RateMeter::default();
        let at = feed(&mut meter, 800_000, 40, |_| 0);
        meter.begin();
        // Its clock began elsewhere; the first message alone says nothing.
        meter.see(at + 1, 5);
        assert_eq!(meter.rate_ppm(at + 1), Some(1_250_000));
    }

    #[test]
    fn an_age_counted_by_a_slow_clock_is_stretched_and_one_by_a_fast_clock_is_not_shortened() {
        assert_eq!(age_bound_ms(1_000, EVEN_PPM), 1_002);
        assert_eq!(age_bound_ms(1_000, 1_250_000), 1_253);
        assert_eq!(age_bound_ms(1_000, 500_000), 1_002);
        assert_eq!(age_bound_ms(u64::MAX, EVEN_PPM), u64::MAX);
        assert_eq!(age_bound_ms(0, EVEN_PPM), 0);
    }

    proptest! {
        #[test]
        fn delays_that_differ_by_20_ms_hide_no_slow_clock(
            own_ppm in 500_000u64..2_000_000,
            late in proptest::collection::vec(0u64..20_000, 100),
        ) {
            let mut meter = RateMeter::default();
            let at = feed(&mut meter, own_ppm, 100, |n| late[n as usize]);
            let rate = meter.rate_ppm(at).expect("measured") as f64;
            let true_rate = 1e12 / own_ppm as f64;
            prop_assert!((rate / true_rate - 1.0).abs() < 0.006, "{} for {}", rate, true_rate);
        }

        #[test]
        fn any_numbers_are_taken(samples in proptest::collection::vec(any::<(u64, u64)>(), 0..60)) {
            let mut meter = RateMeter::default();
            for (own_us, other_us) in samples {
                meter.see(own_us, other_us);
                let bound = age_bound_ms(1_000, meter.rate_ppm(own_us).unwrap_or(EVEN_PPM));
                prop_assert!(bound >= 1_002);
                prop_assert!(meter.buckets.len() <= BUCKETS_MAX);
            }
        }
    }
}
