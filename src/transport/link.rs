//! The frames on their way to one peer: queued, sent, and the callers that wait for the answers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::options::PeerOptions;
use super::proto::{Frame, Status};
use super::{Error, FrameKind};
use crate::types::clock::Instant;
use crate::types::limits::FRAME_BYTES_MAX;
use crate::types::{GroupId, NodeId};

type Answer = Result<Bytes, Error>;

/// One peer's queue and waiting callers; shared by callers, the outbox and the reader.
#[derive(Debug)]
pub struct Link {
    peer: NodeId,
    queue_frames_max: usize,
    queue_bytes_max: usize,
    /// std-like lock: held for a few map operations, never across an await.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Counts connections, so that the outbox of a broken one takes nothing any more.
    generation: u64,
    next_id: u64,
    queue: VecDeque<Frame>,
    queue_bytes: usize,
    /// Invariant: each queued frame whose caller still waits is here with `sent` false.
    waiting: HashMap<u64, Waiting>,
    /// Of the outbox, when it found nothing to send.
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Waiting {
    answer: oneshot::Sender<Answer>,
    sent: bool,
}

#[derive(Debug)]
enum Phase {
    /// The very first connection is being made: calls wait for it.
    First,
    /// Frames flow.
    Up,
    /// Known to be down: calls fail at once.
    Down(Arc<str>),
}

/// What an outbox finds.
#[derive(Debug)]
pub enum Take {
    /// Send these now.
    Frames(Vec<Frame>),
    /// Nothing queued; the waker is kept.
    Nothing,
    /// This connection is over.
    Over,
}

impl Link {
    /// An empty link whose first connection is about to be made.
    pub fn new(peer: NodeId, options: &PeerOptions) -> Arc<Self> {
        Arc::new(Link {
            peer,
            queue_frames_max: options.queue_frames_max,
            queue_bytes_max: options.queue_bytes_max,
            state: Mutex::new(State {
                phase: Phase::First,
                generation: 0,
                next_id: 1,
                queue: VecDeque::new(),
                queue_bytes: 0,
                waiting: HashMap::new(),
                waker: None,
            }),
        })
    }

    /// The peer at the other end.
    pub fn peer(&self) -> NodeId {
        self.peer
    }

    /// True while frames can flow.
    pub fn is_up(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Up)
    }

