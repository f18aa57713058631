//! `raftcache dev`: a whole cluster on this machine.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use raftcache::config::dev::DevOptions;
use raftcache::config::{Config, Durability, Log, Runtime};
use raftcache::types::limits;

use super::{signals, wiring};

/// Shape of the cluster.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Nodes
    #[arg(long, value_name = "N", default_value_t = 3)]
    nodes: u16,
    /// Shards
    #[arg(long, value_name = "N", default_value_t = limits::SHARDS_DEFAULT)]
    shards: u16,
    /// What an acknowledged write has survived
    #[arg(long, value_enum, default_value = "memory")]
    durability: Mode,
    /// Parent of the nodes' directories; without it they are temporary and removed at the end
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// gRPC port of the first node; each next one has 2 more
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    grpc_port: u16,
    /// HTTP port of the first node; each next one has 2 more
    #[arg(long, value_name = "PORT", default_value_t = 8081)]
    http_port: u16,
    /// Port for clients of Redis of the first node; each next one has 1 more
    #[arg(long, value_name = "PORT", default_value_t = 7001)]
    resp_port: u16,
    /// Peer port of the first node; each next one has 1 more
    #[arg(long, value_name = "PORT", default_value_t = 9001)]
    peer_port: u16,
    /// Logical bytes a shard may hold
    #[arg(long, value_name = "BYTES", default_value_t = limits::SHARD_BYTES_MAX_DEFAULT)]
    shard_bytes_max: u64,
    /// Start in memory on directories that hold logs: these are moved to their subdirectory set-aside
    #[arg(long)]
    discard_logs: bool,
    /// Which log lines, for example info,raftcache::raft=debug
    #[arg(long, value_name = "DIRECTIVES", default_value = "info,openraft=error")]
    log_filter: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// In the memory of a majority
    Memory,
    /// Flushed to the disks of a majority
    Wal,
    /// Written by a majority, flushed every interval
    WalAsync,
}

impl From<Mode> for Durability {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Memory => Durability::Memory,
            Mode::Wal => Durability::Wal,
            Mode::WalAsync => Durability::WalAsync,
        }
    }
}

/// Runs the cluster until a signal.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let temporary = match &args.data_dir {
        Some(_) => None,
        None => Some(TemporaryDir::new()?),
    };
    let data_dir = match (&args.data_dir, &temporary) {
        (Some(dir), _) => dir.clone(),
        (None, Some(dir)) => dir.path().to_owned(),
        (None, None) => unreachable!("without a directory a temporary one was made"),
    };
    let options = DevOptions {
        nodes: args.nodes,
        shards: args.shards,
        durability: args.durability.into(),
        data_dir,
        grpc_port: args.grpc_port,
        http_port: args.http_port,
        resp_port: args.resp_port,
        peer_port: args.peer_port,
        shard_bytes_max: args.shard_bytes_max,
        discard_logs: args.discard_logs,
    };
    let configs = options.configs()?;
    let log = Log { filter: args.log_filter, ..Log::default() };
    raftcache::telemetry::init(&log).context("cannot set up logging")?;
    raftcache::node::open_files::raise(&configs);
    announce(&configs, &options);
    // All nodes are in this process.
    signals::run_until_signal(&Runtime::default(), |cancel| wiring::dev(configs, cancel))?;
    Ok(ExitCode::SUCCESS)
}

fn announce(configs: &[Config], options: &DevOptions) {
    for config in configs {
        println!(
            "node {}: gRPC {}  HTTP {}  Redis {}  peers {}",
            config.node.id,
            config.listen.grpc,
            config.listen.http,
            config.listen.resp,
            config.listen.peer
        );
    }
    println!("data in {}; Ctrl-C stops", options.data_dir.display());
}

/// A directory that is removed when the process stops gracefully.
struct TemporaryDir(PathBuf);

impl TemporaryDir {
    fn new() -> anyhow::Result<Self> {
        let name = format!("raftcache-dev-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(TemporaryDir(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, dir = %self.0.display(), "cannot remove the temporary directory");
        }
    }
}
