//! The clock of one replica of a group: its estimate, and what it counts while it leads.

use std::collections::BTreeSet;

use super::discipline::{Discipline, Slew};
use super::estimate::Estimate;
use super::majority::{Majority, Opening, View};
use super::{MS, Pace};
use crate::types::ReplicaId;

/// What stands around the clock at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Leading<'a> {
    /// The node's boot clock.
    pub boot_us: u64,
    /// This replica.
    pub own: ReplicaId,
    /// The voters; two sets in a joint configuration.
    pub halves: &'a [BTreeSet<ReplicaId>],
    /// Log time as applied, milliseconds.
    pub log_time_ms: u64,
    /// `off` as applied, milliseconds; `None` if unknown.
    pub off_ms: Option<i64>,
    /// The cluster's wall now, microseconds since the Unix epoch; `None` if no majority agrees.
    pub wall_us: Option<i64>,
    /// How old what was answered may be.
    pub pace: Pace,
}

impl Leading<'_> {
    /// Log time by the cluster's wall.
    fn by_wall_us(&self) -> Option<u64> {
        by_wall_us(self.wall_us, self.off_ms)
    }
}

/// Log time by the cluster's wall, where that and `off` are known.
fn by_wall_us(wall_us: Option<i64>, off_ms: Option<i64>) -> Option<u64> {
    let by_wall_us = wall_us?.saturating_sub(off_ms?.saturating_mul(1_000));
    Some(u64::try_from(by_wall_us).unwrap_or(0))
}

/// Log time at the leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// What entries are stamped with, and what reads are held against, milliseconds.
    pub now_ms: u64,
    /// What a majority has reached, microseconds, for the followers; `None` while too few answer.
    pub told_us: Option<u64>,
    /// What entries say besides until one of this term is applied.
    pub opening: Opening,
}

/// Another `off`, to be logged with log time unmoved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewOff {
    /// Wall time less log time, milliseconds.
    pub off_ms: i64,
}

#[derive(Debug)]
struct Term {
    term: u64,
    majority: Majority,
    discipline: Discipline,
    /// Invariant: only grows. What was read last, milliseconds.
    shown_ms: u64,
}

/// The clock of one replica of a group.
#[derive(Debug, Default)]
pub struct GroupClock {
    estimate: Estimate,
    leads: Option<Term>,
}

impl GroupClock {
    /// This replica's estimate, microseconds, for the answer to an append; `None` without a chain.
    pub fn estimate_us(&self, boot_us: u64) -> Option<u64> {
        self.estimate.at(boot_us)
    }

    /// An append of the current term carried what a majority has reached (see `Estimate::hear`).
    pub fn hear(&mut self, boot_us: u64, told_us: u64, band_us: u64, age_us: u64) {
        self.leads = None;
        self.estimate.hear(boot_us, told_us, band_us, age_us);
    }

    /// Lets the estimate run towards the cluster's wall.
    pub fn discipline(&mut self, boot_us: u64, wall_us: Option<i64>, off_ms: Option<i64>) {
        let own_us = self.estimate.at(boot_us);
        self.estimate.set_slew(boot_us, Slew::towards(by_wall_us(wall_us, off_ms), own_us));
    }

    /// A follower answered an append that this replica sent as the leader of `term` at `asked_us`.
    pub fn answered(
        &mut self,
        term: u64,
        replica: ReplicaId,
        estimate_us: Option<u64>,
        (asked_us, at_us): (u64, u64),
    ) {
        if let Some(led) = self.term(term) {
            led.majority.answered(replica, estimate_us, asked_us, at_us);
        }
    }

    /// Log time now, for the leader of `term`; `None` while it must not stamp: too few voters
    /// answered in this term, or for too long. What it stamped then would be committed when they are
    /// back, with a time to live that began before it was asked for.
    pub fn read(&mut self, term: u64, around: &Leading<'_>) -> Option<Reading> {
        let own_us = self.estimate.at(around.boot_us);
        let log_time_us = around.log_time_ms.saturating_mul(MS);
        let mut view = View {
            boot_us: around.boot_us,
            own: around.own,
            own_us,
            halves: around.halves,
            log_time_us,
            by_wall_us: around.by_wall_us(),
            pace: around.pace,
        };
        let look = self.term(term)?.majority.look(&view)?;
        if own_us.is_none() {
            // The chain of this replica begins with its term.
            self.estimate.hear(around.boot_us, look.majority_us, around.pace.band_us(), 0);
            view.own_us = self.estimate.at(around.boot_us);
        }
        let led = self.term(term)?;
        let look = led.majority.look(&view)?;
        if look.age_us > around.pace.stale_us() {
            return None;
        }
        // Entries in flight are stamped with what is not applied yet.
        led.shown_ms = led.shown_ms.max(look.ahead_us.max(log_time_us) / MS);
        let now_ms = led.shown_ms;
        let fresh = look.age_us <= around.pace.fresh_us();
        if fresh {
            // The leader is a follower of its own, under the same rule, while it is heard.
            self.estimate.hear(around.boot_us, look.majority_us, around.pace.band_us(), 0);
        }
        Some(Reading { now_ms, told_us: fresh.then_some(look.majority_us), opening: look.opening })
    }

