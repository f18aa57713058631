//! A socket that writes late: what becomes ready in one turn of the scheduler leaves in one system
//! call.
//!
//! A connection would write once for each answer although many are about to follow. Here the first
//! write after a flush steps back (`step_back`); HTTP/2 gathers frames meanwhile.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tonic::transport::{Channel, Endpoint, Error};

use super::step_back::StepBack;

/// A write of this many bytes has gathered enough.
const ENOUGH_BYTES: usize = 16 * 1024;

/// See the module's text.
#[derive(Debug)]
pub struct Corked {
    socket: TcpStream,
    /// Once since the last flush.
    step: StepBack,
}

impl Corked {
    /// Wraps a connected socket.
    pub fn new(socket: TcpStream) -> Self {
        Corked { socket, step: StepBack::default() }
    }

    /// `Pending` once before the first write after a flush; the task is woken already.
    fn gather(&mut self, bytes: usize, cx: &Context<'_>) -> Poll<()> {
        if bytes >= ENOUGH_BYTES { Poll::Ready(()) } else { self.step.poll(cx) }
    }
}

/// Connects to `endpoint` over such a socket, without Nagle's delay. Its other settings hold.
pub async fn connect(endpoint: &Endpoint) -> Result<Channel, Error> {
    let dial = tower::service_fn(|uri: http::Uri| async move {
        let authority = uri.authority().ok_or_else(|| io::Error::other("an address has a host"))?;
        // An IPv6 address stands in brackets.
        let host = authority.host().trim_matches(['[', ']']);
        let socket = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
        socket.set_nodelay(true)?;
        Ok::<_, io::Error>(TokioIo::new(Corked::new(socket)))
    });
    endpoint.connect_with_connector(dial).await
}

impl Connected for Corked {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.socket.connect_info()
    }
}

impl AsyncRead for Corked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Corked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.gather(data.len(), cx));
        Pin::new(&mut self.socket).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.gather(parts.iter().map(|part| part.len()).sum(), cx));
        Pin::new(&mut self.socket).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.step.again();
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Corked, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Corked::new(near), listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn the_first_write_after_a_flush_steps_back_once() {
        let (mut near, mut far) = pair().await;
        let mut poll = |data: &[u8]| {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            Pin::new(&mut near).poll_write(&mut cx, data).map(Result::unwrap)
        };
        assert_eq!(poll(b"ab"), Poll::Pending, "others may go first");
        assert_eq!(poll(b"ab"), Poll::Ready(2));
        assert_eq!(poll(b"cd"), Poll::Ready(2), "not again before a flush");
        near.flush().await.unwrap();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut near).poll_write(&mut cx, b"ef").is_pending());
        let large = vec![0; ENOUGH_BYTES];
        let mut near = Corked::new(near.socket);
        assert!(Pin::new(&mut near).poll_write(&mut cx, &large).is_ready(), "enough is enough");
        let mut read = [0; 4];
        far.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"abcd");
    }

    #[tokio::test]
    async fn what_is_written_arrives_by_itself() {
        let (mut near, mut far) = pair().await;
        for _ in 0..3 {
            near.write_all(b"hello").await.unwrap();
            near.flush().await.unwrap();
            let mut read = [0; 5];
            far.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"hello");
        }
        drop(near);
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0, "and the end of it");
    }
}
