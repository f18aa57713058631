//! Whether a replica has a quorum. The one notion behind every report: who leads, readiness, health,
//! metrics, and the refusal of requests that cannot be served.
//!
//! No quorum means that no majority of the voters was heard for `raft.election_ms_max` and 500 ms
//! (`settings.rs`, `no_quorum_after`). What counts as heard:
//! - at a leader, the last append that a majority acknowledged, by the time it was sent;
//! - at a follower, an append of a leader that says how long ago a majority acknowledged one of its
//!   own, or the first one of a new leader, whom a majority elected just now;
//! - at a follower, also the votes and pre-votes that it exchanges with other voters. So an election is
//!   no lost quorum, however long it takes: the leader is missing, not the majority.
//!
//! openraft keeps a leader in office that nobody acknowledges, and tells a follower of the old leader
//! until there is another: neither is shown as it stands. It still beats, so that it goes on when its
//! followers are back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::types::ReplicaId;
use crate::types::clock::{Instant, now};

/// Voters remembered, above those of any group (5, and 5 more while they are replaced).
const VOTERS_MAX: usize = 32;
/// How soon is looked again while there is no quorum, or no leader.
const LOOK: Duration = Duration::from_millis(50);

/// Whether there is a quorum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum QuorumState {
    /// The replica has not heard of a majority yet, and has not been there for long.
    #[default]
    Starting,
    /// A majority was heard of lately.
    Held,
    /// No majority was heard of for too long.
    Lost,
}

/// What a replica knows of its quorum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Quorum {
    /// Whether there is one.
    pub state: QuorumState,
    /// Since a majority was heard of; `None` if it never was.
    pub age: Option<Duration>,
    /// Since a leader with a majority was heard of, or was this replica; `None` if never.
    pub led_age: Option<Duration>,
    /// As long as this is younger than that, all is well.
    pub limit: Duration,
}

impl Quorum {
    /// True if a leader with a quorum was known lately. Only then a leader may be named.
    pub fn is_led(&self) -> bool {
        self.led_age.is_some_and(|age| age < self.limit)
    }

    /// When it has to be looked at again.
    pub(super) fn look_again(&self) -> Duration {
        let left = |age: Option<Duration>| age.and_then(|age| self.limit.checked_sub(age));
        let left = |age| left(age).filter(|left| !left.is_zero());
        match (left(self.led_age), self.state) {
            (Some(left), QuorumState::Held) => left,
            // Not later than the quorum is lost.
            _ => left(self.age).map_or(LOOK, |left| left.min(LOOK)),
        }
    }
}

/// A replica's role in its group, as far as a quorum is concerned.
#[derive(Clone, Debug)]
pub(super) struct Role {
    /// The replica.
    pub(super) own: ReplicaId,
    /// Sets of voters of the effective membership: two while it changes. Empty before the group has
    /// members.
    pub(super) voters: Vec<BTreeSet<ReplicaId>>,
    /// It leads, as openraft has it.
    pub(super) leads: bool,
    /// When the newest append was sent that a majority acknowledged.
    pub(super) acked: Option<Instant>,
}

/// Remembers when a replica heard of whom.
#[derive(Debug)]
pub struct QuorumTracker {
    /// Held for moments.
    heard: Mutex<Heard>,
    /// A new leader was heard of.
    news: Notify,
}

#[derive(Debug)]
struct Heard {
    /// Patience counts from then.
    began: Instant,
    /// Newest term whose leader was heard of.
    term: u64,
    /// When a leader with a majority was heard of last.
    led: Option<Instant>,
    /// When each voter was heard of last in an election.
    voters: BTreeMap<ReplicaId, Instant>,
}

impl Default for QuorumTracker {
    fn default() -> Self {
        let heard = Heard { began: now(), term: 0, led: None, voters: BTreeMap::new() };
        QuorumTracker { heard: Mutex::new(heard), news: Notify::new() }
    }
}

impl QuorumTracker {
    /// The replica keeps still until then: only from then on it can miss anything.
    pub(super) fn begins(&self, at: Instant) {
        self.heard.lock().began = at;
    }

