//! Where a node stands with its cluster.

use crate::types::RoutingEpoch;

/// Where this node stands with its cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The cluster is not formed, or not found.
    Forming {
        /// What is missing.
        waiting_for: String,
    },
    /// The cluster is known; this node is not registered yet.
    Joining {
        /// What is missing.
        waiting_for: String,
    },
    /// Registered: tables from this epoch on speak of this life of the node.
    Registered {
        /// The epoch.
        epoch: RoutingEpoch,
    },
    /// The cluster knows this node with another store: its logs are gone, it only forwards.
    StoreLost {
        /// The store the cluster knows.
        known: u128,
    },
    /// An operator has to act.
    Failed {
        /// What is wrong.
        problem: String,
    },
    /// As it is configured the node can never join its cluster: its process ends.
    Refused {
        /// What is wrong.
        problem: String,
    },
}

impl Standing {
    /// Registered with its cluster.
    pub fn is_registered(&self) -> bool {
        matches!(self, Standing::Registered { .. })
    }

    /// Nothing that goes on elsewhere changes it any more.
    pub(super) fn is_final(&self) -> bool {
        use Standing::{Failed, Refused, StoreLost};
        matches!(self, StoreLost { .. } | Failed { .. } | Refused { .. })
    }
}
