//! From the configuration to what each part of a node wants to know.

use std::time::Duration;

use super::core::NodeSettings;
use crate::config::{self, Config};
use crate::core::queue_delay::DelayLimits;
use crate::front::FrontLimits;
use crate::front::resp::options::{Redirect, RespLimits, RespOptions};
use crate::raft::leases::LeaseLimits;
use crate::raft::settings::RaftSettings;
use crate::service::{AdmissionLimits, ForwardLimits, Limits, Options};
use crate::transport::options::PeerOptions;
use crate::types::NodeId;

/// What the node itself is started with.
pub(super) fn settings(config: &Config) -> NodeSettings {
    let advertised = config.advertised();
    NodeSettings {
        node: NodeId(config.node.id),
        zone: config.node.zone.clone(),
        peer_addr: advertised.peer,
        grpc_addr: advertised.grpc,
        http_addr: advertised.http,
        resp_addr: advertised.resp,
        seeds: config.cluster.seeds.clone(),
        expected_nodes: usize::from(config.cluster.expected_nodes),
        shards: config.cluster.shards,
        replicas: config.cluster.replicas,
        shard_bytes_max: config.cluster.shard_bytes_max,
        raft: raft_settings(config),
        service: service_options(config),
    }
}

fn queue_delay(config: &Config) -> DelayLimits {
    let from = &config.limits;
    DelayLimits::from_ms(from.queue_delay_target_ms, from.queue_delay_interval_ms)
}

fn raft_settings(config: &Config) -> RaftSettings {
    let (raft, limits) = (&config.raft, &config.limits);
    RaftSettings {
        heartbeat_ms: raft.heartbeat_ms,
        election_ms_min: raft.election_ms_min,
        election_ms_max: raft.election_ms_max,
        pre_vote: raft.pre_vote,
        lease_reads: raft.lease_reads,
        snapshot_log_bytes: raft.snapshot_log_bytes,
        batches_in_flight: raft.batches_in_flight,
        appends_in_flight: raft.appends_in_flight,
        group_queue_max: limits.group_queue_max,
        group_queue_bytes_max: limits.group_queue_bytes_max,
        batch_writes_max: limits.batch_writes_max,
        batch_bytes_max: limits.batch_bytes_max,
        delay: queue_delay(config),
        leases: leases(config),
    }
}

fn leases(config: &Config) -> LeaseLimits {
    let from = &config.limits;
    LeaseLimits {
        token: Duration::from_millis(from.lease_token_ms),
        tokens_max: from.lease_tokens_max,
        keys_bytes_max: from.lease_keys_bytes_max,
        waiters_key_max: from.lease_waiters_key_max,
        waiters_max: from.lease_waiters_max,
    }
}

fn service_options(config: &Config) -> Options {
    let from = &config.limits;
    Options {
        admission: AdmissionLimits {
            in_flight_max: from.requests_in_flight_max,
            bytes_max: from.bytes_in_flight_max,
            delay: DelayLimits::from_ms(from.door_delay_target_ms, from.queue_delay_interval_ms),
        },
        limits: Limits {
            key_bytes_max: from.key_bytes_max,
            value_bytes_max: from.value_bytes_max,
            ttl_ms_max: from.ttl_ms_max,
            transaction_operations_max: from.transaction_operations_max,
            transaction_bytes_max: from.transaction_bytes_max,
            reads_reply_bytes_max: from.reads_reply_bytes_max,
            scan_keys_max: from.scan_keys_max,
            locks_max: from.locks_max,
        },
        forward: ForwardLimits {
            queue_max: from.forward_queue_max,
            queue_bytes_max: from.forward_queue_bytes_max,
            frame_operations_max: from.batch_writes_max,
            frame_bytes_max: from.batch_bytes_max,
            in_flight_max: config.raft.batches_in_flight,
            delay: queue_delay(config),
            waiting_max: from.forward_waiting_max,
        },
        ..Options::default()
    }
}

/// What the doors accept.
pub(super) fn front_limits(config: &Config) -> FrontLimits {
    let from = &config.limits;
    FrontLimits {
        key_bytes_max: from.key_bytes_max,
        value_bytes_max: from.value_bytes_max,
        ttl_ms_max: from.ttl_ms_max,
        message_bytes_max: from.message_bytes_max,
        http_bodies_bytes_max: from.http_bodies_bytes_max,
        pipeline_in_flight_max: from.pipeline_in_flight_max,
        pipeline_bytes_max: from.pipeline_bytes_max,
        deadline_ms_default: from.deadline_ms_default,
        deadline_ms_max: from.deadline_ms_max,
        connections_max: from.connections_max,
        connections_per_address_max: from.connections_per_address_max,
        replies_bytes_max: from.replies_bytes_max,
        connection_replies_bytes_max: from.connection_replies_bytes_max,
        streams_per_connection_max: from.streams_per_connection_max,
        connection_in_flight_max: from.connection_in_flight_max,
        handshake_timeout_ms: from.handshake_timeout_ms,
        idle_timeout_ms: from.idle_timeout_ms,
        stall_timeout_ms: from.stall_timeout_ms,
        keepalive_interval_ms: from.keepalive_interval_ms,
        keepalive_timeout_ms: from.keepalive_timeout_ms,
        shutdown_grace_ms: config.shutdown.drain_ms,
        resp: RespLimits {
            arguments_max: from.resp_arguments_max,
            bulk_bytes_max: from.resp_bulk_bytes_max,
            request_bytes_max: from.resp_request_bytes_max,
            inline_bytes_max: from.resp_inline_bytes_max,
            pipeline_max: from.resp_pipeline_max,
            output_bytes_max: from.resp_output_bytes_max,
            buffers_bytes_max: from.resp_buffers_bytes_max,
            operations_max: from.transaction_operations_max,
            operations_bytes_max: from.transaction_bytes_max,
            reads_reply_bytes_max: from.reads_reply_bytes_max,
            keys_bytes_max: from.resp_keys_bytes_max,
        },
    }
}

