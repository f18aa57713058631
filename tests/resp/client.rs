//! A client that knows bytes: it sends what a test wants to send and reads whole replies.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// How long a reply may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A reply as it stands on the wire, with its kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(String),
    Nil,
    /// Of any kind of aggregate; the byte that begins it.
    Many(char, Vec<Reply>),
    /// Any other kind of RESP3, as its line.
    Other(String),
}

impl Reply {
    pub fn text(&self) -> &str {
        match self {
            Reply::Simple(text) | Reply::Error(text) | Reply::Bulk(text) | Reply::Other(text) => {
                text
            }
            other => panic!("{other:?} is no text"),
        }
    }

    pub fn items(&self) -> &[Reply] {
        match self {
            Reply::Many(_, items) => items,
            other => panic!("{other:?} is no array"),
        }
    }
}

pub fn ok() -> Reply {
    Reply::Simple("OK".to_owned())
}

pub fn error(text: &str) -> Reply {
    Reply::Error(text.to_owned())
}

pub fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.to_owned())
}

/// A command as clients send it.
pub fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

pub struct Client {
    pub reader: BufReader<OwnedReadHalf>,
    pub writer: OwnedWriteHalf,
}

impl Client {
    pub async fn connect(address: &str) -> Client {
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let (reader, writer) = socket.into_split();
        Client { reader: BufReader::new(reader), writer }
    }

    /// Sends a command and reads its reply.
    pub async fn call(&mut self, words: &[&str]) -> Reply {
        self.send(&command(words)).await;
        self.reply().await
    }

    /// The same for a line of words.
    pub async fn ask(&mut self, line: &str) -> Reply {
        self.call(&line.split(' ').collect::<Vec<_>>()).await
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.unwrap();
    }

    pub async fn reply(&mut self) -> Reply {
        let read = read(&mut self.reader);
        tokio::time::timeout(PATIENCE, read).await.expect("a reply").expect("no end of file")
    }

    /// Reads until the node closes the connection; what came before.
    pub async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let read = self.reader.read_to_end(&mut rest);
        // A reset is an end as well.
        drop(tokio::time::timeout(PATIENCE, read).await.expect("an end"));
        String::from_utf8_lossy(&rest).into_owned()
    }
}

async fn line(reader: &mut BufReader<OwnedReadHalf>) -> Option<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).await.unwrap();
    let line = line.strip_suffix(b"\r\n")?;
    Some(String::from_utf8_lossy(line).into_owned())
}

/// One reply; `None` at the end of the connection.
fn read(
    reader: &mut BufReader<OwnedReadHalf>,
) -> std::pin::Pin<Box<dyn Future<Output = Option<Reply>> + Send + '_>> {
    Box::pin(async move {
        let line = line(reader).await?;
        let (kind, rest) = line.split_at(1);
        Some(match kind {
            "+" => Reply::Simple(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(rest.parse().unwrap()),
            "_" => Reply::Nil,
            "$" | "=" if rest == "-1" => Reply::Nil,
            "$" | "=" => {
                let mut data = vec![0; rest.parse::<usize>().unwrap() + 2];
                reader.read_exact(&mut data).await.unwrap();
                data.truncate(data.len() - 2);
                let text = String::from_utf8_lossy(&data).into_owned();
                Reply::Bulk(text.strip_prefix("txt:").map_or(text.clone(), str::to_owned))
            }
            "*" if rest == "-1" => Reply::Nil,
            "*" | "~" | ">" | "%" => {
                let mut count: usize = rest.parse().unwrap();
                if kind == "%" {
                    count *= 2;
                }
                let mut items = Vec::new();
                for _ in 0..count {
                    items.push(read(reader).await?);
                }
                Reply::Many(line.chars().next().unwrap(), items)
            }
            _ => Reply::Other(line),
        })
    })
}
