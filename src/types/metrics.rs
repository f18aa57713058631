//! Every metric of a node, registered once. Names follow the Prometheus conventions.

use std::sync::Arc;

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// Handles to all metrics; cheap to share.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// What `/metrics` renders.
    pub registry: Registry,
    /// Reads that found a value.
    pub hits: IntCounter,
    /// Reads that found none.
    pub misses: IntCounter,
    /// Sets that took effect, counted at the leader.
    pub sets: IntCounter,
    /// Deletes that found their key, counted at the leader.
    pub deletes: IntCounter,
    /// Operations that callers of this node asked for and that passed the checks, by name.
    pub operations: IntCounterVec,
    /// Cache entries evicted by this node's replicas, by shard.
    pub evictions: IntCounterVec,
    /// Cache entries expired and reaped by this node's replicas, by shard.
    pub expirations: IntCounterVec,
    /// Seconds from call to answer, by operation and outcome.
    pub request_seconds: HistogramVec,
    /// Open client connections, by door.
    pub connections: IntGaugeVec,
    /// Requests being worked on.
    pub in_flight: IntGauge,
    /// Requests refused by a limit, by limit.
    pub refused: IntCounterVec,
    /// Connections closed by a limit of this node, by reason.
    pub connections_closed: IntCounterVec,
    /// Seconds operations waited, by queue.
    pub queue_delay: HistogramVec,
    /// Operations forwarded to another node.
    pub forwarded: IntCounter,
    /// Operations tried again inside the node.
    pub retried: IntCounter,
    /// 1 if this node leads the shard.
    pub shard_leader: IntGaugeVec,
    /// 1 if a majority of the shard's replicas was heard of lately.
    pub shard_has_quorum: IntGaugeVec,
    /// Seconds since a majority of the shard's replicas was heard of.
    pub shard_quorum_age: GaugeVec,
    /// Leaders that a replica of this node has seen, by shard.
    pub leader_changes: IntCounterVec,
    /// 1 if this node serves requests for every shard.
    pub node_ready: IntGauge,
    /// Other nodes that are connected.
    pub peers_connected: IntGauge,
    /// Raft term, by shard.
    pub shard_term: IntGaugeVec,
    /// Last applied index, by shard.
    pub shard_applied: IntGaugeVec,
    /// Entries between last log index and applied, by shard.
    pub shard_lag: IntGaugeVec,
    /// Logical bytes held, by shard.
    pub shard_bytes: IntGaugeVec,
    /// Cache entries held, by shard.
    pub shard_keys: IntGaugeVec,
    /// Bytes of log kept in memory, by shard.
    pub shard_log_bytes: IntGaugeVec,
    /// How often the shard's group began, from 1: more says that it lost everything (INV-7).
    pub shard_generation: IntGaugeVec,
    /// Alarms that nobody has acknowledged, by kind.
    pub alarms_active: IntGaugeVec,
    /// Operations in one Raft entry.
    pub batch_writes: Histogram,
    /// Seconds of one flush of the write-ahead log.
    pub flush_seconds: Histogram,
    /// Log records in one flush.
    pub flush_records: Histogram,
    /// Replicas of this node, and of peers that it leads, that are lost: their log is shorter than
    /// what they acknowledged.
    pub replicas_shortened: IntGauge,
    /// 1 while the durable replicas of this node stand still because its disk failed.
    pub storage_stalled: IntGauge,
    /// 1 while the disk has less room than `wal.reserve_bytes`.
    pub storage_low: IntGauge,
    /// Failures of the disk, by what could not be written.
    pub storage_errors: IntCounterVec,
    /// Room left on the disk of the data directory, bytes.
    pub storage_free_bytes: IntGauge,
    /// What the logs take on the disk, bytes.
    pub storage_log_bytes: IntGauge,
    /// What the snapshots take on the disk, bytes.
    pub storage_snapshot_bytes: IntGauge,
    /// Answers to `get_or_lease`, counted at the leader, by what they are.
    pub lease_answers: IntCounterVec,
    /// Reads served by one read barrier.
    pub barrier_reads: Histogram,
    /// Touches attached to batches.
    pub touches: IntCounter,
    /// Bytes of touches in batches.
    pub touch_bytes: IntCounter,
    /// Bytes of batches.
    pub batch_bytes: IntCounter,
    /// Messages to peers, each carrying one or more frames.
    pub peer_messages: IntCounter,
    /// Frames to peers.
    pub peer_frames: IntCounter,
    /// Replicas whose digest differed from the leader's (INV-3): must stay 0.
    pub digest_mismatches: IntCounter,
    /// Panics caught in tasks.
    pub panics: IntCounter,
}

fn register<C: prometheus::core::Collector + Clone + 'static>(registry: &Registry, metric: C) -> C {
    registry.register(Box::new(metric.clone())).expect("each metric name is registered once");
    metric
}

fn latency_buckets() -> Vec<f64> {
    vec![
        0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
        0.5, 1.0, 2.5, 5.0, 10.0,
    ]
}

