//! What half commands and answers not taken may hold, over all connections of the door (INV-8).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of one connection that are not counted: what every connection has.
const FREE_BYTES: usize = 64 * 1024;

/// A number of bytes that all connections share.
#[derive(Debug)]
pub(super) struct Budget {
    bytes_max: usize,
    used: AtomicUsize,
}

/// What one connection has of it; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    held: usize,
}

impl Budget {
    pub(super) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Budget { bytes_max, used: AtomicUsize::new(0) })
    }

    /// The share of a connection that holds nothing yet.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), held: 0 }
    }
}

impl Share {
    /// The connection holds so many bytes now. False if all connections together hold too much:
    /// then this one must not let its own grow.
    pub(super) fn hold(&mut self, bytes: usize) -> bool {
        let bytes = bytes.saturating_sub(FREE_BYTES);
        let used = &self.budget.used;
        let all = if bytes >= self.held {
            let more = bytes - self.held;
            used.fetch_add(more, Ordering::Relaxed) + more
        } else {
            let less = self.held - bytes;
            used.fetch_sub(less, Ordering::Relaxed) - less
        };
        self.held = bytes;
        bytes == 0 || all <= self.budget.bytes_max
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.hold(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_connections_share_one_number() {
        let budget = Budget::new(100_000);
        let (mut one, mut other) = (budget.share(), budget.share());
        assert!(one.hold(FREE_BYTES + 60_000));
        assert!(other.hold(FREE_BYTES), "what every connection has is free");
        assert!(!other.hold(FREE_BYTES + 60_000));
        assert!(!one.hold(FREE_BYTES + 50_000), "together still too much");
        drop(other);
        assert!(one.hold(FREE_BYTES + 60_000));
        drop(one);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }
}
