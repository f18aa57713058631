//! `raftcache alarm list|ack`: what the cluster has to tell its operator.

use std::io::stdout;
use std::process::ExitCode;
use std::time::Duration;

use raftcache::front::alarms::{Ack, AlarmOptions, run_ack, run_list};
use raftcache::front::cluster::HTTP_ADDR_DEFAULT;
use raftcache::types::limits;

use super::client::block_on;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show the alarms that are active. Exit code 1 if there is one.
    List(TargetArgs),
    /// Acknowledge alarms, for the whole cluster, and show those that are still active.
    Ack(AckArgs),
}

#[derive(Debug, clap::Args)]
pub struct TargetArgs {
    /// HTTP address of a node
    #[arg(long, value_name = "HOST:PORT", default_value = HTTP_ADDR_DEFAULT)]
    addr: String,
    /// Milliseconds to wait for the answer
    #[arg(long, value_name = "MS", default_value_t = limits::DEADLINE_MS_DEFAULT)]
    timeout_ms: u64,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(false))]
pub struct AckArgs {
    /// Alarms, by their ids
    #[arg(value_name = "ID", group = "which")]
    ids: Vec<u64>,
    /// Every alarm that is active
    #[arg(long, group = "which")]
    all: bool,
    #[command(flatten)]
    target: TargetArgs,
}

impl From<TargetArgs> for AlarmOptions {
    fn from(args: TargetArgs) -> Self {
        let timeout = Duration::from_millis(args.timeout_ms);
        AlarmOptions { http_addr: args.addr, timeout, json: args.json }
    }
}

pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::List(target) => block_on(run_list(&target.into(), &mut stdout())),
        Command::Ack(args) => {
            let ack = Ack { ids: args.ids, all: args.all };
            block_on(run_ack(&args.target.into(), &ack, &mut stdout()))
        }
    }
}
