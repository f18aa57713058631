//! Watches the node's disk: hands leaderships over while there is little room, stops everything
//! durable when the disk fails, and starts it again when the disk takes writes.
//!
//! What runs again goes the way of a process that crashed and was started again: the logs are opened
//! and checked, the replicas recover under their old ids and keep still for one election time-out.
//! See `docs/adr/0009-a-disk-that-fails.md`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::host::Host;
use crate::storage::disk::offload;
use crate::storage::health::LowRoom;
use crate::types::clock::{Instant, now};

/// How often the room is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Looks between two measurements of what is used.
const LOOKS_PER_MEASUREMENT: u32 = 10;
/// Looks with little room before leaderships are handed over: by then the other nodes have said
/// whether their disks are full as well, and nothing is handed to one of those.
const LOOKS_BEFORE_SHEDDING: u32 = 2;
/// Longest all hand-overs of one look may take.
const HAND_OVER: Duration = Duration::from_secs(2);
/// First pause between two attempts to use a failed disk; it doubles.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// Longest such pause.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// A disk that fails again within this time is not tried as soon as the first time.
const STEADY: Duration = Duration::from_secs(30);

/// Runs until cancelled.
pub(super) async fn run(host: Arc<Host>, cancel: CancellationToken) {
    let mut health = host.storage.health.watch();
    let (mut looks, mut low_looks) = (0u32, 0u32);
    let (mut pause, mut healed): (Duration, Option<Instant>) = (RETRY_MIN, None);
    loop {
        if host.storage.health.stall().is_some() {
            if healed.is_none_or(|at| now() >= at + STEADY) {
                pause = RETRY_MIN;
            }
            if cancel.run_until_cancelled(restart(&host, &mut pause)).await.is_none() {
                return;
            }
            (low_looks, healed) = (0, Some(now()));
        }
        let measure = looks.is_multiple_of(LOOKS_PER_MEASUREMENT);
        looks = looks.wrapping_add(1);
        let low = look(&host, measure).await;
        low_looks = if low.is_some() { low_looks.saturating_add(1) } else { 0 };
        let shed = tell(&host, low, low_looks > LOOKS_BEFORE_SHEDDING);
        if cancel.run_until_cancelled(shed).await.is_none() {
            return;
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            // The sender lives as long as the host.
            _ = health.wait_for(|health| health.stall.is_some()) => {}
            () = sleep(LOOK) => {}
        }
    }
}

/// Looks at the room.
async fn look(host: &Arc<Host>, measure: bool) -> Option<LowRoom> {
    let at = Arc::clone(host);
    let looked = offload(&host.storage.disk, move || {
        let storage = &at.storage;
        let measured = match measure {
            true => storage.measure(&at.metrics, [&at.shard_files, &at.control_files]),
            false => Ok(()),
        };
        if let Err(error) = measured {
            tracing::warn!(%error, "cannot tell what the logs take");
        }
        storage.free_bytes()
    });
    match looked.await {
        Ok(free) => host.storage.health.see_room(free, host.storage.reserve_bytes),
        Err(error) => {
            tracing::warn!(%error, "cannot tell how much room the disk has");
            None
        }
    }
}

/// Tells the durable replicas how it stands. Those in memory outlive the disk.
async fn tell(host: &Host, low: Option<LowRoom>, shed: bool) {
    let reserve = low.map(|low| low.reserve_bytes);
    let deadline = now() + HAND_OVER;
    let groups = if host.durable() { host.registry.all() } else { Vec::new() };
    let replicas = groups.iter().map(|(_, group)| group.replica());
    let tell_one =
        |replica| crate::raft::replica::Replica::see_room(replica, reserve, shed, deadline);
    join_all(replicas.map(tell_one)).await;
    if let Some(replica) = host.controller_replica() {
        replica.see_room(reserve, shed, deadline).await;
    }
}

/// Stops everything durable, waits until the disk can be used, and opens the logs again. The driver
/// and the controller then start the replicas.
async fn restart(host: &Arc<Host>, pause: &mut Duration) {
    let storage = &host.storage;
    let stopped = if host.durable() { host.stop_all(false).await } else { 0 };
    let stopped = stopped + usize::from(host.control_storage.lock().is_some());
    host.stalled.store(stopped, Ordering::Relaxed);
    tracing::warn!(stopped, "durable replicas stopped: this node only forwards");
    loop {
        sleep(*pause).await;
        *pause = (*pause * 2).min(RETRY_MAX);
        let at = Arc::clone(host);
        let tried = offload(&storage.disk, move || {
            at.storage.close();
            at.storage.try_heal().and_then(|()| at.sweep().map_err(|error| error.to_string()))
        });
        match tried.await {
            Ok(()) => break,
            Err(why) => storage.health.still(why),
        }
        look(host, false).await;
    }
    host.stalled.store(0, Ordering::Relaxed);
    storage.health.healed();
}

impl Host {
    /// Removes half-written snapshots of replicas that do not run. Blocks on the device.
    fn sweep(&self) -> Result<(), crate::storage::snapshot_files::Error> {
        if self.durable() {
            self.shard_files.sweep()?;
        }
        self.control_files.sweep()
    }
}
