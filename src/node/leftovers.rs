//! What replicas leave on the disk when they are served here no more: kept, in a bounded number.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::host::{Host, disk_failed};
use crate::controller::HostError;
use crate::core::machine::Machine;
use crate::raft::shard_group::ShardGroup;
use crate::storage::health::NodeStorage;
use crate::storage::replicas_started::ReplicasStarted;
use crate::storage::snapshot_files::SnapshotFiles;
use crate::storage::wal::Wal;
use crate::types::clock::now;
use crate::types::limits::SHARDS_MAX;
use crate::types::{GroupId, LogKey, ReplicaId};

/// Longest the snapshot of a replica that has no log may take before it stops without.
const SNAPSHOT: Duration = Duration::from_secs(10);
/// Replicas of one group that a report of lost ones names, the newest: one is placed on this node, and
/// another while it takes its place. Ids grow, so that what is left out is older than these.
const REPORTED_A_GROUP: usize = 4;
const _: () =
    assert!(REPORTED_A_GROUP * SHARDS_MAX as usize <= crate::types::limits::LOST_REPORTED_MAX);

/// Everything that replicas of shards leave. Blocks on the device.
struct Leftovers {
    started: Arc<Mutex<ReplicasStarted>>,
    files: Arc<SnapshotFiles>,
    wal: Option<Arc<dyn Wal>>,
    replicas_max: usize,
}

impl Leftovers {
    fn logs(&self) -> Result<BTreeSet<LogKey>, String> {
        let keys = self.wal.as_ref().map(|wal| wal.keys()).transpose();
        Ok(keys.map_err(|error| error.to_string())?.into_iter().flatten().collect())
    }

    fn snapshots(&self) -> Result<BTreeSet<LogKey>, String> {
        Ok(self.files.keys().map_err(|error| error.to_string())?.into_iter().collect())
    }

    /// Those of replicas that are not set aside.
    fn present(&self) -> Result<BTreeSet<LogKey>, String> {
        let mut present = self.logs()?;
        present.extend(self.snapshots()?);
        let started = self.started.lock();
        present.retain(|key| !started.is_set_aside(*key));
        present.extend(started.keys());
        present.retain(|key| key.group != GroupId::CONTROLLER);
        Ok(present)
    }

    fn set_aside(&self, key: LogKey, at_ms: u64) -> Result<(), String> {
        // What it still writes comes too late.
        self.files.enter(key);
        let (log, snapshot) = (self.logs()?.contains(&key), self.snapshots()?.contains(&key));
        let mut started = self.started.lock();
        if !log && !snapshot {
            return started.remove(key).map(|_| ()).map_err(|error| error.to_string());
        }
        started.note_set_aside(key, at_ms).map_err(|error| error.to_string())?;
        tracing::warn!(%key, log, snapshot, "set aside: the replica is served here no more");
        self.bound(&mut started)
    }

