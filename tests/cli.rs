//! The command line as a user meets it: the real binary, with its own environment.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

#[path = "support/ports.rs"]
mod ports;

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use raftcache::types::clock::now;

fn raftcache(args: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_raftcache"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

const LONE: [&str; 4] = ["--expected-nodes", "1", "--replicas", "1"];

#[test]
fn print_config_shows_values_and_origins_and_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    std::fs::write(&file, "[node]\nzone = \"a\"\nid = 1\n").unwrap();
    let path = file.to_str().unwrap();
    let args = [&["serve", "--config", path, "--print-config", "--zone", "b"], &LONE[..]].concat();
    let output = raftcache(&args, &[("RAFTCACHE_NODE__ID", "2")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    let has = |setting: &str, origin: &str| {
        let mut lines = printed.lines();
        let found = lines.any(|line| line.starts_with(setting) && line.ends_with(origin));
        assert!(found, "{setting} from {origin} in:\n{printed}");
    };
    has("id = 2 ", "# from environment RAFTCACHE_NODE__ID");
    has("zone = \"b\" ", "# from flag --zone");
    has("heartbeat_ms = 150 ", "# from default");

    let output = raftcache(
        &[&["serve", "--print-config"], &LONE[..]].concat(),
        &[("RAFTCACHE_CONFIG", path)],
    );
    assert!(text(&output.stdout).contains(&format!("# from {path}")), "file by environment");
}

#[test]
fn a_bad_configuration_fails_with_every_problem() {
    let output = raftcache(&["serve", "--durability", "wal", "--set", "raft.heartbeat_ms=1"], &[]);
    assert!(!output.status.success());
    let said = text(&output.stderr);
    for key in ["node.id", "cluster.seeds", "raft.heartbeat_ms: 1 is not within 10..=10000"] {
        assert!(said.contains(key), "{key} in:\n{said}");
    }

    let output = raftcache(&["serve", "--config", "/nowhere.toml"], &[]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("/nowhere.toml"));

    let output = raftcache(&["dev", "--nodes", "0"], &[]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("--nodes"), "{}", text(&output.stderr));
}

#[test]
fn an_unreachable_node_is_an_error_and_not_an_answer() {
    // Port 1 of this machine: nobody listens.
    let commands = [&["get", "k"][..], &["set", "k", "v"], &["del", "k"], &["status"], &["health"]];
    for args in commands {
        let output = raftcache(&[args, &["--addr", "127.0.0.1:1"]].concat(), &[]);
        assert!(!output.status.success(), "{args:?}");
        assert!(text(&output.stdout).is_empty(), "{args:?}");
        assert!(text(&output.stderr).contains("127.0.0.1:1"), "{}", text(&output.stderr));
    }
}

/// `raftcache serve` in the background, killed when this is dropped.
struct Node(Child);

impl Node {
    fn start(ports: &[u16], extra: &[&str]) -> (Node, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let addr = |at: usize| format!("127.0.0.1:{}", ports[at]);
        let child = Command::new(env!("CARGO_BIN_EXE_raftcache"))
            .args(["serve", "--node-id", "1", "--grpc", &addr(0), "--http", &addr(1)])
            .args(["--peer", &addr(2), "--resp", &addr(4)])
            .args(["--data-dir", dir.path().to_str().unwrap()])
            .args(extra)
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        (Node(child), dir)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.0.kill().expect("it runs until here");
        self.0.wait().expect("it was started here");
    }
}

/// Asks again until `raftcache health` ends with `code` and says `said`.
fn health_says(http: &str, code: i32, said: &str) {
    let started = now();
    loop {
        let output = raftcache(&["health", "--addr", http], &[]);
        let shown = text(&output.stdout);
        if output.status.code() == Some(code) && shown.contains(said) {
            return;
        }
        assert!(
            now() - started < Duration::from_secs(120),
            "{:?} {shown} {}",
            output.status,
            text(&output.stderr)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn health_is_0_only_once_the_node_is_ready() {
    let ports = ports::free_ports(5, 1);
    let http = format!("127.0.0.1:{}", ports[1]);
    let seeds = format!("127.0.0.1:{},127.0.0.1:{}", ports[2], ports[3]);
    let waits = ["--seeds", &seeds, "--expected-nodes", "2", "--replicas", "1"];
    let (node, _dir) = Node::start(&ports, &waits);
    health_says(&http, 1, "not ready: ");
    drop(node);
    let gone = raftcache(&["health", "--addr", &http], &[]);
    assert_eq!(gone.status.code(), Some(1), "an unreachable node is not ready either");
    let (_node, _dir) = Node::start(&ports, &LONE);
    health_says(&http, 0, "ready\n");
}
