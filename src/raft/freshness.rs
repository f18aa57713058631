//! How old what a follower shows can be, without synchronised clocks.
//!
//! A follower answers every append with its own clock `e`. The leader sends the newest `e` it has
//! seen back with the next append, together with the age `q` of its last quorum acknowledgement and
//! the index it has itself applied after it looked at `e`. When the follower has applied that index
//! too, what it shows holds every write acknowledged before real time `e - q`: this leader applies
//! before it acknowledges, its own term's first entry comes after all that its predecessors
//! acknowledged, and no later leader can have acknowledged a write before the quorum round of age `q`
//! began.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::types::clock::{Instant, now};

/// Freshness of one replica.
#[derive(Debug)]
pub struct FreshnessTracker {
    start: Instant,
    /// Milliseconds (since `start`, plus one) as of which the applied state is complete; 0 if never.
    fresh_as_of: AtomicU64,
    /// Held for moments: commit index to reach, and what the state is worth then.
    pending: Mutex<Option<(u64, u64)>>,
}

impl Default for FreshnessTracker {
    fn default() -> Self {
        FreshnessTracker { start: now(), fresh_as_of: AtomicU64::new(0), pending: Mutex::new(None) }
    }
}

impl FreshnessTracker {
    /// This replica's clock, for the answer to an append. Never 0.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(now().duration_since(self.start).as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// An append arrived with an echo of our clock, the leader's quorum age and the index whose
    /// state is complete.
    pub fn heard(&self, echo_ms: u64, quorum_age_ms: u64, complete_index: u64, applied_index: u64) {
        if echo_ms == 0 || quorum_age_ms == u64::MAX {
            return;
        }
        let worth = echo_ms.saturating_sub(quorum_age_ms);
        if applied_index >= complete_index {
            self.fresh_as_of.fetch_max(worth, Ordering::AcqRel);
            return;
        }
        let mut pending = self.pending.lock();
        // Keep the older one while it is unreached, or a busy follower would never be fresh.
        if pending.is_none_or(|(index, _)| applied_index >= index) {
            if let Some((_, reached)) = pending.take() {
                self.fresh_as_of.fetch_max(reached, Ordering::AcqRel);
            }
            *pending = Some((complete_index, worth));
        }
    }

    /// Upper bound of the age in milliseconds of what is shown at `applied_index`; `None` if this
    /// replica never heard enough to tell.
    pub fn age_ms(&self, applied_index: u64) -> Option<u64> {
        let mut pending = self.pending.lock();
        if let Some((index, worth)) = *pending
            && applied_index >= index
        {
            self.fresh_as_of.fetch_max(worth, Ordering::AcqRel);
            *pending = None;
        }
        drop(pending);
        match self.fresh_as_of.load(Ordering::Acquire) {
            0 => None,
            as_of => Some(self.now_ms().saturating_sub(as_of)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn age_counts_from_the_echo_and_the_quorum() {
        let tracker = FreshnessTracker::default();
        assert_eq!(tracker.age_ms(0), None);
        tokio::time::advance(Duration::from_millis(100)).await;
        let echo = tracker.now_ms();
        tokio::time::advance(Duration::from_millis(30)).await;
        tracker.heard(echo, 20, 5, 5);
        assert_eq!(tracker.age_ms(5), Some(50));
        tokio::time::advance(Duration::from_millis(10)).await;
        assert_eq!(tracker.age_ms(5), Some(60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_not_applied_yet_counts_only_when_it_is() {
        let tracker = FreshnessTracker::default();
        tokio::time::advance(Duration::from_millis(100)).await;
        tracker.heard(tracker.now_ms(), 0, 9, 5);
        assert_eq!(tracker.age_ms(5), None);
        assert_eq!(tracker.age_ms(9), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_without_a_quorum_proves_nothing() {
        let tracker = FreshnessTracker::default();
        tracker.heard(tracker.now_ms(), u64::MAX, 1, 1);
        assert_eq!(tracker.age_ms(1), None);
    }
}
