//! The side that serves peers: accepts their connections and checks their hellos.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::connection::Connection;
use super::cork::Corked;
use super::options::{
    CONNECTION_WINDOW_BYTES, HTTP2_FRAME_BYTES_MAX, PeerOptions, STREAM_WINDOW_BYTES,
};
use super::proto::peer_server::{Peer, PeerServer};
use super::proto::{Hello, PEER_MESSAGE_BYTES_MAX, PeerMessage};
use super::{Handler, other_cluster};
use crate::types::NodeId;
use crate::types::log_limit::LogLimit;
use crate::types::metrics::Metrics;
use crate::types::task::spawn;

/// How long connections may take to close once the server is told to stop.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(1_000);
/// Wait after a failed accept: out of file descriptors, trying at once would only burn a core.
const ACCEPT_RETRY_WAIT: Duration = Duration::from_millis(100);
/// How often a node of another cluster that keeps connecting is told of.
const FOREIGN_TOLD_EVERY: Duration = Duration::from_secs(30);
/// A peer needs one stream a connection.
const STREAMS_PER_CONNECTION_MAX: u32 = 4;

/// The tonic service of a node.
pub struct PeerService {
    self_node: NodeId,
    handler: Arc<dyn Handler>,
    metrics: Arc<Metrics>,
    options: PeerOptions,
    cancel: CancellationToken,
    /// Nodes of other clusters that were told of.
    foreign: LogLimit<NodeId>,
}

impl PeerService {
    /// A service that answers with `handler` until `cancel`.
    pub fn new(
        self_node: NodeId,
        handler: Arc<dyn Handler>,
        metrics: Arc<Metrics>,
        options: PeerOptions,
        cancel: CancellationToken,
    ) -> Self {
        let foreign = LogLimit::new(FOREIGN_TOLD_EVERY);
        PeerService { self_node, handler, metrics, options, cancel, foreign }
    }

    /// Serves peers on `listener` until the service's token is cancelled. The returned task ends
    /// when the connections are closed, at most a second later.
    pub fn serve(self, listener: TcpListener) -> JoinHandle<Option<()>> {
        let cancel = self.cancel.clone();
        let keepalive = &self.options;
        let router = Server::builder()
            .http2_keepalive_interval(Some(keepalive.keepalive_interval))
            .http2_keepalive_timeout(Some(keepalive.keepalive_timeout))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(HTTP2_FRAME_BYTES_MAX)
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .add_service(PeerServer::new(self).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX));
        let incoming = stream::unfold(listener, async |listener| {
            let accepted = Corked::new(accept(&listener).await);
            Some((Ok::<_, std::io::Error>(accepted), listener))
        });
        let stop = cancel.clone();
        let serving = router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
        spawn("peer server", async move {
            let overdue = async {
                cancel.cancelled().await;
                tokio::time::sleep(CLOSE_TIMEOUT).await;
            };
            tokio::select! {
                biased;
                result = serving => if let Err(error) = result {
                    tracing::error!(%error, "peer server failed");
                },
                () = overdue => tracing::warn!("peer connections did not close in time"),
            }
        })
    }

    /// Reads the first message and checks who speaks.
    async fn greet(&self, requests: &mut Streaming<PeerMessage>) -> Result<PeerMessage, Status> {
        let first = tokio::time::timeout(self.options.connect_timeout, requests.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello in time"))??
            .ok_or_else(|| Status::invalid_argument("closed before its hello"))?;
        let hello = first.hello.ok_or_else(|| Status::invalid_argument("no hello"))?;
        if hello.protocol != self.options.protocol {
            return Err(Status::failed_precondition(format!(
                "{} speaks peer protocol {}, {} speaks {}",
                NodeId(hello.node),
                hello.protocol,
                self.self_node,
                self.options.protocol
            )));
        }
        if !first.frames.is_empty() {
            return Err(Status::invalid_argument("frames before the hello was answered"));
        }
        if hello.node == 0 {
            return Err(Status::invalid_argument("a node id is at least 1"));
        }
        Ok(first)
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        let accepted = listener
            .accept()
            .await
            .and_then(|(stream, _)| stream.set_nodelay(true).map(|()| stream));
        match accepted {
            Ok(stream) => return stream,
            Err(error) => tracing::warn!(%error, "a peer's connection could not be accepted"),
        }
        tokio::time::sleep(ACCEPT_RETRY_WAIT).await;
    }
}

/// The answers of one connection.
pub type AnswerStream = Pin<Box<dyn Stream<Item = Result<PeerMessage, Status>> + Send>>;

#[tonic::async_trait]
impl Peer for PeerService {
    type ExchangeStream = AnswerStream;

    async fn exchange(
        &self,
        request: Request<Streaming<PeerMessage>>,
    ) -> Result<Response<AnswerStream>, Status> {
        let address = request.remote_addr();
        let mut requests = request.into_inner();
        let first = self.greet(&mut requests).await.inspect_err(|status| {
            tracing::warn!(?address, reason = status.message(), "peer connection refused");
        })?;
        let from = NodeId(first.hello.map_or(0, |hello| hello.node));
        let (theirs, ours) =
            (first.hello.map_or(0, |hello| hello.cluster_id()), self.handler.cluster_id());
        if theirs != 0 && ours != 0 && theirs != ours && self.foreign.allows(from) {
            let reason = other_cluster(&from.to_string(), theirs, ours);
            tracing::warn!(?address, reason, "peer refused");
        }
        let hello = Hello::of(self.self_node.0, self.options.protocol, ours);
        let connection = Connection::new(
            (from, theirs),
            hello,
            Box::pin(requests),
            Arc::clone(&self.handler),
            Arc::clone(&self.metrics),
            &self.options,
            self.cancel.clone(),
        );
        Ok(Response::new(Box::pin(connection)))
    }
}

/// [`PeerService::serve`] in one call.
pub fn serve(
    self_node: NodeId,
    listener: TcpListener,
    handler: Arc<dyn Handler>,
    metrics: Arc<Metrics>,
    options: PeerOptions,
    cancel: CancellationToken,
) -> JoinHandle<Option<()>> {
    PeerService::new(self_node, handler, metrics, options, cancel).serve(listener)
}
