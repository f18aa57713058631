//! What is asked for, and what the callers share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;

use crate::front::pb;

/// Longest latency told apart, microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Which door.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// One gRPC call an operation.
    Unary,
    /// Bidirectional streams, one a connection.
    Pipeline,
}

/// Which system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// This one.
    Raftcache,
    /// etcd v3, over its gRPC calls `Put` and `Range`.
    Etcd,
}

/// Which operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only sets.
    Set,
    /// Only linearizable gets.
    Get,
    /// Nine gets to a set.
    Mixed,
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which system.
    pub target: Target,
    /// gRPC addresses, used in turns.
    pub addrs: Vec<String>,
    /// Which door.
    pub mode: Mode,
    /// Which operations.
    pub kind: Kind,
    /// Operations in flight, over all connections.
    pub callers: usize,
    /// Connections, over all addresses.
    pub connections: usize,
    /// Keys, chosen uniformly.
    pub keys: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Time before measuring.
    pub warmup: Duration,
    /// Time measured.
    pub duration: Duration,
}

impl Options {
    /// Names the option that makes no sense.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.addrs.is_empty(), "--addr: at least one address");
        anyhow::ensure!((1..=100_000).contains(&self.callers), "--callers: 1..=100000");
        anyhow::ensure!((1..=10_000).contains(&self.connections), "--connections: 1..=10000");
        anyhow::ensure!(self.keys > 0, "--keys: at least 1");
        Ok(())
    }
}

/// Counted by one caller.
#[derive(Debug)]
pub struct Tally {
    /// Latencies of successful operations, microseconds.
    pub latencies: Histogram<u64>,
    /// Failed operations while measuring.
    pub errors: u64,
    /// One of the failures.
    pub example: Option<String>,
}

impl Tally {
    pub(super) fn new() -> Self {
        let latencies = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
            .expect("the bounds are constants that fit");
        Tally { latencies, errors: 0, example: None }
    }
}

/// Shared by all callers.
#[derive(Debug)]
pub struct Shared {
    pub(super) options: Options,
    pub(super) value: Bytes,
    pub(super) measuring: AtomicBool,
    pub(super) stop: AtomicBool,
    pub(super) done: AtomicU64,
    pub(super) errors: AtomicU64,
}

impl Shared {
    pub(super) fn new(options: Options) -> Self {
        let value = Bytes::from(vec![b'v'; options.value_bytes]);
        Shared {
            options,
            value,
            measuring: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            done: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        }
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Counts one answered operation.
    pub(super) fn count(&self, tally: &mut Tally, latency: Duration, failed: Option<String>) {
        if !self.measuring.load(Ordering::Relaxed) {
            return;
        }
        if let Some(failure) = failed {
            tally.errors += 1;
            self.errors.fetch_add(1, Ordering::Relaxed);
            tally.example.get_or_insert(failure);
            return;
        }
        self.done.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_US_MAX);
        tally.latencies.saturating_record(micros.max(1));
    }

    pub(super) fn set(&self, key: u64) -> pb::SetRequest {
        pb::SetRequest {
            key_form: Some(pb::set_request::KeyForm::KeyBytes(key_bytes(key))),
            value_form: Some(pb::set_request::ValueForm::ValueBytes(self.value.clone())),
            ..pb::SetRequest::default()
        }
    }

    pub(super) fn get(key: u64) -> pb::GetRequest {
        pb::GetRequest {
            key_form: Some(pb::get_request::KeyForm::KeyBytes(key_bytes(key))),
            ..pb::GetRequest::default()
        }
    }

    /// Whether the operation that this random number stands for is a set.
    pub(super) fn is_set(&self, random: u64) -> bool {
        match self.options.kind {
            Kind::Set => true,
            Kind::Get => false,
            Kind::Mixed => (random >> 48).is_multiple_of(10),
        }
    }
}

pub(super) fn key_bytes(key: u64) -> Bytes {
    Bytes::from(format!("key-{key:012}"))
}
