//! Snapshots of the machine: see `core::snapshot` for the walk and `core::restore` for the way back.

use bytes::Bytes;

use super::Machine;
use crate::core::restore::MachineRestorer;
use crate::core::snapshot::Walk;
use crate::core::snapshot_record::Header;

impl Machine {
    /// Begins a walk of the present state; a walk under way is abandoned.
    pub fn snapshot_begin(&mut self) {
        self.snapshot_end();
        let header = Header {
            log_time_ms: self.log_time_ms,
            bytes_max: self.bytes_max,
            hash_seed: self.keyspace.seed(),
            tick: self.order.tick(),
            keys: self.keyspace.len() as u64,
            bytes: self.keyspace.bytes(),
            sessions: self.retries.len() as u64,
            ages: self.retries.ages(),
            digest: self.digest(),
            owned: self.owned.clone(),
        };
        let (sessions, removals) = (self.retries.export(), self.removals.clone());
        self.walk = Some(Walk::new(header, &self.keyspace, sessions, removals));
    }

    /// Next chunk of about `bytes_max` bytes (more by one entry at most); `None` when all has been
    /// given or no walk is under way.
    pub fn snapshot_chunk(&mut self, bytes_max: usize) -> Option<Bytes> {
        self.walk.as_mut()?.chunk(&self.keyspace, &self.order, bytes_max)
    }

    /// Pre-images waiting to be written; 0 if no walk is under way.
    pub fn snapshot_preimages(&self) -> usize {
        self.walk.as_ref().map_or(0, Walk::preimages)
    }

    /// A collector for a snapshot of such a machine.
    pub fn restorer(&self) -> MachineRestorer {
        MachineRestorer::in_place_of(self.watcher.clone(), self.versions_from)
    }
}
