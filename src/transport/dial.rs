//! Keeps the one connection to a peer: makes it, reads its answers, makes it again with back-off.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Endpoint;

use super::cork;
use super::link::Link;
use super::options::{
    CONNECTION_WINDOW_BYTES, HTTP2_FRAME_BYTES_MAX, PeerOptions, STREAM_WINDOW_BYTES,
};
use super::other_cluster;
use super::outbox::Outbox;
use super::proto::peer_client::PeerClient;
use super::proto::{Hello, PEER_MESSAGE_BYTES_MAX, PeerMessage};
use crate::types::NodeId;
use crate::types::clock::now;
use crate::types::metrics::Metrics;

/// Everything a connection needs to know of our side.
#[derive(Clone, Debug)]
pub struct Dialer {
    /// Who we are.
    pub self_node: NodeId,
    /// How to connect.
    pub options: PeerOptions,
    /// Where sent messages are counted.
    pub metrics: Arc<Metrics>,
    /// The cluster we belong to; 0 while we know none.
    pub cluster: watch::Receiver<u128>,
}

impl Dialer {
    /// Connects `link` to `address` and serves it until `cancel`, over and over.
    pub async fn run(self, link: Arc<Link>, address: String, cancel: CancellationToken) {
        tokio::select! {
            biased;
            () = cancel.cancelled() => link.down("the transport to it is closed"),
            () = self.keep(&link, &address) => {}
        }
    }

    async fn keep(&self, link: &Arc<Link>, address: &str) {
        let mut backoff = self.options.backoff_min;
        let mut told = false;
        let mut cluster = self.cluster.clone();
        loop {
            let began = now();
            cluster.mark_unchanged();
            let (was_up, detail) = tokio::select! {
                biased;
                () = changed(&mut cluster) => {
                    link.down("connecting again, as a node of its cluster");
                    continue;
                }
                ended = self.connection(link, address) => ended,
            };
            link.down(&detail);
            if was_up {
                told = false;
                // A peer that takes connections only to break them is not tried any faster.
                if began.elapsed() > self.options.backoff_max {
                    backoff = self.options.backoff_min;
                }
            }
            if !told {
                tracing::warn!(peer = %link.peer(), address, detail, "peer is unreachable");
                told = true;
            }
            let wait = backoff.mul_f64(rand::random_range(0.5..=1.0));
            backoff = (backoff * 2).min(self.options.backoff_max);
            tokio::time::sleep(wait).await;
        }
    }

    /// One connection from beginning to end; says whether frames could flow, and why it ended.
    pub async fn connection(&self, link: &Arc<Link>, address: &str) -> (bool, String) {
        let connected =
            tokio::time::timeout(self.options.connect_timeout, self.connect(link, address)).await;
        let mut answers = match connected {
            Ok(Ok(answers)) => answers,
            Ok(Err(detail)) => return (false, detail),
            Err(_) => return (false, format!("connecting to {address} timed out")),
        };
        link.up();
        match link.peer() {
            // For one question, asked again until it is answered.
            NodeId(0) => tracing::debug!(address, "connected to a seed"),
            peer => tracing::info!(%peer, address, "connected to peer"),
        }
        loop {
            match answers.message().await {
                Ok(Some(message)) => {
                    if let Err(detail) = link.answer(message.frames) {
                        return (true, detail);
                    }
                }
                Ok(None) => return (true, "the peer closed the connection".to_owned()),
                Err(status) => return (true, format!("connection lost: {}", status.message())),
            }
        }
    }

    /// Connects, exchanges hellos, and returns the stream of answers.
    async fn connect(
        &self,
        link: &Arc<Link>,
        address: &str,
    ) -> Result<Streaming<PeerMessage>, String> {
        let generation = link.connecting();
        let channel = cork::connect(&self.endpoint(address)?)
            .await
            .map_err(|error| format!("cannot connect to {address}: {}", chain(&error)))?;
        let ours = *self.cluster.borrow();
        let hello = Hello::of(self.self_node.0, self.options.protocol, ours);
        let outbox = Outbox::new(Arc::clone(link), generation, hello, Arc::clone(&self.metrics));
        let mut answers = PeerClient::new(channel)
            .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
            .exchange(outbox)
            .await
            .map_err(|status| format!("{address} refuses: {}", status.message()))?
            .into_inner();
        let first = answers.message().await.map_err(|status| status.message().to_owned())?;
        let hello = first
            .and_then(|message| message.hello)
            .ok_or_else(|| format!("{address} does not say who it is"))?;
        if hello.protocol != self.options.protocol {
            let ours = self.options.protocol;
            return Err(format!("{address} speaks protocol {}, we {ours}", hello.protocol));
        }
        let (expected, theirs) = (link.peer(), hello.cluster_id());
        // A link to an address whose node is not known yet carries node 0, and hellos only.
        if expected.0 == 0 {
            return Ok(answers);
        }
        if hello.node != expected.0 {
            return Err(format!("{address} is {}, not {expected}", NodeId(hello.node)));
        }
        if ours != 0 && theirs != 0 && ours != theirs {
            return Err(other_cluster(&format!("{expected} at {address}"), theirs, ours));
        }
        Ok(answers)
    }

    fn endpoint(&self, address: &str) -> Result<Endpoint, String> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| format!("address {address}: {}", chain(&error)))?;
        Ok(endpoint
            .connect_timeout(self.options.connect_timeout)
            .http2_keep_alive_interval(self.options.keepalive_interval)
            .keep_alive_timeout(self.options.keepalive_timeout)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(HTTP2_FRAME_BYTES_MAX))
    }
}

/// Waits until another cluster is named.
async fn changed(cluster: &mut watch::Receiver<u128>) {
    if cluster.changed().await.is_err() {
        // The transport is going away, and this task with it.
        std::future::pending::<()>().await;
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
