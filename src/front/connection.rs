//! A client's connection: a socket that keeps count of what goes on on it, and ends when its client
//! has kept this node waiting for too long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use prometheus::{IntCounterVec, IntGauge};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::activity::{Activity, Closed};
use super::listen::Place;
use super::visitor::Visitor;
use crate::transport::cork::Corked;
use crate::types::clock::Instant;

/// A client's connection; its place is free again when it is dropped.
pub struct Connection {
    socket: Corked,
    activity: Arc<Activity>,
    /// Fires when the next verdict is due.
    look: Pin<Box<Sleep>>,
    look_us: u64,
    /// Since when the socket has taken nothing of what was to be written.
    blocked_us: Option<u64>,
    /// Until the first byte: a stopping node waits for no first request.
    silent: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    open: IntGauge,
    closed: IntCounterVec,
    _place: Place,
}

impl Connection {
    /// A connection accepted now.
    pub(super) fn new(
        socket: TcpStream,
        activity: Activity,
        open: IntGauge,
        closed: IntCounterVec,
        cancel: CancellationToken,
        place: Place,
    ) -> Self {
        open.inc();
        // A connection just accepted is due later.
        let look_us = activity.verdict(0, None).unwrap_or(0);
        let look = Box::pin(tokio::time::sleep_until(activity.at(look_us)));
        let silent = Some(Box::pin(cancel.cancelled_owned()));
        let activity = Arc::new(activity);
        let blocked_us = None;
        Connection {
            socket: Corked::new(socket),
            activity,
            look,
            look_us,
            blocked_us,
            silent,
            open,
            closed,
            _place: place,
        }
    }

    /// Who the doors see.
    pub fn visitor(&self) -> Visitor {
        Visitor(Arc::clone(&self.activity))
    }

    /// Ready when the connection is to be closed; otherwise the task is woken when it may be.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        loop {
            ready!(self.look.as_mut().poll(cx));
            match self.activity.verdict(self.activity.now_us(), self.blocked_us) {
                Ok(look_us) => self.look_at(look_us),
                Err(why) => return Poll::Ready(why),
            }
        }
    }

    fn look_at(&mut self, look_us: u64) {
        self.look_us = look_us;
        let at: Instant = self.activity.at(look_us);
        self.look.as_mut().reset(at);
    }

    /// Looks again at the latest then.
    fn look_by(&mut self, look_us: u64) {
        if self.look_us > look_us {
            self.look_at(look_us);
        }
    }

    fn count(&self, why: Closed) {
        self.closed.with_label_values(&[why.name()]).inc();
        tracing::debug!(why = why.name(), "connection closed");
    }

    /// What reading or writing comes to while it would block.
    fn poll_blocked(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let why = ready!(self.poll_over(cx));
        self.count(why);
        match why {
            // Nothing read and no error: end of file.
            Closed::Handshake | Closed::Idle => Poll::Ready(Ok(())),
            Closed::Stalled => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Notes whether the socket takes what is written.
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        wrote: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.blocked_us = None;
            return wrote;
        }
        if self.blocked_us.is_none() {
            let now_us = self.activity.now_us();
            self.blocked_us = Some(now_us);
            // A verdict cannot be due yet, but must be before the stall has lasted too long.
            if let Ok(look_us) = self.activity.verdict(now_us, self.blocked_us) {
                self.look_by(look_us);
            }
        }
        match ready!(self.poll_blocked(cx)) {
            Ok(()) => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl Connected for Connection {
    type ConnectInfo = Visitor;

    fn connect_info(&self) -> Visitor {
        self.visitor()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.socket).poll_read(cx, buf) {
            this.silent = None;
            let (now_us, stall_us) = this.activity.has_read(buf.filled().len() - before);
            // It may be a request, whose answer must be taken.
            this.look_by(now_us.saturating_add(stall_us));
            return Poll::Ready(read);
        }
        if let Some(silent) = &mut this.silent
            && silent.as_mut().poll(cx).is_ready()
        {
            this.silent = None;
            return Poll::Ready(Ok(()));
        }
        this.poll_blocked(cx)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.socket).poll_write(cx, data);
        self.written(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.socket).poll_write_vectored(cx, parts);
        self.written(cx, wrote)
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
