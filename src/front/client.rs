//! The client side of the command line: get, set and del over gRPC.
//!
//! Answers go to `out`, so that they can be piped; what went wrong comes back as an error with the
//! outcome in it.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use serde_json::json;
use tonic::transport::{Channel, Endpoint};

use super::pb::cache_service_client::CacheServiceClient;
use super::{pb, status, validate};

/// Address of a node's gRPC port when none is given.
pub const ADDR_DEFAULT: &str = "127.0.0.1:8080";
/// Exit code of a get that found nothing, of a write that was not applied.
pub const EXIT_NO: u8 = 1;

/// Which node to ask and how long to wait.
#[derive(Clone, Debug)]
pub struct Target {
    /// `host:port` of any node's gRPC port.
    pub addr: String,
    /// How long to wait for the connection and for the answer.
    pub timeout: Duration,
    /// Answer in JSON.
    pub json: bool,
}

/// What `get` asks for.
#[derive(Clone, Debug)]
pub struct GetOptions {
    /// Which node.
    pub target: Target,
    /// The key.
    pub key: String,
    /// How fresh.
    pub consistency: pb::Consistency,
    /// Required for `Bounded`, refused by the node otherwise.
    pub max_staleness: Option<Duration>,
}

/// What `set` asks for.
#[derive(Clone, Debug)]
pub struct SetOptions {
    /// Which node.
    pub target: Target,
    /// The key.
    pub key: String,
    /// The value; stored as text if it is UTF-8, as bytes otherwise.
    pub value: Vec<u8>,
    /// Store it as bytes even if it is UTF-8.
    pub as_bytes: bool,
    /// When it ends; never, if none.
    pub ttl: Option<Duration>,
    /// Keep the deadline that the key has; `ttl` wins.
    pub keep_ttl: bool,
    /// What must hold.
    pub condition: Option<pb::condition::Kind>,
}

/// What `del` asks for.
#[derive(Clone, Debug)]
pub struct DelOptions {
    /// Which node.
    pub target: Target,
    /// The key.
    pub key: String,
    /// Delete only this version.
    pub if_version: Option<u64>,
}

/// Connects to a node.
///
/// # Errors
/// If the address is malformed or nobody answers within the time-out.
pub async fn connect(target: &Target) -> anyhow::Result<CacheServiceClient<Channel>> {
    let channel = Endpoint::from_shared(format!("http://{}", target.addr))
        .with_context(|| format!("{} is not an address", target.addr))?
        .connect_timeout(target.timeout)
        .tcp_nodelay(true)
        .connect()
        .await
        .with_context(|| format!("cannot connect to {}", target.addr))?;
    Ok(CacheServiceClient::new(channel))
}

fn request<T>(target: &Target, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(target.timeout);
    request
}

/// Reads a key and writes its value. Exit code 1, and nothing written, if there is none.
///
/// # Errors
/// If the node cannot be reached or refuses.
pub async fn run_get(options: &GetOptions, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let message = pb::GetRequest {
        key_form: Some(pb::get_request::KeyForm::Key(options.key.clone())),
        consistency: options.consistency.into(),
        max_staleness: options.max_staleness.map(ttl),
    };
    let mut client = connect(&options.target).await?;
    let reply = client.get(request(&options.target, message)).await.map_err(|s| failed(&s))?;
    let reply = reply.into_inner();
    if options.target.json {
        writeln!(out, "{}", get_json(&reply))?;
    } else {
        match &reply.value_form {
            Some(pb::get_response::ValueForm::Value(text)) => writeln!(out, "{text}")?,
            // As they are, so that they can be piped.
            Some(pb::get_response::ValueForm::ValueBytes(bytes)) => out.write_all(bytes)?,
            None => {}
        }
    }
    Ok(exit(reply.found))
}

