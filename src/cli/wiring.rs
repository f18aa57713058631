//! The calls from the command line that run nodes.

use raftcache::config::Config;
use tokio_util::sync::CancellationToken;

/// Runs one node until `cancel`, then stops it gracefully.
pub async fn serve(config: Config, cancel: CancellationToken) -> anyhow::Result<()> {
    raftcache::node::serve::run(config, cancel).await
}

/// Runs several nodes in this process until `cancel`, then stops them gracefully.
pub async fn dev(configs: Vec<Config>, cancel: CancellationToken) -> anyhow::Result<()> {
    raftcache::node::dev::run(configs, cancel).await
}
