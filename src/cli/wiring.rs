//! Every call from the command line into the running parts of the library, one function each.

use anyhow::bail;
use raftcache::config::Config;
use raftcache::types::{Consistency, Delete, Query, Set};
use tokio_util::sync::CancellationToken;

/// How to reach a node.
#[derive(Clone, Debug)]
pub struct Target {
    /// `host:port`.
    pub addr: String,
    /// Milliseconds to wait for the answer.
    pub timeout_ms: u64,
}

/// How `get` shows what it found.
#[derive(Clone, Copy, Debug)]
pub struct Show {
    /// The value alone, without a line feed.
    pub raw: bool,
}

/// Runs one node until `cancel`, then stops it gracefully.
pub async fn serve(config: Config, cancel: CancellationToken) -> anyhow::Result<()> {
    let _ = (config, cancel);
    bail!("serve: not wired yet")
}

/// Runs several nodes in this process until `cancel`, then stops them gracefully.
pub async fn dev(configs: Vec<Config>, cancel: CancellationToken) -> anyhow::Result<()> {
    let _ = (configs, cancel);
    bail!("dev: not wired yet")
}

/// Prints a node's status; `target` is its HTTP port.
pub async fn status(target: Target, json: bool) -> anyhow::Result<()> {
    let _ = (target, json);
    bail!("status: not wired yet")
}

/// Reads a key and prints its value; fails if there is none.
pub async fn get(
    target: Target,
    query: Query,
    consistency: Consistency,
    show: Show,
) -> anyhow::Result<()> {
    let _ = (target, query, consistency, show.raw);
    bail!("get: not wired yet")
}

/// Sets a key and prints its version; fails if the condition does not hold.
pub async fn set(target: Target, set: Set) -> anyhow::Result<()> {
    let _ = (target, set);
    bail!("set: not wired yet")
}

/// Deletes a key; says whether it was there.
pub async fn del(target: Target, delete: Delete) -> anyhow::Result<()> {
    let _ = (target, delete);
    bail!("del: not wired yet")
}
