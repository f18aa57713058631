//! What a seed decides about a run.

use std::ops::Range;
use std::time::Duration;

use raftcache::types::random::Random;

/// A known bug that is put back, to see that the checker sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    None,
    /// The log acknowledges before it flushes.
    SkipFsync,
    /// A node that lost its logs starts again under its old replica ids.
    BlankRestart,
    /// Reads skip the barrier.
    StaleReads,
    /// A client uses a request id for two operations.
    ReusedRequestId,
    /// A client says of a write whose outcome is unknown that it was rejected.
    UnknownAsRejected,
}

impl Bug {
    pub fn skips_fsync(self) -> bool {
        self == Bug::SkipFsync
    }
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub bug: Bug,
    pub nodes: u64,
    pub shards: u16,
    /// The shards' logs survive a crash; otherwise no node crashes.
    pub durable: bool,
    pub delay: Range<Duration>,
    pub drop_probability: f64,
    pub reorder: bool,
    /// Of one flush of the log.
    pub flush: Duration,
    pub snapshot_log_bytes: u64,
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
        let durable = bug != Bug::None || nodes == 1 || !one_in(5);
        let reorder = one_in(3);
        let lossy = one_in(3);
        let slow = one_in(2);
        let compacts = one_in(3);
        let low = Duration::from_micros(100);
        let high = Duration::from_millis(if slow { 5 } else { 1 });
        Plan {
            seed,
            bug,
            nodes: if bug == Bug::None { nodes } else { 3 },
            shards: 2 + (random.bits() % 3) as u16,
            durable,
            delay: low..high,
            drop_probability: if lossy { 0.01 } else { 0.0 },
            reorder,
            flush: Duration::from_millis(if bug == Bug::SkipFsync { 50 } else { 1 }),
            snapshot_log_bytes: if compacts { 2 * 1024 } else { 8 << 20 },
            clients: 4,
            keys: 3 + random.bits() % 4,
            faults: 5,
        }
    }
}
