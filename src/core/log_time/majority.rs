//! What a majority of the voters has reached, as the leader of a term counts it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Pace, WAIT_US, majority_of};
use crate::types::ReplicaId;

/// What the leader looks at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The leader's boot clock.
    pub boot_us: u64,
    /// The leader.
    pub own: ReplicaId,
    /// Its own estimate.
    pub own_us: Option<u64>,
    /// The voters; two sets in a joint configuration.
    pub halves: &'a [BTreeSet<ReplicaId>],
    /// Log time as applied.
    pub log_time_us: u64,
    /// Log time by the cluster's wall, where the wall and `off` are known.
    pub by_wall_us: Option<u64>,
    /// How old what was answered may be.
    pub pace: Pace,
}

/// What a follower answered last.
#[derive(Clone, Copy, Debug)]
struct Answered {
    /// Its estimate; `None` without a chain.
    estimate_us: Option<u64>,
    /// The leader's boot clock when it asked; without a chain, when it first asked so.
    asked_us: u64,
    /// And when the answer came.
    at_us: u64,
}

/// What the leader must say in its entries until one of them is applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Opening {
    /// Nobody knows how much time passed: `off` is unknown from here on.
    pub off_unknown: bool,
    /// Log time that the replicas counted, microseconds, where fewer than a majority of them did:
    /// what lies between that and the stamp comes from wall clocks alone, and is added to the
    /// deadlines of locks.
    pub counted_us: Option<u64>,
}

/// The estimates of one half, and how much stands behind them.
#[derive(Clone, Copy, Debug)]
struct Half {
    /// What a majority of it has reached.
    majority_us: u64,
    /// The same, each going on by the leader's clock.
    ahead_us: u64,
    /// The largest of it.
    largest_us: u64,
    /// How long ago the last of a majority answered.
    age_us: u64,
    /// Voters with a chain are a majority.
    chained: bool,
    /// Those with a chain or a wall are.
    backed: bool,
    /// Whether every voter answered.
    complete: bool,
}

/// The majority's clock in one term.
#[derive(Debug)]
pub struct Majority {
    answered: BTreeMap<ReplicaId, Answered>,
    /// Invariant: never falls.
    reached_us: u64,
    /// When a majority had answered, by the boot clock.
    ready_us: Option<u64>,
    opening: Option<Opening>,
}

/// What a look at the majority gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    /// What a majority has reached, microseconds: `B`.
    pub majority_us: u64,
    /// The same, going on by the leader's clock for a moment.
    pub ahead_us: u64,
    /// How long ago the last of a majority answered: what it reached is no younger.
    pub age_us: u64,
    /// What the first entries say.
    pub opening: Opening,
}

impl Majority {
    /// Nobody has answered yet.
    pub fn new() -> Self {
        Majority { answered: BTreeMap::new(), reached_us: 0, ready_us: None, opening: None }
    }

    /// A replica answered an append of this term that was sent at `asked_us`. The answer is as old as
    /// that: it may have been long on its way.
    pub fn answered(
        &mut self,
        replica: ReplicaId,
        estimate_us: Option<u64>,
        asked_us: u64,
        at_us: u64,
    ) {
        let known = self.answered.get(&replica);
        let waits = known.filter(|known| known.estimate_us.is_none() && estimate_us.is_none());
        let asked_us = waits.map_or(asked_us, |known| known.asked_us);
        self.answered.insert(replica, Answered { estimate_us, asked_us, at_us });
    }