/// How the door for clients of Redis behaves.
pub(super) fn resp_options(config: &Config) -> RespOptions {
    let redirect = match config.resp.redirect {
        config::Redirect::Auto => Redirect::Auto,
        config::Redirect::Moved => Redirect::Moved,
        config::Redirect::Forward => Redirect::Forward,
    };
    RespOptions {
        node: NodeId(config.node.id),
        redirect,
        readonly_staleness_ms: config.resp.readonly_staleness_ms,
        debug: config.resp.debug_commands,
    }
}

/// How connections to other nodes are kept.
pub(super) fn peer_options(config: &Config) -> PeerOptions {
    let peer = &config.peer;
    PeerOptions {
        connect_timeout: Duration::from_millis(peer.connect_timeout_ms),
        backoff_min: Duration::from_millis(peer.backoff_ms_min),
        backoff_max: Duration::from_millis(peer.backoff_ms_max),
        keepalive_interval: Duration::from_millis(peer.keepalive_interval_ms),
        keepalive_timeout: Duration::from_millis(peer.keepalive_timeout_ms),
        queue_frames_max: peer.queue_frames_max,
        queue_bytes_max: peer.queue_bytes_max,
        ..PeerOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_all_parts_are_those_of_the_configuration() {
        let config = Config::default();
        assert_eq!(settings(&config).raft, RaftSettings::default());
        assert_eq!(settings(&config).service, Options::default());
        assert_eq!(front_limits(&config), FrontLimits::default());
        let (own, default) = (peer_options(&config), PeerOptions::default());
        assert_eq!(format!("{own:?}"), format!("{default:?}"));
    }

    /// The default configuration with another number in each of these sections' keys.
    fn numbered() -> Config {
        let mut json = serde_json::to_value(Config::default()).unwrap();
        let mut next = 1_000;
        for section in ["limits", "raft", "peer"] {
            for value in json[section].as_object_mut().unwrap().values_mut() {
                if value.is_number() {
                    *value = next.into();
                    next += 1;
                }
            }
        }
        serde_json::from_value(json).unwrap()
    }

    /// A key that is forgotten, or goes where another belongs, shows here.
    #[test]
    fn limits_of_the_configuration_arrive() {
        let config = numbered();
        let (from, raft) = (&config.limits, &config.raft);
        let queue = DelayLimits::from_ms(from.queue_delay_target_ms, from.queue_delay_interval_ms);
        let expected = RaftSettings {
            heartbeat_ms: raft.heartbeat_ms,
            election_ms_min: raft.election_ms_min,
            election_ms_max: raft.election_ms_max,
            pre_vote: raft.pre_vote,
            lease_reads: raft.lease_reads,
            snapshot_log_bytes: raft.snapshot_log_bytes,
            batches_in_flight: raft.batches_in_flight,
            appends_in_flight: raft.appends_in_flight,
            group_queue_max: from.group_queue_max,
            group_queue_bytes_max: from.group_queue_bytes_max,
            batch_writes_max: from.batch_writes_max,
            batch_bytes_max: from.batch_bytes_max,
            delay: queue,
            leases: leases(&config),
        };
        let node = settings(&config);
        assert_eq!(node.raft, expected);
        let told = format!("{:?} {:?} {:?}", node, front_limits(&config), peer_options(&config));
        let json = serde_json::to_value(&config).unwrap();
        for section in ["limits", "raft", "peer"] {
            for (key, value) in json[section].as_object().unwrap() {
                // Some are shown as seconds, or counted in microseconds.
                let Some(number) = value.as_u64() else { continue };
                let seconds = format!("{}.{:03}s", number / 1_000, number % 1_000);
                let seconds = seconds.trim_end_matches("0s").trim_end_matches('s').to_owned();
                let shown = [number.to_string(), (number * 1_000).to_string(), seconds];
                assert!(shown.iter().any(|s| told.contains(s)), "{section}.{key} = {number}");
            }
        }
    }
}
