//! What the command line does with a client: get, set and del.
//!
//! Answers go to `out`, so that they can be piped; what went wrong comes back as an error with the
//! outcome in it.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::{Client, DeleteOptions, Error, GetOptions, Options, Read, SetOptions, Value};

/// Addresses of nodes' gRPC ports when none is given: those of `raftcache dev`.
pub const ADDR_DEFAULT: &str = "127.0.0.1:8080";
/// Exit code of a get that found nothing, of a write that was not applied.
pub const EXIT_NO: u8 = 1;

/// Which cluster to ask and how long to wait.
#[derive(Clone, Debug)]
pub struct Target {
    /// `host:port` of some nodes' gRPC ports.
    pub addrs: Vec<String>,
    /// How long to wait for the answer.
    pub timeout: Duration,
    /// Answer in JSON.
    pub json: bool,
}

/// What `set` asks for.
#[derive(Clone, Debug)]
pub struct Set {
    /// The key.
    pub key: String,
    /// The value; stored as text if it is UTF-8, as bytes otherwise.
    pub value: Vec<u8>,
    /// Store it as bytes even if it is UTF-8.
    pub as_bytes: bool,
    /// Condition and expiry.
    pub options: SetOptions,
}

/// A process runs one operation, so one connection does.
async fn connect(target: &Target) -> Result<Client, Error> {
    let options =
        Options { deadline: target.timeout, connections: 1, ..Options::new(target.addrs.clone()) };
    Client::connect(options).await
}

/// Reads a key and writes its value. Exit code 1, and nothing written, if there is none.
///
/// # Errors
/// If no node can be reached, or the nodes refuse.
pub async fn run_get(
    target: &Target,
    key: &str,
    options: GetOptions,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let read = connect(target).await?.get_with(key, options).await?;
    if target.json {
        writeln!(out, "{}", get_json(&read))?;
    } else {
        match read.found.as_ref().map(|found| &found.value) {
            Some(Value::Text(text)) => writeln!(out, "{text}")?,
            // As they are, so that they can be piped.
            Some(Value::Bytes(bytes)) => out.write_all(bytes)?,
            None => {}
        }
    }
    Ok(exit(read.found.is_some()))
}

/// Sets a key. Exit code 1 if its condition did not hold.
///
/// # Errors
/// If no node can be reached, or the nodes refuse.
pub async fn run_set(target: &Target, set: Set, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let value = match String::from_utf8(set.value) {
        Ok(text) if !set.as_bytes => Value::Text(text),
        Ok(text) => Value::Bytes(Bytes::from(text)),
        Err(error) => Value::Bytes(Bytes::from(error.into_bytes())),
    };
    let written = connect(target).await?.set_with(&set.key, value, set.options).await?;
    let (applied, version) = (written.applied, written.version);
    if target.json {
        writeln!(out, "{}", json!({ "applied": applied, "version": version }))?;
    } else if applied {
        writeln!(out, "OK version {version}")?;
    } else {
        writeln!(out, "not applied: {}", current(version))?;
    }
    Ok(exit(applied))
}

/// Deletes a key. Exit code 1 if nothing was deleted.
///
/// # Errors
/// If no node can be reached, or the nodes refuse.
pub async fn run_del(
    target: &Target,
    key: &str,
    options: DeleteOptions,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let deleted = connect(target).await?.delete_with(key, options).await?;
    let (found, applied, version) = (deleted.found, deleted.applied, deleted.version);
    if target.json {
        writeln!(out, "{}", json!({ "found": found, "applied": applied, "version": version }))?;
    } else if applied {
        writeln!(out, "deleted version {version}")?;
    } else {
        writeln!(out, "not applied: {}", current(version))?;
    }
    Ok(exit(applied))
}

fn exit(yes: bool) -> ExitCode {
    if yes { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NO) }
}

fn current(version: u64) -> String {
    match version {
        0 => "the key is absent".to_owned(),
        version => format!("the key has version {version}"),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn get_json(read: &Read) -> serde_json::Value {
    let found = read.found.as_ref();
    let version = found.map_or(0, |found| found.version);
    let mut object = json!({ "found": found.is_some(), "version": version });
    match found.map(|found| &found.value) {
        Some(Value::Text(text)) => object["value"] = json!(text),
        Some(Value::Bytes(bytes)) => object["value_bytes"] = json!(bytes.to_vec()),
        None => {}
    }
    if let Some(ttl) = found.and_then(|found| found.ttl) {
        object["ttl_ms"] = json!(millis(ttl));
    }
    let age_ms = millis(read.age);
    object["freshness"] = json!({ "term": read.term, "index": read.index, "age_ms": age_ms });
    object
}