    /// The leader of `term` was heard of, or became one here. `acked_ago`: how long before that a
    /// majority acknowledged it; `None` if it does not know.
    pub(super) fn led(&self, term: u64, acked_ago: Option<Duration>) {
        let mut heard = self.heard.lock();
        let new = term > heard.term;
        heard.term = term.max(heard.term);
        // A majority elected it just now.
        let ago = if new { Some(Duration::ZERO) } else { acked_ago };
        let at = ago.and_then(|ago| now().checked_sub(ago));
        heard.led = heard.led.max(at);
        drop(heard);
        if new {
            self.news.notify_one();
        }
    }

    /// A voter asked for this replica's vote, or answered when asked for its own.
    pub(super) fn voter(&self, voter: ReplicaId) {
        let mut heard = self.heard.lock();
        if heard.voters.len() < VOTERS_MAX || heard.voters.contains_key(&voter) {
            heard.voters.insert(voter, now());
        }
    }

    /// Waits for a leader that was not heard of before. For one waiter.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// What is known now. Without a majority for `limit` there is no quorum.
    pub(super) fn look(&self, role: &Role, limit: Duration) -> Quorum {
        let at = now();
        let mut heard = self.heard.lock();
        let voters = &role.voters;
        heard.voters.retain(|id, _| voters.iter().any(|half| half.contains(id)));
        let alone = !voters.is_empty() && voters.iter().all(|half| half.iter().eq([&role.own]));
        if role.leads {
            heard.led = heard.led.max(if alone { Some(at) } else { role.acked });
        }
        let votes = if role.leads { None } else { majority(&heard.voters, role, at) };
        let newest = heard.led.max(votes);
        let age = |heard: Instant| at.saturating_duration_since(heard);
        let waited = age(newest.map_or(heard.began, |newest| newest.max(heard.began)));
        let state = match newest {
            // One that does not vote has no part in a quorum, and none to lose.
            _ if waited >= limit && voters.iter().any(|half| half.contains(&role.own)) => {
                QuorumState::Lost
            }
            Some(newest) if age(newest) < limit => QuorumState::Held,
            _ => QuorumState::Starting,
        };
        Quorum { state, age: newest.map(age), led_age: heard.led.map(age), limit }
    }
}

