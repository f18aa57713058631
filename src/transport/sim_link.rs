//! One direction between two simulated nodes: frames in flight and the handlers at work on them.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::sim::{Fate, SimNetwork};
use super::{Error, FrameKind, Refusal};
use crate::types::clock::{Instant, now};
use crate::types::task::spawn;
use crate::types::{GroupId, NodeId};

/// What a handler's future ends with; `Err` is its panic.
type Handled = std::thread::Result<Result<Bytes, Refusal>>;

/// A frame and its caller.
pub(super) struct Parcel {
    pub(super) group: GroupId,
    pub(super) kind: FrameKind,
    pub(super) payload: Bytes,
    pub(super) answer: oneshot::Sender<Result<Bytes, Error>>,
}

/// A connection from one node to another.
pub(super) struct SimLink {
    from: NodeId,
    to: NodeId,
    state: Mutex<State>,
    changed: Notify,
    broken: CancellationToken,
}

#[derive(Default)]
struct State {
    /// By time of arrival, then in the order sent.
    in_flight: BTreeMap<(Instant, u64), Parcel>,
    sent: u64,
    last_arrival: Option<Instant>,
    /// Callers of what was lost: they hear nothing before the connection breaks.
    lost: Vec<oneshot::Sender<Result<Bytes, Error>>>,
}

impl SimLink {
    /// A connection, with the task that serves it until it breaks.
    pub(super) fn open(network: SimNetwork, from: NodeId, to: NodeId) -> Arc<Self> {
        let link = Arc::new(SimLink {
            from,
            to,
            state: Mutex::default(),
            changed: Notify::new(),
            broken: CancellationToken::new(),
        });
        let served = Arc::clone(&link);
        // Ends when the link is reset; everything it holds is dropped then.
        drop(spawn("simulated link", async move {
            tokio::select! {
                biased;
                () = served.broken.cancelled() => {}
                () = served.serve(&network) => {}
            }
        }));
        link
    }

    /// Puts a frame on its way.
    pub(super) fn send(&self, parcel: Parcel, fate: Fate, reorder: bool) {
        let mut state = self.state.lock();
        state.lost.retain(|caller| !caller.is_closed());
        match fate {
            Fate::Lost => state.lost.push(parcel.answer),
            Fate::Arrives(drawn) => {
                let arrival = match state.last_arrival {
                    Some(last) if !reorder => drawn.max(last),
                    _ => drawn,
                };
                state.last_arrival = Some(state.last_arrival.map_or(arrival, |l| l.max(arrival)));
                state.sent += 1;
                let key = (arrival, state.sent);
                state.in_flight.insert(key, parcel);
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Breaks the connection: who waits for an answer hears so, who works on one is dropped.
    pub(super) fn reset(&self) {
        self.broken.cancel();
        let mut state = self.state.lock();
        // Dropping the senders tells the callers.
        state.in_flight.clear();
        state.lost.clear();
    }

    async fn serve(&self, network: &SimNetwork) {
        let mut running: FuturesUnordered<BoxFuture<'static, Done>> = FuturesUnordered::new();
        let mut answers: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
        loop {
            while let Some(parcel) = self.due() {
                self.deliver(network, parcel, &mut running, &mut answers);
            }
            let next = self.state.lock().in_flight.keys().next().map(|(arrival, _)| *arrival);
            let arrival = async {
                match next {
                    Some(arrival) => tokio::time::sleep_until(arrival).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(done) = running.next() => self.reply(network, done, &mut answers),
                Some(()) = answers.next() => {}
                () = self.changed.notified() => {}
                () = arrival => {}
            }
        }
    }

    fn due(&self) -> Option<Parcel> {
        let mut state = self.state.lock();
        let first = state.in_flight.first_entry()?;
        (first.key().0 <= now()).then(|| first.remove())
    }

    /// Hands a frame to the node's handler and polls the future once, as a real connection does.
    fn deliver(
        &self,
        network: &SimNetwork,
        parcel: Parcel,
        running: &mut FuturesUnordered<BoxFuture<'static, Done>>,
        answers: &mut FuturesUnordered<BoxFuture<'static, ()>>,
    ) {
        let Parcel { group, kind, payload, answer } = parcel;
        let Some(handler) = network.handler(self.to) else {
            // It crashed in this very moment, which resets this link as well.
            return drop(answer);
        };
        let (from, to) = (self.from, self.to);
        // A panic costs its own call, as on a real connection: `handle` runs at the first poll,
        // which is right below.
        let guarded = async move { handler.handle(from, group, kind, payload).await };
        let mut handling = AssertUnwindSafe(guarded).catch_unwind().boxed();
        let watched = network.clone();
        let done = move |result: Handled| {
            let result = match result {
                Ok(result) => {
                    result.map_err(|refusal| Error::Refused { peer: to, detail: refusal.0 })
                }
                Err(_) => {
                    watched.count_panic();
                    tracing::error!(%from, %to, ?kind, "handler of a simulated node panicked");
                    Err(Error::NoAnswer { peer: to, detail: "its handler panicked".to_owned() })
                }
            };
            Done { kind, result, answer }
        };
        let mut context = Context::from_waker(Waker::noop());
        match tokio::task::unconstrained(&mut handling).poll_unpin(&mut context) {
            Poll::Ready(result) => self.reply(network, done(result), answers),
            Poll::Pending => running.push(async move { done(handling.await) }.boxed()),
        }
    }

    /// Puts an answer on its way back.
    fn reply(
        &self,
        network: &SimNetwork,
        done: Done,
        answers: &mut FuturesUnordered<BoxFuture<'static, ()>>,
    ) {
        let Done { kind, result, answer } = done;
        match network.fate(self.to, self.from, kind) {
            Fate::Lost => self.state.lock().lost.push(answer),
            Fate::Arrives(arrival) => answers.push(
                async move {
                    tokio::time::sleep_until(arrival).await;
                    // A caller that stopped waiting hears nothing.
                    let _ = answer.send(result);
                }
                .boxed(),
            ),
        }
    }
}

/// A handler has answered.
struct Done {
    kind: FrameKind,
    result: Result<Bytes, Error>,
    answer: oneshot::Sender<Result<Bytes, Error>>,
}
