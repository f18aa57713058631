//! `SetLimit`.

use crate::core::machine::Machine;
use crate::types::Reply;

impl Machine {
    /// Evicts at once what does not fit a smaller limit: it takes time in proportion.
    pub(in crate::core::machine) fn set_limit(&mut self, bytes_max: u64) -> Reply {
        self.bytes_max = bytes_max;
        // Locks stay: no more are given until they fit.
        while self.keyspace.bytes() > self.bytes_max && self.evict_one() {}
        Reply::Done
    }
}
