//! Whether a node's disk can be written, and what follows from it.
//!
//! Storage is crash-only (`docs/adr/0009-a-disk-that-fails.md`): the first failure ends the present
//! *life* of the storage. Everything durable stops as if the process had crashed, and begins again in
//! the next life, once the disk takes writes. Who uses the storage holds a `Reporter` of its life, so
//! that what an earlier life says late counts no more.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::disk::{self, Disk};
use super::identity::Identity;
use super::snapshot_files::SnapshotFiles;
use super::wal_slot::WalSlot;
use crate::types::metrics::Metrics;
use crate::types::watch;

/// Room must grow above the reserve by this part of it before a node leads again: no flapping.
const HYSTERESIS: u64 = 4;

/// Less room than the reserve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LowRoom {
    /// Bytes left.
    pub free_bytes: u64,
    /// Bytes that should be.
    pub reserve_bytes: u64,
}

impl Display for LowRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let LowRoom { free_bytes, reserve_bytes } = self;
        write!(f, "{free_bytes} bytes left, less than wal.reserve_bytes ({reserve_bytes})")
    }
}

/// What follows from the room that is left. Pure.
///
/// Low begins below the reserve and ends a quarter above it; a reserve of 0 is never low.
pub fn judge_room(before: bool, free_bytes: Option<u64>, reserve_bytes: u64) -> Option<LowRoom> {
    let free_bytes = free_bytes?;
    let line = match before {
        true => reserve_bytes.saturating_add(reserve_bytes / HYSTERESIS),
        false => reserve_bytes,
    };
    (free_bytes < line).then_some(LowRoom { free_bytes, reserve_bytes })
}

/// Why the storage stands still.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stall {
    /// What the disk said last.
    pub why: String,
    /// Acknowledged writes may be gone from this disk although the logs look whole: only possible
    /// where writes are acknowledged before they are flushed. Then the replicas must come back
    /// under new ids, which takes a restart of the process.
    pub lost: bool,
}

/// What is known of the storage.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Health {
    /// Counts the storage's lives; the first is 0.
    pub life: u64,
    /// Set while it stands still.
    pub stall: Option<Stall>,
    /// Set while there is less room than the reserve.
    pub low: Option<LowRoom>,
}

/// The health of a node's storage. One a node.
#[derive(Debug)]
pub struct StorageHealth {
    state: watch::Sender<Health>,
    metrics: Arc<Metrics>,
    /// Writes are acknowledged before they are flushed (`wal-async`).
    unflushed: bool,
}

/// The storage as one life of it sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reporter {
    health: Arc<StorageHealth>,
    life: u64,
}

impl StorageHealth {
    /// Of a storage that works. `unflushed`: writes are acknowledged before they are flushed.
    pub fn new(metrics: Arc<Metrics>, unflushed: bool) -> Arc<Self> {
        Arc::new(StorageHealth { state: watch::Sender::default(), metrics, unflushed })
    }

    /// Writes are acknowledged before they are flushed.
    pub fn unflushed(&self) -> bool {
        self.unflushed
    }

    /// What is known now, and every change.
    pub fn watch(&self) -> watch::Receiver<Health> {
        self.state.subscribe()
    }

    /// Why the storage stands still, if it does.
    pub fn stall(&self) -> Option<Stall> {
        self.state.borrow().stall.clone()
    }

    /// For those who use the storage in its present life.
    pub fn reporter(self: &Arc<Self>) -> Reporter {
        Reporter { health: Arc::clone(self), life: self.state.borrow().life }
    }

    /// Begins the next life; it still stands still until `healed`.
    pub fn next_life(&self) {
        self.state.send_modify(|health| health.life += 1);
    }

    /// The disk takes writes again and the logs are open.
    pub fn healed(&self) {
        self.metrics.storage_stalled.set(0);
        self.state.send_if_modified(|health| health.stall.take().is_some());
        tracing::info!("the disk takes writes again: replicas start");
    }

    /// The disk still does not; logged when the reason is another one.
    pub fn still(&self, why: String) {
        self.state.send_if_modified(|health| match &mut health.stall {
            Some(stall) if stall.why != why => {
                tracing::warn!(why, "the disk still takes no writes");
                stall.why = why;
                true
            }
            Some(_) | None => false,
        });
    }

