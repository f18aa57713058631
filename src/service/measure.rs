//! What the service counts. Durations, and requests by door, are the doors' to count.

use prometheus::{IntCounter, IntCounterVec};

use crate::types::metrics::Metrics;
use crate::types::{Error, Found, Reason, Reply};

/// Handles resolved once, so that counting costs no look-up of labels.
#[derive(Debug)]
pub(super) struct Measures {
    hits: IntCounter,
    misses: IntCounter,
    sets: IntCounter,
    deletes: IntCounter,
    pub(super) retried: IntCounter,
    refused: IntCounterVec,
}

impl Measures {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Measures {
            hits: metrics.hits.clone(),
            misses: metrics.misses.clone(),
            sets: metrics.sets.clone(),
            deletes: metrics.deletes.clone(),
            retried: metrics.retried.clone(),
            refused: metrics.refused.clone(),
        }
    }

    /// Counts an error that is a limit's.
    pub(super) fn refused(&self, error: Error) -> Error {
        if let Reason::ResourceExhausted { what, .. } = &error.reason {
            self.refused.with_label_values(&[&what.replace(' ', "_")]).inc();
        }
        error
    }

    /// Writes that a group of this node answered, as its leader.
    pub(super) fn wrote(&self, replies: &[Reply]) {
        for reply in replies {
            match reply {
                Reply::Set { .. } => self.sets.inc(),
                Reply::Deleted { .. } => self.deletes.inc(),
                Reply::NotFound
                | Reply::ConditionFailed { .. }
                | Reply::Done
                | Reply::Refused(_) => {}
            }
        }
    }

    /// Reads that a group of this node answered.
    pub(super) fn read(&self, found: &[Option<Found>]) {
        let hits = found.iter().filter(|found| found.is_some()).count();
        self.hits.inc_by(hits as u64);
        self.misses.inc_by((found.len() - hits) as u64);
    }
}
