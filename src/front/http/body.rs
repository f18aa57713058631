//! Bodies of requests: bounded in bytes and time, one by one and all together (INV-8).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use prometheus::IntCounter;
use tokio::time::timeout_at;

use super::problem::{Oddity, Problem};
use crate::core::table::RoutingTable;
use crate::front::FrontLimits;
use crate::raft::delay::RETRY_AFTER;
use crate::types::clock::{Instant, now};
use crate::types::metrics::Metrics;
use crate::types::{Error, Reason};

/// How much of a refused body is read on, and for how long.
const SKIP_BYTES_MAX: usize = 16 * 1024 * 1024;
const SKIP: Duration = Duration::from_secs(5);

const WHAT: &str = "bytes of HTTP bodies being read";

/// The bodies that are being read.
#[derive(Debug)]
pub(super) struct Bodies {
    /// Bytes of them that this node holds.
    held: AtomicUsize,
    held_max: usize,
    /// Between two pieces.
    piece: Duration,
    /// From the head to the end.
    whole: Duration,
    refused_large: IntCounter,
    refused_slow: IntCounter,
    refused_held: IntCounter,
}

/// A share of `Bodies::held`; given back when dropped.
struct Held<'a> {
    bodies: &'a Bodies,
    bytes: usize,
}

impl Held<'_> {
    fn more(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes;
        let before = self.bodies.held.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes <= self.bodies.held_max {
            return Ok(());
        }
        let reason = Reason::ResourceExhausted { what: WHAT, limit: self.bodies.held_max as u64 };
        Err(Error::from(reason).retry_after(RETRY_AFTER))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.bodies.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Bodies {
    pub(super) fn new(limits: &FrontLimits, metrics: &Metrics) -> Self {
        let refused = |limit| metrics.refused.with_label_values(&[limit]);
        Bodies {
            held: AtomicUsize::new(0),
            held_max: limits.http_bodies_bytes_max,
            piece: Duration::from_millis(limits.stall_timeout_ms),
            whole: Duration::from_millis(limits.deadline_ms_max),
            refused_large: refused("http_body_bytes"),
            refused_slow: refused("http_body_time"),
            refused_held: refused("http_bodies_bytes"),
        }
    }

    /// Reads a body of at most `bytes_max` bytes to its end. One that comes in a single piece is not
    /// copied.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        mut body: Body,
        bytes_max: usize,
    ) -> Result<Bytes, Problem> {
        if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            let detail = "Content-Encoding is not supported; send the body as it is";
            return Err(Oddity::UnsupportedMediaType.problem(detail));
        }
        if content_length(headers).is_some_and(|length| length > bytes_max as u64) {
            self.skip(&mut body).await;
            return Err(self.too_large(bytes_max));
        }
        let mut held = Held { bodies: self, bytes: 0 };
        let end = now() + self.whole;
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        while let Some(piece) = self.piece(&mut body, end).await? {
            if held.bytes + piece.len() > bytes_max {
                drop(held);
                self.skip(&mut body).await;
                return Err(self.too_large(bytes_max));
            }
            held.more(piece.len()).map_err(|error| {
                self.refused_held.inc();
                Problem::of(&error, &RoutingTable::default())
            })?;
            if first.is_empty() && all.is_empty() {
                first = piece;
                continue;
            }
            if all.is_empty() {
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&piece);
        }
        Ok(if all.is_empty() { first } else { all.freeze() })
    }

    /// Reads on past a body that is refused, and keeps nothing: a connection that is closed with unread
    /// bytes is reset, and its client, or the proxy before it, may never see why.
    async fn skip(&self, body: &mut Body) {
        let end = now() + self.piece.min(SKIP);
        let mut left = SKIP_BYTES_MAX;
        while left > 0
            && let Ok(Some(Ok(frame))) = timeout_at(end, body.frame()).await
        {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        }
    }

    /// The next bytes, `None` at the end.
    async fn piece(&self, body: &mut Body, end: Instant) -> Result<Option<Bytes>, Problem> {
        loop {
            let by = end.min(now() + self.piece);
            let Ok(frame) = timeout_at(by, body.frame()).await else {
                self.refused_slow.inc();
                let (piece, whole) = (self.piece, self.whole);
                let detail = format!("each piece within {piece:?}, and all of it within {whole:?}");
                return Err(Oddity::BodyTooSlow.problem(detail));
            };
            match frame {
                None => return Ok(None),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    // Trailers mean nothing here.
                    Ok(_) | Err(_) => {}
                },
                Some(Err(error)) => return Err(Oddity::BodyBroken.problem(error.to_string())),
            }
        }
    }

    fn too_large(&self, bytes_max: usize) -> Problem {
        self.refused_large.inc();
        Oddity::BodyTooLarge.problem(format!("at most {bytes_max} bytes are allowed here"))
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether a body is JSON by its type: `application/json`, or one that ends in `+json`.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = media_type(headers) else { return false };
    kind.eq_ignore_ascii_case("application/json")
        || kind.len() > 5 && kind.as_bytes()[kind.len() - 5..].eq_ignore_ascii_case(b"+json")
}

/// The type of a body without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(kind.split(';').next().unwrap_or_default().trim())
}