    /// Notes how much room there is; logged when it becomes low and when it is enough again.
    pub fn see_room(&self, free_bytes: Option<u64>, reserve_bytes: u64) -> Option<LowRoom> {
        let free = free_bytes.map_or(i64::MAX, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        self.metrics.storage_free_bytes.set(free);
        let mut low = None;
        self.state.send_if_modified(|health| {
            low = judge_room(health.low.is_some(), free_bytes, reserve_bytes);
            let changed = health.low.is_some() != low.is_some();
            match &low {
                Some(low) if changed => {
                    tracing::warn!(%low, "the disk is nearly full: leaderships are handed over");
                }
                None if changed => tracing::info!("the disk has room again"),
                Some(_) | None => {}
            }
            health.low = low;
            changed
        });
        self.metrics.storage_low.set(i64::from(low.is_some()));
        low
    }
}

impl Reporter {
    /// Of a storage that nobody watches: for tests and tools that run replicas by themselves.
    pub fn unwatched(metrics: Arc<Metrics>) -> Self {
        StorageHealth::new(metrics, false).reporter()
    }

    /// The storage failed in a way that only a new life mends. The first such report of a life is
    /// logged and stops everything durable.
    pub fn failed(&self, what: &'static str, error: &(impl Display + ?Sized), kind: io::ErrorKind) {
        let health = &self.health;
        let lost = health.unflushed && !disk::refused_beforehand(kind);
        health.state.send_if_modified(|state| {
            if state.life != self.life || state.stall.is_some() {
                return false;
            }
            health.metrics.storage_errors.with_label_values(&[what]).inc();
            health.metrics.storage_stalled.set(1);
            tracing::error!(what, %error, "the disk failed: everything durable on this node stops");
            state.stall = Some(Stall { why: error.to_string(), lost });
            true
        });
    }

    /// Something could not be written that can wait.
    pub fn hiccup(&self, what: &'static str, error: &(impl Display + ?Sized)) {
        self.health.metrics.storage_errors.with_label_values(&[what]).inc();
        tracing::warn!(what, %error, "the disk failed; tried again later");
    }

    /// True once the storage failed, or has begun another life.
    pub fn is_over(&self) -> bool {
        over(&self.health.state.borrow(), self.life)
    }

    /// Waits until `is_over`.
    pub async fn over(&self) {
        let mut state = self.health.watch();
        // Cannot fail: `self` keeps the sender alive.
        let _still_open = state.wait_for(|health| over(health, self.life)).await.is_ok();
    }
}

fn over(health: &Health, life: u64) -> bool {
    health.life != life || health.stall.is_some()
}

/// Everything of a node that lies on its disk. All calls but `health`'s block on the device.
#[derive(Debug)]
pub struct NodeStorage {
    /// The disk of the data directory.
    pub disk: Arc<dyn Disk>,
    /// The data directory.
    pub data_dir: std::path::PathBuf,
    /// Room that must stay free, bytes; 0 looks at nothing.
    pub reserve_bytes: u64,
    /// Log of the controller's replica: always durable.
    pub control_wal: Arc<WalSlot>,
    /// Log of the shards' replicas; `None` in `memory` durability.
    pub shard_wal: Option<Arc<WalSlot>>,
    /// Whose directory it is; `None` in simulations, where nobody can put another one in its place.
    pub identity: Option<Arc<Identity>>,
    /// What is known of the disk.
    pub health: Arc<StorageHealth>,
    /// Replicas that are kept although they are served no more; past it the oldest are deleted.
    pub set_aside_replicas_max: usize,
}

impl NodeStorage {
    /// The logs, by name.
    pub fn slots(&self) -> impl Iterator<Item = &Arc<WalSlot>> {
        std::iter::once(&self.control_wal).chain(&self.shard_wal)
    }

    /// Closes the logs as they are.
    pub fn close(&self) {
        for slot in self.slots() {
            if let Err(error) = slot.close() {
                tracing::debug!(%error, log = slot.name(), "closed after a failure");
            }
        }
    }

    /// Bytes left on the disk.
    ///
    /// # Errors
    /// The device does not say.
    pub fn free_bytes(&self) -> io::Result<Option<u64>> {
        self.disk.free_bytes(&self.data_dir)
    }

    /// Sets the gauges of what is used.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn measure(&self, metrics: &Metrics, snapshots: [&SnapshotFiles; 2]) -> io::Result<()> {
        let mut logs = 0;
        for slot in self.slots() {
            logs += self.disk.used_bytes(&self.data_dir.join(slot.name()))?;
        }
        let mut files = 0;
        for snapshot in snapshots {
            files += snapshot.used_bytes()?;
        }
        let gauge = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        metrics.storage_log_bytes.set(gauge(logs));
        metrics.storage_snapshot_bytes.set(gauge(files));
        Ok(())
    }