    /// What a majority has reached; `None` while the leader must not stamp.
    pub fn look(&mut self, view: &View<'_>) -> Option<Look> {
        // Of others nothing is kept: a learner that becomes a voter answers the next append.
        self.answered.retain(|replica, _| view.halves.iter().any(|half| half.contains(replica)));
        self.freeze(view);
        let halves: Vec<Option<Half>> = view.halves.iter().map(|h| self.half(view, h)).collect();
        let halves: Option<Vec<Half>> = halves.into_iter().collect();
        let halves = halves.filter(|halves| !halves.is_empty());
        let Some(halves) = halves else {
            // After a change of members: nobody new counts yet, and time does not go back.
            return self.opening.map(|opening| self.standing(opening));
        };
        let smallest = |of: fn(&Half) -> u64| halves.iter().map(of).min().unwrap_or(0);
        let majority_us = smallest(|half| half.majority_us);
        if self.opening.is_none() && !self.may_open(view, &halves) {
            return None;
        }
        let Some(opening) = self.opening else {
            self.open(view, &halves);
            self.reached_us = majority_us;
            return self.look(view);
        };
        self.reached_us = self.reached_us.max(majority_us);
        Some(Look {
            majority_us: self.reached_us,
            ahead_us: self.reached_us.max(smallest(|half| half.ahead_us)),
            age_us: halves.iter().map(|half| half.age_us).max().unwrap_or(u64::MAX),
            opening,
        })
    }

    fn standing(&self, opening: Opening) -> Look {
        let (majority_us, ahead_us) = (self.reached_us, self.reached_us);
        Look { majority_us, ahead_us, age_us: u64::MAX, opening }
    }

    /// Whether to begin: at once where a majority agrees, else after a wait for the others.
    fn may_open(&mut self, view: &View<'_>, halves: &[Half]) -> bool {
        let begins = view.log_time_us == 0 && view.own_us.is_none();
        let ready_us = *self.ready_us.get_or_insert(view.boot_us);
        let waited = view.boot_us.saturating_sub(ready_us) >= WAIT_US;
        let band_us = view.pace.band_us();
        let settled = |half: &Half| {
            let agree = half.largest_us - half.majority_us <= band_us;
            half.complete && half.backed || half.chained && agree
        };
        // Of a new group nothing has passed that anybody could know of.
        begins || waited || halves.iter().all(settled)
    }

    fn half(&self, view: &View<'_>, voters: &BTreeSet<ReplicaId>) -> Option<Half> {
        let needed = majority_of(voters.len());
        let mut values = Vec::with_capacity(voters.len());
        for voter in voters {
            if *voter == view.own {
                let (asked_us, at_us) = (view.boot_us, view.boot_us);
                values.push(Answered { estimate_us: view.own_us, asked_us, at_us });
            } else if let Some(answer) = self.answered.get(voter)
                && (answer.estimate_us.is_some() || self.opening.is_none())
            {
                values.push(*answer);
            }
        }
        if values.len() < needed {
            return None;
        }
        let without_us = self.without_us(view);
        let since = |us: u64| view.boot_us.saturating_sub(us);
        let reached = |value: &Answered| value.estimate_us.unwrap_or(without_us);
        let ahead = |value: &Answered| {
            reached(value).saturating_add(since(value.at_us).min(view.pace.ahead_us()))
        };
        let chained = values.iter().filter(|value| value.estimate_us.is_some());
        let mut ages: Vec<u64> = chained.map(|value| since(value.asked_us)).collect();
        ages.sort_unstable();
        let chains = ages.len();
        let backed = if view.by_wall_us.is_some() { values.len() } else { chains };
        let raw = descending(values.iter().map(reached));
        Some(Half {
            majority_us: raw[needed - 1],
            ahead_us: descending(values.iter().map(ahead))[needed - 1],
            largest_us: raw[0],
            age_us: ages.get(needed - 1).copied().unwrap_or(u64::MAX),
            chained: chains >= needed,
            backed: backed >= needed,
            complete: values.len() == voters.len(),
        })
    }

