//! openraft's storage suite on our stores, over each log engine.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};

use super::digests::Digests;
use super::log_store::LogStore;
use super::state_store::StateStore;
use super::types::TypeConfig;
use crate::core::machine::{Machine, MachineConfig};
use crate::core::slot_set::SlotSet;
use crate::storage::health::Reporter;
use crate::storage::raft_engine_wal::RaftEngineWal;
use crate::storage::sim_files::SimFiles;
use crate::storage::sled_wal::SledWal;
use crate::storage::snapshot_files::SnapshotFiles;
use crate::storage::wal::{FlushMode, Recovered, Wal};
use crate::types::metrics::Metrics;
use crate::types::{GroupId, LogKey, ReplicaId};

#[derive(Clone, Copy)]
enum Builder {
    Memory,
    Sled,
    RaftEngine,
}

fn key() -> LogKey {
    LogKey { group: GroupId(1), replica: ReplicaId(1) }
}

fn machine() -> Machine {
    Machine::new(MachineConfig {
        bytes_max: 1 << 20,
        hash_seed: 1,
        versions_from: 0,
        owned: SlotSet::all(),
    })
}

impl StoreBuilder<TypeConfig, LogStore, StateStore<Machine>, Option<tempfile::TempDir>>
    for Builder
{
    async fn build(
        &self,
    ) -> Result<(Option<tempfile::TempDir>, LogStore, StateStore<Machine>), StorageError<TypeConfig>>
    {
        let files = Arc::new(SnapshotFiles::new(SimFiles::new(1), "/snapshots").unwrap());
        let storage = Reporter::unwatched(Metrics::new());
        let store = StateStore::new(key(), machine(), files, Arc::new(Digests::default()), storage);
        let dir = tempfile::tempdir().unwrap();
        let (path, mode) = (dir.path(), FlushMode::Always);
        let wal: Arc<dyn Wal> = match self {
            Builder::Memory => {
                let log = LogStore::open(key(), None, Recovered::default()).unwrap();
                return Ok((None, log, store));
            }
            Builder::Sled => SledWal::open(path, Metrics::new(), mode).unwrap(),
            Builder::RaftEngine => RaftEngineWal::open(path, Metrics::new(), mode).unwrap(),
        };
        let recovered = wal.open(key()).unwrap();
        let log = LogStore::open(key(), Some(wal), recovered).unwrap();
        Ok((Some(dir), log, store))
    }
}

#[tokio::test]
async fn openraft_storage_suite_in_memory() {
    Box::pin(Suite::test_all(Builder::Memory)).await.unwrap();
}

#[tokio::test]
async fn openraft_storage_suite_on_sled() {
    Box::pin(Suite::test_all(Builder::Sled)).await.unwrap();
}

#[tokio::test]
async fn openraft_storage_suite_on_raft_engine() {
    Box::pin(Suite::test_all(Builder::RaftEngine)).await.unwrap();
}
