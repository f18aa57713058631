//! What `GET /metrics` does: brings the gauges up to date and renders them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{IntGaugeVec, TextEncoder};

use crate::core::cluster::alarms::AlarmKind;
use crate::core::table::RoutingTable;
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

    /// The metrics in the text format of Prometheus, with `status` in the gauges of replicas and
    /// `table` in those of the cluster.
    ///
    /// # Errors
    /// If a metric cannot be encoded, which is a fault of this program.
    pub fn render(
        &self,
        status: &NodeStatus,
        table: &RoutingTable,
    ) -> Result<String, prometheus::Error> {
        let metrics = self.metrics.lock();
        metrics.panics.inc_by(task::panics().saturating_sub(metrics.panics.get()));
        // A replica that left this node must not linger.
        for gauges in shard_gauges(&metrics) {
            gauges.reset();
        }
        metrics.shard_quorum_age.reset();
        metrics.node_ready.set(i64::from(status.ready));
        let connected = i64::try_from(status.peers_connected).unwrap_or(i64::MAX);
        metrics.peers_connected.set(connected);
        metrics.evictions.reset();
        metrics.expirations.reset();
        for replica in &status.replicas {
            refresh(&metrics, replica);
        }
        refresh_cluster(&metrics, table);
        TextEncoder::new().encode_to_string(&metrics.registry.gather())
    }
}

fn refresh_cluster(metrics: &Metrics, table: &RoutingTable) {
    for (shard, placement) in &table.shards {
        let gauge = metrics.shard_generation.with_label_values(&[&shard.0.to_string()]);
        gauge.set(i64::from(placement.generation.0));
    }
    for kind in AlarmKind::ALL {
        let count = i64::try_from(table.alarms.count(kind)).unwrap_or(i64::MAX);
        metrics.alarms_active.with_label_values(&[kind.name()]).set(count);
    }
}

fn shard_gauges(metrics: &Metrics) -> [&IntGaugeVec; 8] {
    [
        &metrics.shard_leader,
        &metrics.shard_has_quorum,
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
        u64::from(replica.has_quorum),
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
    if let Some(age_ms) = replica.quorum_age_ms {
        let age = Duration::from_millis(age_ms).as_secs_f64();
        metrics.shard_quorum_age.with_label_values(&[&shard]).set(age);
    }
    if replica.group.shard().is_some() {
        metrics.evictions.with_label_values(&[&shard]).inc_by(replica.evictions);
        metrics.expirations.with_label_values(&[&shard]).inc_by(replica.expirations);
    }
}
