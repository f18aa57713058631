//! `raftcache bench`: arguments of the load generator.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use raftcache::bench::keys::Distribution;
use raftcache::bench::{Options, Sizes, System, Target, Via, plot};

/// Closed loop unless a rate is given: each caller sends its next operation when the last one was
/// answered.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which program: raftcache, redis, redis-cluster or etcd
    #[arg(long, value_name = "PROGRAM", default_value = "raftcache")]
    target: System,
    /// Addresses, used in turns: gRPC of raftcache, RESP or HTTP with such a --via, clients' of etcd
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    addr: Vec<String>,
    /// Through which door: unary, pipeline, smart, smart-unary, resp, resp-cluster or http
    #[arg(long, alias = "mode", value_name = "DOOR")]
    via: Option<Via>,
    /// Measure this as well, under the same load, in the same table; can be repeated
    #[arg(long, value_name = "PROGRAM[/DOOR]=HOST:PORT,...")]
    compare: Vec<Target>,
    /// Which operations: set, get, or mixed, which is nine gets to a set
    #[arg(long, value_name = "KIND", default_value = "set",
          value_parser = ["set", "get", "mixed"])]
    op: String,
    /// Share of gets, 0 to 1; the rest are sets
    #[arg(long, value_name = "SHARE", conflicts_with = "op")]
    reads: Option<f64>,
    /// Operations in flight at most, over all connections
    #[arg(long, value_name = "N", default_value_t = 64)]
    callers: usize,
    /// Connections, over all addresses; http takes one a caller
    #[arg(long, value_name = "N", default_value_t = 6)]
    connections: usize,
    /// Operations in flight on each connection, instead of --connections
    #[arg(long, value_name = "N", conflicts_with = "connections")]
    depth: Option<usize>,
    /// Keys
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    keys: u64,
    /// How keys are chosen: uniform, zipf[:EXPONENT], hot[:SHARE]
    #[arg(long, value_name = "HOW", default_value = "uniform")]
    distribution: Distribution,
    /// Bytes of a value, or a range of them
    #[arg(long, value_name = "BYTES[-BYTES]", default_value = "64")]
    value_bytes: Sizes,
    /// Operations that fall due each second, answered or not; latencies count from then
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Seconds before measuring
    #[arg(long, value_name = "S", default_value_t = 2)]
    warmup: u64,
    /// Seconds measured
    #[arg(long, value_name = "S", default_value_t = 10)]
    duration: u64,
    /// Same seed, same operations
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Result as JSON
    #[arg(long)]
    json: bool,
    /// Draw the result: latency by percentile, and throughput over time
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// Where a program is when no address is given: those of `raftcache dev`, and usual ports.
fn addr_default(system: System, via: Via) -> &'static [&'static str] {
    match (system, via) {
        (System::Raftcache, Via::Resp | Via::RespCluster) => {
            &["127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003"]
        }
        (System::Raftcache, Via::Http) => &["127.0.0.1:8081", "127.0.0.1:8083", "127.0.0.1:8085"],
        (System::Raftcache, _) => &["127.0.0.1:8080", "127.0.0.1:8082", "127.0.0.1:8084"],
        (System::Redis, _) => &["127.0.0.1:6379"],
        (System::RedisCluster, _) => &["127.0.0.1:7000"],
        (System::Etcd, _) => &["127.0.0.1:2379"],
    }
}

fn options(args: Args) -> Options {
    let via = args.via.unwrap_or(Target::via_default(args.target));
    let addrs = if args.addr.is_empty() {
        addr_default(args.target, via).iter().map(|addr| (*addr).to_owned()).collect()
    } else {
        args.addr
    };
    let mut targets = vec![Target { system: args.target, via, addrs }];
    targets.extend(args.compare);
    let connections = args.depth.map_or(args.connections, |depth| {
        // A depth of 0 gives a number of connections that is refused.
        args.callers.checked_div(depth).map_or(0, |count| count.max(1))
    });
    Options {
        targets,
        reads: args.reads.unwrap_or(match args.op.as_str() {
            "set" => 0.0,
            "get" => 1.0,
            _ => 0.9,
        }),
        callers: args.callers,
        connections,
        keys: args.keys,
        distribution: args.distribution,
        sizes: args.value_bytes,
        rate: args.rate,
        warmup: Duration::from_secs(args.warmup),
        duration: Duration::from_secs(args.duration),
        seed: args.seed,
    }
}

/// Measures and prints. Exit code 1 if an operation failed.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (json, picture) = (args.json, args.plot.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(raftcache::bench::run(options(args)))?;
    if let Some(path) = picture {
        std::fs::write(&path, plot::svg(&report)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if json {
        println!("{}", report.to_json());
    } else {
        print!("{report}");
    }
    Ok(if report.errors() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
