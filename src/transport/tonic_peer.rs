//! The real transport: one tonic stream for each ordered pair of nodes.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::dial::Dialer;
use super::link::Link;
use super::options::PeerOptions;
use super::{Error, FrameKind, Transport};
use crate::types::clock::Instant;
use crate::types::metrics::Metrics;
use crate::types::task::spawn;
use crate::types::{GroupId, NodeId};

/// Calls peers over TCP. Dropping it ends its connections.
#[derive(Debug)]
pub struct TonicTransport {
    dialer: Dialer,
    cluster: watch::Sender<u128>,
    /// Never held across an await; read by each call, written when an address changes.
    peers: RwLock<HashMap<NodeId, Peer>>,
    cancel: CancellationToken,
    _cancel_on_drop: DropGuard,
}

#[derive(Debug)]
struct Peer {
    address: String,
    link: Arc<Link>,
    cancel: CancellationToken,
}

impl TonicTransport {
    /// A transport that knows no peer yet.
    pub fn new(self_node: NodeId, metrics: Arc<Metrics>, options: PeerOptions) -> Arc<Self> {
        let cancel = CancellationToken::new();
        let cluster = watch::Sender::new(0);
        Arc::new(TonicTransport {
            dialer: Dialer { self_node, options, metrics, cluster: cluster.subscribe() },
            cluster,
            peers: RwLock::new(HashMap::new()),
            _cancel_on_drop: cancel.clone().drop_guard(),
            cancel,
        })
    }

    /// Keeps a connection to `address`, over which the frames of `link` travel.
    fn dial(&self, link: &Arc<Link>, address: &str) -> CancellationToken {
        let cancel = self.cancel.child_token();
        let task = self.dialer.clone().run(Arc::clone(link), address.to_owned(), cancel.clone());
        // The task ends by its token, which this transport cancels when it is dropped.
        drop(spawn("peer connection", task));
        cancel
    }
}

impl Transport for TonicTransport {
    fn call(
        &self,
        to: NodeId,
        group: GroupId,
        kind: FrameKind,
        payload: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, Error>> {
        let peers = self.peers.read();
        let Some(peer) = peers.get(&to) else {
            let detail = "no address is known".to_owned();
            return ready(Err(Error::Unreachable { peer: to, detail })).boxed();
        };
        peer.link.call(group, kind, payload, deadline)
    }

    fn set_cluster(&self, cluster_id: u128) {
        self.cluster.send_if_modified(|known| std::mem::replace(known, cluster_id) != cluster_id);
    }

    fn is_connected(&self, peer: NodeId) -> bool {
        self.peers.read().get(&peer).is_some_and(|peer| peer.link.is_up())
    }

    fn set_address(&self, peer: NodeId, address: &str) {
        let mut peers = self.peers.write();
        if let Some(known) = peers.get(&peer)
            && known.address == address
        {
            return;
        }
        // A fresh link for a new address: the old one's connection cannot disturb it.
        let link = Link::new(peer, &self.dialer.options);
        let cancel = self.dial(&link, address);
        let new = Peer { address: address.to_owned(), link, cancel };
        let Some(old) = peers.insert(peer, new) else { return };
        drop(peers);
        // Its task fails the calls that wait on the old link.
        old.cancel.cancel();
    }

    fn call_address(
        &self,
        address: &str,
        kind: FrameKind,
        payload: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, Error>> {
        let unknown = NodeId(0);
        let link = Link::new(unknown, &self.dialer.options);
        let answer = link.call(GroupId::CONTROLLER, kind, payload, deadline);
        let dialer = self.dialer.clone();
        let address = address.to_owned();
        async move {
            let connection = async {
                let (_, detail) = dialer.connection(&link, &address).await;
                link.down(&detail);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                answer = answer => answer,
                () = connection => unreachable!("it is pending at its end"),
            }
        }
        .boxed()
    }
}
