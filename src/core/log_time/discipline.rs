//! Towards the cluster's wall: by slewing, or by another `off`; log time does not move.

use super::{AGREE_US, SECOND};

/// Log time that is wrong by more than `AGREE_US` for so long gets another `off`.
const OFF_AFTER_US: u64 = 2 * SECOND;
/// Below this error an estimate keeps its pace.
const SLEW_ABOVE_US: u64 = AGREE_US / 4;

/// How an estimate runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Slew {
    /// As the boot clock.
    #[default]
    Even,
    /// Faster by `SLEW_PPM`.
    Faster,
    /// Slower by `SLEW_PPM`.
    Slower,
}

impl Slew {
    /// How to run where log time by the wall (`wall - off`) and the estimate are these.
    pub fn towards(by_wall_us: Option<u64>, estimate_us: Option<u64>) -> Slew {
        let (Some(wall), Some(own)) = (by_wall_us, estimate_us) else { return Slew::Even };
        match wall.abs_diff(own) {
            SLEW_ABOVE_US..=AGREE_US if wall > own => Slew::Faster,
            SLEW_ABOVE_US..=AGREE_US => Slew::Slower,
            _ => Slew::Even,
        }
    }
}

/// Decides at the leader when `off` is to be logged anew.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discipline {
    wrong_since_us: Option<u64>,
}

impl Discipline {
    /// The `off` to log, milliseconds, where the cluster's wall and log time now are these and `off_ms`
    /// is what is logged: at once where it was unknown, and once it was too far off for two seconds.
    pub fn new_off_ms(
        &mut self,
        boot_us: u64,
        wall_us: Option<i64>,
        now_us: u64,
        off_ms: Option<i64>,
    ) -> Option<i64> {
        let should_ms = wall_us.map(|wall_us| off_between_ms(wall_us, now_us));
        let agree_ms = AGREE_US / 1_000;
        let wrong = match (should_ms, off_ms) {
            (Some(should_ms), Some(off_ms)) => should_ms.abs_diff(off_ms) > agree_ms,
            // Until then no wall time can be answered.
            (should_ms, None) => return should_ms,
            (None, _) => false,
        };
        if !wrong {
            self.wrong_since_us = None;
            return None;
        }
        let since_us = *self.wrong_since_us.get_or_insert(boot_us);
        should_ms.filter(|_| boot_us.saturating_sub(since_us) >= OFF_AFTER_US)
    }
}

/// `off` where the wall and log time are these, milliseconds.
fn off_between_ms(wall_us: i64, now_us: u64) -> i64 {
    let now_us = i64::try_from(now_us).unwrap_or(i64::MAX);
    wall_us.saturating_sub(now_us).div_euclid(1_000)
}

#[cfg(test)]
mod tests {
    use super::super::MS;
    use super::*;

    #[test]
    fn small_errors_are_left_and_large_ones_are_not_slewed() {
        let slew = |wall_ms: u64, own_ms: u64| Slew::towards(Some(wall_ms * MS), Some(own_ms * MS));
        assert_eq!(slew(10_100, 10_000), Slew::Even);
        assert_eq!(slew(10_200, 10_000), Slew::Faster);
        assert_eq!(slew(10_000, 10_400), Slew::Slower);
        assert_eq!(slew(3_610_000, 10_000), Slew::Even, "that is for another off");
        assert_eq!(Slew::towards(None, Some(1)), Slew::Even);
        assert_eq!(Slew::towards(Some(1), None), Slew::Even);
    }

    #[test]
    fn another_off_is_logged_after_two_seconds_of_agreement() {
        let mut discipline = Discipline::default();
        let (now, wall) = (1_000 * SECOND, 5_000 * SECOND as i64);
        let mut at = |boot_ms: u64, wall: Option<i64>, off| {
            discipline.new_off_ms(boot_ms * MS, wall, now, off)
        };
        assert_eq!(at(0, Some(wall), Some(4_000_300)), None, "near enough");
        assert_eq!(at(1_000, Some(wall), Some(0)), None);
        assert_eq!(at(2_900, Some(wall), Some(0)), None);
        assert_eq!(at(2_950, None, Some(0)), None, "begins anew without a wall");
        assert_eq!(at(3_100, Some(wall), Some(0)), None);
        assert_eq!(at(5_100, Some(wall), Some(0)), Some(4_000_000));
        assert_eq!(at(9_000, Some(wall), None), Some(4_000_000), "unknown: at once");
    }
}