/// Sets a key. Exit code 1 if its condition did not hold.
///
/// # Errors
/// If the node cannot be reached or refuses.
pub async fn run_set(options: &SetOptions, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    use pb::set_request::{Expiry, KeyForm, ValueForm};
    let value_form = match String::from_utf8(options.value.clone()) {
        Ok(text) if !options.as_bytes => ValueForm::Value(text),
        Ok(text) => ValueForm::ValueBytes(Bytes::from(text)),
        Err(error) => ValueForm::ValueBytes(Bytes::from(error.into_bytes())),
    };
    let expiry = match options.ttl {
        Some(time) => Some(Expiry::Ttl(ttl(time))),
        None => options.keep_ttl.then_some(Expiry::KeepTtl(true)),
    };
    let message = pb::SetRequest {
        key_form: Some(KeyForm::Key(options.key.clone())),
        value_form: Some(value_form),
        expiry,
        condition: options.condition.map(|kind| pb::Condition { kind: Some(kind) }),
        request_id: Some(new_request_id()),
        return_old: false,
    };
    let mut client = connect(&options.target).await?;
    let reply = client.set(request(&options.target, message)).await.map_err(|s| failed(&s))?;
    let pb::SetResponse { applied, version, .. } = reply.into_inner();
    if options.target.json {
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
/// If the node cannot be reached or refuses.
pub async fn run_del(options: &DelOptions, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let kind = options.if_version.map(pb::condition::Kind::IfVersion);
    let message = pb::DeleteRequest {
        key_form: Some(pb::delete_request::KeyForm::Key(options.key.clone())),
        condition: kind.map(|kind| pb::Condition { kind: Some(kind) }),
        request_id: Some(new_request_id()),
        return_old: false,
    };
    let mut client = connect(&options.target).await?;
    let reply = client.delete(request(&options.target, message)).await.map_err(|s| failed(&s))?;
    let pb::DeleteResponse { found, applied, version, .. } = reply.into_inner();
    if options.target.json {
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

fn ttl(time: Duration) -> pb::Ttl {
    super::convert::ttl_of_ms(validate::millis_up(time))
}

/// One process runs one operation, so each has a session of its own.
fn new_request_id() -> pb::RequestId {
    // Zero is refused by the node; one in 2^128 is not worth a loop, but costs nothing to avoid.
    let session = rand::random::<u128>().max(1);
    pb::RequestId { session: Bytes::copy_from_slice(&session.to_be_bytes()), sequence: 1 }
}

fn get_json(reply: &pb::GetResponse) -> serde_json::Value {
    let mut object = json!({ "found": reply.found, "version": reply.version });
    match &reply.value_form {
        Some(pb::get_response::ValueForm::Value(text)) => object["value"] = json!(text),
        Some(pb::get_response::ValueForm::ValueBytes(bytes)) => {
            object["value_bytes"] = json!(bytes.to_vec());
        }
        None => {}
    }
    if let Some(ttl) = &reply.ttl {
        object["ttl_ms"] = json!(ttl.seconds * 1_000 + i64::from(ttl.nanos / 1_000_000));
    }
    if let Some(f) = &reply.freshness {
        let age_ms = f.age.map_or(0, |t| t.seconds * 1_000 + i64::from(t.nanos / 1_000_000));
        object["freshness"] = json!({ "term": f.term, "index": f.index, "age_ms": age_ms });
    }
    object
}

/// A status in words: what, the outcome, and whether and where to try again.
fn failed(status: &tonic::Status) -> anyhow::Error {
    use pb::error_detail::Outcome;
    let message = status.message();
    let Some(detail) = status::detail_of(status) else {
        return anyhow!("{:?}: {message} (outcome unknown)", status.code());
    };
    let outcome = match detail.outcome() {
        Outcome::Rejected => "not applied",
        Outcome::Unknown | Outcome::Unspecified => "may have been applied",
    };
    let leader = match &detail.leader {
        Some(hint) if hint.grpc_address.is_empty() => format!("; leader is node {}", hint.node_id),
        Some(hint) => format!("; leader is node {} at {}", hint.node_id, hint.grpc_address),
        None => String::new(),
    };
    anyhow!("{}: {message} ({outcome}{leader})", detail.reason)
}
