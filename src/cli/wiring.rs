//! The calls from the command line that run nodes.

use anyhow::bail;
use raftcache::config::Config;
use tokio_util::sync::CancellationToken;

/// Runs one node until `cancel`, then stops it gracefully.
pub async fn serve(config: Config, cancel: CancellationToken) -> anyhow::Result<()> {
    bail!("serve is not wired yet: node {}, {cancel:?}", config.node.id)
}

/// Runs several nodes in this process until `cancel`, then stops them gracefully.
pub async fn dev(configs: Vec<Config>, cancel: CancellationToken) -> anyhow::Result<()> {
    bail!("dev is not wired yet: {} nodes, {cancel:?}", configs.len())
}
