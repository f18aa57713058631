//! openraft's storage suite on our stores, over both log engines.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};

use super::digests::Digests;
use super::log_store::LogStore;
use super::state_store::StateStore;
use super::types::TypeConfig;
use crate::core::machine::{Machine, MachineConfig};
use crate::core::slot_set::SlotSet;
use crate::storage::sim_files::SimFiles;
use crate::storage::sled_wal::{FlushMode, SledWal};
use crate::storage::snapshot_files::SnapshotFiles;
use crate::storage::wal::{Recovered, Wal};
use crate::types::metrics::Metrics;
use crate::types::{GroupId, LogKey, ReplicaId};

struct Builder {
    sled: bool,
}

fn key() -> LogKey {
    LogKey { group: GroupId(1), replica: ReplicaId(1) }
}

fn machine() -> Machine {
    Machine::new(MachineConfig { bytes_max: 1 << 20, hash_seed: 1, owned: SlotSet::all() })
}

impl StoreBuilder<TypeConfig, LogStore, StateStore<Machine>, Option<tempfile::TempDir>>
    for Builder
{
    async fn build(
        &self,
    ) -> Result<(Option<tempfile::TempDir>, LogStore, StateStore<Machine>), StorageError<TypeConfig>>
    {
        let files = Arc::new(SnapshotFiles::new(SimFiles::new(1), "/snapshots").unwrap());
        let store = StateStore::new(key(), machine(), files, Arc::new(Digests::default()));
        if !self.sled {
            let log = LogStore::open(key(), None, Recovered::default()).unwrap();
            return Ok((None, log, store));
        }
        let dir = tempfile::tempdir().unwrap();
        let wal = SledWal::open(dir.path(), Metrics::new(), FlushMode::Always).unwrap();
        let recovered = wal.open(key()).unwrap();
        let log = LogStore::open(key(), Some(wal), recovered).unwrap();
        Ok((Some(dir), log, store))
    }
}

#[tokio::test]
async fn openraft_storage_suite_in_memory() {
    Box::pin(Suite::test_all(Builder { sled: false })).await.unwrap();
}

#[tokio::test]
async fn openraft_storage_suite_on_sled() {
    Box::pin(Suite::test_all(Builder { sled: true })).await.unwrap();
}
