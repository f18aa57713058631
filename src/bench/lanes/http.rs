//! HTTP/1.1: `PUT` and `GET /cache/{key}` with raw bytes, one operation at a time on a connection.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::bench::drive::{Call, Outcome};
use crate::bench::options::authority;
use crate::bench::workload::Op;
use crate::types::task;

/// A caller with a connection of its own.
#[derive(Debug)]
pub struct Http {
    /// None while there is no connection.
    sender: Option<SendRequest<Full<Bytes>>>,
    host: String,
}

/// Before another attempt to connect.
const PAUSE: Duration = Duration::from_millis(100);

impl Http {
    /// Connects.
    pub async fn open(addr: &str) -> anyhow::Result<Http> {
        Ok(Http { sender: Some(Http::connect(addr).await?), host: addr.to_owned() })
    }

    async fn connect(addr: &str) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let socket = TcpStream::connect(authority(addr)?).await;
        let socket = socket.with_context(|| format!("cannot reach {addr}"))?;
        socket.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(socket)).await?;
        // Its errors reach us through the sender.
        task::spawn("bench http connection", async move { drop(connection.await) });
        Ok(sender)
    }

    async fn exchange(&mut self, op: Op) -> anyhow::Result<StatusCode> {
        let key = std::str::from_utf8(&op.key)?;
        let method = if op.value.is_some() { Method::PUT } else { Method::GET };
        let request = Request::builder()
            .method(method)
            .uri(format!("/cache/{key}"))
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(Full::new(op.value.unwrap_or_default()))?;
        let mut sender = match self.sender.take() {
            Some(sender) => sender,
            None => Http::connect(&self.host).await?,
        };
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let code = response.status();
        response.into_body().collect().await?;
        // Sound again: whatever went wrong would have left none.
        self.sender = Some(sender);
        Ok(code)
    }
}

impl Call for Http {
    async fn call(&mut self, op: Op) -> Outcome {
        let read = op.value.is_none();
        match self.exchange(op).await {
            Ok(code) if code.is_success() => Outcome::Done,
            Ok(StatusCode::NOT_FOUND) if read => Outcome::Missed,
            Ok(code) => Outcome::Failed(format!("answered {code}")),
            Err(error) => {
                tokio::time::sleep(PAUSE).await;
                Outcome::Failed(format!("{error:#}"))
            }
        }
    }
}
