//! A client that sends commands as arrays of bulk strings and reads replies as they come.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::reply::Reply;

/// A command: its words.
pub type Words = Vec<Vec<u8>>;

/// The words of a text, for commands that are written here.
pub fn words(text: &str) -> Words {
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// One connection.
pub struct Client {
    socket: TcpStream,
    /// Bytes that have come and are not read.
    input: Vec<u8>,
}

impl Client {
    pub async fn connect(port: u16) -> std::io::Result<Client> {
        let socket = TcpStream::connect(("127.0.0.1", port)).await?;
        socket.set_nodelay(true)?;
        Ok(Client { socket, input: Vec::new() })
    }

    pub async fn ask(&mut self, command: &Words) -> Reply {
        self.send(command).await;
        self.read().await
    }

    pub async fn send(&mut self, command: &Words) {
        let mut out = format!("*{}\r\n", command.len()).into_bytes();
        for word in command {
            out.extend(format!("${}\r\n", word.len()).into_bytes());
            out.extend(word);
            out.extend(b"\r\n");
        }
        self.socket.write_all(&out).await.unwrap();
    }

    pub async fn read(&mut self) -> Reply {
        loop {
            if let Some((reply, took)) =
                (!self.input.is_empty()).then(|| Reply::parse(&self.input)).flatten()
            {
                self.input.drain(..took);
                return reply;
            }
            let mut more = vec![0; 64 * 1024];
            let read = self.socket.read(&mut more);
            let read = tokio::time::timeout(Duration::from_secs(120), read).await;
            let len = read.expect("an answer within 20 s").unwrap();
            assert!(len > 0, "the server closed the connection");
            self.input.extend(&more[..len]);
        }
    }
}