    /// What a voter without a chain counts as: log time by the cluster's wall, or what was applied.
    /// Once the term has begun the wall moves nothing beyond what the leader itself counted.
    fn without_us(&self, view: &View<'_>) -> u64 {
        let counted_us = if self.opening.is_some() { view.own_us.unwrap_or(0) } else { u64::MAX };
        let by_wall_us = view.by_wall_us.unwrap_or(view.log_time_us);
        by_wall_us.min(counted_us).max(view.log_time_us)
    }

    /// A voter that started anew in this term counts from here on as what it counts as now. Where no
    /// wall is known, it is waited for: a stall that hid the voter hid the walls as well.
    fn freeze(&mut self, view: &View<'_>) {
        if self.opening.is_none() {
            return;
        }
        let without_us = self.without_us(view);
        for answer in self.answered.values_mut() {
            let waited = view.boot_us.saturating_sub(answer.asked_us) >= WAIT_US;
            if answer.estimate_us.is_none() && (view.by_wall_us.is_some() || waited) {
                let (asked_us, at_us) = (view.boot_us, view.boot_us);
                *answer = Answered { estimate_us: Some(without_us), asked_us, at_us };
            }
        }
    }

    fn open(&mut self, view: &View<'_>, halves: &[Half]) {
        let chained = halves.iter().all(|half| half.chained);
        let counted_us = (!chained).then(|| self.counted_us(view).max(view.log_time_us));
        let off_unknown = !halves.iter().all(|half| half.backed);
        let without_us = self.without_us(view);
        for answer in self.answered.values_mut() {
            answer.estimate_us.get_or_insert(without_us);
        }
        self.opening = Some(Opening { off_unknown, counted_us });
    }

    /// The largest estimate of a voter with a chain.
    fn counted_us(&self, view: &View<'_>) -> u64 {
        let others = self.answered.values().filter_map(|answer| answer.estimate_us);
        others.chain(view.own_us).max().unwrap_or(0)
    }
}

fn descending(values: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable_by(|a, b| b.cmp(a));
    values
}

#[cfg(test)]
mod tests {
    use super::super::{MS, SECOND};
    use super::*;

    const PACE: Pace = Pace { beat_us: 150 * MS, round_trip_us: MS };

    fn voters(ids: &[u64]) -> BTreeSet<ReplicaId> {
        ids.iter().map(|id| ReplicaId(*id)).collect()
    }

