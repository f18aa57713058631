//! A connection of RESP2, with commands under way and replies in their order.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::Context as _;
use bytes::{Buf as _, BufMut, BytesMut};
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

use crate::bench::drive::Outcome;
use crate::bench::options::authority;

/// Room for what one read may bring, bytes.
const READ_BYTES: usize = 16 * 1024;

/// See the module's text.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    written: BytesMut,
    read: BytesMut,
    /// Slots of the commands under way, oldest first.
    under_way: VecDeque<usize>,
}

impl Connection {
    /// Connects.
    pub async fn open(addr: &str) -> anyhow::Result<Connection> {
        let socket = TcpStream::connect(authority(addr)?).await;
        let socket = socket.with_context(|| format!("cannot reach {addr}"))?;
        socket.set_nodelay(true)?;
        let (written, read) = (BytesMut::new(), BytesMut::new());
        Ok(Connection { socket, written, read, under_way: VecDeque::new() })
    }

    /// Puts a command into the buffer; `flush` sends it.
    pub fn put(&mut self, slot: usize, words: &[&[u8]]) {
        self.written.put_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            self.written.put_slice(format!("${}\r\n", word.len()).as_bytes());
            self.written.put_slice(word);
            self.written.put_slice(b"\r\n");
        }
        self.under_way.push_back(slot);
    }

    /// Sends what was put. Replies are read meanwhile: a server may take no more before some of its
    /// own were taken.
    pub async fn flush(&mut self) -> anyhow::Result<()> {
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<anyhow::Result<()>> {
        while !self.written.is_empty() {
            match Pin::new(&mut self.socket).poll_write(cx, &self.written)? {
                Poll::Ready(bytes) => self.written.advance(bytes),
                Poll::Pending => std::task::ready!(self.poll_read(cx))?,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what has come.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<anyhow::Result<()>> {
        let mut room = [0; READ_BYTES];
        let mut room = ReadBuf::new(&mut room);
        std::task::ready!(Pin::new(&mut self.socket).poll_read(cx, &mut room))?;
        if room.filled().is_empty() {
            return Poll::Ready(Err(anyhow::anyhow!("the connection was closed")));
        }
        self.read.extend_from_slice(room.filled());
        Poll::Ready(Ok(()))
    }

    /// A reply that has arrived, with the slot of its command.
    pub fn ready(&mut self) -> anyhow::Result<Option<(usize, BytesFrame)>> {
        if self.read.is_empty() {
            return Ok(None);
        }
        let Some((frame, _, _)) = decode_bytes_mut(&mut self.read)? else { return Ok(None) };
        let slot = self.under_way.pop_front().context("a reply nobody waits for")?;
        Ok(Some((slot, frame)))
    }

    /// The next reply. Nothing is lost if it is asked for again later.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<anyhow::Result<(usize, BytesFrame)>> {
        loop {
            if let Some(reply) = self.ready()? {
                return Poll::Ready(Ok(reply));
            }
            std::task::ready!(self.poll_read(cx))?;
        }
    }

    /// One command and its reply.
    pub async fn ask(&mut self, words: &[&str]) -> anyhow::Result<BytesFrame> {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.put(0, &words);
        self.flush().await?;
        let (_, frame) = std::future::poll_fn(|cx| self.poll(cx)).await?;
        match frame {
            BytesFrame::Error(error) => anyhow::bail!("{error}"),
            frame => Ok(frame),
        }
    }
}

/// What a reply says of its command.
pub fn outcome(frame: &BytesFrame) -> Outcome {
    match frame {
        BytesFrame::Error(error) => Outcome::Failed(error.to_string()),
        BytesFrame::Null => Outcome::Missed,
        _ => Outcome::Done,
    }
}

#[cfg(test)]
mod tests {
    use redis_protocol::resp2::types::Resp2Frame as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn commands_are_words_and_replies_find_their_slots_in_order() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let mut near = Connection::open(&addr).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        near.put(7, &[b"SET", b"k", b"v\r\n"]);
        near.put(3, &[b"GET", b"k"]);
        near.flush().await.unwrap();
        let sent = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\nv\r\n\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
        let mut got = vec![0; sent.len()];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(got, sent);

        assert!(near.ready().unwrap().is_none());
        far.write_all(b"+OK\r\n$3\r\nv").await.unwrap();
        let (slot, frame) = std::future::poll_fn(|cx| near.poll(cx)).await.unwrap();
        assert_eq!((slot, outcome(&frame)), (7, Outcome::Done));
        far.write_all(b"\r\n\r\n-ERR more\r\n").await.unwrap();
        let (slot, frame) = std::future::poll_fn(|cx| near.poll(cx)).await.unwrap();
        assert_eq!((slot, frame.as_bytes()), (3, Some(&b"v\r\n"[..])));
        let unasked = std::future::poll_fn(|cx| near.poll(cx)).await;
        assert!(unasked.is_err(), "a reply nobody waits for");
    }

    /// More is written than any socket holds, to who takes nothing before its own was taken.
    #[tokio::test]
    async fn replies_are_read_while_commands_are_written() {
        const COMMANDS: usize = 64;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut near = Connection::open(&listener.local_addr().unwrap().to_string()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let large = vec![b'v'; 1 << 20];
        (0..COMMANDS).for_each(|slot| near.put(slot, &[b"SET", b"k", &large]));
        let commands = near.written.len();
        let answers = async {
            for _ in 0..COMMANDS {
                let mut reply = format!("${}\r\n", large.len()).into_bytes();
                reply.extend_from_slice(&large);
                reply.extend_from_slice(b"\r\n");
                far.write_all(&reply).await.unwrap();
            }
            let mut taken = vec![0; commands];
            far.read_exact(&mut taken).await.unwrap();
            far
        };
        let both = async { tokio::join!(near.flush(), answers) };
        let (flushed, _far) =
            tokio::time::timeout(std::time::Duration::from_secs(60), both).await.unwrap();
        flushed.unwrap();
        for expected in 0..COMMANDS {
            let (slot, frame) = std::future::poll_fn(|cx| near.poll(cx)).await.unwrap();
            assert_eq!((slot, frame.as_bytes().unwrap().len()), (expected, large.len()));
        }
    }
}
