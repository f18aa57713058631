//! Accepts connections of a door, counts them, and closes those past the limit at once (INV-8).

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{Stream, stream};
use prometheus::{IntCounter, IntGauge};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::transport::cork::Corked;
use crate::types::metrics::Metrics;

/// How long to wait when the process has no descriptors left to accept with.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A connection that says nothing for so long after it was accepted is closed: it takes a place.
const FIRST_BYTE_MAX: Duration = Duration::from_secs(30);

/// A listening socket with a limit of connections.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    door: &'static str,
    free: Arc<Semaphore>,
    open: IntGauge,
    refused: IntCounter,
    cancel: CancellationToken,
}

impl Listener {
    /// Wraps `socket`; `door` names it in metrics. When `cancel` is cancelled, connections that
    /// have not said anything yet are closed: the server would wait for their first request.
    pub fn new(
        socket: TcpListener,
        door: &'static str,
        connections_max: usize,
        metrics: &Metrics,
        cancel: CancellationToken,
    ) -> Self {
        Listener {
            socket,
            door,
            free: Arc::new(Semaphore::new(connections_max)),
            open: metrics.connections.with_label_values(&[door]),
            refused: metrics.refused.with_label_values(&["connections"]),
            cancel,
        }
    }

    /// The next connection within the limit.
    pub async fn next(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.socket.accept().await {
                Ok((socket, peer)) => {
                    if let Some(connection) = self.admit(socket, peer) {
                        return (connection, peer);
                    }
                }
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    tracing::warn!(door = self.door, %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, socket: TcpStream, peer: SocketAddr) -> Option<Connection> {
        let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() else {
            self.refused.inc();
            tracing::debug!(door = self.door, %peer, "refused: too many connections");
            return None;
        };
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(door = self.door, %peer, %error, "peer left while it was accepted");
            return None;
        }
        self.open.inc();
        let silent = Some(Box::pin(silence(self.cancel.clone())) as BoxFuture<'static, ()>);
        Some(Connection {
            socket: Corked::new(socket),
            silent,
            open: self.open.clone(),
            _permit: permit,
        })
    }

    /// The connections as tonic takes them.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Connection>> {
        stream::unfold(self, |mut listener| async move {
            let (connection, _) = listener.next().await;
            Some((Ok(connection), listener))
        })
    }
}

/// Ends when a connection that says nothing is to be closed.
async fn silence(cancel: CancellationToken) {
    tokio::select! {
        biased;
        () = cancel.cancelled() => {}
        () = tokio::time::sleep(FIRST_BYTE_MAX) => {}
    }
}

/// The connection was gone before it was accepted: no fault of this node.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        self.next().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// A client's connection; its place is free again when it is dropped.
pub struct Connection {
    socket: Corked,
    /// Until the first byte: what ends the wait for it.
    silent: Option<BoxFuture<'static, ()>>,
    open: IntGauge,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.socket.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.socket).poll_read(cx, buf);
        if read.is_ready() {
            self.silent = None;
        } else if let Some(silent) = &mut self.silent
            && silent.as_mut().poll(cx).is_ready()
        {
            self.silent = None;
            // Nothing read and no error: end of file.
            return Poll::Ready(Ok(()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
