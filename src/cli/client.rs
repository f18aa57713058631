//! `raftcache status|health|get|set|del`: a client for people and scripts.

use std::io::{Read, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use raftcache::client::shell::{ADDR_DEFAULT, Set, Target, run_del, run_get, run_set};
use raftcache::client::{Consistency, DeleteOptions, Expiry, GetOptions, Only, SetOptions};
use raftcache::front::cluster::{HTTP_ADDR_DEFAULT, HttpTarget, run_health, run_status};
use raftcache::types::limits;

/// Shorter than the time-outs of those who call health checks, so that the reason gets out.
const HEALTH_TIMEOUT_MS: u64 = 2_000;

#[derive(Debug, clap::Args)]
pub struct HttpArgs {
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

impl From<HttpArgs> for HttpTarget {
    fn from(args: HttpArgs) -> Self {
        let timeout = Duration::from_millis(args.timeout_ms);
        HttpTarget { http_addr: args.addr, timeout, json: args.json }
    }
}

#[derive(Debug, clap::Args)]
pub struct HealthArgs {
    /// HTTP address of the node
    #[arg(long, value_name = "HOST:PORT", default_value = HTTP_ADDR_DEFAULT)]
    addr: String,
    /// Milliseconds to wait for the answer
    #[arg(long, value_name = "MS", default_value_t = HEALTH_TIMEOUT_MS)]
    timeout_ms: u64,
}

#[derive(Debug, clap::Args)]
struct TargetArgs {
    /// gRPC addresses of nodes; one that answers is enough
    #[arg(
        long,
        value_name = "HOST:PORT,...",
        value_delimiter = ',',
        default_value = ADDR_DEFAULT
    )]
    addr: Vec<String>,
    /// Milliseconds to wait for the answer, over all attempts
    #[arg(long, value_name = "MS", default_value_t = limits::DEADLINE_MS_DEFAULT)]
    timeout_ms: u64,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

impl From<TargetArgs> for Target {
    fn from(args: TargetArgs) -> Self {
        let timeout = Duration::from_millis(args.timeout_ms);
        Target { addrs: args.addr, timeout, json: args.json }
    }
}

#[derive(Debug, clap::Args)]
pub struct GetArgs {
    key: String,
    /// How fresh the answer must be
    #[arg(long, value_enum, default_value = "linearizable")]
    consistency: Freshness,
    /// Oldest answer accepted, with --consistency bounded
    #[arg(long, value_name = "DURATION", value_parser = duration_ms,
          required_if_eq("consistency", "bounded"))]
    max_staleness: Option<u64>,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Freshness {
    /// Shows every write acknowledged before the call
    Linearizable,
    /// As linearizable, trusting clocks; the node must allow it
    Lease,
    /// Not older than --max-staleness
    Bounded,
    /// Whatever the node has
    Stale,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("condition").multiple(false))]
#[command(group = clap::ArgGroup::new("source").required(true).multiple(false))]
pub struct SetArgs {
    key: String,
    /// The value, as text
    #[arg(group = "source")]
    value: Option<String>,
    /// The value is the content of this file; - is standard input
    #[arg(long, value_name = "PATH", group = "source")]
    file: Option<PathBuf>,
    /// Store the value as bytes even if it is UTF-8 text
    #[arg(long)]
    bytes: bool,
    /// Time to live, for example 500ms, 10s, 5m, 2h, 1d
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    ttl: Option<u64>,
    /// Keep the deadline that the key has
    #[arg(long, conflicts_with = "ttl")]
    keep_ttl: bool,
    /// Only if the key is absent
    #[arg(long, group = "condition")]
    if_absent: bool,
    /// Only if the key is present
    #[arg(long, group = "condition")]
    if_present: bool,
    /// Only if the key has this version
    #[arg(long, value_name = "VERSION", group = "condition")]
    if_version: Option<u64>,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Debug, clap::Args)]
pub struct DelArgs {
    key: String,
    /// Only if the key has this version
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
    #[command(flatten)]
    target: TargetArgs,
}

pub fn status(args: HttpArgs) -> anyhow::Result<ExitCode> {
    block_on(run_status(&args.into(), &mut stdout()))
}