impl Metrics {
    /// A fresh registry with every metric at zero.
    pub fn new() -> Arc<Self> {
        let r = Registry::new();
        let counter = |name: &str, help: &str| {
            register(&r, IntCounter::new(name, help).expect("valid metric"))
        };
        let gauge =
            |name: &str, help: &str| register(&r, IntGauge::new(name, help).expect("valid metric"));
        let counters = |name: &str, help: &str, label: &str| {
            register(&r, IntCounterVec::new(Opts::new(name, help), &[label]).expect("valid metric"))
        };
        let gauges = |name: &str, help: &str, label: &str| {
            register(&r, IntGaugeVec::new(Opts::new(name, help), &[label]).expect("valid metric"))
        };
        let histogram = |name: &str, help: &str, buckets: Vec<f64>| {
            let opts = HistogramOpts::new(name, help).buckets(buckets);
            register(&r, Histogram::with_opts(opts).expect("valid metric"))
        };
        let sizes = || prometheus::exponential_buckets(1.0, 2.0, 12).expect("valid buckets");
        let request_opts = HistogramOpts::new(
            "request_duration_seconds",
            "Seconds from call to answer, by operation and outcome",
        )
        .buckets(latency_buckets());
        let request_seconds = register(
            &r,
            HistogramVec::new(request_opts, &["operation", "outcome"]).expect("valid metric"),
        );
        let delay_opts =
            HistogramOpts::new("queue_delay_seconds", "Seconds operations waited, by queue")
                .buckets(latency_buckets());
        let queue_delay =
            register(&r, HistogramVec::new(delay_opts, &["queue"]).expect("valid metric"));
        let metrics = Metrics {
            hits: counter("cache_hits_total", "Reads that found a value"),
            misses: counter("cache_misses_total", "Reads that found none"),
            sets: counter("cache_sets_total", "Sets that took effect, counted at the leader"),
            deletes: counter("cache_deletes_total", "Deletes that found their key"),
            operations: counters(
                "cache_operations_total",
                "Operations asked for at this node",
                "operation",
            ),
            evictions: counters(
                "cache_evictions_total",
                "Cache entries evicted since the replica started",
                "shard",
            ),
            expirations: counters(
                "cache_expirations_total",
                "Cache entries expired since the replica started",
                "shard",
            ),
            request_seconds,
            connections: gauges("active_connections", "Open client connections", "door"),
            in_flight: gauge("requests_in_flight", "Requests being worked on"),
            refused: counters("requests_refused_total", "Requests refused by a limit", "limit"),
            connections_closed: counters(
                "connections_closed_total",
                "Client connections that this node closed by a limit",
                "reason",
            ),
            queue_delay,
            forwarded: counter("forwarded_requests_total", "Operations forwarded to another node"),
            retried: counter("retried_requests_total", "Operations tried again inside the node"),
            shard_leader: gauges("shard_leader", "1 if this node leads the shard", "shard"),
            shard_has_quorum: gauges(
                "shard_has_quorum",
                "1 if a majority of the replicas was heard of lately",
                "shard",
            ),
            shard_quorum_age: register(&r, {
                let help = "Seconds since a majority of the replicas was heard of";
                let opts = Opts::new("shard_quorum_age_seconds", help);
                GaugeVec::new(opts, &["shard"]).expect("valid metric")
            }),
            leader_changes: counters(
                "leader_changes_total",
                "Leaders seen by the replica of this node",
                "shard",
            ),
            node_ready: gauge("node_ready", "1 if this node serves requests for every shard"),
            peers_connected: gauge("peers_connected", "Other nodes that are connected"),
            shard_term: gauges("shard_term", "Raft term", "shard"),
            shard_applied: gauges("shard_applied_index", "Last applied log index", "shard"),
            shard_lag: gauges("shard_apply_lag", "Log entries not yet applied", "shard"),
            shard_bytes: gauges("shard_bytes", "Logical bytes held", "shard"),
            shard_keys: gauges("shard_keys", "Cache entries held", "shard"),
            shard_log_bytes: gauges("shard_log_bytes", "Bytes of log kept in memory", "shard"),
            shard_generation: gauges(
                "shard_generation",
                "How often the shard began empty; more than 1 says that it lost everything",
                "shard",
            ),
            alarms_active: gauges("alarms_active", "Alarms nobody has acknowledged", "kind"),
            batch_writes: histogram("batch_writes", "Operations in one Raft entry", sizes()),
            flush_seconds: histogram(
                "wal_flush_seconds",
                "Seconds of one flush",
                latency_buckets(),
            ),
            flush_records: histogram("wal_flush_records", "Log records in one flush", sizes()),
            replicas_shortened: gauge(
                "replicas_shortened",
                "Replicas known here whose log is shorter than what they acknowledged",
            ),
            storage_stalled: gauge("storage_stalled", "1 while the disk cannot be written"),
            storage_low: gauge("storage_low", "1 while the disk has less room than its reserve"),
            storage_errors: counters("storage_errors_total", "Failures of the disk", "what"),
            storage_free_bytes: gauge("storage_free_bytes", "Room left on the disk"),
            storage_log_bytes: gauge("storage_log_bytes", "Bytes of logs on the disk"),
            storage_snapshot_bytes: gauge("storage_snapshot_bytes", "Bytes of snapshots on disk"),
            lease_answers: counters(
                "lease_answers_total",
                "Answers of GetOrLease, counted at the leader",
                "answer",
            ),
            barrier_reads: histogram("read_barrier_reads", "Reads served by one barrier", sizes()),
            touches: counter("touches_total", "Touches attached to batches"),
            touch_bytes: counter("touch_bytes_total", "Bytes of touches in batches"),
            batch_bytes: counter("batch_bytes_total", "Bytes of batches proposed"),
            peer_messages: counter("peer_messages_total", "Messages sent to peers"),
            peer_frames: counter("peer_frames_total", "Frames sent to peers"),
            digest_mismatches: counter(
                "digest_mismatches_total",
                "Replicas that differed from their leader",
            ),
            panics: counter("task_panics_total", "Panics caught in tasks"),
            registry: r.clone(),
        };
        Arc::new(metrics)
    }
}
