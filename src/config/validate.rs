//! What must hold of a configuration, key by key and between keys. All problems are told at once.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use tracing_subscriber::EnvFilter;

use super::{Config, Durability};
use crate::types::limits;

/// Most nodes that form a cluster together.
const NODES_MAX: u16 = 64;
/// Longest zone name, bytes.
const ZONE_BYTES_MAX: usize = 64;
/// Longest `host:port`, bytes: RFC 1035 allows 253 for a host name.
const ADDRESS_BYTES_MAX: usize = 260;
/// A follower must be able to miss two heartbeats without campaigning.
const HEARTBEATS_PER_ELECTION_MIN: u64 = 3;

/// One thing that is wrong: the key, and what must hold of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// For example `raft.election_ms_min`.
    pub key: &'static str,
    /// For example `100 is less than 3 heartbeats (450)`.
    pub problem: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

/// Collects problems.
#[derive(Default)]
struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn that(&mut self, holds: bool, key: &'static str, problem: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(Problem { key, problem: problem() });
        }
    }

    fn range(&mut self, key: &'static str, value: u64, range: RangeInclusive<u64>) {
        self.that(range.contains(&value), key, || {
            format!("{value} is not within {}..={}", range.start(), range.end())
        });
    }

    fn range_usize(&mut self, key: &'static str, value: usize, range: RangeInclusive<usize>) {
        self.that(range.contains(&value), key, || {
            format!("{value} is not within {}..={}", range.start(), range.end())
        });
    }

    fn address(&mut self, key: &'static str, address: &str) {
        self.that(is_host_port(address), key, || {
            format!("{address:?} is not host:port with a port of 1..=65535")
        });
    }
}

/// True of `host:port` and `[v6]:port`; whether the host can be found is seen when connecting.
fn is_host_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    let spaced = address.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/');
    !host.is_empty()
        && !bare_v6
        && !spaced
        && address.len() <= ADDRESS_BYTES_MAX
        && port.parse::<u16>().is_ok_and(|port| port > 0)
}

impl Config {
    /// `Ok` if the configuration may be run, else every problem at once.
    pub fn validate(&self) -> Result<(), super::Error> {
        let problems = self.problems();
        if problems.is_empty() { Ok(()) } else { Err(super::Error::Invalid(problems)) }
    }

