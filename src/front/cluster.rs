//! Asks nodes over HTTP: one whether it is ready, or any for the status of the whole cluster.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use super::page::{ReadyPage, StatusPage, TableSummary};
use super::render;
use crate::service::NodeStatus;
use crate::types::NodeId;
use crate::types::limits::FRAME_BYTES_MAX;
use crate::types::task::spawn;

/// Address of a node's HTTP port when none is given.
pub const HTTP_ADDR_DEFAULT: &str = "127.0.0.1:8081";
/// Exit code of a status that could not be gathered from every node, or found one not ready or an
/// alarm.
pub const EXIT_DEGRADED: u8 = 1;
/// Exit code of `health` if the node is not ready. Docker takes 1 as "unhealthy" and reserves 2.
pub const EXIT_NOT_READY: u8 = 1;

/// What `status` asks for.
#[derive(Clone, Debug)]
pub struct HttpTarget {
    /// `host:port` of any node's HTTP port.
    pub http_addr: String,
    /// How long to wait for the answer, and that node for each of the others.
    pub timeout: Duration,
    /// Answer in JSON.
    pub json: bool,
}

/// The status of a cluster; the JSON of `raftcache status --json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Newest routing table that any node holds.
    pub table: TableSummary,
    /// One for each node of the table, by id.
    pub nodes: Vec<NodeReport>,
}

/// What a node said, or why it did not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeReport {
    /// The node.
    pub node: NodeId,
    /// What it said.
    pub status: Option<NodeStatus>,
    /// Why it said nothing.
    pub error: Option<String>,
}

impl ClusterStatus {
    /// Every node answered and is ready, and no alarm is active.
    pub fn healthy(&self) -> bool {
        self.table.alarms.is_empty()
            && self.nodes.iter().all(|report| report.status.as_ref().is_some_and(|s| s.ready))
    }
}

/// Writes the status of the cluster. Exit code 1 if a node is missing or not ready, or an alarm is
/// active.
///
/// # Errors
/// If the first node cannot be asked.
pub async fn run_status(options: &HttpTarget, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let status = gather(&options.http_addr, options.timeout).await?;
    if options.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&status)?)?;
    } else {
        out.write_all(render::cluster(&status).as_bytes())?;
    }
    Ok(if status.healthy() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_DEGRADED) })
}

/// Writes whether this one node takes requests, and if it does not, why: a health check for places
/// without a shell or an HTTP client. Exit code 0 only if it is ready, else 1.
///
/// # Errors
/// If the node cannot be reached, does not answer in time, or answers something else.
pub async fn run_health(
    http_addr: &str,
    timeout: Duration,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let (code, body) = http_get(http_addr, "/ready", timeout).await?;
    let page: ReadyPage = serde_json::from_slice(&body)
        .with_context(|| format!("{http_addr} answered {code} and no page of readiness"))?;
    if code == 200 && page.ready {
        writeln!(out, "ready")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "not ready: {}", page.not_ready_because.join("; "))?;
    Ok(ExitCode::from(EXIT_NOT_READY))
}

/// Asks one node for the table and then every node of it.
///
/// # Errors
/// If the first node cannot be asked; others that fail are reported within.
pub async fn gather(http_addr: &str, timeout: Duration) -> anyhow::Result<ClusterStatus> {
    Ok(gather_from(fetch(http_addr, timeout).await?, timeout).await)
}

/// Asks every other node of the table on one node's page. Those that fail are reported within.
pub async fn gather_from(first: StatusPage, timeout: Duration) -> ClusterStatus {
    let asked = first.table.nodes.iter().filter(|node| node.node != first.status.node);
    let others = join_all(asked.map(|node| async move {
        let page = fetch(&node.http_addr, timeout).await;
        (node.node, page.map_err(|error| format!("{error:#}")))
    }))
    .await;
    let mut table = first.table.clone();
    let mut nodes =
        vec![NodeReport { node: first.status.node, status: Some(first.status), error: None }];
    for (node, page) in others {
        nodes.push(match page {
            Ok(page) => {
                if page.table.epoch > table.epoch {
                    table = page.table;
                }
                NodeReport { node, status: Some(page.status), error: None }
            }
            Err(error) => NodeReport { node, status: None, error: Some(error) },
        });
    }
    nodes.sort_by_key(|report| report.node);
    ClusterStatus { table, nodes }
}

/// One node's page.
///
/// # Errors
/// If the node cannot be reached, does not answer in time, or answers something else.
pub async fn fetch(http_addr: &str, timeout: Duration) -> anyhow::Result<StatusPage> {
    let (code, body) = http_get(http_addr, "/status", timeout).await?;
    ensure!(code == 200, "{http_addr} answered {code}");
    serde_json::from_slice(&body).with_context(|| format!("{http_addr} sent no status page"))
}

/// `GET path`: the code and the body, of at most `FRAME_BYTES_MAX` bytes.
///
/// # Errors
/// If the node cannot be reached, does not answer in time, or breaks off.
pub async fn http_get(
    http_addr: &str,
    path: &str,
    timeout: Duration,
) -> anyhow::Result<(u16, Bytes)> {
    http_call(http_addr, Method::GET, path, Bytes::new(), timeout).await
}

/// Any call with a JSON body, or none: the code and the body, of at most `FRAME_BYTES_MAX` bytes.
///
/// # Errors
/// As `http_get`.
pub async fn http_call(
    http_addr: &str,
    method: Method,
    path: &str,
    body: Bytes,
    timeout: Duration,
) -> anyhow::Result<(u16, Bytes)> {
    let call = async {
        let socket = TcpStream::connect(http_addr).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        // Its errors reach us through the sender.
        let connection = spawn("status connection", connection);
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, http_addr)
            .header(http::header::CONNECTION, "close")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let response = sender.send_request(request).await?;
        let code = response.status().as_u16();
        let body = Limited::new(response.into_body(), FRAME_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!("body: {error}"))?;
        connection.abort();
        anyhow::Ok((code, body.to_bytes()))
    };
    tokio::time::timeout(timeout, call)
        .await
        .with_context(|| format!("{http_addr} did not answer in {timeout:?}"))?
        .with_context(|| format!("cannot ask {http_addr}"))
}
