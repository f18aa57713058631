//! `raftcache bench`: the same load on raftcache, through any of its doors, on Redis, a Redis
//! Cluster and etcd.
//!
//! Closed loop: each caller sends its next operation when the last one was answered, so the system
//! is asked as fast as it answers, and latencies are those at that throughput. At a rate, operations
//! fall due whether or not earlier ones were answered, and a latency counts from then: a stall shows
//! in all that fell due meanwhile ([`shared::Pace`]). A timer wakes up to 1 ms late, which counts as
//! well.

pub mod drive;
pub mod facts;
pub mod keys;
pub mod lanes;
pub mod options;
pub mod plot;
pub mod report;
pub mod shared;
#[cfg(test)]
mod testing;
pub mod workload;

pub use options::{Options, Sizes, System, Target, Via};
pub use report::{Report, Run};

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinHandle;

use self::drive::{Lane, Single};
use self::lanes::{etcd, grpc, http, resp, resp_cluster, smart};
use self::report::Sample;
use self::shared::{Shared, Tally};
use self::workload::Workload;
use crate::client::{Client, Door};
use crate::pb::cache_service_client::CacheServiceClient;
use crate::types::clock::{Instant, now};
use crate::types::task;

/// Operations under way on one connection while keys are filled in.
const FILL_DEPTH: usize = 128;
/// Callers that fill keys in where a caller has one operation under way.
const FILL_CALLERS: usize = 64;
/// At a rate: how long answers are waited for after the end.
const DRAIN: Duration = Duration::from_secs(5);
/// Stretch of a sample of throughput.
const SAMPLE: Duration = Duration::from_secs(1);

type Worker = JoinHandle<Option<anyhow::Result<Tally>>>;

/// Measures every target in turn. Progress goes to standard error once a second.
pub async fn run(options: Options) -> anyhow::Result<Report> {
    options.check()?;
    let mut runs = Vec::new();
    for target in &options.targets {
        if options.targets.len() > 1 {
            eprintln!("{}", target.name());
        }
        let run = one(target, &options).await;
        runs.push(run.with_context(|| target.name())?);
    }
    Ok(Report { options, runs })
}

async fn one(target: &Target, options: &Options) -> anyhow::Result<Run> {
    let facts = facts::ask(target).await;
    if options.reads > 0.0 {
        let (lanes, slots) = fillers(options, target.via);
        let filling = Options { callers: lanes * slots, connections: lanes, ..options.clone() };
        load(target, &filling, Work::Fill).await?;
    }
    let (mut workers, shared) = load(target, options, Work::Measure).await?;
    tokio::time::sleep_until(shared.measure_from).await;
    let samples = watch(&shared).await;
    // At a rate, what was due is still waited for.
    while now() < shared.give_up_at && !workers.iter().all(JoinHandle::is_finished) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    shared.stop();
    let ended = now();
    let elapsed = ended.min(shared.give_up_at) - shared.measure_from;
    let elapsed = elapsed.max(options.duration);
    let latencies = Tally::default().latencies;
    let (target, unsent) = (target.clone(), unsent(&shared, options));
    let mut run = Run {
        target,
        facts,
        elapsed,
        latencies,
        missed: 0,
        errors: 0,
        unsent,
        example: None,
        samples,
    };
    for worker in workers.drain(..) {
        run.add(&worker.await?.context("a caller panicked")??)?;
    }
    Ok(run)
}

/// What was due while measuring and nobody could send.
fn unsent(shared: &Shared, options: &Options) -> u64 {
    let (Some(pace), Some(rate)) = (&shared.pace, options.rate) else { return 0 };
    pace.left().min((rate * options.duration.as_secs_f64()).round() as u64)
}

/// What workers do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Measure,
    Fill,
}

/// Connections and slots on each to fill keys in through a door.
fn fillers(options: &Options, via: Via) -> (usize, usize) {
    match via {
        Via::Pipeline | Via::Resp | Via::RespCluster => (options.connections.min(4), FILL_DEPTH),
        Via::Unary | Via::Smart | Via::SmartUnary | Via::Http => (FILL_CALLERS, 1),
    }
}