    /// Everything that is wrong; empty if the configuration may be run.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut check = Check::default();
        self.check_node(&mut check);
        self.check_addresses(&mut check);
        self.check_cluster(&mut check);
        self.check_raft(&mut check);
        self.check_peer(&mut check);
        self.check_limits(&mut check);
        self.check_connections(&mut check);
        self.check_resp(&mut check);
        self.check_queues(&mut check);
        self.check_rest(&mut check);
        check.problems
    }

    fn check_node(&self, check: &mut Check) {
        check.that(self.node.id >= 1, "node.id", || {
            "must be set, to at least 1 and unique in the cluster (file, RAFTCACHE_NODE__ID or \
             --node-id)"
                .to_owned()
        });
        let zone = &self.node.zone;
        check.that((1..=ZONE_BYTES_MAX).contains(&zone.len()), "node.zone", || {
            format!("is {} bytes long, not within 1..={ZONE_BYTES_MAX}", zone.len())
        });
        check.that(!zone.chars().any(char::is_control), "node.zone", || {
            "has control characters".to_owned()
        });
        check.that(!self.node.data_dir.as_os_str().is_empty(), "node.data_dir", || {
            "must not be empty".to_owned()
        });
    }

    fn check_addresses(&self, check: &mut Check) {
        let doors = [
            ("listen.grpc", self.listen.grpc, "advertise.grpc", &self.advertise.grpc),
            ("listen.http", self.listen.http, "advertise.http", &self.advertise.http),
            ("listen.resp", self.listen.resp, "advertise.resp", &self.advertise.resp),
            ("listen.peer", self.listen.peer, "advertise.peer", &self.advertise.peer),
        ];
        for (i, (listen_key, listen, advertise_key, advertise)) in doors.into_iter().enumerate() {
            if advertise.is_empty() {
                check.that(!listen.ip().is_unspecified(), advertise_key, || {
                    format!(
                        "must be set, because {listen_key} is {listen}, which others cannot reach"
                    )
                });
            } else {
                check.address(advertise_key, advertise);
            }
            for (other_key, other, ..) in &doors[..i] {
                check.that(!clash(listen, *other), listen_key, || {
                    format!("{listen} is taken by {other_key} ({other})")
                });
            }
        }
    }

    fn check_cluster(&self, check: &mut Check) {
        let cluster = &self.cluster;
        let nodes = cluster.expected_nodes;
        check.range("cluster.expected_nodes", u64::from(nodes), 1..=u64::from(NODES_MAX));
        let shards_max = u64::from(limits::SHARDS_MAX);
        check.range("cluster.shards", u64::from(cluster.shards), 1..=shards_max);
        check.that([1, 3, 5].contains(&cluster.replicas), "cluster.replicas", || {
            format!("{} is not 1, 3 or 5", cluster.replicas)
        });
        check.that(cluster.replicas <= nodes, "cluster.replicas", || {
            format!("{} is more than cluster.expected_nodes ({nodes})", cluster.replicas)
        });
        check.that(
            cluster.shard_bytes_max >= limits::SHARD_BYTES_MAX_FLOOR,
            "cluster.shard_bytes_max",
            || {
                format!(
                    "{} is less than {}",
                    cluster.shard_bytes_max,
                    limits::SHARD_BYTES_MAX_FLOOR
                )
            },
        );
        check.that(
            i64::try_from(cluster.shard_bytes_max).is_ok(),
            "cluster.shard_bytes_max",
            || format!("{} is more than {}", cluster.shard_bytes_max, i64::MAX),
        );
        let seeds = &cluster.seeds;
        check.that(seeds.len() <= usize::from(NODES_MAX), "cluster.seeds", || {
            format!("{} addresses are more than {NODES_MAX}", seeds.len())
        });
        check.that(nodes <= 1 || !seeds.is_empty(), "cluster.seeds", || {
            format!("must name the peer addresses, because cluster.expected_nodes is {nodes}")
        });
        for (i, seed) in seeds.iter().enumerate() {
            check.address("cluster.seeds", seed);
            check.that(!seeds[..i].contains(seed), "cluster.seeds", || {
                format!("{seed} is named twice")
            });
        }
    }

    fn check_raft(&self, check: &mut Check) {
        let raft = &self.raft;
        check.range("raft.heartbeat_ms", raft.heartbeat_ms, 10..=10_000);
        let floor = raft.heartbeat_ms.saturating_mul(HEARTBEATS_PER_ELECTION_MIN);
        check.that(raft.election_ms_min >= floor, "raft.election_ms_min", || {
            format!(
                "{} is less than {HEARTBEATS_PER_ELECTION_MIN} heartbeats ({floor})",
                raft.election_ms_min
            )
        });
        check.that(raft.election_ms_max > raft.election_ms_min, "raft.election_ms_max", || {
            format!(
                "{} is not above raft.election_ms_min ({})",
                raft.election_ms_max, raft.election_ms_min
            )
        });
        check.that(raft.election_ms_max <= 60_000, "raft.election_ms_max", || {
            format!("{} is more than 60000", raft.election_ms_max)
        });
        check.range("raft.snapshot_log_bytes", raft.snapshot_log_bytes, 1 << 20..=1 << 40);
        check.range_usize("raft.batches_in_flight", raft.batches_in_flight, 1..=64);
        check.range_usize("raft.appends_in_flight", raft.appends_in_flight, 1..=64);
    }

    fn check_peer(&self, check: &mut Check) {
        let peer = &self.peer;
        check.range("peer.connect_timeout_ms", peer.connect_timeout_ms, 10..=60_000);
        check.range("peer.backoff_ms_max", peer.backoff_ms_max, 1..=60_000);
        check.range("peer.backoff_ms_min", peer.backoff_ms_min, 1..=peer.backoff_ms_max);
        check.range("peer.keepalive_interval_ms", peer.keepalive_interval_ms, 10..=60_000);
        check.range("peer.keepalive_timeout_ms", peer.keepalive_timeout_ms, 10..=60_000);
        check.range_usize("peer.queue_frames_max", peer.queue_frames_max, 64..=1 << 20);
        let frames_bytes_max = 2 * limits::FRAME_BYTES_MAX..=1 << 30;
        check.range_usize("peer.queue_bytes_max", peer.queue_bytes_max, frames_bytes_max);
    }

    fn check_limits(&self, check: &mut Check) {
        let own = &self.limits;
        check.range_usize("limits.key_bytes_max", own.key_bytes_max, 1..=limits::KEY_BYTES_MAX);
        check.range_usize(
            "limits.value_bytes_max",
            own.value_bytes_max,
            1..=limits::VALUE_BYTES_MAX,
        );
        check.range("limits.ttl_ms_max", own.ttl_ms_max, 1..=limits::TTL_MS_MAX);
        let operations = own.transaction_operations_max;
        let operations_max = limits::TRANSACTION_OPERATIONS_MAX;
        check.range_usize("limits.transaction_operations_max", operations, 1..=operations_max);
        let (bytes, bytes_max) = (own.transaction_bytes_max, limits::TRANSACTION_BYTES_MAX);
        check.range_usize("limits.transaction_bytes_max", bytes, 1..=bytes_max);
        let (keys, keys_max) = (u64::from(own.scan_keys_max), u64::from(limits::SCAN_KEYS_MAX));
        check.range("limits.scan_keys_max", keys, 1..=keys_max);
        let item = own.key_bytes_max.saturating_add(own.value_bytes_max);
        check.that(own.message_bytes_max > item, "limits.message_bytes_max", || {
            format!(
                "{} is not above limits.key_bytes_max + limits.value_bytes_max ({item})",
                own.message_bytes_max
            )
        });
        check.that(
            own.message_bytes_max <= limits::FRAME_BYTES_MAX,
            "limits.message_bytes_max",
            || format!("{} is more than {}", own.message_bytes_max, limits::FRAME_BYTES_MAX),
        );
        let bodies = own.message_bytes_max..=1 << 40;
        check.range_usize("limits.http_bodies_bytes_max", own.http_bodies_bytes_max, bodies);
        check.range("limits.deadline_ms_max", own.deadline_ms_max, 1..=600_000);
        let default_ms = 1..=own.deadline_ms_max;
        check.range("limits.deadline_ms_default", own.deadline_ms_default, default_ms);
    }

    fn check_connections(&self, check: &mut Check) {
        let own = &self.limits;
        check.range_usize("limits.connections_max", own.connections_max, 1..=1_000_000);
        let per_address = own.connections_per_address_max;
        check.range_usize("limits.connections_per_address_max", per_address, 1..=1_000_000);
        let streams = u64::from(own.streams_per_connection_max);
        check.range("limits.streams_per_connection_max", streams, 1..=1 << 16);
        let of_connection = own.connection_replies_bytes_max;
        check.range_usize("limits.connection_replies_bytes_max", of_connection, 1..=1 << 40);
        let replies = of_connection..=1 << 40;
        check.range_usize("limits.replies_bytes_max", own.replies_bytes_max, replies);
        let in_flight = own.requests_in_flight_max;
        check.range_usize("limits.requests_in_flight_max", in_flight, 1..=1 << 20);
        check.range_usize("limits.bytes_in_flight_max", own.bytes_in_flight_max, 1..=1 << 40);
        let on_one = own.connection_in_flight_max;
        check.range_usize("limits.connection_in_flight_max", on_one, 1..=1 << 20);
        let pipeline = own.pipeline_in_flight_max;
        check.range_usize("limits.pipeline_in_flight_max", pipeline, 1..=1 << 16);
        check.that(pipeline <= in_flight, "limits.pipeline_in_flight_max", || {
            format!("{pipeline} is more than limits.requests_in_flight_max ({in_flight})")
        });
        check.that(pipeline <= on_one, "limits.pipeline_in_flight_max", || {
            format!("{pipeline} is more than limits.connection_in_flight_max ({on_one})")
        });
        check.range_usize("limits.pipeline_bytes_max", own.pipeline_bytes_max, 1..=1 << 30);
        check.range("limits.handshake_timeout_ms", own.handshake_timeout_ms, 10..=600_000);
        check.range("limits.idle_timeout_ms", own.idle_timeout_ms, 10..=86_400_000);
        check.range("limits.stall_timeout_ms", own.stall_timeout_ms, 10..=600_000);
        check.range("limits.keepalive_interval_ms", own.keepalive_interval_ms, 10..=3_600_000);
        check.range("limits.keepalive_timeout_ms", own.keepalive_timeout_ms, 10..=600_000);
    }

    fn check_resp(&self, check: &mut Check) {
        let own = &self.limits;
        check.range_usize("limits.resp_arguments_max", own.resp_arguments_max, 1..=1 << 20);
        let (bulk, request) = (own.resp_bulk_bytes_max, own.resp_request_bytes_max);
        let bulk_min = own.value_bytes_max.saturating_add(1);
        check.range_usize("limits.resp_bulk_bytes_max", bulk, bulk_min..=1 << 29);
        check.range_usize("limits.resp_request_bytes_max", request, bulk..=1 << 29);
        check.range_usize("limits.resp_inline_bytes_max", own.resp_inline_bytes_max, 64..=1 << 20);
        let pipeline_max = own.requests_in_flight_max.min(1 << 16);
        check.range_usize("limits.resp_pipeline_max", own.resp_pipeline_max, 1..=pipeline_max);
        let output = own.resp_output_bytes_max;
        check.range_usize("limits.resp_output_bytes_max", output, 1..=1 << 30);
        let buffers = own.resp_buffers_bytes_max;
        check.range_usize("limits.resp_buffers_bytes_max", buffers, request.max(output)..=1 << 40);
        check.range_usize("limits.resp_keys_bytes_max", own.resp_keys_bytes_max, 1..=1 << 30);
        check.range_usize("limits.reads_reply_bytes_max", own.reads_reply_bytes_max, 1..=1 << 30);
        let staleness = self.resp.readonly_staleness_ms;
        check.range("resp.readonly_staleness_ms", staleness, 1..=600_000);
    }

    fn check_queues(&self, check: &mut Check) {
        let own = &self.limits;
        // A frame of a peer is one unit, and peers may be configured otherwise.
        let unit = limits::BATCH_WRITES_MAX;
        check.range_usize("limits.group_queue_max", own.group_queue_max, unit..=1 << 20);
        let batch_bytes = own.batch_bytes_max;
        check.range_usize(
            "limits.group_queue_bytes_max",
            own.group_queue_bytes_max,
            batch_bytes..=1 << 30,
        );
        check.range_usize("limits.batch_writes_max", own.batch_writes_max, 1..=unit);
        check.range_usize("limits.batch_bytes_max", batch_bytes, 1..=limits::BATCH_BYTES_MAX);
        check.range_usize("limits.forward_queue_max", own.forward_queue_max, 1..=1 << 20);
        let forward_bytes = own.forward_queue_bytes_max;
        check.range_usize("limits.forward_queue_bytes_max", forward_bytes, 1..=1 << 30);
        check.range("limits.queue_delay_target_ms", own.queue_delay_target_ms, 1..=60_000);
        check.range("limits.queue_delay_interval_ms", own.queue_delay_interval_ms, 1..=60_000);
        check.range("limits.door_delay_target_ms", own.door_delay_target_ms, 1..=60_000);
        check.range("limits.locks_max", own.locks_max.into(), 0..=1 << 20);
        check.range("limits.lease_token_ms", own.lease_token_ms, 10..=600_000);
        check.range_usize("limits.lease_tokens_max", own.lease_tokens_max, 1..=1 << 20);
        check.range_usize("limits.lease_keys_bytes_max", own.lease_keys_bytes_max, 1..=1 << 30);
        let (waiters, others) = (own.lease_waiters_max, limits::FORWARD_WAITING_MAX);
        check.range_usize("limits.lease_waiters_max", waiters, 0..=1 << 20);
        check.range_usize("limits.lease_waiters_key_max", own.lease_waiters_key_max, 0..=waiters);
        check.range_usize("limits.forward_waiting_max", own.forward_waiting_max, 1..=others);
    }

    fn check_rest(&self, check: &mut Check) {
        let wal = &self.wal;
        check.range("wal.flush_interval_ms", wal.flush_interval_ms, 1..=10_000);
        check.range("wal.reserve_bytes", wal.reserve_bytes, 0..=1 << 40);
        check.range_usize("wal.set_aside_replicas_max", wal.set_aside_replicas_max, 1..=4096);
        check.range_usize("wal.set_aside_stores_max", wal.set_aside_stores_max, 1..=64);
        check.range_usize("runtime.worker_threads", self.runtime.worker_threads, 0..=1024);
        let (stall, abort) = (self.runtime.watchdog_stall_ms, self.runtime.watchdog_abort_ms);
        check.range("runtime.watchdog_stall_ms", stall, 1_000..=600_000);
        if abort > 0 {
            check.range("runtime.watchdog_abort_ms", abort, stall..=3_600_000);
        }
        check.range("shutdown.unready_ms", self.shutdown.unready_ms, 0..=60_000);
        check.range("shutdown.hand_over_ms", self.shutdown.hand_over_ms, 0..=60_000);
        check.range("shutdown.drain_ms", self.shutdown.drain_ms, 0..=600_000);
        if let Err(error) = EnvFilter::builder().parse(&self.log.filter) {
            check.that(false, "log.filter", || format!("{:?}: {error}", self.log.filter));
        }
    }

    /// What is allowed but probably not meant.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let (own, seeds) = (self.advertised().peer, &self.cluster.seeds);
        if !seeds.is_empty() && !seeds.contains(&own) {
            warnings.push(format!(
                "cluster.seeds does not contain this node's own peer address {own}: it will only \
                 join a cluster that others form"
            ));
        }
        if !seeds.is_empty() && seeds.len() < usize::from(self.cluster.expected_nodes) {
            warnings.push(format!(
                "cluster.seeds names {} of cluster.expected_nodes ({})",
                seeds.len(),
                self.cluster.expected_nodes
            ));
        }
        let largest = self.cluster.shard_bytes_max / 64;
        if self.limits.value_bytes_max as u64 > largest {
            warnings.push(format!(
                "limits.value_bytes_max is {}, but a shard of cluster.shard_bytes_max ({}) refuses \
                 cache entries above {largest} bytes",
                self.limits.value_bytes_max, self.cluster.shard_bytes_max
            ));
        }
        let interval = super::Wal::default().flush_interval_ms;
        if self.durability != Durability::WalAsync && self.wal.flush_interval_ms != interval {
            warnings.push("wal.flush_interval_ms counts only in durability wal-async".to_owned());
        }
        warnings
    }
}

/// True if both cannot be listened on at once.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && same_ip
}
