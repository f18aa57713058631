//! One peer's connection, served: frames handled in order, answers sent together.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

use super::options::PeerOptions;
use super::proto::{self, Frame, Hello, PeerMessage};
use super::step_back::StepBack;
use super::{FrameKind, Handler, Refusal, other_cluster};
use crate::types::limits::FRAME_BYTES_MAX;
use crate::types::metrics::Metrics;
use crate::types::{GroupId, NodeId};

/// Messages read before the answers so far are sent.
const MESSAGES_PER_TURN: usize = 16;
/// Answers of this many bytes are sent at once.
const GATHERED_BYTES: usize = 64 * 1024;

/// What a connection reads.
pub type Requests = Pin<Box<dyn Stream<Item = Result<PeerMessage, Status>> + Send>>;

/// The answer stream of one connection. Polling it does all the work of the connection: it reads,
/// starts handlers, drives them, and yields what they answered. HTTP/2 stops polling it when the
/// peer takes no more answers, and so stops reading the peer's requests.
pub struct Connection {
    from: NodeId,
    /// The cluster that the peer named when it connected; 0 if it knew none. It connects again when
    /// it knows.
    cluster_id: u128,
    hello: Option<Hello>,
    requests: Requests,
    handler: Arc<dyn Handler>,
    metrics: Arc<Metrics>,
    in_flight_max: usize,
    in_flight_bytes_max: usize,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Frames read and not yet handled.
    inbox: VecDeque<Frame>,
    running: FuturesUnordered<Running>,
    /// Of the requests in `running`, whether or not their handlers still hold them.
    running_bytes: usize,
    /// Answers not yet sent.
    outbox: VecDeque<Frame>,
    outbox_bytes: usize,
    ended: bool,
    /// Others may finish more answers for the message.
    step: StepBack,
}

type Answer = std::thread::Result<Result<Bytes, Refusal>>;

/// A handler at work, and whom to answer.
struct Running {
    id: u64,
    size_bytes: usize,
    future: BoxFuture<'static, Answer>,
}

impl Future for Running {
    /// Id and size of the request, and what its handler answered.
    type Output = (u64, usize, Answer);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (id, size_bytes) = (self.id, self.size_bytes);
        self.future.as_mut().poll(cx).map(|answer| (id, size_bytes, answer))
    }
}

impl Connection {
    /// Serves `from`, a node of that cluster, whose hello was read from `requests`.
    pub fn new(
        (from, cluster_id): (NodeId, u128),
        hello: Hello,
        requests: Requests,
        handler: Arc<dyn Handler>,
        metrics: Arc<Metrics>,
        options: &PeerOptions,
        cancel: CancellationToken,
    ) -> Self {
        Connection {
            from,
            cluster_id,
            hello: Some(hello),
            requests,
            handler,
            metrics,
            in_flight_max: options.in_flight_max,
            in_flight_bytes_max: options.in_flight_bytes_max,
            cancelled: Box::pin(cancel.cancelled_owned()),
            inbox: VecDeque::new(),
            running: FuturesUnordered::new(),
            running_bytes: 0,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            ended: false,
            step: StepBack::default(),
        }
    }

    /// Whether one more handler may be started.
    fn has_room(&self) -> bool {
        self.running.len() < self.in_flight_max && self.running_bytes < self.in_flight_bytes_max
    }

    /// Starts the handlers of the frames read, as far as the limits allow.
    fn start(&mut self) -> Result<(), Status> {
        while self.has_room()
            && self.outbox_bytes < FRAME_BYTES_MAX
            && let Some(frame) = self.inbox.pop_front()
        {
            if frame.status != i32::from(proto::Status::Request) {
                return Err(Status::invalid_argument(format!("status {}", frame.status)));
            }
            let (id, size_bytes) = (frame.id, frame.size_bytes());
            let Some(kind) = FrameKind::from_tag(frame.kind) else {
                let refusal = Refusal(format!("unknown frame kind {}", frame.kind));
                self.finish(id, Ok(Err(refusal)));
                continue;
            };
            if let Some(refusal) = self.foreign(kind) {
                self.finish(id, Ok(Err(refusal)));
                continue;
            }
            let (from, group) = (self.from, GroupId(frame.group));
            let made = std::panic::catch_unwind(AssertUnwindSafe(|| {
                self.handler.handle(from, group, kind, frame.payload)
            }));
            let mut future = match made {
                Ok(future) => AssertUnwindSafe(future).catch_unwind().boxed(),
                Err(panic) => {
                    self.finish(id, Err(panic));
                    continue;
                }
            };
            // Once before the next frame is handled, whatever tokio's budget says. The waker does
            // not matter: what is pending is polled again by `running`.
            let mut context = Context::from_waker(Waker::noop());
            let polled = tokio::task::unconstrained(&mut future).poll_unpin(&mut context);
            match polled {
                Poll::Ready(answer) => self.finish(id, answer),
                Poll::Pending => {
                    self.running_bytes += size_bytes;
                    self.running.push(Running { id, size_bytes, future });
                }
            }
        }
        Ok(())
    }

