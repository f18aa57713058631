//! `raftcache store`: what a data directory holds.

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use raftcache::node::store_list::StoreList;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show whose directory it is, its replicas, and what is kept and served no more. Reads only; the
    /// node may run.
    List {
        /// Data directory of a node
        #[arg(long, value_name = "DIR", default_value = "data")]
        data_dir: PathBuf,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::List { data_dir, json } = args.command;
    let list = StoreList::read(&data_dir)?;
    let mut out = stdout().lock();
    if json {
        serde_json::to_writer(&mut out, &list)?;
        writeln!(out)?;
    } else {
        list.write(&mut out)?;
    }
    Ok(ExitCode::SUCCESS)
}
