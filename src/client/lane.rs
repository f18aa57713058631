//! One `Pipeline` stream to a node, shared by all callers.
//!
//! Callers put jobs into a bounded queue; the stream of requests takes them from there when the
//! connection has room, so no task stands in between. Replies find their callers by id.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::Stream;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::error::Failure;
use crate::pb;
use crate::pb::cache_service_client::CacheServiceClient;
use crate::pb::pipeline_request::Operation;
use crate::types::clock::{Instant, now};
use crate::types::task;

type Reply = Result<pb::PipelineResponse, Failure>;

/// An operation that waits for its turn on the stream.
struct Job {
    operation: Operation,
    until: Instant,
    /// Set before the operation is handed to the connection, and never by a caller who gave up.
    sent: Arc<AtomicBool>,
    reply: oneshot::Sender<Reply>,
}

/// Who waits for which reply.
#[derive(Debug, Default)]
struct Waiting {
    replies: HashMap<u64, oneshot::Sender<Reply>>,
    next_id: u64,
    /// The stream has ended; nothing may be sent any more.
    ended: bool,
    /// The requests' side, while it waits for room.
    full: Option<Waker>,
}

#[derive(Debug)]
struct Shared {
    /// Not async: held for a look-up.
    waiting: Mutex<Waiting>,
    in_flight_max: usize,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Lane {
    jobs: mpsc::Sender<Job>,
    shared: Arc<Shared>,
}

impl Lane {
    /// Opens a stream; it ends by itself when the lane is dropped.
    pub async fn open(
        mut client: CacheServiceClient<Channel>,
        in_flight_max: usize,
    ) -> Result<Lane, Status> {
        let (jobs, queue) = mpsc::channel(in_flight_max);
        let shared = Arc::new(Shared { waiting: Mutex::default(), in_flight_max });
        let requests = Requests { queue, shared: Arc::clone(&shared), stepped_back: false };
        let replies = client.pipeline(requests).await?.into_inner();
        task::spawn("client replies", read(replies, Arc::clone(&shared)));
        Ok(Lane { jobs, shared })
    }

    /// Whether operations can still be sent.
    pub fn lives(&self) -> bool {
        !self.shared.waiting.lock().ended
    }

    /// Sends an operation and waits for its reply, until `until` at most.
    pub async fn call(&self, operation: Operation, until: Instant) -> Reply {
        let (reply, answer) = oneshot::channel();
        let sent = Arc::new(AtomicBool::new(false));
        let job = Job { operation, until, sent: Arc::clone(&sent), reply };
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Closed(_)) => {
                return Err(Failure::ended());
            }
            Err(mpsc::error::TrySendError::Full(job)) => {
                match tokio::time::timeout_at(until, self.jobs.send(job)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Err(Failure::ended()),
                    Err(_) => return Err(Failure::too_many("the queue to the node is full")),
                }
            }
        }
        match tokio::time::timeout_at(until, answer).await {
            Ok(Ok(reply)) => reply,
            // Dropped without a word: the stream's own side went away.
            Ok(Err(_)) => Err(Failure::silent(sent.load(Ordering::SeqCst), "the stream broke")),
            // Claimed here, it will not be sent; see `Requests::poll_next`.
            Err(_) if sent.swap(true, Ordering::SeqCst) => {
                Err(Failure::silent(true, "no answer in time"))
            }
            Err(_) => Err(Failure::too_late("its time was over before it was sent")),
        }
    }
}

/// Hands each reply to its caller until the stream ends.
async fn read(mut replies: Streaming<pb::PipelineResponse>, shared: Arc<Shared>) {
    let why = loop {
        match replies.message().await {
            Ok(Some(reply)) => {
                let (caller, room) = {
                    let mut waiting = shared.waiting.lock();
                    (waiting.replies.remove(&reply.id), waiting.full.take())
                };
                if let Some(room) = room {
                    room.wake();
                }
                if let Some(caller) = caller {
                    // Who gave up does not mind.
                    drop(caller.send(Ok(reply)));
                }
            }
            Ok(None) => break "the node ended the stream".to_owned(),
            Err(status) => break Failure::of_status(&status).message,
        }
    };
    let (callers, full) = {
        let mut waiting = shared.waiting.lock();
        waiting.ended = true;
        (std::mem::take(&mut waiting.replies), waiting.full.take())
    };
    for caller in callers.into_values() {
        drop(caller.send(Err(Failure::silent(true, why.clone()))));
    }
    if let Some(full) = full {
        full.wake();
    }
}

/// The requests as the connection takes them.
struct Requests {
    queue: mpsc::Receiver<Job>,
    shared: Arc<Shared>,
    /// Whether the queue was let fill up since it was last empty.
    stepped_back: bool,
}

impl Requests {
    /// Registers a job and gives its message; `None` if its caller has given up, or the stream has
    /// ended and the caller is told so.
    fn start(&self, job: Job) -> Option<pb::PipelineRequest> {
        if job.reply.is_closed() || job.sent.swap(true, Ordering::SeqCst) {
            return None;
        }
        let mut waiting = self.shared.waiting.lock();
        if waiting.ended {
            drop(waiting);
            drop(job.reply.send(Err(Failure::ended())));
            return None;
        }
        let id = waiting.next_id;
        waiting.next_id += 1;
        waiting.replies.insert(id, job.reply);
        drop(waiting);
        let timeout = ttl(job.until.saturating_duration_since(now()));
        Some(pb::PipelineRequest { id, operation: Some(job.operation), timeout: Some(timeout) })
    }

    /// Whether the stream may take another job; wakes the task when it may.
    fn has_room(&self, cx: &Context<'_>) -> bool {
        let mut waiting = self.shared.waiting.lock();
        let room = waiting.replies.len() < self.shared.in_flight_max || waiting.ended;
        if !room {
            waiting.full = Some(cx.waker().clone());
        }
        room
    }
}

impl Stream for Requests {
    type Item = pb::PipelineRequest;

    /// What is ready in one turn leaves in one write: before the first request after a silence the
    /// task steps back once, so that callers who became ready together are sent together.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.stepped_back && !self.queue.is_empty() {
            self.stepped_back = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            if !self.has_room(cx) {
                return Poll::Pending;
            }
            match self.queue.poll_recv(cx) {
                Poll::Ready(Some(job)) => {
                    if let Some(request) = self.start(job) {
                        self.stepped_back = true;
                        return Poll::Ready(Some(request));
                    }
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    self.stepped_back = false;
                    return Poll::Pending;
                }
            }
        }
    }
}

/// As the wire has it.
pub(super) fn ttl(time: Duration) -> pb::Ttl {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let nanos = i32::try_from(time.subsec_nanos()).expect("less than a second fits");
    pb::Ttl { seconds, nanos }
}
