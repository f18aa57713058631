//! A connection's socket with what was read from it and what is to be written to it.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};

use crate::codec::resp::encode::{Output, SLICES_MAX};
use crate::front::connection::Connection;

/// Room for one read of a connection that says little.
const READ_BYTES_MIN: usize = 4 * 1024;
/// And of one that fills it.
const READ_BYTES_MAX: usize = 64 * 1024;

/// How much a connection is read on after the last answer.
const LINGER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// See the module's text.
pub(super) struct Wire {
    socket: Connection,
    /// Read and not yet parsed.
    pub(super) input: BytesMut,
    /// Not yet written.
    pub(super) output: Output,
    /// Something was written since the last flush.
    dirty: bool,
    read_bytes: usize,
    /// Read since the input was last given back.
    read_since: usize,
}

/// What a wait ended with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// More was read.
    Read,
    /// The client will say nothing more.
    End,
    /// So little waits to be written that the connection may go on.
    Room,
}

impl Wire {
    pub(super) fn new(socket: Connection) -> Self {
        Wire {
            socket,
            input: BytesMut::new(),
            output: Output::default(),
            dirty: false,
            read_bytes: READ_BYTES_MIN,
            read_since: 0,
        }
    }

    /// Gives the input's memory back when nothing is in it and much has passed through it: an idle
    /// connection does not keep what its largest request took.
    pub(super) fn rest(&mut self) {
        if self.input.is_empty() && self.read_since > READ_BYTES_MAX {
            self.input = BytesMut::new();
            (self.read_bytes, self.read_since) = (READ_BYTES_MIN, 0);
        }
    }

    /// Waits for more input, and writes what waits meanwhile. With more than `output_bytes_max`
    /// waiting nothing is read: whoever does not take answers is not asked for requests.
    pub(super) async fn next(&mut self, output_bytes_max: usize) -> io::Result<Event> {
        let full = self.output.len() > output_bytes_max;
        let waited = !self.output.is_empty();
        poll_fn(|cx| {
            let wrote = self.poll_write(cx)?;
            if full {
                let room = wrote.is_ready() || self.output.len() <= output_bytes_max;
                return if room { Poll::Ready(Ok(Event::Room)) } else { Poll::Pending };
            }
            match self.poll_read(cx) {
                // Everything was taken: the connection is idle from now on.
                Poll::Pending if waited && wrote.is_ready() => Poll::Ready(Ok(Event::Room)),
                read => read,
            }
        })
        .await
    }

    /// Works on something, and writes what waits meanwhile.
    pub(super) async fn during<F: Future>(&mut self, work: F) -> io::Result<F::Output> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if !self.output.is_empty() {
                // Pending or not: who is waited for is the work.
                let _ = self.poll_write(cx)?;
            }
            work.as_mut().poll(cx).map(Ok)
        })
        .await
    }

    /// Writes all that waits.
    pub(super) async fn drain(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_write(cx)?.map(Ok)).await
    }

    /// Writes all that waits, and tells the client that nothing follows.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        self.drain().await?;
        poll_fn(|cx| Pin::new(&mut self.socket).poll_shutdown(cx)).await
    }

    /// Reads on after `close` without a look at it, until the client closes as well or for `patience`: a
    /// socket that is closed with unread bytes, or sent more, tells its peer so at once, and answers that
    /// the peer has not read are lost.
    pub(super) async fn linger(&mut self, patience: Duration) {
        self.input.clear();
        let mut left = LINGER_BYTES_MAX;
        let read_on = async {
            while left > 0
                && let Ok(read @ 1..) = self.socket.read_buf(&mut self.input).await
            {
                left = left.saturating_sub(read);
                self.input.clear();
            }
        };
        // Whoever still sends then has had the time to read.
        let _ = tokio::time::timeout(patience, read_on).await;
    }

    /// Ready when nothing waits to be written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        while !self.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.output.slices(&mut slices);
            match Pin::new(&mut self.socket).poll_write_vectored(cx, &slices[..count]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => {
                    self.output.advance(written);
                    self.dirty = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(Poll::Pending),
            }
        }
        if self.dirty {
            match Pin::new(&mut self.socket).poll_flush(cx) {
                Poll::Ready(flushed) => flushed?,
                Poll::Pending => return Ok(Poll::Pending),
            }
            self.dirty = false;
        }
        Ok(Poll::Ready(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Event>> {
        let room = self.input.capacity() - self.input.len();
        if room < self.read_bytes / 2 {
            // Grows with what was read, never with what a client announces.
            self.input.reserve(self.read_bytes);
        }
        let room = self.input.capacity() - self.input.len();
        let read = pin!(self.socket.read_buf(&mut self.input)).poll(cx);
        let read = ready!(read)?;
        if read == 0 {
            return Poll::Ready(Ok(Event::End));
        }
        self.read_since = self.read_since.saturating_add(read);
        if read == room {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
        }
        Poll::Ready(Ok(Event::Read))
    }
}
