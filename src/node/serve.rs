//! A node with its doors, from start to graceful stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::core::{Node, StopTimes};
use super::environment::{DataDir, Environment};
use super::settings::{front_limits, peer_options, resp_options, settings};
use crate::config::Config;
use crate::controller::Standing;
use crate::front::{DoorHandle, serve_grpc, serve_http, serve_resp};
use crate::service::Execute;
use crate::transport::server;
use crate::types::NodeId;

/// A node whose doors are open.
pub struct Served {
    node: Node,
    data: DataDir,
    grpc: DoorHandle,
    http: DoorHandle,
    resp: DoorHandle,
    peers: tokio::task::JoinHandle<Option<()>>,
    doors_cancel: CancellationToken,
    peers_cancel: CancellationToken,
    times: StopTimes,
}

/// Opens the data directory and the doors, and starts the node.
pub async fn start(config: &Config) -> anyhow::Result<Served> {
    let opened = {
        let config = config.clone();
        tokio::task::spawn_blocking(move || Environment::open(&config)).await?
    };
    let (environment, data) = opened?;
    let listen = &config.listen;
    let peer = bind("listen.peer", listen.peer).await?;
    let grpc = bind("listen.grpc", listen.grpc).await?;
    let http = bind("listen.http", listen.http).await?;
    let resp = bind("listen.resp", listen.resp).await?;
    let metrics = Arc::clone(&environment.metrics);
    let node = Node::start(settings(config), environment).await?;
    let (doors_cancel, peers_cancel) = (CancellationToken::new(), CancellationToken::new());
    let id = NodeId(config.node.id);
    let (handler, options, cancel) = (node.handler(), peer_options(config), peers_cancel.clone());
    let peers = server::serve(id, peer, handler, Arc::clone(&metrics), options, cancel);
    let service = Arc::new(node.service().clone());
    let front = front_limits(config);
    let grpc = serve_grpc(grpc, Arc::clone(&service), front, &metrics, doors_cancel.clone());
    let http = serve_http(http, Arc::clone(&service), front, &metrics, doors_cancel.clone());
    let (options, cancel) = (resp_options(config), doors_cancel.clone());
    let resp = serve_resp(resp, service, front, options, &metrics, cancel);
    let times = StopTimes {
        unready: Duration::from_millis(config.shutdown.unready_ms),
        hand_over: Duration::from_millis(config.shutdown.hand_over_ms),
        drain: Duration::from_millis(config.shutdown.drain_ms),
    };
    Ok(Served { node, data, grpc, http, resp, peers, doors_cancel, peers_cancel, times })
}

/// Runs one node until `cancel`, then stops it gracefully.
pub async fn run(config: Config, cancel: CancellationToken) -> anyhow::Result<()> {
    let served = start(&config).await?;
    tracing::info!(
        node = config.node.id,
        grpc = %config.listen.grpc,
        http = %config.listen.http,
        resp = %config.listen.resp,
        peer = %config.listen.peer,
        durability = ?config.durability,
        "node started"
    );
    let refused = tokio::select! {
        biased;
        () = cancel.cancelled() => None,
        problem = served.refused() => Some(problem),
    };
    served.stop().await?;
    match refused {
        Some(problem) => anyhow::bail!(problem),
        None => Ok(()),
    }
}

impl Served {
    /// Waits until it is sure that the node can never join its cluster; gives the reason.
    async fn refused(&self) -> String {
        let mut standing = self.node.controller().standing();
        loop {
            if let Standing::Refused { problem } = &*standing.borrow_and_update() {
                return problem.clone();
            }
            if standing.changed().await.is_err() {
                // It has stopped, which it was asked to.
                std::future::pending::<()>().await;
            }
        }
    }

    /// True once the node serves requests; otherwise why not.
    pub fn readiness(&self) -> (bool, Vec<String>) {
        let status = self.node.service().status();
        (status.ready, status.not_ready_because)
    }

    /// The node behind the doors.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Leaves together with every other node of its cluster: there is nobody to hand over to.
    pub async fn stop_with_all(mut self) -> anyhow::Result<()> {
        self.times = StopTimes { unready: Duration::ZERO, hand_over: Duration::ZERO, ..self.times };
        self.stop().await
    }

    /// Leaves gracefully: not ready, leaderships handed over, requests finished, logs flushed.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.node.leave(self.times).await;
        self.doors_cancel.cancel();
        let doors = [(self.grpc, "gRPC"), (self.http, "HTTP"), (self.resp, "RESP")];
        for (door, name) in doors {
            if let Ok(Some(Err(error))) = door.await {
                tracing::warn!(%error, door = name, "door did not close cleanly");
            }
        }
        self.node.stop().await;
        self.peers_cancel.cancel();
        // A panicked task has been logged by its guard.
        let _ = self.peers.await;
        let data = self.data;
        tokio::task::spawn_blocking(move || data.close()).await?
    }
}

async fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{key}: cannot listen on {address}"))
}