    /// Opens the logs again if the disk takes writes, in the storage's next life.
    ///
    /// # Errors
    /// In words, why not: the disk is read-only, has less room than the reserve, is another one, or
    /// a log cannot be opened.
    pub fn try_heal(&self) -> Result<(), String> {
        if self.health.stall().is_some_and(|stall| stall.lost) {
            return self.remember_loss();
        }
        if let Some(identity) = &self.identity {
            identity.check().map_err(|error| error.to_string())?;
        }
        disk::probe(self.disk.as_ref(), &self.data_dir).map_err(|error| error.to_string())?;
        let free = self.free_bytes().map_err(|error| error.to_string())?;
        if let Some(low) = judge_room(false, free, self.reserve_bytes) {
            return Err(low.to_string());
        }
        // In case that pages were dropped which the device never took.
        self.drop_cached();
        self.health.next_life();
        for slot in self.slots() {
            if let Err(error) = slot.reopen() {
                self.close();
                return Err(error.to_string());
            }
        }
        Ok(())
    }

    fn drop_cached(&self) {
        for slot in self.slots() {
            let dir: &Path = &self.data_dir.join(slot.name());
            if let Err(error) = self.disk.drop_cached(dir) {
                // Some file systems do not know of it; what is read is then what was written.
                tracing::debug!(%error, log = slot.name(), "cached pages are not dropped");
            }
        }
    }

    /// Acknowledged writes may be lost: the next life of the process tells the cluster, and the
    /// replicas come back under new ids.
    fn remember_loss(&self) -> Result<(), String> {
        const RESTART: &str = "acknowledged writes that were not flushed may be lost: restart the \
            node, so that its replicas come back under new ids";
        if let Some(identity) = self.identity.as_ref().filter(|identity| !identity.loss_unnoted()) {
            identity
                .note_loss()
                .map_err(|error| format!("{RESTART} (and it is not noted: {error})"))?;
        }
        Err(RESTART.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_begins_below_the_reserve_and_ends_a_quarter_above_it() {
        let low = |before, free| judge_room(before, Some(free), 100).is_some();
        assert!(!low(false, 100) && low(false, 99));
        assert!(low(true, 124) && !low(true, 125));
        assert_eq!(judge_room(true, None, 100), None, "not known is not low");
        assert_eq!(judge_room(true, Some(0), 0), None, "0 looks at nothing");
        let text = judge_room(false, Some(7), 100).unwrap().to_string();
        assert_eq!(text, "7 bytes left, less than wal.reserve_bytes (100)");
    }

    #[tokio::test]
    async fn only_the_first_failure_of_the_present_life_counts() {
        let metrics = Metrics::new();
        let health = StorageHealth::new(Arc::clone(&metrics), false);
        let (first, twin) = (health.reporter(), health.reporter());
        assert!(!first.is_over());
        first.failed("log", "no room", io::ErrorKind::StorageFull);
        twin.failed("log", "another", io::ErrorKind::StorageFull);
        assert_eq!(health.stall(), Some(Stall { why: "no room".to_owned(), lost: false }));
        assert_eq!(metrics.storage_errors.with_label_values(&["log"]).get(), 1);
        assert_eq!(metrics.storage_stalled.get(), 1);
        first.over().await;
        health.still("read-only".to_owned());
        assert_eq!(health.stall().unwrap().why, "read-only");
        health.next_life();
        health.healed();
        assert_eq!((health.stall(), metrics.storage_stalled.get()), (None, 0));
        assert!(first.is_over() && !health.reporter().is_over());
        first.failed("log", "late", io::ErrorKind::StorageFull);
        assert_eq!(health.stall(), None, "what an earlier life says late counts no more");
    }

    #[test]
    fn only_what_was_acknowledged_before_its_flush_can_be_lost() {
        for (unflushed, kind, lost) in [
            (false, io::ErrorKind::Other, false),
            (true, io::ErrorKind::StorageFull, false),
            (true, io::ErrorKind::Other, true),
        ] {
            let health = StorageHealth::new(Metrics::new(), unflushed);
            health.reporter().failed("log", "x", kind);
            assert_eq!(health.stall().unwrap().lost, lost, "{unflushed} {kind}");
        }
    }
}
