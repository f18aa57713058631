//! `raftcache bench`: a closed-loop load generator over the public gRPC door.
//!
//! Closed loop: each caller sends its next operation when the last one was answered. Latencies are
//! therefore those of admitted requests at the throughput reached, not of an open arrival rate.

mod etcd;
mod load;
mod pipeline;
mod report;
mod unary;

pub use load::{Kind, Mode, Options, Target};
pub use report::Report;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use self::load::{Shared, Tally};
use crate::front::pb::cache_service_client::CacheServiceClient;
use crate::transport::cork;
use crate::types::clock::now;
use crate::types::task;

/// Connects, fills the keyspace where reads are asked for, and measures. Progress goes to standard
/// error once a second.
pub async fn run(options: Options) -> anyhow::Result<Report> {
    options.check()?;
    let channels = connect(&options).await?;
    let shared = Arc::new(Shared::new(options.clone()));
    let workers = match options.target {
        Target::Raftcache => raftcache(&options, &channels, &shared).await?,
        Target::Etcd => etcd(&options, &channels, &shared).await?,
    };
    tokio::time::sleep(options.warmup).await;
    shared.measuring.store(true, Ordering::Relaxed);
    let start = now();
    progress(&shared, options.duration).await;
    let elapsed = now() - start;
    shared.measuring.store(false, Ordering::Relaxed);
    shared.stop.store(true, Ordering::Relaxed);
    let mut report = Report::new(&options, elapsed)?;
    for worker in workers {
        let tally = worker.await?.context("a caller panicked")??;
        report.add(&tally)?;
    }
    Ok(report)
}

type Worker = JoinHandle<Option<anyhow::Result<Tally>>>;

/// Callers, or streams, of this system.
async fn raftcache(
    options: &Options,
    channels: &[Channel],
    shared: &Arc<Shared>,
) -> anyhow::Result<Vec<Worker>> {
    let clients: Vec<_> = channels.iter().cloned().map(CacheServiceClient::new).collect();
    if options.kind != Kind::Set {
        fill(options, &clients).await?;
    }
    let mut workers = Vec::new();
    match options.mode {
        Mode::Unary => {
            for caller in 0..options.callers {
                let client = clients[caller % clients.len()].clone();
                let work = unary::caller(client, Arc::clone(shared), caller as u64);
                workers.push(task::spawn("bench caller", work));
            }
        }
        Mode::Pipeline => {
            let streams = clients.len().min(options.callers);
            for (i, client) in clients.iter().take(streams).enumerate() {
                let depth = options.callers / streams + usize::from(i < options.callers % streams);
                let work = pipeline::stream(client.clone(), Arc::clone(shared), i as u64, depth);
                workers.push(task::spawn("bench stream", work));
            }
        }
    }
    Ok(workers)
}

/// Callers of etcd.
async fn etcd(
    options: &Options,
    channels: &[Channel],
    shared: &Arc<Shared>,
) -> anyhow::Result<Vec<Worker>> {
    if options.kind != Kind::Set {
        etcd::fill(channels, shared).await?;
    }
    let worker = |caller: usize| {
        let channel = channels[caller % channels.len()].clone();
        task::spawn("bench caller", etcd::caller(channel, Arc::clone(shared), caller as u64))
    };
    Ok((0..options.callers).map(worker).collect())
}

async fn connect(options: &Options) -> anyhow::Result<Vec<Channel>> {
    let mut channels = Vec::new();
    for i in 0..options.connections {
        let addr = &options.addrs[i % options.addrs.len()];
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{addr}"))?
            .connect_timeout(Duration::from_secs(5));
        let channel =
            cork::connect(&endpoint).await.with_context(|| format!("cannot reach {addr}"))?;
        channels.push(channel);
    }
    Ok(channels)
}

/// Sets every key once, so that reads find something.
async fn fill(options: &Options, clients: &[CacheServiceClient<Channel>]) -> anyhow::Result<()> {
    let filling = Options { kind: Kind::Set, ..options.clone() };
    let shared = Arc::new(Shared::new(filling));
    let share = options.keys.div_ceil(clients.len() as u64);
    let fills = clients.iter().enumerate().map(|(i, client)| {
        let from = share * i as u64;
        let keys = from..(from + share).min(options.keys);
        pipeline::fill(client.clone(), Arc::clone(&shared), keys)
    });
    futures_util::future::try_join_all(fills).await?;
    Ok(())
}

async fn progress(shared: &Shared, duration: Duration) {
    let deadline = now() + duration;
    let (mut last, mut at) = (0, now());
    while now() < deadline {
        tokio::time::sleep_until((at + Duration::from_secs(1)).min(deadline)).await;
        let done = shared.done.load(Ordering::Relaxed);
        let seconds = (now() - at).as_secs_f64();
        eprintln!(
            "{:>9.0} op/s, {} errors",
            (done - last) as f64 / seconds,
            shared.errors.load(Ordering::Relaxed)
        );
        (last, at) = (done, now());
    }
}
