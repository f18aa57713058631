//! The groups that run on this node.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::GroupId;
use crate::types::watch;

/// The groups that run on this node. Clones share one registry. Readers hold the lock for one
/// look-up in a map; who waits for a group to appear is woken by a change.
#[derive(Clone, Debug)]
pub struct Registry<G> {
    groups: Arc<watch::Sender<Groups<G>>>,
}

#[derive(Debug)]
struct Groups<G> {
    /// Grows with every change, so that a waiter misses none.
    change: u64,
    by_id: BTreeMap<GroupId, G>,
}

impl<G> Default for Registry<G> {
    fn default() -> Self {
        let groups = Groups { change: 0, by_id: BTreeMap::new() };
        Registry { groups: Arc::new(watch::Sender::new(groups)) }
    }
}

impl<G: Clone> Registry<G> {
    /// Adds a group, or puts a new replica in the place of the old one, which is returned.
    pub fn insert(&self, id: GroupId, group: G) -> Option<G> {
        let mut old = None;
        self.groups.send_modify(|groups| {
            groups.change += 1;
            old = groups.by_id.insert(id, group);
        });
        old
    }

    /// Takes a group out.
    pub fn remove(&self, id: GroupId) -> Option<G> {
        let mut old = None;
        self.groups.send_if_modified(|groups| {
            old = groups.by_id.remove(&id);
            groups.change += u64::from(old.is_some());
            old.is_some()
        });
        old
    }

    /// Handle to a group.
    pub fn get(&self, id: GroupId) -> Option<G> {
        self.groups.borrow().by_id.get(&id).cloned()
    }

    /// Handle to a group, and the number of the last change.
    pub fn look(&self, id: GroupId) -> (Option<G>, u64) {
        let groups = self.groups.borrow();
        (groups.by_id.get(&id).cloned(), groups.change)
    }

    /// True if the group runs here.
    pub fn contains(&self, id: GroupId) -> bool {
        self.groups.borrow().by_id.contains_key(&id)
    }

    /// Handles to all groups, by id.
    pub fn all(&self) -> Vec<(GroupId, G)> {
        self.groups.borrow().by_id.iter().map(|(id, group)| (*id, group.clone())).collect()
    }

    /// Number of the last change.
    pub fn change(&self) -> u64 {
        self.groups.borrow().change
    }

    /// Waits until the registry is not as it was at change `seen`.
    pub async fn changed(&self, seen: u64) {
        let mut changes = self.groups.subscribe();
        // Cannot fail: `self` keeps the sender alive.
        let _still_open = changes.wait_for(|groups| groups.change != seen).await.is_ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_since_it_was_seen_is_not_missed() {
        let registry = Registry::default();
        let seen = registry.change();
        assert_eq!(registry.insert(GroupId(1), "a"), None);
        registry.changed(seen).await;
        assert_eq!(registry.get(GroupId(1)), Some("a"));
        assert_eq!(registry.insert(GroupId(1), "b"), Some("a"));
        assert_eq!(registry.all(), vec![(GroupId(1), "b")]);
        assert_eq!(registry.remove(GroupId(1)), Some("b"));
        let seen = registry.change();
        assert_eq!(registry.remove(GroupId(1)), None);
        assert_eq!(registry.change(), seen, "nothing changed, nobody is woken");
    }
}