    fn view(halves: &[BTreeSet<ReplicaId>], boot_ms: u64, own_ms: Option<u64>) -> View<'_> {
        View {
            boot_us: boot_ms * MS,
            own: ReplicaId(1),
            own_us: own_ms.map(|own_ms| own_ms * MS),
            halves,
            log_time_us: 500 * SECOND,
            by_wall_us: None,
            pace: PACE,
        }
    }

    fn answer(majority: &mut Majority, id: u64, at_ms: u64, estimate_ms: Option<u64>) {
        let estimate_us = estimate_ms.map(|ms| ms * MS);
        majority.answered(ReplicaId(id), estimate_us, at_ms * MS, at_ms * MS);
    }

    #[test]
    fn no_minority_moves_it() {
        let halves = [voters(&[1, 2, 3])];
        let mut majority = Majority::new();
        assert_eq!(majority.look(&view(&halves, 0, Some(9_000_000))), None, "nobody answered");
        answer(&mut majority, 2, 0, Some(1_000_000));
        answer(&mut majority, 3, 0, Some(1_000_010));
        let look = majority.look(&view(&halves, 0, Some(9_000_000))).expect("all answered");
        assert_eq!((look.majority_us, look.age_us), (1_000_010 * MS, 0));
        assert_eq!(look.opening, Opening::default());
        let later = majority.look(&view(&halves, 100, Some(9_000_100))).expect("open");
        assert_eq!((later.majority_us, later.ahead_us), (1_000_010 * MS, 1_000_110 * MS));
        let later = majority.look(&view(&halves, 5_000, Some(9_005_000))).expect("open");
        assert_eq!(later.ahead_us, 1_000_260 * MS, "the leader's clock goes on for a moment only");
        assert_eq!(later.age_us, 5 * SECOND);
    }

    #[test]
    fn it_never_falls_and_a_joint_configuration_counts_the_smaller_half() {
        let mut majority = Majority::new();
        let old = [voters(&[1, 2, 3])];
        answer(&mut majority, 2, 0, Some(600_000));
        answer(&mut majority, 3, 0, Some(600_100));
        let look = majority.look(&view(&old, 0, Some(600_000))).expect("open");
        assert_eq!(look.majority_us, 600_000 * MS);
        let joint = [voters(&[1, 2, 3]), voters(&[1, 4, 5])];
        let held = majority.look(&view(&joint, 100, Some(600_100))).expect("open");
        assert_eq!(held.majority_us, 600_000 * MS, "4 and 5 are not heard");
        assert_eq!(held.age_us, u64::MAX);
        answer(&mut majority, 4, 100, Some(600_040));
        let look = majority.look(&view(&joint, 100, Some(600_100))).expect("open");
        assert_eq!(look.majority_us, 600_040 * MS);
        answer(&mut majority, 4, 200, Some(1));
        let look = majority.look(&view(&joint, 200, Some(600_020))).expect("open");
        assert_eq!(look.majority_us, 600_040 * MS, "never falls");
    }

    #[test]
    fn where_the_best_differ_it_waits_for_the_others_for_a_second() {
        let halves = [voters(&[1, 2, 3])];
        let mut majority = Majority::new();
        answer(&mut majority, 2, 0, Some(900_000));
        assert_eq!(majority.look(&view(&halves, 0, Some(1_000_000))), None);
        assert_eq!(majority.look(&view(&halves, 900, Some(1_000_900))), None);
        let look = majority.look(&view(&halves, 1_000, Some(1_001_000))).expect("waited");
        assert_eq!(look.majority_us, 900_000 * MS);

        let mut majority = Majority::new();
        answer(&mut majority, 2, 0, Some(900_000));
        assert_eq!(majority.look(&view(&halves, 0, Some(1_000_000))), None);
        answer(&mut majority, 3, 10, Some(1_000_000));
        let look = majority.look(&view(&halves, 10, Some(1_000_010))).expect("two agree");
        assert_eq!(look.majority_us, 1_000_000 * MS);
    }

    #[test]
    fn a_voter_without_a_chain_counts_as_the_wall_or_as_what_was_applied() {
        let halves = [voters(&[1, 2, 3])];
        let mut majority = Majority::new();
        answer(&mut majority, 2, 0, Some(600_000));
        answer(&mut majority, 3, 0, None);
        let mut seen = view(&halves, 0, None);
        seen.by_wall_us = Some(650 * SECOND);
        let look = majority.look(&seen).expect("all answered");
        assert_eq!(look.majority_us, 650 * SECOND);
        // Two of three by their walls: what they say beyond the one that counted is no lock's time.
        assert_eq!(look.opening, Opening { off_unknown: false, counted_us: Some(600 * SECOND) });
        // The wall leaps after the term began.
        seen.by_wall_us = Some(9_000 * SECOND);
        seen.own_us = Some(650 * SECOND);
        assert_eq!(majority.look(&seen).expect("open").majority_us, 650 * SECOND);
    }

    #[test]
    fn without_chains_and_without_a_wall_the_time_between_is_unknown() {
        let halves = [voters(&[1, 2, 3])];
        let mut majority = Majority::new();
        answer(&mut majority, 2, 0, None);
        answer(&mut majority, 3, 0, None);
        assert_eq!(majority.look(&view(&halves, 0, None)), None, "a wall may still be found");
        let look = majority.look(&view(&halves, 1_000, None)).expect("waited");
        assert_eq!(look.majority_us, 500 * SECOND);
        assert_eq!(look.opening, Opening { off_unknown: true, counted_us: Some(500 * SECOND) });
    }
}