/// Since when a majority of each half was heard of, this replica included.
fn majority(heard: &BTreeMap<ReplicaId, Instant>, role: &Role, at: Instant) -> Option<Instant> {
    let of_half = |half: &BTreeSet<ReplicaId>| {
        let seen = |id: &ReplicaId| if *id == role.own { Some(at) } else { heard.get(id).copied() };
        let mut times: Vec<Option<Instant>> = half.iter().map(seen).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        times.get(half.len() / 2).copied().flatten()
    };
    role.voters.iter().map(of_half).min().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(2_000);

    fn role(voters: &[&[u64]]) -> Role {
        let half = |ids: &&[u64]| ids.iter().map(|id| ReplicaId(*id)).collect();
        Role {
            own: ReplicaId(1),
            voters: voters.iter().map(half).collect(),
            leads: false,
            acked: None,
        }
    }

    async fn pass(ms: u64) {
        tokio::time::advance(Duration::from_millis(ms)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_heard_of_nobody_yet_has_patience_from_where_it_may_vote() {
        let tracker = QuorumTracker::default();
        let three = role(&[&[1, 2, 3]]);
        tracker.begins(now() + Duration::from_millis(1_500));
        pass(3_499).await;
        assert_eq!(tracker.look(&three, LIMIT).state, QuorumState::Starting);
        assert!(!tracker.look(&three, LIMIT).is_led());
        pass(1).await;
        let lost = tracker.look(&three, LIMIT);
        assert_eq!((lost.state, lost.age), (QuorumState::Lost, None));
        // Before the group has members, and as a learner, there is nothing to lose.
        assert_eq!(tracker.look(&role(&[]), LIMIT).state, QuorumState::Starting);
        assert_eq!(tracker.look(&role(&[&[2, 3, 4]]), LIMIT).state, QuorumState::Starting);
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_counts_from_the_last_append_that_a_majority_acknowledged() {
        let tracker = QuorumTracker::default();
        let three = role(&[&[1, 2, 3]]);
        tracker.led(5, None);
        let elected = Role { leads: true, ..three.clone() };
        assert_eq!(tracker.look(&elected, LIMIT).state, QuorumState::Held, "elected just now");
        pass(100).await;
        let acked = Role { acked: Some(now()), ..elected };
        // Voters who ask for votes do not acknowledge it.
        for _ in 0..199 {
            pass(10).await;
            tracker.voter(ReplicaId(2));
            tracker.voter(ReplicaId(3));
            let quorum = tracker.look(&acked, LIMIT);
            assert!(quorum.state == QuorumState::Held && quorum.is_led(), "{quorum:?}");
        }
        assert_eq!(tracker.look(&acked, LIMIT).look_again(), Duration::from_millis(10));
        pass(10).await;
        let quorum = tracker.look(&acked, LIMIT);
        assert!(quorum.state == QuorumState::Lost && !quorum.is_led(), "{quorum:?}");
        assert_eq!((quorum.age, quorum.led_age), (Some(LIMIT), Some(LIMIT)));
        assert_eq!(quorum.look_again(), LOOK);
        let acked = Role { acked: Some(now()), ..acked };
        assert_eq!(tracker.look(&acked, LIMIT).state, QuorumState::Held, "it is back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_of_a_leader_without_a_majority_has_none_either() {
        let tracker = QuorumTracker::default();
        let five = role(&[&[1, 2, 3, 4, 5]]);
        tracker.led(5, Some(Duration::from_millis(100)));
        for ago in (0..2_000).step_by(100) {
            tracker.led(5, Some(Duration::from_millis(ago)));
            assert!(tracker.look(&five, LIMIT).is_led());
            pass(100).await;
        }
        tracker.led(5, Some(LIMIT));
        assert_eq!(tracker.look(&five, LIMIT).state, QuorumState::Lost);
        tracker.led(5, None);
        assert_eq!(tracker.look(&five, LIMIT).state, QuorumState::Lost, "it does not know");
        tracker.led(6, None);
        assert!(tracker.look(&five, LIMIT).is_led(), "a majority elected another");
    }

    #[tokio::test(start_paused = true)]
    async fn voters_that_are_heard_of_keep_a_quorum_without_a_leader() {
        let tracker = QuorumTracker::default();
        let three = role(&[&[1, 2, 3]]);
        tracker.led(5, Some(Duration::ZERO));
        for _ in 0..4 {
            pass(1_000).await;
            tracker.voter(ReplicaId(2));
        }
        let quorum = tracker.look(&three, LIMIT);
        assert!(quorum.state == QuorumState::Held && !quorum.is_led(), "{quorum:?}");
        assert_eq!(quorum.led_age, Some(Duration::from_millis(4_000)));
        // Of five it would be two, and of a change from {1,2,3} to {1,4,5} a majority of one half.
        assert_eq!(tracker.look(&role(&[&[1, 2, 3, 4, 5]]), LIMIT).state, QuorumState::Lost);
        tracker.voter(ReplicaId(2));
        let joint = role(&[&[1, 2, 3], &[1, 4, 5]]);
        assert_eq!(tracker.look(&joint, LIMIT).state, QuorumState::Lost);
        tracker.voter(ReplicaId(2));
        tracker.voter(ReplicaId(5));
        assert_eq!(tracker.look(&joint, LIMIT).state, QuorumState::Held);
    }

    #[tokio::test(start_paused = true)]
    async fn one_alone_is_its_own_majority_and_strangers_take_no_room() {
        let tracker = QuorumTracker::default();
        let alone = Role { leads: true, ..role(&[&[1]]) };
        pass(60_000).await;
        let quorum = tracker.look(&alone, LIMIT);
        assert!(quorum.is_led() && quorum.state == QuorumState::Held, "{quorum:?}");
        (10..10_000).for_each(|id| tracker.voter(ReplicaId(id)));
        assert_eq!(tracker.heard.lock().voters.len(), VOTERS_MAX);
        tracker.look(&alone, LIMIT);
        assert!(tracker.heard.lock().voters.is_empty());
    }
}