    /// Queues a frame at once; the future waits for its answer.
    pub fn call(
        self: &Arc<Self>,
        group: GroupId,
        kind: FrameKind,
        payload: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'static, Answer> {
        match self.enqueue(group, kind, payload) {
            Ok((id, answer)) => Call { link: Arc::clone(self), id, answer }.wait(deadline).boxed(),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn enqueue(
        &self,
        group: GroupId,
        kind: FrameKind,
        payload: Bytes,
    ) -> Result<(u64, oneshot::Receiver<Answer>), Error> {
        if payload.len() > FRAME_BYTES_MAX {
            return Err(Error::Refused {
                peer: self.peer,
                detail: format!(
                    "a frame of {} bytes is over the limit of {FRAME_BYTES_MAX}",
                    payload.len()
                ),
            });
        }
        let mut state = self.state.lock();
        if let Phase::Down(detail) = &state.phase {
            return Err(self.unreachable(detail));
        }
        let id = state.next_id;
        let status = Status::Request.into();
        let frame = Frame { id, group: group.0, kind: kind.tag(), status, payload };
        if state.queue.len() >= self.queue_frames_max
            || state.queue_bytes + frame.size_bytes() > self.queue_bytes_max
        {
            return Err(self.unreachable("queue full"));
        }
        state.next_id += 1;
        state.queue_bytes += frame.size_bytes();
        state.queue.push_back(frame);
        let (sender, answer) = oneshot::channel();
        state.waiting.insert(id, Waiting { answer: sender, sent: false });
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok((id, answer))
    }

    /// Everything queued, up to one message; `waker` is woken when there is more or it is over.
    pub fn take(&self, generation: u64, waker: &Waker) -> Take {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.generation != generation {
            return Take::Over;
        }
        let mut frames = Vec::new();
        let mut bytes = 0;
        while let Phase::Up = state.phase
            && let Some(frame) = state.queue.front()
        {
            let size = frame.size_bytes();
            if !frames.is_empty() && bytes + size > FRAME_BYTES_MAX {
                break;
            }
            let frame = state.queue.pop_front().expect("just seen at the front");
            state.queue_bytes -= size;
            // Its caller gave up: what was reported as not delivered must not be delivered.
            let Some(waiting) = state.waiting.get_mut(&frame.id) else { continue };
            waiting.sent = true;
            bytes += size;
            frames.push(frame);
        }
        if frames.is_empty() {
            state.waker = Some(waker.clone());
            return Take::Nothing;
        }
        Take::Frames(frames)
    }

    /// A connection is being made; its outbox takes nothing before [`Link::up`].
    pub fn connecting(&self) -> u64 {
        let mut state = self.state.lock();
        state.generation += 1;
        state.generation
    }

    /// The peer has answered our hello: frames may flow.
    pub fn up(&self) {
        let mut state = self.state.lock();
        state.phase = Phase::Up;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The connection broke or could not be made: nobody waits any longer, and calls fail at once.
    pub fn down(&self, detail: &str) {
        let (waiting, waker) = {
            let mut state = self.state.lock();
            state.phase = Phase::Down(detail.into());
            state.generation += 1;
            state.queue.clear();
            state.queue_bytes = 0;
            (std::mem::take(&mut state.waiting), state.waker.take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        let mut waiting: Vec<(u64, Waiting)> = waiting.into_iter().collect();
        waiting.sort_unstable_by_key(|(id, _)| *id);
        for (_, Waiting { answer, sent }) in waiting {
            let error = if sent { self.no_answer(detail) } else { self.unreachable(detail) };
            // A caller that stopped waiting meanwhile needs no answer.
            let _ = answer.send(Err(error));
        }
    }

    /// Hands answers to their callers. `Err` if a frame is no answer: the peer is broken.
    pub fn answer(&self, frames: Vec<Frame>) -> Result<(), String> {
        let mut done = Vec::with_capacity(frames.len());
        {
            let mut state = self.state.lock();
            for frame in frames {
                let answer = self.decode(&frame)?;
                // An answer that nobody waits for any more is late: dropped.
                if let Some(waiting) = state.waiting.remove(&frame.id) {
                    done.push((waiting.answer, answer));
                }
            }
        }
        for (sender, answer) in done {
            // As above: the caller left between our two steps.
            let _ = sender.send(answer);
        }
        Ok(())
    }

    fn decode(&self, frame: &Frame) -> Result<Answer, String> {
        let text = || String::from_utf8_lossy(&frame.payload).into_owned();
        match Status::try_from(frame.status) {
            Ok(Status::Answer) => Ok(Ok(frame.payload.clone())),
            Ok(Status::Refused) => Ok(Err(Error::Refused { peer: self.peer, detail: text() })),
            Ok(Status::Failed) => Ok(Err(Error::NoAnswer { peer: self.peer, detail: text() })),
            Ok(Status::Request) | Err(_) => Err(format!("malformed answer: {}", frame.status)),
        }
    }

    /// The caller leaves; says whether its frame was sent, `None` if it has been answered.
    fn forget(&self, id: u64) -> Option<bool> {
        self.state.lock().waiting.remove(&id).map(|waiting| waiting.sent)
    }

    fn unreachable(&self, detail: &str) -> Error {
        Error::Unreachable { peer: self.peer, detail: detail.to_owned() }
    }

    fn no_answer(&self, detail: &str) -> Error {
        Error::NoAnswer { peer: self.peer, detail: detail.to_owned() }
    }
}

/// A caller that waits; dropping it withdraws the frame if it is still queued.
struct Call {
    link: Arc<Link>,
    id: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Call {
    async fn wait(mut self, deadline: Instant) -> Answer {
        let lost = |link: &Link| link.no_answer("the connection's task ended");
        match tokio::time::timeout_at(deadline, &mut self.answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(lost(&self.link))),
            Err(_) => match self.link.forget(self.id) {
                Some(false) => Err(self.link.unreachable("deadline passed before it was sent")),
                Some(true) => Err(self.link.no_answer("deadline passed")),
                // Answered in this very moment.
                None => self.answer.try_recv().unwrap_or_else(|_| Err(lost(&self.link))),
            },
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.answer.is_terminated() {
            self.link.forget(self.id);
        }
    }
}
