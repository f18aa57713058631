//! Every call from the command line into the running parts of the library, one function each.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use raftcache::config::Config;
use raftcache::types::{Condition, Consistency};
use tokio_util::sync::CancellationToken;

/// Which node to ask, how long to wait, how to show the answer.
#[derive(Clone, Debug)]
pub struct Target {
    /// `host:port`: the gRPC port, for `status` the HTTP port.
    pub addr: String,
    /// How long to wait for the connection and for the answer.
    pub timeout: Duration,
    /// Answer in JSON.
    pub json: bool,
}

/// What `set` asks for.
#[derive(Clone, Debug)]
pub struct SetOptions {
    /// Which node.
    pub target: Target,
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// Store it as bytes even if it is text.
    pub as_bytes: bool,
    /// When it ends; never, if none.
    pub ttl: Option<Duration>,
    /// What must hold.
    pub condition: Condition,
}

/// Runs one node until `cancel`, then stops it gracefully.
pub async fn serve(config: Config, cancel: CancellationToken) -> anyhow::Result<()> {
    bail!("serve is not wired yet: node {}, {cancel:?}", config.node.id)
}

/// Runs several nodes in this process until `cancel`, then stops them gracefully.
pub async fn dev(configs: Vec<Config>, cancel: CancellationToken) -> anyhow::Result<()> {
    bail!("dev is not wired yet: {} nodes, {cancel:?}", configs.len())
}

/// Prints what a node knows of itself and the cluster.
pub async fn status(target: Target) -> anyhow::Result<ExitCode> {
    bail!("status is not wired yet: {target:?}")
}

/// Reads a key and prints its value.
pub async fn get(target: Target, key: String, fresh: Consistency) -> anyhow::Result<ExitCode> {
    bail!("get is not wired yet: {key} at {target:?}, {fresh:?}")
}

/// Sets a key and prints its version.
pub async fn set(options: SetOptions) -> anyhow::Result<ExitCode> {
    bail!("set is not wired yet: {options:?}")
}

/// Deletes a key.
pub async fn del(target: Target, key: String, if_version: Option<u64>) -> anyhow::Result<ExitCode> {
    bail!("del is not wired yet: {key} at {target:?}, {if_version:?}")
}
