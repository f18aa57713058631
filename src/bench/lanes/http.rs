//! HTTP/1.1: `PUT` and `GET /cache/{key}` with raw bytes, one operation at a time on a connection.

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::bench::drive::Call;
use crate::bench::options::authority;
use crate::bench::workload::Op;
use crate::types::task;

/// A caller with a connection of its own.
#[derive(Debug)]
pub struct Http {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Http {
    /// Connects.
    pub async fn open(addr: &str) -> anyhow::Result<Http> {
        let socket = TcpStream::connect(authority(addr)?).await;
        let socket = socket.with_context(|| format!("cannot reach {addr}"))?;
        socket.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(socket)).await?;
        // Its errors reach us through the sender.
        task::spawn("bench http connection", async move { drop(connection.await) });
        Ok(Http { sender, host: addr.to_owned() })
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
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let code = response.status();
        response.into_body().collect().await?;
        Ok(code)
    }
}

impl Call for Http {
    async fn call(&mut self, op: Op) -> Result<(), String> {
        let read = op.value.is_none();
        match self.exchange(op).await {
            Ok(code) if code.is_success() => Ok(()),
            // A key that is not there is an answer.
            Ok(StatusCode::NOT_FOUND) if read => Ok(()),
            Ok(code) => Err(format!("answered {code}")),
            Err(error) => Err(format!("{error:#}")),
        }
    }
}