/// Connects, and starts the workers; those who fill are waited for.
async fn load(
    target: &Target,
    options: &Options,
    work: Work,
) -> anyhow::Result<(Vec<Worker>, Arc<Shared>)> {
    let addr = |i: usize| target.addrs[i % target.addrs.len()].as_str();
    let slots = |lane: usize, lanes: usize| {
        options.callers / lanes + usize::from(lane < options.callers % lanes)
    };
    let streams = options.connections.min(options.callers);
    let mut crew = Crew::new(options, work);
    match (target.system, target.via) {
        (System::Etcd, _) | (_, Via::Unary) => {
            let mut channels = Vec::new();
            for i in 0..streams.min(64) {
                channels.push(grpc::connect(addr(i)).await?);
            }
            crew.begin();
            for caller in 0..options.callers {
                let channel = channels[caller % channels.len()].clone();
                if target.system == System::Etcd {
                    crew.add(Single::new(etcd::Etcd::new(channel)), 1);
                } else {
                    crew.add(Single::new(grpc::Unary(CacheServiceClient::new(channel))), 1);
                }
            }
        }
        (_, Via::Smart | Via::SmartUnary) => {
            let client = Client::connect(smart_options(target, streams.min(64))).await?;
            crew.begin();
            for _ in 0..options.callers {
                crew.add(Single::new(smart::Smart(client.clone())), 1);
            }
        }
        (_, Via::Http) => {
            let mut callers = Vec::new();
            for i in 0..options.callers {
                callers.push(http::Http::open(addr(i)).await?);
            }
            crew.begin();
            callers.into_iter().for_each(|caller| crew.add(Single::new(caller), 1));
        }
        (_, via) => {
            for i in 0..streams {
                let slots = slots(i, streams);
                match via {
                    Via::Pipeline => {
                        let channel = grpc::connect(addr(i)).await?;
                        crew.add(grpc::Pipeline::open(channel, slots).await?, slots);
                    }
                    Via::RespCluster => {
                        let mut seeds = target.addrs.clone();
                        seeds.rotate_left(i % target.addrs.len());
                        crew.add(resp_cluster::RespCluster::open(&seeds).await?, slots);
                    }
                    _ => crew.add(resp::Resp::open(addr(i)).await?, slots),
                }
            }
        }
    }
    crew.done().await
}

/// As many connections in all as the other doors take, spread over the nodes.
fn smart_options(target: &Target, connections: usize) -> crate::client::Options {
    crate::client::Options {
        connections: connections.div_ceil(target.addrs.len().max(1)),
        door: if target.via == Via::Smart { Door::Pipeline } else { Door::Unary },
        ..crate::client::Options::new(target.addrs.clone())
    }
}

/// The workers of a run, while they are put together.
struct Crew<'a> {
    options: &'a Options,
    work: Work,
    shared: Arc<Shared>,
    lanes: u64,
    workers: Vec<Worker>,
}

impl<'a> Crew<'a> {
    fn new(options: &'a Options, work: Work) -> Self {
        let shared = Arc::new(Shared::new(options, DRAIN));
        Crew { options, work, shared, lanes: 0, workers: Vec::new() }
    }

    /// Connections are there: time begins now. Nobody works yet.
    fn begin(&mut self) {
        assert!(self.workers.is_empty(), "time begins before the work");
        self.shared = Arc::new(Shared::new(self.options, DRAIN));
    }

    fn add(&mut self, lane: impl Lane + 'static, slots: usize) {
        let (shared, number) = (Arc::clone(&self.shared), self.lanes);
        let workload = Workload::new(self.options, number);
        self.lanes += 1;
        let worker = match self.work {
            Work::Measure => task::spawn("bench caller", async move {
                Ok(drive::drive(lane, slots, workload, &shared).await)
            }),
            Work::Fill => {
                let lanes = self.options.connections as u64;
                let keys = (number..self.options.keys).step_by(lanes as usize);
                task::spawn("bench filler", async move {
                    drive::fill(lane, slots, workload, keys).await.map(|()| Tally::default())
                })
            }
        };
        self.workers.push(worker);
    }

    async fn done(self) -> anyhow::Result<(Vec<Worker>, Arc<Shared>)> {
        if self.work == Work::Fill {
            for worker in self.workers {
                worker.await?.context("a filler panicked")??;
            }
            return Ok((Vec::new(), self.shared));
        }
        Ok((self.workers, self.shared))
    }
}

/// Shows and notes throughput until the end of measuring.
async fn watch(shared: &Shared) -> Vec<Sample> {
    let mut samples = Vec::new();
    let (mut last, mut at): (u64, Instant) = (0, shared.measure_from);
    while at < shared.measure_until {
        let until = (at + SAMPLE).min(shared.measure_until);
        tokio::time::sleep_until(until).await;
        let done = shared.done.load(Ordering::Relaxed);
        let errors = shared.errors.load(Ordering::Relaxed);
        let rate = (done - last) as f64 / (now() - at).as_secs_f64();
        let at_s = (until - shared.measure_from).as_secs_f64();
        eprintln!("{at_s:>5.0} s {rate:>9.0} op/s, {errors} errors");
        samples.push(Sample { at_s, rate, errors });
        (last, at) = (done, until);
    }
    samples
}
