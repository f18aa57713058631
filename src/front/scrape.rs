//! What `GET /metrics` does: brings the gauges up to date and renders them.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::{IntGaugeVec, TextEncoder};

use crate::service::{NodeStatus, ReplicaStatus};
use crate::types::metrics::Metrics;
use crate::types::task;

/// Renders the metrics of a node.
#[derive(Debug)]
pub struct Scrape {
    /// Held while gauges are refreshed and rendered, so that no scrape sees another's half-done
    /// work. Std-like: nothing awaits under it.
    metrics: Mutex<Arc<Metrics>>,
}

impl Scrape {
    /// Renders `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Scrape { metrics: Mutex::new(metrics) }
    }

    /// The metrics in the text format of Prometheus, with `status` in the gauges of shards.
    ///
    /// # Errors
    /// If a metric cannot be encoded, which is a fault of this program.
    pub fn render(&self, status: &NodeStatus) -> Result<String, prometheus::Error> {
        let metrics = self.metrics.lock();
        metrics.panics.inc_by(task::panics().saturating_sub(metrics.panics.get()));
        // A replica that left this node must not linger.
        for gauges in shard_gauges(&metrics) {
            gauges.reset();
        }
        metrics.evictions.reset();
        metrics.expirations.reset();
        for replica in &status.replicas {
            refresh(&metrics, replica);
        }
        TextEncoder::new().encode_to_string(&metrics.registry.gather())
    }
}

fn shard_gauges(metrics: &Metrics) -> [&IntGaugeVec; 7] {
    [
        &metrics.shard_leader,
        &metrics.shard_term,
        &metrics.shard_applied,
        &metrics.shard_lag,
        &metrics.shard_bytes,
        &metrics.shard_keys,
        &metrics.shard_log_bytes,
    ]
}

fn refresh(metrics: &Metrics, replica: &ReplicaStatus) {
    let shard = match replica.group.shard() {
        Some(shard) => shard.0.to_string(),
        None => "controller".to_owned(),
    };
    let values = [
        u64::from(replica.role == "leader"),
        replica.term,
        replica.applied_index,
        replica.last_index.saturating_sub(replica.applied_index),
        replica.bytes,
        replica.keys,
        replica.log_bytes,
    ];
    for (gauges, value) in shard_gauges(metrics).into_iter().zip(values) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        gauges.with_label_values(&[&shard]).set(value);
    }
    if replica.group.shard().is_some() {
        metrics.evictions.with_label_values(&[&shard]).inc_by(replica.evictions);
        metrics.expirations.with_label_values(&[&shard]).inc_by(replica.expirations);
    }
}