    /// Groups of different clusters have the same numbers: what does not come from this node's own
    /// cluster is refused, all but the hellos by which nodes find their cluster.
    fn foreign(&self, kind: FrameKind) -> Option<Refusal> {
        let ours = self.handler.cluster_id();
        if ours == 0 || self.cluster_id == ours || kind == FrameKind::Hello {
            return None;
        }
        Some(Refusal(match self.cluster_id {
            0 => {
                format!("{} does not name its cluster, this node belongs to {ours:032x}", self.from)
            }
            theirs => other_cluster(&self.from.to_string(), theirs, ours),
        }))
    }

    /// Puts a handler's answer into the outbox.
    fn finish(&mut self, id: u64, answer: Answer) {
        let (status, payload) = match answer {
            Ok(Ok(payload)) if payload.len() > FRAME_BYTES_MAX => {
                let size = payload.len();
                let text = format!("an answer of {size} bytes is over the limit {FRAME_BYTES_MAX}");
                (proto::Status::Failed, Bytes::from(text))
            }
            Ok(Ok(payload)) => (proto::Status::Answer, payload),
            Ok(Err(Refusal(text))) => (proto::Status::Refused, Bytes::from(text)),
            // What it did before it panicked is unknown, so it must not read as refused.
            Err(panic) => {
                self.metrics.panics.inc();
                let message = panic
                    .downcast_ref::<&str>()
                    .copied()
                    .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                    .unwrap_or("no message");
                tracing::error!(from = %self.from, message, "handler of a peer's frame panicked");
                (proto::Status::Failed, Bytes::from_static(b"its handler panicked"))
            }
        };
        let frame = Frame { id, group: 0, kind: 0, status: status.into(), payload };
        self.outbox_bytes += frame.size_bytes();
        self.outbox.push_back(frame);
    }

    /// Drives running handlers while there is room for their answers.
    fn drive(&mut self, cx: &mut Context<'_>) {
        while self.outbox_bytes < FRAME_BYTES_MAX {
            match Pin::new(&mut self.running).poll_next(cx) {
                Poll::Ready(Some((id, size_bytes, answer))) => {
                    self.running_bytes -= size_bytes;
                    self.finish(id, answer);
                }
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
    }

    /// All answers that fit into one message, the first in any case.
    fn message(&mut self) -> Option<PeerMessage> {
        let mut frames = Vec::with_capacity(self.outbox.len());
        let mut bytes = 0;
        while let Some(frame) = self.outbox.front() {
            let size = frame.size_bytes();
            if !frames.is_empty() && bytes + size > FRAME_BYTES_MAX {
                break;
            }
            bytes += size;
            frames.push(self.outbox.pop_front().expect("just seen at the front"));
        }
        self.outbox_bytes -= bytes;
        if frames.is_empty() {
            return None;
        }
        self.metrics.peer_messages.inc();
        self.metrics.peer_frames.inc_by(frames.len() as u64);
        Some(PeerMessage { hello: None, frames })
    }

    /// One turn: read, start, drive. `true` if more could be read at once.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<bool, Status> {
        for _ in 0..MESSAGES_PER_TURN {
            self.start()?;
            self.drive(cx);
            if self.ended || !self.inbox.is_empty() || !self.has_room() {
                return Ok(!self.inbox.is_empty() && self.has_room());
            }
            match self.requests.as_mut().poll_next(cx) {
                Poll::Ready(Some(message)) => self.inbox = message?.frames.into(),
                Poll::Ready(None) => self.ended = true,
                Poll::Pending => return Ok(false),
            }
        }
        Ok(true)
    }
}

impl Stream for Connection {
    type Item = Result<PeerMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(hello) = this.hello.take() {
            return Poll::Ready(Some(Ok(PeerMessage { hello: Some(hello), frames: Vec::new() })));
        }
        if this.cancelled.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        let more = match this.turn(cx) {
            Ok(more) => more,
            Err(status) => {
                tracing::warn!(from = %this.from, reason = status.message(), "peer connection ends");
                this.ended = true;
                this.inbox.clear();
                this.running.clear();
                return Poll::Ready(Some(Err(status)));
            }
        };
        if !this.outbox.is_empty() && this.outbox_bytes < GATHERED_BYTES {
            ready!(this.step.poll(cx));
        }
        this.step.again();
        if let Some(message) = this.message() {
            return Poll::Ready(Some(Ok(message)));
        }
        if more {
            // Fairness to the other connections of this thread.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // The peer that closed its side waits for no answers.
        if this.ended { Poll::Ready(None) } else { Poll::Pending }
    }
}
