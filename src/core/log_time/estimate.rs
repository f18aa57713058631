//! A replica's own estimate of log time: the chain from one leader to the next.

use super::discipline::Slew;
use super::{SLEW_PPM, parts};

/// What a replica takes log time to be. In memory only: a replica that starts has none until a leader
/// tells it, because nobody counted while it was stopped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Estimate {
    /// Log time and the boot clock when it was that, both in microseconds.
    chain: Option<(u64, u64)>,
    slew: Slew,
}

impl Estimate {
    /// The estimate now, microseconds; `None` without a chain.
    pub fn at(&self, boot_us: u64) -> Option<u64> {
        let (value_us, at_us) = self.chain?;
        let elapsed_us = boot_us.saturating_sub(at_us);
        let slewed_us = parts(elapsed_us, SLEW_PPM);
        Some(value_us.saturating_add(match self.slew {
            Slew::Even => elapsed_us,
            Slew::Faster => elapsed_us + slewed_us,
            Slew::Slower => elapsed_us - slewed_us,
        }))
    }

    /// An append of the current term carried what a majority has reached, `told_us`. The estimate is
    /// no less than that, and no more than the band ahead of it. `age_us` bounds from above how long
    /// ago the leader said so, by this replica's own clock; `u64::MAX` where that is not known. What was
    /// long on its way says nothing about now: it holds no estimate back, and begins none.
    pub fn hear(&mut self, boot_us: u64, told_us: u64, band_us: u64, age_us: u64) {
        let ceiling_us = told_us.saturating_add(band_us.max(age_us));
        let value_us = match self.at(boot_us) {
            Some(own_us) => own_us.clamp(told_us, ceiling_us),
            // Said between then and now: it is taken to be half as old.
            None if age_us <= band_us.saturating_mul(2) => told_us.saturating_add(age_us / 2),
            None => return,
        };
        self.chain = Some((value_us, boot_us));
    }

    /// From now on the estimate runs so.
    pub fn set_slew(&mut self, boot_us: u64, slew: Slew) {
        if slew != self.slew {
            self.chain = self.at(boot_us).map(|value_us| (value_us, boot_us));
            self.slew = slew;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MS, SECOND};
    use super::*;

    const BAND: u64 = 250 * MS;

    #[test]
    fn without_a_chain_it_takes_what_it_is_told() {
        let mut estimate = Estimate::default();
        assert_eq!(estimate.at(5), None);
        estimate.hear(1_000, 10 * SECOND, BAND, u64::MAX);
        assert_eq!(estimate.at(1_000), None, "not what may be a minute old");
        estimate.hear(1_000, 70 * SECOND, BAND, 200 * MS);
        assert_eq!(estimate.at(1_000), Some(70 * SECOND + 100 * MS));
        assert_eq!(estimate.at(1_000 + SECOND), Some(71 * SECOND + 100 * MS));
    }

    #[test]
    fn it_is_raised_to_the_majority_and_held_to_the_band() {
        let mut estimate = Estimate::default();
        estimate.hear(0, 0, BAND, 0);
        estimate.hear(SECOND, 5 * SECOND, BAND, 0);
        assert_eq!(estimate.at(SECOND), Some(5 * SECOND), "behind: raised");
        estimate.hear(3 * SECOND, 6_900 * MS, BAND, 0);
        assert_eq!(estimate.at(3 * SECOND), Some(7 * SECOND), "within the band: its own");
        estimate.hear(60 * SECOND, 8 * SECOND, BAND, 0);
        assert_eq!(estimate.at(60 * SECOND), Some(8 * SECOND + BAND), "ahead: held");
    }

    #[test]
    fn what_was_long_on_its_way_holds_nothing_back() {
        let mut estimate = Estimate::default();
        estimate.hear(0, 0, BAND, 0);
        estimate.hear(60 * SECOND, 100 * MS, BAND, 60 * SECOND);
        assert_eq!(estimate.at(60 * SECOND), Some(60 * SECOND));
    }

    #[test]
    fn a_slew_is_a_thousandth_and_is_lost_in_no_rounding() {
        let mut estimate = Estimate::default();
        estimate.hear(0, 0, BAND, 0);
        estimate.set_slew(0, Slew::Faster);
        for beat in 1..=1_000 {
            let at = beat * 150 * MS;
            let own = estimate.at(at).expect("a chain");
            estimate.hear(at, own, BAND, 0);
        }
        assert_eq!(estimate.at(150 * SECOND), Some(150 * SECOND + 150 * MS));
        estimate.set_slew(150 * SECOND, Slew::Slower);
        assert_eq!(estimate.at(250 * SECOND), Some(250 * SECOND + 50 * MS));
        estimate.set_slew(250 * SECOND, Slew::Even);
        assert_eq!(estimate.at(251 * SECOND), Some(251 * SECOND + 50 * MS));
    }
}
