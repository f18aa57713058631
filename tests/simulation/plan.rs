//! What a seed decides about a run.

use std::ops::Range;
use std::time::Duration;

use raftcache::types::random::Random;

pub use crate::mutants::Bug;

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub bug: Bug,
    pub nodes: u64,
    pub shards: u16,
    /// The shards' logs survive a crash; otherwise a node that crashes loses its replicas.
    pub durable: bool,
    /// Lease reads use the lease.
    pub lease_reads: bool,
    pub delay: Range<Duration>,
    pub drop_probability: f64,
    pub reorder: bool,
    /// Of one flush of the log.
    pub flush: Duration,
    pub snapshot_log_bytes: u64,
    /// Wall clocks differ by up to this many milliseconds from the true time, each way.
    pub clocks_differ_ms: u64,
    pub clients: u32,
    pub keys: u64,
    pub faults: u32,
}

impl Plan {
    pub fn new(seed: u64, bug: Bug) -> Self {
        let mut random = Random::new(seed ^ 0x91a4);
        let mut one_in = |n: u64| random.bits().is_multiple_of(n);
        let nodes = match seed % 25 {
            10 => 1,
            20 => 5,
            _ => 3,
        };
        let three = bug != Bug::None;
        let durable = match bug {
            Bug::None => nodes == 1 || !one_in(4),
            Bug::LostReplicaIds => false,
            _ => true,
        };
        let reorder = one_in(3);
        let lossy = one_in(3);
        let slow = one_in(2);
        let compacts = one_in(3);
        let lease_reads = one_in(2);
        let far_apart = one_in(2);
        let low = Duration::from_micros(100);
        let high = Duration::from_millis(if slow { 5 } else { 1 });
        let leaps = bug.looks_for(Bug::MajorityClock) || bug.looks_for(Bug::RetryBeforeExpiry);
        Plan {
            seed,
            bug,
            nodes: if three { 3 } else { nodes },
            shards: 2 + (random.bits() % 3) as u16,
            durable,
            lease_reads,
            delay: low..high,
            drop_probability: if lossy { 0.01 } else { 0.0 },
            reorder,
            flush: Duration::from_millis(if bug == Bug::SkipFsync { 50 } else { 1 }),
            snapshot_log_bytes: if compacts { 2 * 1024 } else { 8 << 20 },
            clocks_differ_ms: if far_apart && leaps { 3_600_000 } else { 10_000 },
            clients: 4,
            keys: 3 + random.bits() % 4,
            faults: bug.faults(),
        }
    }

    /// Whether the run brings the faults of a bug and judges what they do.
    pub fn looks_for(&self, bug: Bug) -> bool {
        self.bug.looks_for(bug)
    }
}
