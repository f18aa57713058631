//! Timing and size of the Raft layer.

use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

use super::leases::LeaseLimits;
use crate::core::queue_delay::DelayLimits;
use crate::types::limits;

/// Beyond the longest election time-out: how long nobody may be heard of before there is no quorum.
const NO_QUORUM_MARGIN: Duration = Duration::from_millis(500);
/// When it makes sense to try again without a quorum: a node that restarts takes longer.
pub(super) const NO_QUORUM_RETRY_AFTER: Duration = Duration::from_millis(1_000);

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
    /// Operations queued at one group; at least `batch_writes_max`.
    pub group_queue_max: usize,
    /// Bytes of operations queued at one group, not counting the unit that crosses the line.
    pub group_queue_bytes_max: usize,
    /// Operations in one Raft entry.
    pub batch_writes_max: usize,
    /// Bytes of operations in one Raft entry, not counting the one that crosses the line.
    pub batch_bytes_max: usize,
    /// How long operations may wait in a group's queue before some are refused.
    pub delay: DelayLimits,
    /// Who fills missing keys, and who waits for it.
    pub leases: LeaseLimits,
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
            group_queue_bytes_max: limits::GROUP_QUEUE_BYTES_MAX,
            batch_writes_max: limits::BATCH_WRITES_MAX,
            batch_bytes_max: limits::BATCH_BYTES_MAX,
            delay: DelayLimits::from_ms(
                limits::QUEUE_DELAY_TARGET_MS,
                limits::QUEUE_DELAY_INTERVAL_MS,
            ),
            leases: LeaseLimits::default(),
        }
    }
}

impl RaftSettings {
    /// One full election time-out: how long a restarted replica neither votes nor campaigns.
    pub fn restart_guard(&self) -> Duration {
        Duration::from_millis(self.election_ms_max)
    }

    /// No majority heard of for so long is no quorum: an election would be over by then, or have made
    /// the voters hear of each other.
    pub fn no_quorum_after(&self) -> Duration {
        Duration::from_millis(self.election_ms_max) + NO_QUORUM_MARGIN
    }

    /// Oldest quorum acknowledgement a lease read accepts: 0.75 of the lease.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.openraft_timeouts().1 * 3 / 4)
    }

    /// openraft's shortest and longest election time-out, milliseconds. It counts them from the end
    /// of the leader's lease, which is as long as its longest one; ours count from the last sign of
    /// life. So with its longest as half of ours, a follower campaigns after at least
    /// `election_ms_min` and at most `election_ms_max`.
    fn openraft_timeouts(&self) -> (u64, u64) {
        let lease = self.election_ms_max.div_ceil(2);
        (self.election_ms_min / 2, lease)
    }

    /// openraft's configuration. Log reversion stays off: a follower whose log shrank has lost
    /// acknowledged writes and must not be welcomed back.
    pub(super) fn openraft(&self, name: String) -> Result<Arc<Config>, openraft::ConfigError> {
        let (election_timeout_min, election_timeout_max) = self.openraft_timeouts();
        let config = Config {
            cluster_name: name,
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min,
            election_timeout_max,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openraft_is_configured_as_the_design_asks() {
        let config = RaftSettings::default().openraft("test".to_owned()).unwrap();
        assert_eq!(config.api_batch_linger_ms, 0, "the batcher batches before openraft");
        assert_eq!(
            config.allow_log_reversion,
            Some(false),
            "a shrunk log lost acknowledged writes"
        );
        assert_eq!(config.enable_leader_restore, Some(false), "a restarted leader is elected anew");
        assert_eq!(config.enable_pre_vote, Some(true));
        assert!(!config.enable_heartbeat, "the node's timer beats");
        assert!(!config.enable_elect, "not before the restart guard has passed");
        assert_eq!(config.snapshot_policy, SnapshotPolicy::Never, "the compactor decides");
    }

    #[test]
    fn a_lease_read_ends_before_a_follower_would_vote() {
        let settings = RaftSettings::default();
        let config = settings.openraft("test".to_owned()).unwrap();
        let lease = Duration::from_millis(config.election_timeout_max);
        assert!(settings.lease() * 4 <= lease * 3, "a quarter is left for clocks that drift");
        assert!(
            settings.restart_guard() >= lease,
            "a restarted voter outwaits any lease it forgot"
        );
    }

    #[test]
    fn a_follower_campaigns_between_the_two_time_outs_after_the_last_sign_of_life() {
        let settings = RaftSettings::default();
        let config = settings.openraft("g1".to_owned()).unwrap();
        let lease = config.election_timeout_max;
        assert!(lease + config.election_timeout_min >= settings.election_ms_min);
        assert!(lease + config.election_timeout_max <= settings.election_ms_max);
        assert!(settings.lease() < Duration::from_millis(lease), "a lease read ends before it");
        assert!(settings.restart_guard() >= Duration::from_millis(lease));
    }
}
