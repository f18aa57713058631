//! What the caller's side sends: our hello, then every frame queued, one message each time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio_stream::Stream;

use super::link::{Link, Take};
use super::proto::{Hello, PeerMessage};
use super::step_back::StepBack;
use crate::types::metrics::Metrics;

/// The request stream of one connection. HTTP/2 polls it when the peer can take more, so frames
/// gather in the link meanwhile and leave together.
#[derive(Debug)]
pub struct Outbox {
    link: Arc<Link>,
    generation: u64,
    hello: Option<Hello>,
    metrics: Arc<Metrics>,
    /// Others may queue more frames for the message.
    step: StepBack,
}

impl Outbox {
    /// The outbox of the connection that [`Link::connecting`] gave `generation`.
    pub fn new(link: Arc<Link>, generation: u64, hello: Hello, metrics: Arc<Metrics>) -> Self {
        Outbox { link, generation, hello: Some(hello), metrics, step: StepBack::default() }
    }
}

impl Stream for Outbox {
    type Item = PeerMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PeerMessage>> {
        if let Some(hello) = self.hello.take() {
            return Poll::Ready(Some(PeerMessage { hello: Some(hello), frames: Vec::new() }));
        }
        ready!(self.step.poll(cx));
        self.step.again();
        match self.link.take(self.generation, cx.waker()) {
            Take::Frames(frames) => {
                self.metrics.peer_messages.inc();
                self.metrics.peer_frames.inc_by(frames.len() as u64);
                Poll::Ready(Some(PeerMessage { hello: None, frames }))
            }
            Take::Nothing => Poll::Pending,
            Take::Over => Poll::Ready(None),
        }
    }
}
