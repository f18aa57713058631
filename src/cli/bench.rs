//! `raftcache bench`: arguments of the load generator.

use std::process::ExitCode;

use clap::ValueEnum;
use raftcache::bench::{Kind, Mode, Options, Target};

/// Closed loop: each caller sends its next operation when the last one was answered.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which system; etcd is spoken to by unary calls
    #[arg(long, value_enum, default_value = "raftcache")]
    target: TargetArg,
    /// gRPC addresses of nodes, used in turns; of etcd its client addresses
    #[arg(
        long,
        value_name = "HOST:PORT,...",
        value_delimiter = ',',
        default_value = "127.0.0.1:8080,127.0.0.1:8082,127.0.0.1:8084",
        default_value_if("target", "etcd", "127.0.0.1:2379")
    )]
    addr: Vec<String>,
    /// Which door
    #[arg(long, value_enum, default_value = "unary")]
    mode: ModeArg,
    /// Which operations; mixed is nine gets to a set
    #[arg(long, value_enum, default_value = "set")]
    op: KindArg,
    /// Operations in flight, over all connections
    #[arg(long, value_name = "N", default_value_t = 64)]
    callers: usize,
    /// Connections, over all addresses
    #[arg(long, value_name = "N", default_value_t = 6)]
    connections: usize,
    /// Keys, chosen uniformly
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    keys: u64,
    /// Bytes of a value
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    value_bytes: usize,
    /// Seconds before measuring
    #[arg(long, value_name = "S", default_value_t = 2)]
    warmup: u64,
    /// Seconds measured
    #[arg(long, value_name = "S", default_value_t = 10)]
    duration: u64,
    /// Result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TargetArg {
    Raftcache,
    Etcd,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArg {
    Unary,
    Pipeline,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindArg {
    Set,
    Get,
    Mixed,
}

/// Measures and prints. Exit code 1 if an operation failed.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let options = Options {
        target: match args.target {
            TargetArg::Raftcache => Target::Raftcache,
            TargetArg::Etcd => Target::Etcd,
        },
        addrs: args.addr,
        mode: match args.mode {
            ModeArg::Unary => Mode::Unary,
            ModeArg::Pipeline => Mode::Pipeline,
        },
        kind: match args.op {
            KindArg::Set => Kind::Set,
            KindArg::Get => Kind::Get,
            KindArg::Mixed => Kind::Mixed,
        },
        callers: args.callers,
        connections: args.connections,
        keys: args.keys,
        value_bytes: args.value_bytes,
        warmup: std::time::Duration::from_secs(args.warmup),
        duration: std::time::Duration::from_secs(args.duration),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(raftcache::bench::run(options))?;
    if args.json {
        println!("{}", report.to_json());
    } else {
        println!("{report}");
    }
    Ok(if report.errors() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
