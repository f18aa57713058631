//! Whether a replica's snapshots can be built: openraft is never told of a failure.

use std::sync::atomic::{AtomicBool, Ordering};

/// What became of the snapshots that a replica builds.
#[derive(Debug, Default)]
pub struct Builds {
    failing: AtomicBool,
    gave_up: tokio::sync::Notify,
}

impl Builds {
    /// True if the last build was given up.
    pub fn failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// Waits until a build is given up after this call, or was since the last such wait. For one
    /// waiter.
    pub async fn gave_up(&self) {
        self.gave_up.notified().await;
    }

    pub(super) fn ended(&self, failing: bool) {
        self.failing.store(failing, Ordering::Release);
        if failing {
            self.gave_up.notify_one();
        }
    }
}