    /// The `off` to log, where the cluster's wall is another one for a while. `reading` is what `read`
    /// gave: while too few voters answer, log time stands still and says nothing about the wall.
    pub fn new_off(
        &mut self,
        term: u64,
        around: &Leading<'_>,
        reading: &Reading,
    ) -> Option<NewOff> {
        let led = self.term(term)?;
        let now_us = reading.now_ms.saturating_mul(MS);
        let (boot_us, wall_us) =
            (around.boot_us, around.wall_us.filter(|_| reading.told_us.is_some()));
        let off_ms = led.discipline.new_off_ms(boot_us, wall_us, now_us, around.off_ms)?;
        Some(NewOff { off_ms })
    }

    /// What is counted in `term`; `None` for a term before the one led.
    fn term(&mut self, term: u64) -> Option<&mut Term> {
        if self.leads.as_ref().is_none_or(|led| led.term < term) {
            let (majority, discipline) = (Majority::new(), Discipline::default());
            self.leads = Some(Term { term, majority, discipline, shown_ms: 0 });
        }
        self.leads.as_mut().filter(|led| led.term == term)
    }
}

#[cfg(test)]
mod tests {
    use super::super::SECOND;
    use super::*;

    fn around<'a>(halves: &'a [BTreeSet<ReplicaId>], boot_us: u64) -> Leading<'a> {
        Leading {
            boot_us,
            own: ReplicaId(1),
            halves,
            log_time_ms: 0,
            off_ms: None,
            wall_us: None,
            pace: Pace { beat_us: 150 * MS, round_trip_us: MS },
        }
    }

    #[test]
    fn one_node_alone_counts_by_its_own_clock() {
        let halves = [BTreeSet::from([ReplicaId(1)])];
        let mut clock = GroupClock::default();
        let first = clock.read(1, &around(&halves, SECOND)).expect("a new group");
        assert_eq!((first.now_ms, first.opening.off_unknown), (0, true));
        let later = clock.read(1, &around(&halves, 11 * SECOND)).expect("open");
        assert_eq!((later.now_ms, later.told_us), (10_000, Some(10 * SECOND)));

        let mut restarted = GroupClock::default();
        let found = |boot_us| Leading { log_time_ms: 70_000, ..around(&halves, boot_us) };
        assert_eq!(restarted.read(2, &found(SECOND)), None, "a wall may still be found");
        let first = restarted.read(2, &found(2 * SECOND)).expect("waited");
        assert_eq!((first.now_ms, first.opening.off_unknown), (70_000, true));
    }

    #[test]
    fn a_leader_that_hears_nobody_counts_on_and_stamps_nothing() {
        let halves = [(1..=3).map(ReplicaId).collect::<BTreeSet<_>>()];
        let mut clock = GroupClock::default();
        clock.hear(0, 100 * SECOND, 250 * MS, 0);
        clock.answered(2, ReplicaId(2), Some(100 * SECOND), (0, 0));
        let begun = clock.read(2, &around(&halves, 0)).expect("two agree");
        assert_eq!((begun.now_ms, begun.told_us), (100_000, Some(100 * SECOND)));
        let late = clock.read(2, &around(&halves, 450 * MS)).expect("open");
        assert_eq!((late.now_ms, late.told_us), (100_250, None));
        assert_eq!(clock.read(2, &around(&halves, 60 * SECOND)), None, "nobody answers");
        assert_eq!(clock.estimate_us(60 * SECOND), Some(160 * SECOND));
        clock.answered(2, ReplicaId(3), Some(101 * SECOND), (0, 60 * SECOND));
        assert_eq!(clock.read(2, &around(&halves, 60 * SECOND)), None, "a minute on its way");
        clock.answered(2, ReplicaId(2), Some(160 * SECOND), (60 * SECOND, 60 * SECOND));
        let healed = clock.read(2, &around(&halves, 60 * SECOND)).expect("open");
        assert_eq!(healed.now_ms, 160_000);
        assert_eq!(clock.read(1, &around(&halves, 60 * SECOND)), None, "an earlier term");
    }
}
