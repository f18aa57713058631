//! What the service counts. Durations, and requests by door, are the doors' to count.

use prometheus::{IntCounter, IntCounterVec};

use crate::types::metrics::Metrics;
use crate::types::{Answer, Error, Leased, Reason, Reply};

/// Every name that `Operation::name` gives to what passes the checks.
const OPERATIONS: [&str; 25] = [
    "get",
    "set",
    "delete",
    "get_set",
    "get_delete",
    "expire",
    "get_expire",
    "increment",
    "increment_float",
    "append",
    "set_range",
    "inspect",
    "get_range",
    "multi",
    "transaction",
    "scan",
    "size",
    "flush",
    "copy",
    "rename",
    "lock",
    "renew",
    "unlock",
    "fill",
    "get_or_lease",
];

/// Handles resolved once, so that counting costs no look-up of labels.
#[derive(Debug)]
pub(super) struct Measures {
    hits: IntCounter,
    misses: IntCounter,
    sets: IntCounter,
    deletes: IntCounter,
    /// One for each of `OPERATIONS`.
    operations: Vec<IntCounter>,
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
            operations: OPERATIONS
                .iter()
                .map(|name| metrics.operations.with_label_values(&[*name]))
                .collect(),
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

    /// Counts a refusal by a limit whose error does not tell which it was.
    pub(super) fn limited(&self, limit: &str) {
        self.refused.with_label_values(&[limit]).inc();
    }

    /// An operation that passed the checks, by its name.
    pub(super) fn asked(&self, name: &'static str) {
        match OPERATIONS.iter().position(|known| *known == name) {
            Some(at) => self.operations[at].inc(),
            None => debug_assert!(false, "{name} is not counted"),
        }
    }

    /// Writes that a group of this node answered, as its leader.
    pub(super) fn wrote(&self, replies: &[Reply]) {
        for reply in replies {
            match reply {
                Reply::Set { .. }
                | Reply::Swapped { .. }
                | Reply::Integer { .. }
                | Reply::Float { .. }
                | Reply::Length { .. } => self.sets.inc(),
                Reply::Deleted { .. } | Reply::Taken(_) => self.deletes.inc(),
                Reply::Transaction(replies) => self.wrote(replies),
                Reply::Read(answer) => self.read(std::slice::from_ref(answer)),
                Reply::NotFound
                | Reply::ConditionFailed { .. }
                | Reply::Done
                | Reply::NotSwapped { .. }
                | Reply::Got(_)
                | Reply::Expires { .. }
                | Reply::Aborted { .. }
                | Reply::Locked { .. }
                | Reply::LockHeld { .. }
                | Reply::NotHeld { .. }
                | Reply::Refused(_) => {}
            }
        }
    }

    /// A read that might have ended in a fill, answered by a group of this node.
    pub(super) fn leased(&self, leased: &Leased) {
        match leased {
            Leased::Hit(_) | Leased::Stale { .. } | Leased::Fill { found: Some(_), .. } => {
                self.hits.inc();
            }
            Leased::Fill { found: None, .. } | Leased::Busy => self.misses.inc(),
        }
    }

    /// Reads that a group of this node answered.
    pub(super) fn read(&self, answers: &[Answer]) {
        let count = |wanted| answers.iter().filter(|answer| answer.hit() == Some(wanted)).count();
        self.hits.inc_by(count(true) as u64);
        self.misses.inc_by(count(false) as u64);
    }
}
