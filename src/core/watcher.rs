//! Who wants to hear, on this replica, that a key was changed: callers that wait for a key. What they
//! hear changes nothing in the machine and is no part of what is replicated.

use std::fmt::Debug;
use std::sync::Arc;

/// Hears of changes while an entry is applied: must not wait, and must not ask the machine.
pub trait Watcher: Debug + Send + Sync {
    /// A key of this hash was written, or removed, or a delete found it absent.
    fn changed(&self, hash: u32);

    /// Every key may have changed.
    fn all_changed(&self);
}

/// A watcher shared with the machine.
pub type SharedWatcher = Arc<dyn Watcher>;
