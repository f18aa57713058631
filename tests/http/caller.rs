//! A client that speaks plain HTTP/1.1 and holds every answer to the OpenAPI document.

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use raftcache::types::task::spawn;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::openapi;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The version in the tag.
    pub fn etag(&self) -> u64 {
        self.header("etag").trim_matches('"').parse().unwrap()
    }

    /// An error, by its name.
    #[track_caller]
    pub fn is(&self, status: u16, reason: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let problem = self.json();
        assert_eq!(problem["reason"], reason, "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("/openapi.json#/x-problems/{reason}"));
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.header("raftcache-outcome"), problem["outcome"].as_str().unwrap());
        assert_eq!(problem["outcome"] == "unknown", status == 500 || status == 504, "{problem}");
        assert_eq!(self.headers.contains_key("allow"), status == 405);
    }

    /// An `invalid_argument` that names the field.
    #[track_caller]
    pub fn names(&self, field: &str) {
        self.is(400, "invalid_argument");
        assert_eq!(self.json()["field"], field, "{:?}", self.json());
    }
}

/// Calls one server.
#[derive(Clone, Debug)]
pub struct Caller {
    pub addr: String,
    /// Answers of a proxy are its own.
    documented: bool,
}

pub const JSON: (&str, &str) = ("content-type", "application/json");

impl Caller {
    pub fn new(addr: String) -> Caller {
        Caller { addr, documented: true }
    }

    pub fn of_proxy(addr: String) -> Caller {
        Caller { addr, documented: false }
    }

    pub async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let answer = self.try_call(method, path, headers, body.into()).await.unwrap();
        if self.documented {
            openapi::check(method, path, &answer);
        }
        answer
    }

    pub async fn try_call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, hyper::Error> {
        let socket = TcpStream::connect(&self.addr).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        let connection = spawn("test connection", connection);
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = http::Request::builder().method(method).uri(path);
        request = request.header("host", &self.addr);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = sender.send_request(request.body(Full::new(body)).unwrap()).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        drop(sender);
        connection.abort();
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], "").await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.call("PUT", path, &[JSON], body.to_string()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, &[JSON], body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, &[], "").await
    }
}
