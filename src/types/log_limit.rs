//! When the same thing may be logged again: what repeats every second would bury the rest.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use parking_lot::Mutex;

use super::clock::{Instant, now};

/// Subjects remembered at a time; more than these are not told.
const SUBJECTS_MAX: usize = 256;

/// Lets one line a subject and interval through.
#[derive(Debug)]
pub struct LogLimit<K> {
    every: Duration,
    /// When each subject was told last. Held for a look, never across an await.
    told: Mutex<BTreeMap<K, Instant>>,
}

impl<K: Ord + Debug> LogLimit<K> {
    /// One line of each subject in `every`.
    pub fn new(every: Duration) -> Self {
        LogLimit { every, told: Mutex::default() }
    }

    /// Whether `subject` is told now; then it is not told again before the interval is over.
    pub fn allows(&self, subject: K) -> bool {
        let at = now();
        let mut told = self.told.lock();
        told.retain(|_, last| at < *last + self.every);
        if told.contains_key(&subject) || told.len() >= SUBJECTS_MAX {
            return false;
        }
        told.insert(subject, at);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_subject_is_told_once_an_interval_and_their_number_is_bounded() {
        let limit = LogLimit::new(Duration::from_secs(30));
        assert!(limit.allows(1) && limit.allows(2) && !limit.allows(1));
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(!limit.allows(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(limit.allows(1) && !limit.allows(1));
        let told = (0..1_000).filter(|subject| limit.allows(*subject)).count();
        assert_eq!(told, SUBJECTS_MAX - 1);
    }
}