pub fn health(args: HealthArgs) -> anyhow::Result<ExitCode> {
    let timeout = Duration::from_millis(args.timeout_ms);
    block_on(run_health(&args.addr, timeout, &mut stdout()))
}

pub fn get(args: GetArgs) -> anyhow::Result<ExitCode> {
    let consistency = match (args.consistency, args.max_staleness) {
        (Freshness::Bounded, age) => {
            Consistency::Bounded(Duration::from_millis(age.context("--max-staleness is needed")?))
        }
        (_, Some(_)) => anyhow::bail!("--max-staleness goes with --consistency bounded only"),
        (Freshness::Linearizable, None) => Consistency::Linearizable,
        (Freshness::Lease, None) => Consistency::Lease,
        (Freshness::Stale, None) => Consistency::Stale,
    };
    let target = args.target.into();
    block_on(run_get(&target, &args.key, GetOptions { consistency }, &mut stdout()))
}

pub fn set(args: SetArgs) -> anyhow::Result<ExitCode> {
    let (value, as_bytes) = match (args.value, &args.file) {
        (Some(text), _) => (text.into_bytes(), args.bytes),
        (None, Some(path)) => (read_value(path)?, args.bytes),
        (None, None) => anyhow::bail!("a value or --file is needed"),
    };
    let only = match (args.if_absent, args.if_present, args.if_version) {
        (true, _, _) => Only::IfAbsent,
        (_, true, _) => Only::IfPresent,
        (_, _, version) => version.map_or(Only::Always, Only::IfVersion),
    };
    let expiry = match args.ttl {
        Some(ms) => Expiry::After(Duration::from_millis(ms)),
        None if args.keep_ttl => Expiry::Keep,
        None => Expiry::Never,
    };
    let options = SetOptions { only, expiry };
    let set = Set { key: args.key, value, as_bytes, options };
    block_on(run_set(&args.target.into(), set, &mut stdout()))
}

pub fn del(args: DelArgs) -> anyhow::Result<ExitCode> {
    let only = args.if_version.map_or(Only::Always, Only::IfVersion);
    let target = args.target.into();
    block_on(run_del(&target, &args.key, DeleteOptions { only }, &mut stdout()))
}

pub(super) fn block_on(
    work: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(work)
}

/// Reads at most one byte more than the largest value: enough to know that it is too long.
fn read_value(path: &Path) -> anyhow::Result<Vec<u8>> {
    let limit = limits::VALUE_BYTES_MAX as u64 + 1;
    let mut data = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(limit).read_to_end(&mut data)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut data))
    };
    read.with_context(|| format!("cannot read {}", path.display()))?;
    anyhow::ensure!(
        data.len() <= limits::VALUE_BYTES_MAX,
        "{} has more than {} bytes",
        path.display(),
        limits::VALUE_BYTES_MAX
    );
    Ok(data)
}

/// `500ms`, `10s`, `5m`, `2h`, `1d` in milliseconds.
fn duration_ms(input: &str) -> Result<u64, String> {
    let split = input.find(|c: char| !c.is_ascii_digit()).unwrap_or(input.len());
    let (number, unit) = input.split_at(split);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("needs a number and a unit: ms, s, m, h or d".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "needs a whole number".to_owned())?;
    number.checked_mul(unit_ms).filter(|ms| *ms > 0).ok_or_else(|| "is out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration_ms("500ms"), Ok(500));
        assert_eq!(duration_ms("10s"), Ok(10_000));
        assert_eq!(duration_ms("5m"), Ok(300_000));
        assert_eq!(duration_ms("2h"), Ok(7_200_000));
        assert_eq!(duration_ms("1d"), Ok(86_400_000));
        for bad in ["", "10", "s", "0s", "-1s", "1.5s", "99999999999999999999s", "1w"] {
            assert!(duration_ms(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_value_is_read_up_to_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("value");
        std::fs::write(&path, vec![7; limits::VALUE_BYTES_MAX]).unwrap();
        assert_eq!(read_value(&path).unwrap().len(), limits::VALUE_BYTES_MAX);
        std::fs::write(&path, vec![7; limits::VALUE_BYTES_MAX + 1]).unwrap();
        assert!(read_value(&path).unwrap_err().to_string().contains("1048576"));
    }
}
