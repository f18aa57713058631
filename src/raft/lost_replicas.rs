//! Replicas whose log is shorter than what they acknowledged, as this node found out: its own, and
//! those of its peers that it leads. The node acts on what is listed here.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::{LogKey, NodeId, watch};

/// Longest list: far more replicas than a node and its peers ever run. Past it they are logged only.
const LISTED_MAX: usize = 4_096;

/// Why a replica whose log shrank is lost.
pub const WHAT_SHORTENED: &str = "its log is shorter than what it acknowledged: its data \
     directory was restored from an old copy, or its disk lost writes";

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LostReplica {
    /// Node it lives on.
    pub node: NodeId,
    /// What was found, for people.
    pub why: String,
}

/// The list of one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LostReplicas {
    list: Arc<watch::Sender<BTreeMap<LogKey, LostReplica>>>,
}

impl Default for LostReplicas {
    fn default() -> Self {
        LostReplicas { list: Arc::new(watch::Sender::default()) }
    }
}

impl LostReplicas {
    /// Lists a replica; a second time changes nothing.
    pub fn tell(&self, key: LogKey, replica: LostReplica) {
        let mut new = false;
        let LostReplica { node, why } = replica;
        self.list.send_if_modified(|list| {
            new = !list.contains_key(&key);
            if new && list.len() < LISTED_MAX {
                list.insert(key, LostReplica { node, why: why.clone() });
                return true;
            }
            false
        });
        if new {
            tracing::error!(replica = %key, %node, "lost: {why}; it neither votes nor leads any more");
        }
    }

    /// Takes a replica off the list: it was removed from its group and never runs again.
    pub fn forget(&self, key: LogKey) {
        self.list.send_if_modified(|list| list.remove(&key).is_some());
    }

    /// The list, now and as it changes.
    pub fn subscribe(&self) -> watch::Receiver<BTreeMap<LogKey, LostReplica>> {
        self.list.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{GroupId, ReplicaId};

    #[test]
    fn a_replica_is_listed_once_and_the_list_is_bounded() {
        let lost = LostReplicas::default();
        let mut list = lost.subscribe();
        let key = |replica| LogKey { group: GroupId(1), replica: ReplicaId(replica) };
        let replica = |why: &str| LostReplica { node: NodeId(2), why: why.to_owned() };
        lost.tell(key(1), replica("first"));
        lost.tell(key(1), replica("second"));
        assert_eq!(list.borrow_and_update().get(&key(1)), Some(&replica("first")));
        for id in 0..2 * LISTED_MAX as u64 {
            lost.tell(key(id), replica("many"));
        }
        assert_eq!(list.borrow_and_update().len(), LISTED_MAX);
    }
}
