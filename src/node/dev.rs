//! `raftcache dev`: several nodes in one process.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::serve::{self, Served};
use crate::config::Config;
use crate::types::clock::now;

/// How often the wait for the cluster is shown.
const LOOK: Duration = Duration::from_millis(100);

/// Runs all nodes until `cancel`, then stops them gracefully.
pub async fn run(configs: Vec<Config>, cancel: CancellationToken) -> anyhow::Result<()> {
    let mut nodes = Vec::new();
    for config in &configs {
        let node = serve::start(config).await;
        nodes.push(node.with_context(|| format!("cannot start node {}", config.node.id))?);
    }
    let mut out = std::io::stdout();
    tokio::select! {
        biased;
        () = cancel.cancelled() => {}
        formed = wait_formed(&nodes, &mut out) => {
            formed?;
            greet(&configs, &mut out)?;
            cancel.cancelled().await;
        }
    }
    let stops = nodes.into_iter().map(Served::stop_with_all);
    let results = futures_util::future::join_all(stops).await;
    results.into_iter().collect::<anyhow::Result<Vec<()>>>()?;
    Ok(())
}

async fn wait_formed(nodes: &[Served], out: &mut impl Write) -> anyhow::Result<()> {
    let start = now();
    let live = std::io::stdout().is_terminal();
    let mut shown = String::new();
    loop {
        let waiting: Vec<String> = nodes
            .iter()
            .map(Served::readiness)
            .filter(|(ready, _)| !ready)
            .flat_map(|(_, why)| why)
            .collect();
        let seconds = (now() - start).as_secs_f64();
        let Some(first) = waiting.first() else {
            let clear = if live { "\r\x1b[2K" } else { "" };
            writeln!(out, "{clear}cluster ready after {seconds:.1} s")?;
            return Ok(());
        };
        if live {
            write!(out, "\r\x1b[2Kforming, {seconds:.1} s: {first}")?;
            out.flush()?;
        } else if *first != shown {
            writeln!(out, "forming: {first}")?;
            shown.clone_from(first);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn greet(configs: &[Config], out: &mut impl Write) -> std::io::Result<()> {
    let grpc = |i: usize| &configs[i % configs.len()].listen.grpc;
    let http = configs.first().map(|config| config.listen.http);
    let resp = configs.first().map(|config| config.listen.resp);
    writeln!(out, "\nTalk to any node, for any key:\n")?;
    writeln!(
        out,
        "  grpcurl -plaintext -d '{{\"key\": \"test\", \"value\": \"hello\"}}' {} cache.CacheService/Set",
        grpc(0)
    )?;
    writeln!(
        out,
        "  grpcurl -plaintext -d '{{\"key\": \"test\"}}' {} cache.CacheService/Get",
        grpc(1)
    )?;
    writeln!(out, "  raftcache set --addr {} greeting hello", grpc(0))?;
    writeln!(out, "  raftcache get --addr {} greeting", grpc(2))?;
    if let Some(resp) = resp {
        writeln!(out, "  redis-cli -p {} set test hello", resp.port())?;
    }
    if let Some(http) = http {
        writeln!(out, "  raftcache status --addr {http}")?;
        writeln!(out, "  curl -s {http}/metrics | grep cache_")?;
    }
    writeln!(out)?;
    out.flush()
}
