//! Golden output, precedence, environment and bad input of the configuration.

use std::path::PathBuf;

use super::*;

fn set(flag: &str, key: &str, value: &str) -> Override {
    Override { flag: flag.to_owned(), key: key.to_owned(), value: value.to_owned() }
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The least a cluster of one node needs.
fn lone_node() -> Vec<(String, String)> {
    env(&[
        ("RAFTCACHE_NODE__ID", "7"),
        ("RAFTCACHE_CLUSTER__EXPECTED_NODES", "1"),
        ("RAFTCACHE_CLUSTER__REPLICAS", "1"),
    ])
}

struct File {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn file(content: &str) -> File {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(&path, content).unwrap();
    File { _dir: dir, path }
}

fn malformed(sources: &Sources) -> String {
    match load(sources) {
        Err(error @ Error::Malformed(_)) => error.to_string(),
        other => panic!("expected a malformed configuration, got {other:?}"),
    }
}

fn invalid(sources: &Sources) -> Vec<Problem> {
    match load(sources) {
        Err(Error::Invalid(problems)) => problems,
        other => panic!("expected an invalid configuration, got {other:?}"),
    }
}

fn keys(problems: &[Problem]) -> Vec<&'static str> {
    problems.iter().map(|problem| problem.key).collect()
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let toml = file("[node]\nid = 1\nzone = \"file\"\n[raft]\nheartbeat_ms = 20\n");
    let mut environment = lone_node();
    environment.extend(env(&[("RAFTCACHE_NODE__ZONE", "environment")]));
    let mut sources = Sources { file: Some(toml.path.clone()), env: environment, flags: vec![] };
    let loaded = load(&sources).unwrap();
    assert_eq!(loaded.config.raft.heartbeat_ms, 20, "file over default");
    assert_eq!(loaded.config.node.id, 7, "environment over file");
    assert_eq!(loaded.config.node.zone, "environment");
    assert_eq!(loaded.config.raft.election_ms_min, 750, "default");

    sources.flags = vec![set("--zone", "node.zone", "flag"), set("--zone", "node.zone", "last")];
    let loaded = load(&sources).unwrap();
    assert_eq!(loaded.config.node.zone, "last", "flags over environment, the last flag wins");
    assert_eq!(loaded.origin("node.zone"), "flag --zone");
    assert_eq!(loaded.origin("node.id"), "environment RAFTCACHE_NODE__ID");
    assert_eq!(loaded.origin("raft.heartbeat_ms"), toml.path.display().to_string());
    assert_eq!(loaded.origin("raft.election_ms_min"), "default");
}

#[test]
fn printed_configuration_is_golden_and_reads_back() {
    let toml = file("durability = \"wal-async\"\n[node]\nzone = \"q\\\"b\\\\\"\n");
    let path = toml.path.display().to_string();
    let mut environment = lone_node();
    environment.extend(env(&[("RAFTCACHE_CLUSTER__SEEDS", "127.0.0.1:9001, b:9001")]));
    let flags = vec![set("--grpc", "listen.grpc", "127.0.0.1:7000")];
    let sources = Sources { file: Some(toml.path), env: environment, flags };
    let loaded = load(&sources).unwrap();
    let printed = loaded.render().replace(&path, "node.toml");
    assert_eq!(printed, include_str!("golden.toml"));

    let again = file(&printed);
    let sources = Sources { file: Some(again.path), ..Sources::default() };
    assert_eq!(load(&sources).unwrap().config, loaded.config);
}

#[test]
fn environment_takes_numbers_for_text_lists_and_our_names_only() {
    let mut environment = lone_node();
    environment.extend(env(&[
        ("RAFTCACHE_NODE__ZONE", "1"),
        ("RAFTCACHE_DURABILITY", "memory"),
        ("RAFTCACHE_CLUSTER__SEEDS", "[\"a:1\", \"[::1]:2\"]"),
        ("RAFTCACHE_RAFT__PRE_VOTE", "false"),
        // Set by Kubernetes for a service of this name; not ours.
        ("RAFTCACHE_PORT", "tcp://10.0.0.1:8080"),
        ("RAFTCACHE_SERVICE_HOST", "10.0.0.1"),
        ("HOME", "/root"),
    ]));
    let config = load(&Sources { env: environment, ..Sources::default() }).unwrap().config;
    assert_eq!(config.node.zone, "1");
    assert_eq!((config.durability, Durability::default()), (Durability::Memory, Durability::Wal));
    assert_eq!(config.cluster.seeds, ["a:1", "[::1]:2"]);
    assert!(!config.raft.pre_vote);
}

#[test]
fn unknown_keys_and_wrong_types_name_key_and_source() {
    let toml = file("[raft]\nheart_beat_ms = 1\n");
    let text = malformed(&Sources { file: Some(toml.path), ..Sources::default() });
    assert!(text.contains("heart_beat_ms") && text.contains("heartbeat_ms"), "{text}");
    assert!(text.contains("node.toml"), "{text}");

    let text =
        malformed(&Sources { env: env(&[("RAFTCACHE_NODE__ID", "seven")]), ..Sources::default() });
    assert!(text.contains("node.id") && text.contains("RAFTCACHE_NODE__ID"), "{text}");

    let flags = vec![set("--durability", "durability", "tape")];
    let text = malformed(&Sources { flags, ..Sources::default() });
    assert!(text.contains("wal-async") && text.contains("--durability"), "{text}");

    let flags = vec![set("--set wal.engine", "wal.engine", "tape")];
    let text = malformed(&Sources { flags, ..Sources::default() });
    assert!(text.contains("`sled`") && text.contains("`raft-engine`"), "{text}");

    let flags = vec![set("--set node.nonsense", "node.nonsense", "1")];
    let text = malformed(&Sources { flags, ..Sources::default() });
    assert!(text.contains("nonsense"), "{text}");

    let toml = file("this is not toml");
    malformed(&Sources { file: Some(toml.path), ..Sources::default() });
}

#[test]
fn a_missing_file_is_an_error_and_not_an_empty_one() {
    let sources = Sources { file: Some(PathBuf::from("/nowhere/node.toml")), ..Sources::default() };
    assert!(
        matches!(load(&sources), Err(Error::File { path, .. }) if path == "/nowhere/node.toml")
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let flags = vec![
        set("--set", "raft.heartbeat_ms", "300"),
        set("--set", "cluster.replicas", "2"),
        set("--set", "limits.key_bytes_max", "5000"),
    ];
    let problems = invalid(&Sources { flags, ..Sources::default() });
    assert_eq!(
        keys(&problems),
        [
            "node.id",
            "cluster.replicas",
            "cluster.seeds",
            "raft.election_ms_min",
            "limits.key_bytes_max"
        ]
    );
    let text = Error::Invalid(problems).to_string();
    assert!(text.contains("raft.election_ms_min: 750 is less than 3 heartbeats (900)"), "{text}");
    assert!(text.contains("limits.key_bytes_max: 5000 is not within 1..=4096"), "{text}");
}

/// Each line breaks one rule of a configuration that is valid otherwise.
const RULES: &[(&str, &str)] = &[
    ("node.id", "0"),
    ("node.zone", "\"\""),
    ("node.data_dir", "\"\""),
    ("advertise.grpc", "nocolon"),
    ("advertise.http", "host:0"),
    ("advertise.peer", "host:70000"),
    ("cluster.expected_nodes", "65"),
    ("cluster.shards", "0"),
    ("cluster.shards", "1025"),
    ("cluster.replicas", "4"),
    ("cluster.replicas", "3"),
    ("cluster.shard_bytes_max", "1000000"),
    ("cluster.shard_bytes_max", "18446744073709551615"),
    ("cluster.seeds", "[\"a:1\", \"a:1\"]"),
    ("cluster.seeds", "[\"a b:1\"]"),
    ("wal.flush_interval_ms", "0"),
    ("wal.reserve_bytes", "1099511627777"),
    ("raft.heartbeat_ms", "9"),
    ("raft.election_ms_min", "449"),
    ("raft.election_ms_max", "750"),
    ("raft.election_ms_max", "60001"),
    ("raft.snapshot_log_bytes", "1000"),
    ("raft.batches_in_flight", "0"),
    ("raft.appends_in_flight", "65"),
    ("peer.connect_timeout_ms", "9"),
    ("peer.backoff_ms_min", "501"),
    ("peer.backoff_ms_max", "60001"),
    ("peer.keepalive_interval_ms", "9"),
    ("peer.keepalive_timeout_ms", "60001"),
    ("limits.key_bytes_max", "0"),
    ("limits.value_bytes_max", "1048577"),
    ("limits.ttl_ms_max", "0"),
    ("limits.transaction_operations_max", "1025"),
    ("limits.transaction_bytes_max", "1572865"),
    ("limits.scan_keys_max", "0"),
    ("limits.forward_waiting_max", "0"),
    ("limits.locks_max", "1048577"),
    ("limits.lease_token_ms", "9"),
    ("limits.lease_tokens_max", "0"),
    ("limits.lease_keys_bytes_max", "0"),
    ("limits.lease_waiters_max", "1048577"),
    ("limits.lease_waiters_key_max", "16385"),
    ("limits.message_bytes_max", "1052672"),
    ("limits.message_bytes_max", "8388609"),
    ("limits.http_bodies_bytes_max", "4194303"),
    ("peer.queue_frames_max", "63"),
    ("peer.queue_bytes_max", "1000"),
    ("limits.connections_max", "0"),
    ("limits.connections_per_address_max", "0"),
    ("limits.connection_in_flight_max", "0"),
    ("limits.bytes_in_flight_max", "0"),
    ("limits.handshake_timeout_ms", "9"),
    ("limits.idle_timeout_ms", "9"),
    ("limits.stall_timeout_ms", "9"),
    ("limits.keepalive_interval_ms", "9"),
    ("limits.keepalive_timeout_ms", "9"),
    ("limits.streams_per_connection_max", "0"),
    ("limits.connection_replies_bytes_max", "0"),
    ("limits.replies_bytes_max", "67108863"),
    ("limits.requests_in_flight_max", "0"),
    ("limits.pipeline_in_flight_max", "65537"),
    ("limits.pipeline_bytes_max", "0"),
    ("limits.group_queue_max", "1023"),
    ("limits.group_queue_bytes_max", "262143"),
    ("limits.batch_writes_max", "0"),
    ("limits.batch_writes_max", "1025"),
    ("limits.batch_bytes_max", "262145"),
    ("limits.forward_queue_max", "0"),
    ("limits.forward_queue_bytes_max", "0"),
    ("limits.queue_delay_target_ms", "0"),
    ("limits.queue_delay_interval_ms", "0"),
    ("limits.door_delay_target_ms", "0"),
    ("limits.resp_arguments_max", "0"),
    ("limits.resp_bulk_bytes_max", "1048576"),
    ("limits.resp_request_bytes_max", "4194303"),
    ("limits.resp_inline_bytes_max", "63"),
    ("limits.resp_pipeline_max", "65537"),
    ("limits.resp_output_bytes_max", "0"),
    ("limits.resp_buffers_bytes_max", "16777215"),
    ("limits.resp_keys_bytes_max", "0"),
    ("limits.reads_reply_bytes_max", "0"),
    ("resp.readonly_staleness_ms", "0"),
    ("limits.deadline_ms_default", "0"),
    ("limits.deadline_ms_default", "60001"),
    ("limits.deadline_ms_max", "600001"),
    ("runtime.worker_threads", "1025"),
    ("runtime.watchdog_stall_ms", "999"),
    ("runtime.watchdog_abort_ms", "4999"),
    ("runtime.watchdog_abort_ms", "3600001"),
    ("shutdown.unready_ms", "60001"),
    ("shutdown.hand_over_ms", "60001"),
    ("shutdown.drain_ms", "600001"),
    ("log.filter", "a=b=c"),
];

#[test]
fn every_rule_is_enforced() {
    for (key, value) in RULES {
        let flags = vec![set("--set", key, value)];
        let problems = invalid(&Sources { env: lone_node(), flags, ..Sources::default() });
        assert!(keys(&problems).contains(key), "{key} = {value}: {problems:?}");
    }
}

#[test]
fn the_engine_of_the_log_is_printed_as_it_is_read() {
    let flags = vec![set("--set", "wal.engine", "raft-engine")];
    let loaded = load(&Sources { env: lone_node(), flags, ..Sources::default() }).unwrap();
    assert_eq!(loaded.config.wal.engine, WalEngine::RaftEngine);
    assert!(loaded.render().contains("engine = \"raft-engine\""), "{}", loaded.render());
}

#[test]
fn doors_must_not_share_a_port_and_wildcards_must_be_advertised() {
    let both = |key, value| {
        let flags = vec![set("--set", key, value)];
        invalid(&Sources { env: lone_node(), flags, ..Sources::default() })
    };
    assert_eq!(keys(&both("listen.http", "127.0.0.1:8080")), ["listen.http"]);
    assert_eq!(keys(&both("listen.resp", "127.0.0.1:8080")), ["listen.resp"]);
    assert_eq!(keys(&both("listen.peer", "0.0.0.0:9001")), ["advertise.peer"]);

    let flags = vec![
        set("--set", "listen.peer", "0.0.0.0:9001"),
        set("--set", "advertise.peer", "cache-0.cache:9001"),
    ];
    let loaded = load(&Sources { env: lone_node(), flags, ..Sources::default() }).unwrap();
    assert_eq!(loaded.config.advertised().peer, "cache-0.cache:9001");
    assert_eq!(loaded.config.advertised().grpc, "127.0.0.1:8080");
}

#[test]
fn seeds_without_oneself_are_a_warning() {
    let flags = vec![set("--seeds", "cluster.seeds", "a:9001,b:9001")];
    let loaded = load(&Sources { env: lone_node(), flags, ..Sources::default() }).unwrap();
    assert!(loaded.warnings.iter().any(|w| w.contains("127.0.0.1:9001")), "{:?}", loaded.warnings);
    assert_eq!(
        load(&Sources { env: lone_node(), ..Sources::default() }).unwrap().warnings,
        [""; 0]
    );
}

#[test]
fn the_configuration_for_tests_and_of_dev_are_valid() {
    Config::for_tests().validate().unwrap();
    let configs = dev::DevOptions::new(PathBuf::from("/tmp/x")).configs().unwrap();
    let doors: Vec<(u16, u16, u16)> = configs
        .iter()
        .map(|c| (c.listen.grpc.port(), c.listen.http.port(), c.listen.peer.port()))
        .collect();
    assert_eq!(doors, [(8080, 8081, 9001), (8082, 8083, 9002), (8084, 8085, 9003)]);
    assert!(configs.iter().all(|c| c.warnings().is_empty()));
    assert_eq!(configs[1].node.id, 2);
    assert_eq!(configs[1].cluster.seeds.len(), 3);
    assert_ne!(configs[0].node.data_dir, configs[1].node.data_dir);
}

#[test]
fn dev_refuses_shapes_that_cannot_be() {
    let new = || dev::DevOptions::new(PathBuf::from("/tmp/x"));
    assert!(dev::DevOptions { nodes: 0, ..new() }.configs().is_err());
    assert!(dev::DevOptions { nodes: 65, ..new() }.configs().is_err());
    assert!(dev::DevOptions { grpc_port: 65_534, ..new() }.configs().is_err());
    assert!(dev::DevOptions { http_port: 8080, ..new() }.configs().is_err());
    assert!(dev::DevOptions { shards: 0, ..new() }.configs().is_err());
    assert!(dev::DevOptions { nodes: 1, ..new() }.configs().is_ok());
}