    /// The oldest go first.
    fn bound(&self, started: &mut ReplicasStarted) -> Result<(), String> {
        while started.set_aside().len() > self.replicas_max
            && let Some(oldest) = started.set_aside().first().map(|aside| aside.key)
        {
            let replicas_max = self.replicas_max;
            tracing::warn!(
                %oldest,
                replicas_max,
                "deleted: the oldest of more than wal.set_aside_replicas_max"
            );
            // Forgotten last: a crash in between deletes again.
            if let Some(wal) = &self.wal {
                wal.remove(oldest).map_err(|error| error.to_string())?;
            }
            self.files.remove(oldest).map_err(|error| error.to_string())?;
            started.retain_set_aside(|key| key != oldest).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// Notes which of the replicas that ran here have no log any more: the store was damaged and moved
/// aside, somebody removed it, it was in memory, or the system went down before it was flushed. They
/// never run again under their ids. To be called before any replica starts. Blocks on the device.
pub(super) fn take_stock(
    storage: &NodeStorage,
    files: &SnapshotFiles,
    started: &mut ReplicasStarted,
) -> anyhow::Result<()> {
    let logs: BTreeSet<LogKey> = match &storage.shard_wal {
        Some(slot) => slot.get()?.keys()?.into_iter().collect(),
        None => BTreeSet::new(),
    };
    if storage.shard_wal.is_none() {
        // Snapshots of replicas in memory never come back; those that were set aside are kept.
        for key in files.keys()?.into_iter().filter(|key| !started.is_set_aside(*key)) {
            files.remove(key)?;
        }
    }
    let snapshots: BTreeSet<LogKey> = files.keys()?.into_iter().collect();
    started.retain_set_aside(|key| logs.contains(&key) || snapshots.contains(&key))?;
    let unnoted = storage.identity.as_ref().filter(|identity| identity.loss_unnoted());
    let trusted = if unnoted.is_some() { BTreeSet::new() } else { logs };
    let missing = started.take_stock(&trusted)?;
    if !missing.is_empty() {
        let names: Vec<String> = missing.iter().map(LogKey::to_string).collect();
        match storage.shard_wal {
            Some(_) => tracing::error!(missing = ?names, "replicas that ran here lost their logs"),
            None => tracing::warn!(missing = ?names, "replicas that ran here were in memory"),
        }
    }
    // In this order: a crash in between notes it again, and none has started meanwhile.
    if let Some(identity) = unnoted {
        identity.loss_noted()?;
    }
    Ok(())
}

impl Host {
    async fn with_leftovers<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Leftovers) -> Result<T, String> + Send + 'static,
    ) -> Result<T, HostError> {
        let wal = self.storage.shard_wal.as_ref().map(|slot| slot.get()).transpose();
        let leftovers = Leftovers {
            started: Arc::clone(&self.started),
            files: Arc::clone(&self.shard_files),
            wal: wal.map_err(|error| disk_failed(&error))?,
            replicas_max: self.storage.set_aside_replicas_max,
        };
        let done = self.shard_files.offload(move || work(&leftovers));
        done.await.map_err(|detail| HostError::Failed(disk_failed(&detail)))
    }

    /// Replicas of shards that ran here and whose logs are gone, as the cluster must be told.
    pub(super) fn lost_before(&self) -> Vec<ReplicaId> {
        let started = self.started.lock();
        let lost: Vec<LogKey> = started.lost().collect();
        let groups = lost.chunk_by(|one, next| one.group == next.group);
        let newest = groups.flat_map(|group| group.iter().rev().take(REPORTED_A_GROUP));
        newest.map(|key| key.replica).collect()
    }

    /// Replicas of shards that left a trace on the disk and are not set aside.
    pub(super) async fn present(&self) -> Result<BTreeSet<LogKey>, HostError> {
        self.with_leftovers(|leftovers| leftovers.present()).await
    }

    /// Stops the replica, keeps what it holds, and never starts it again.
    pub(super) async fn set_aside(&self, key: LogKey) -> Result<(), HostError> {
        let _alone = self.closed.lock().await;
        if self.registry.get(key.group).is_some_and(|group| group.replica().key() == key)
            && let Some(group) = self.registry.remove(key.group)
        {
            // From here on nobody finds it.
            if !self.durable() {
                keep_memory(&group).await;
            }
            group.shutdown().await;
        }
        let at_ms = self.clock.wall_ms();
        let noted = Arc::clone(&self.noted);
        let set_aside = move |leftovers: &Leftovers| {
            leftovers.set_aside(key, at_ms)?;
            noted.lock().remove(key).map_err(|error| error.to_string())
        };
        self.with_leftovers(set_aside).await?;
        self.lost.lock().remove(&key);
        self.shortened.forget(key);
        Ok(())
    }
}

/// A replica without a log leaves its state as a snapshot, if there is any.
async fn keep_memory(group: &ShardGroup) {
    let replica = group.replica();
    if replica.with_machine(Machine::stats).keys == 0 {
        return;
    }
    if let Err(error) = replica.snapshot_now(now() + SNAPSHOT).await {
        tracing::warn!(key = %replica.key(), %error, "what the replica held in memory is not kept");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;

    use super::*;
    use crate::storage::disk::Disk;
    use crate::storage::sim_files::SimFiles;
    use crate::storage::sim_wal::{SimDisk, SimWal};
    use crate::storage::wal::WalOp;

    fn key(group: u32, replica: u64) -> LogKey {
        LogKey { group: GroupId(group), replica: ReplicaId(replica) }
    }

    fn leftovers(durable: bool) -> (Leftovers, Arc<SimFiles>) {
        let files = SimFiles::new(1);
        let disk = Arc::clone(&files) as Arc<dyn Disk>;
        let started = ReplicasStarted::open(Arc::clone(&disk), Path::new("/d")).unwrap();
        let wal = || SimWal::new(SimDisk::new(2), Duration::ZERO) as Arc<dyn Wal>;
        let leftovers = Leftovers {
            started: Arc::new(Mutex::new(started)),
            files: Arc::new(SnapshotFiles::new(disk, "/d/snapshots").unwrap()),
            wal: durable.then(wal),
            replicas_max: 2,
        };
        (leftovers, files)
    }

    fn snapshot(leftovers: &Leftovers, key: LogKey) {
        let life = leftovers.files.enter(key);
        let mut writer = leftovers.files.begin(key, life, "test").unwrap();
        writer.append_chunk(Bytes::from_static(b"state")).unwrap();
        writer.commit(Bytes::new()).unwrap();
    }

    async fn log(leftovers: &Leftovers, key: LogKey) {
        let wal = leftovers.wal.as_ref().unwrap();
        wal.open(key).unwrap();
        let (sender, done) = tokio::sync::oneshot::channel();
        let vote = WalOp::Vote(Bytes::from_static(b"vote"));
        wal.submit(key, vote, Box::new(move |result| sender.send(result).unwrap()));
        done.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_set_aside_is_kept_up_to_a_bound_and_the_oldest_go_first() {
        let (leftovers, _) = leftovers(true);
        for replica in 1..=4 {
            leftovers.started.lock().insert(key(1, replica)).unwrap();
        }
        for replica in 1..=3 {
            log(&leftovers, key(1, replica)).await;
        }
        snapshot(&leftovers, key(1, 1));
        assert_eq!(leftovers.present().unwrap().len(), 4);
        for (replica, at_ms) in [(2, 10), (1, 20), (4, 30)] {
            leftovers.set_aside(key(1, replica), at_ms).unwrap();
        }
        // Nothing is left of the last: it is forgotten, and takes nobody's place.
        assert!(!leftovers.started.lock().contains(key(1, 4)));
        assert_eq!(leftovers.present().unwrap(), BTreeSet::from([key(1, 3)]));
        assert_eq!(leftovers.logs().unwrap().len(), 3);
        leftovers.set_aside(key(1, 3), 40).unwrap();
        let kept: Vec<_> = leftovers.started.lock().set_aside().to_vec();
        assert_eq!(kept.iter().map(|aside| aside.key.replica.0).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(leftovers.logs().unwrap(), BTreeSet::from([key(1, 1), key(1, 3)]));
        assert_eq!(leftovers.snapshots().unwrap(), BTreeSet::from([key(1, 1)]));
        assert!(!leftovers.started.lock().contains(key(1, 2)), "deleted and forgotten");
    }

    #[test]
    fn a_replica_without_a_log_is_kept_as_its_snapshot() {
        let (leftovers, _) = leftovers(false);
        for replica in 1..=2 {
            leftovers.started.lock().insert(key(1, replica)).unwrap();
        }
        snapshot(&leftovers, key(1, 1));
        for replica in 1..=2 {
            leftovers.set_aside(key(1, replica), 10).unwrap();
        }
        let kept: Vec<_> = leftovers.started.lock().set_aside().to_vec();
        assert_eq!(kept.iter().map(|aside| aside.key).collect::<Vec<_>>(), [key(1, 1)]);
    }

    #[test]
    fn what_cannot_be_noted_is_not_set_aside() {
        let (leftovers, files) = leftovers(false);
        leftovers.started.lock().insert(key(1, 1)).unwrap();
        snapshot(&leftovers, key(1, 1));
        files.set_failing(Some(std::io::ErrorKind::StorageFull));
        assert!(leftovers.set_aside(key(1, 1), 10).is_err());
        files.set_failing(None);
        assert_eq!(leftovers.present().unwrap(), BTreeSet::from([key(1, 1)]), "tried again");
    }
}
