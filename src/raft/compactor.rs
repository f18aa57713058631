//! Keeps the log bounded: snapshot when it takes too many bytes, then purge what the snapshot holds.
//!
//! openraft counts entries; ours carry anything from one small operation to a quarter of a
//! megabyte, so bytes decide.

use std::sync::Arc;
use std::time::Duration;

use openraft::Raft;

use super::builds::Builds;
use super::log_store::LogStore;
use super::machine::StateMachine;
use super::state_store::{SharedMachine, StateStore};
use super::types::TypeConfig;

/// A snapshot that takes longer is not waited for; the next growth of the log looks again.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause after a snapshot that could not be written: the disk must change first.
const GIVEN_UP_PAUSE: Duration = Duration::from_secs(2);

/// Longest until the log is looked at again although nothing was appended.
const LOOK: Duration = Duration::from_secs(1);

/// Bytes of log that start a snapshot, of a machine that holds `live` bytes.
pub fn budget(snapshot_log_bytes: u64, live: u64) -> u64 {
    snapshot_log_bytes.max(live / 2)
}

/// Bytes of log at which a leader proposes no more: a snapshot takes its time, and entries come
/// faster than it is written. Writes wait in their queue, whose callers have deadlines (INV-8).
pub fn leader_max(snapshot_log_bytes: u64, live: u64) -> u64 {
    2 * budget(snapshot_log_bytes, live)
}

/// Bytes of log at which a follower takes no more entries: its own snapshots may be slower than
/// its leader's. More than a leader's bound, so that equal replicas meet the leader's first.
pub fn follower_max(snapshot_log_bytes: u64, live: u64) -> u64 {
    3 * budget(snapshot_log_bytes, live)
}

/// Runs until dropped.
pub async fn run<M: StateMachine>(
    raft: Raft<TypeConfig, StateStore<M>>,
    log: LogStore,
    machine: SharedMachine<M>,
    log_bytes: u64,
    builds: Arc<Builds>,
) {
    loop {
        let live = machine.read().machine.live_bytes();
        // A log that is full grows no more, and what fills it may be applied only later.
        tokio::select! {
            biased;
            () = log.grown_over(budget(log_bytes, live)) => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        let (live, applied) = {
            let state = machine.read();
            (state.machine.live_bytes(), state.applied.map(|id| id.index))
        };
        let threshold = budget(log_bytes, live);
        if log.bytes() <= threshold {
            continue;
        }
        if raft.trigger().snapshot().await.is_err() {
            return;
        }
        let wait = raft.wait(Some(SNAPSHOT_TIMEOUT));
        let covered =
            wait.metrics(|m| m.snapshot.map(|id| id.index) >= applied, "snapshot for compaction");
        let covered = tokio::select! {
            biased;
            covered = covered => covered,
            () = builds.gave_up() => {
                tokio::time::sleep(GIVEN_UP_PAUSE).await;
                continue;
            }
        };
        let snapshot = match covered {
            Ok(metrics) => metrics.snapshot.map(|id| id.index),
            Err(error) => {
                tracing::warn!(%error, "snapshot for compaction not finished");
                continue;
            }
        };
        // Keep half as much log as starts a snapshot, for followers that are a little behind.
        if let (Some(snapshot), Some(candidate)) = (snapshot, log.purge_candidate(threshold / 2))
            && raft.trigger().purge_log(candidate.min(snapshot)).await.is_err()
        {
            return;
        }
    }
}
