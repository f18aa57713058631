//! The command line: arguments in, calls into the library out.

mod alarm;
mod bench;
mod client;
mod dev;
mod serve;
mod signals;
mod store;
mod wiring;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A Raft-backed, strongly consistent, sharded cache.
#[derive(Debug, Parser)]
#[command(name = "raftcache", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node.
    Serve(Box<serve::Args>),
    /// Run a whole cluster on this machine, in one process.
    Dev(dev::Args),
    /// Show the cluster as one node knows it. Exit code 1 if a node is missing or not ready, or an alarm
    /// is active.
    Status(client::HttpArgs),
    /// Ask one node whether it is ready, for health checks. Exit code 0 only if it is.
    Health(client::HealthArgs),
    /// Show alarms, and acknowledge them.
    #[command(subcommand)]
    Alarm(alarm::Command),
    /// Read a key. Exit code 1 if there is none.
    Get(client::GetArgs),
    /// Set a key. Exit code 1 if the condition does not hold.
    Set(client::SetArgs),
    /// Delete a key. Exit code 1 if it was not there.
    Del(client::DelArgs),
    /// Show what a data directory holds.
    Store(store::Args),
    /// Put load on a running cluster and measure it.
    Bench(bench::Args),
}

impl Cli {
    /// Does what was asked and returns when it is done.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Serve(args) => serve::run(*args),
            Command::Dev(args) => dev::run(args),
            Command::Status(args) => client::status(args),
            Command::Health(args) => client::health(args),
            Command::Alarm(command) => alarm::run(command),
            Command::Get(args) => client::get(args),
            Command::Set(args) => client::set(args),
            Command::Del(args) => client::del(args),
            Command::Store(args) => store::run(args),
            Command::Bench(args) => bench::run(args),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn conditions_of_set_exclude_each_other() {
        let parse = |extra: &[&str]| {
            let args = ["raftcache", "set", "k", "v"].iter().chain(extra);
            Cli::try_parse_from(args).map(|_| ())
        };
        assert!(parse(&["--if-version", "3", "--ttl", "10s"]).is_ok());
        assert!(parse(&["--if-absent", "--if-present"]).is_err());
        assert!(parse(&["--if-absent", "--if-version", "3"]).is_err());
        assert!(parse(&["--ttl", "10 parsecs"]).is_err());
        assert!(parse(&["--file", "f"]).is_err(), "a value and a file are two values");
    }

    #[test]
    fn alarms_are_acknowledged_by_id_or_all_at_once() {
        let parse = |extra: &[&str]| {
            let args = ["raftcache", "alarm", "ack"].iter().chain(extra);
            Cli::try_parse_from(args).map(|_| ())
        };
        assert!(parse(&["1", "2"]).is_ok());
        assert!(parse(&["--all"]).is_ok());
        assert!(parse(&[]).is_err());
        assert!(parse(&["1", "--all"]).is_err());
        assert!(parse(&["one"]).is_err());
    }

    #[test]
    fn set_needs_a_value_or_a_file() {
        assert!(Cli::try_parse_from(["raftcache", "set", "k"]).is_err());
        assert!(Cli::try_parse_from(["raftcache", "set", "k", "--file", "f"]).is_ok());
    }
}
