//! `raftcache serve`: one node.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use raftcache::config::{self, Override, Sources};

use super::{signals, wiring};

/// Flags win over RAFTCACHE_* variables, those over the file, that over the defaults.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// TOML file; see docs/configuration.md for the keys
    #[arg(long, value_name = "FILE", env = "RAFTCACHE_CONFIG")]
    config: Option<PathBuf>,
    /// Show the configuration that holds and where each value came from, then exit
    #[arg(long)]
    print_config: bool,
    /// Number of this node, unique in the cluster
    #[arg(long, value_name = "N")]
    node_id: Option<String>,
    /// Failure domain of this node
    #[arg(long)]
    zone: Option<String>,
    /// Directory for logs and snapshots
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Address for gRPC clients
    #[arg(long, value_name = "IP:PORT")]
    grpc: Option<String>,
    /// Address for operators' HTTP
    #[arg(long, value_name = "IP:PORT")]
    http: Option<String>,
    /// Address for clients of Redis
    #[arg(long, value_name = "IP:PORT")]
    resp: Option<String>,
    /// Address for other nodes
    #[arg(long, value_name = "IP:PORT")]
    peer: Option<String>,
    /// Peer addresses of the nodes that form the cluster
    #[arg(long, value_name = "HOST:PORT,...")]
    seeds: Option<String>,
    /// Nodes to wait for before the cluster forms
    #[arg(long, value_name = "N")]
    expected_nodes: Option<String>,
    /// Shards of the cluster
    #[arg(long, value_name = "N")]
    shards: Option<String>,
    /// Replicas of each shard: 1, 3 or 5
    #[arg(long, value_name = "N")]
    replicas: Option<String>,
    /// Logical bytes a shard may hold
    #[arg(long, value_name = "BYTES")]
    shard_bytes_max: Option<String>,
    /// memory, wal or wal-async
    #[arg(long, value_name = "MODE")]
    durability: Option<String>,
    /// Start in memory on a directory that holds logs: these are moved to its subdirectory set-aside
    #[arg(long)]
    discard_logs: bool,
    /// auto, human or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// For example info,raftcache::raft=debug
    #[arg(long, value_name = "DIRECTIVES")]
    log_filter: Option<String>,
    /// Any other key, for example --set raft.heartbeat_ms=100
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

fn key_value(input: &str) -> Result<(String, String), String> {
    match input.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("not KEY=VALUE".to_owned()),
    }
}

impl Args {
    fn overrides(&self) -> Vec<Override> {
        let named = [
            ("--node-id", "node.id", &self.node_id),
            ("--zone", "node.zone", &self.zone),
            ("--data-dir", "node.data_dir", &self.data_dir),
            ("--grpc", "listen.grpc", &self.grpc),
            ("--http", "listen.http", &self.http),
            ("--resp", "listen.resp", &self.resp),
            ("--peer", "listen.peer", &self.peer),
            ("--seeds", "cluster.seeds", &self.seeds),
            ("--expected-nodes", "cluster.expected_nodes", &self.expected_nodes),
            ("--shards", "cluster.shards", &self.shards),
            ("--replicas", "cluster.replicas", &self.replicas),
            ("--shard-bytes-max", "cluster.shard_bytes_max", &self.shard_bytes_max),
            ("--durability", "durability", &self.durability),
            ("--log-format", "log.format", &self.log_format),
            ("--log-filter", "log.filter", &self.log_filter),
        ];
        let named = named.into_iter().filter_map(|(flag, key, value)| {
            let value = value.clone()?;
            Some(Override { flag: flag.to_owned(), key: key.to_owned(), value })
        });
        let set = self.set.iter().map(|(key, value)| Override {
            flag: format!("--set {key}"),
            key: key.clone(),
            value: value.clone(),
        });
        let discard = self.discard_logs.then(|| Override {
            flag: "--discard-logs".to_owned(),
            key: "wal.discard_logs".to_owned(),
            value: "true".to_owned(),
        });
        named.chain(discard).chain(set).collect()
    }
}

/// Reads the configuration, then runs the node until a signal.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let sources =
        Sources { file: args.config.clone(), env: config::environment(), flags: args.overrides() };
    let loaded = config::load(&sources)?;
    if args.print_config {
        for warning in &loaded.warnings {
            eprintln!("warning: {warning}");
        }
        print!("{}", loaded.render());
        return Ok(ExitCode::SUCCESS);
    }
    raftcache::telemetry::init(&loaded.config.log).context("cannot set up logging")?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    raftcache::node::open_files::raise(std::slice::from_ref(&loaded.config));
    let runtime = loaded.config.runtime.clone();
    signals::run_until_signal(&runtime, |cancel| wiring::serve(loaded.config, cancel))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_value_splits_at_the_first_equals_sign() {
        assert_eq!(key_value("a.b=c=d"), Ok(("a.b".to_owned(), "c=d".to_owned())));
        assert!(key_value("a.b").is_err());
        assert!(key_value("=c").is_err());
    }
}
