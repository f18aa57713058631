//! Timing and size of the Raft layer.

use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

use crate::types::limits;

/// What an operator may change (config section `raft`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftSettings {
    /// Between two heartbeats of a leader, milliseconds.
    pub heartbeat_ms: u64,
    /// Shortest election time-out, milliseconds.
    pub election_ms_min: u64,
    /// Longest election time-out, milliseconds; also the leader lease.
    pub election_ms_max: u64,
    /// Ask before an election whether it could be won (Ongaro 2014, section 9.6).
    pub pre_vote: bool,
    /// Let `Consistency::Lease` reads use the leader's lease; otherwise they use read index.
    pub lease_reads: bool,
    /// A replica snapshots when its log takes more than this many bytes, or more than half of what
    /// its machine holds, whichever is larger.
    pub snapshot_log_bytes: u64,
    /// Raft entries a batcher keeps in flight.
    pub batches_in_flight: usize,
    /// Appends in flight to one follower.
    pub appends_in_flight: usize,
    /// Operations queued at one group.
    pub group_queue_max: usize,
}

impl Default for RaftSettings {
    fn default() -> Self {
        RaftSettings {
            heartbeat_ms: 150,
            election_ms_min: 750,
            election_ms_max: 1500,
            pre_vote: true,
            lease_reads: false,
            snapshot_log_bytes: 8 * 1024 * 1024,
            batches_in_flight: limits::BATCHES_IN_FLIGHT_MAX,
            appends_in_flight: 4,
            group_queue_max: limits::GROUP_QUEUE_MAX,
        }
    }
}

impl RaftSettings {
    /// One full election time-out: how long a restarted replica neither votes nor campaigns.
    pub fn restart_guard(&self) -> Duration {
        Duration::from_millis(self.election_ms_max)
    }

    /// Oldest quorum acknowledgement a lease read accepts: 0.75 of the lease.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.election_ms_max * 3 / 4)
    }

    /// openraft's configuration. Log reversion stays off: a follower whose log shrank has lost
    /// acknowledged writes and must not be welcomed back.
    pub(super) fn openraft(&self, name: String) -> Result<Arc<Config>, openraft::ConfigError> {
        let config = Config {
            cluster_name: name,
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: self.election_ms_min,
            election_timeout_max: self.election_ms_max,
            // One timer a node beats for all its groups: see `heartbeat.rs`.
            enable_heartbeat: false,
            enable_elect: false,
            enable_pre_vote: Some(self.pre_vote),
            allow_log_reversion: Some(false),
            enable_leader_restore: Some(false),
            api_batch_linger_ms: 0,
            // The compactor decides by bytes: see `compactor.rs`.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            max_payload_entries: 300,
            install_snapshot_timeout: 20_000,
            backoff: "20ms 40ms 80ms ...500ms".to_owned(),
            ..Config::default()
        };
        Ok(Arc::new(config.validate()?))
    }
}
