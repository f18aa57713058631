//! `raftcache alarm list|ack`: what the cluster has to tell its operator.

use std::io::stdout;
use std::process::ExitCode;

use raftcache::front::alarms::{Ack, run_ack, run_list};

use super::client::{HttpArgs, block_on};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show the alarms that are active. Exit code 1 if there is one.
    List(HttpArgs),
    /// Acknowledge alarms, for the whole cluster, and show those that are still active.
    Ack(AckArgs),
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
    target: HttpArgs,
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
