//! A network for the service's tests: no sockets, every fault on request.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::{sleep, sleep_until};

use super::Service;
use super::fake::FakeGroup;
use crate::transport::{self, FrameKind, Transport};
use crate::types::clock::Instant;
use crate::types::task::spawn;
use crate::types::{GroupId, NodeId};

/// What the network does with a frame.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    /// Never delivers it, and says so.
    Unreachable,
    /// Delivers it and loses the answer.
    LoseAnswer,
    /// Loses it without a word until the deadline.
    LoseFrame,
    /// Panics, as no transport should.
    Panic,
    /// Breaks the connection, and delivers the frame a little later all the same.
    DeliverLate,
}

#[derive(Debug, Default)]
pub(super) struct Net {
    pub(super) services: Mutex<BTreeMap<NodeId, Handle>>,
    /// Faults of the next frames, by destination.
    pub(super) cuts: Mutex<VecDeque<(NodeId, Cut)>>,
    pub(super) down: Mutex<Vec<NodeId>>,
    /// Frames by destination.
    pub(super) frames: Mutex<Vec<NodeId>>,
}

pub(super) struct Handle(pub(super) Service<FakeGroup>);

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handle")
    }
}

#[derive(Debug)]
pub(super) struct FakeTransport {
    pub(super) node: NodeId,
    pub(super) net: Arc<Net>,
}

impl Transport for FakeTransport {
    fn call(
        &self,
        to: NodeId,
        group: GroupId,
        kind: FrameKind,
        payload: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, transport::Error>> {
        assert_eq!(kind, FrameKind::Forward);
        self.net.frames.lock().push(to);
        let (net, from) = (Arc::clone(&self.net), self.node);
        let cut = {
            let mut cuts = net.cuts.lock();
            let next = cuts.iter().position(|(node, _)| *node == to);
            next.and_then(|at| cuts.remove(at)).map(|(_, cut)| cut)
        };
        assert!(!matches!(cut, Some(Cut::Panic)), "injected");
        Box::pin(async move {
            let detail = || "cut".to_owned();
            let unreachable = transport::Error::Unreachable { peer: to, detail: detail() };
            if net.down.lock().contains(&to) || matches!(cut, Some(Cut::Unreachable)) {
                return Err(unreachable);
            }
            if let Some(Cut::LoseFrame) = cut {
                sleep_until(deadline).await;
                return Err(transport::Error::NoAnswer { peer: to, detail: detail() });
            }
            let service = net.services.lock().get(&to).map(|handle| handle.0.clone());
            let Some(service) = service else { return Err(unreachable) };
            if let Some(Cut::DeliverLate) = cut {
                spawn("late frame", async move {
                    sleep(Duration::from_millis(30)).await;
                    // Nobody waits for the answer.
                    drop(service.handle_forward(from, group, payload).await);
                });
                return Err(transport::Error::NoAnswer { peer: to, detail: detail() });
            }
            let answer = service.handle_forward(from, group, payload).await;
            if let Some(Cut::LoseAnswer) = cut {
                return Err(transport::Error::NoAnswer { peer: to, detail: detail() });
            }
            answer.map_err(|error| transport::Error::Refused { peer: to, detail: error.0 })
        })
    }

    fn is_connected(&self, peer: NodeId) -> bool {
        !self.net.down.lock().contains(&peer) && self.net.services.lock().contains_key(&peer)
    }

    fn set_address(&self, _peer: NodeId, _address: &str) {}

    fn call_address(
        &self,
        _address: &str,
        _kind: FrameKind,
        _payload: Bytes,
        _deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, transport::Error>> {
        unreachable!("the service calls no addresses")
    }
}
