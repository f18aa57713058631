//! Peers of different clusters over loopback.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;

use super::options::PeerOptions;
use super::tonic_tests::{Handled, call, detail, node, soon, transport_to};
use super::{FrameKind, Handler, Transport};
use crate::types::{GroupId, NodeId};

/// A handler of a node that belongs to a cluster, or will.
struct Member(AtomicUsize);

impl Handler for Member {
    fn cluster_id(&self) -> u128 {
        self.0.load(Ordering::SeqCst) as u128
    }

    fn handle(&self, _: NodeId, _: GroupId, _: FrameKind, payload: Bytes) -> Handled {
        async move { Ok(payload) }.boxed()
    }
}

#[tokio::test]
async fn a_peer_of_another_cluster_is_refused_by_name_on_both_sides() {
    let member = Arc::new(Member(AtomicUsize::new(0)));
    let node = node(Arc::clone(&member) as Arc<dyn Handler>).await;
    let name = |cluster: u8| format!("{cluster:032x}");
    let transport = || transport_to(node.address, PeerOptions::default()).0;
    // It was connected before either knew a cluster.
    let early = transport();
    assert_eq!(call(&early, "x").await.unwrap(), "x");
    member.0.store(7, Ordering::SeqCst);
    let text = detail(call(&early, "x").await);
    assert!(text.starts_with("refused: n1 does not name its cluster"), "{text}");
    // From the time on when it knows its cluster, the other one hears of it.
    early.set_cluster(7);
    while call(&early, "x").await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // One that belongs elsewhere sees it when it connects.
    let foreign = transport();
    foreign.set_cluster(8);
    let text = loop {
        let text = detail(call(&foreign, "x").await);
        if text.contains("belongs to") {
            break text;
        }
    };
    assert!(text.starts_with("unreachable: n2 at ") && text.contains(&name(7)), "{text}");
    assert!(text.ends_with(&format!("this node to {}", name(8))), "{text}");
    // It may ask who is there.
    let address = node.address.to_string();
    let hello = Bytes::from_static(b"hello");
    let answer = foreign.call_address(&address, FrameKind::Hello, hello, soon()).await;
    assert_eq!(answer.unwrap(), "hello");
    let vote = foreign.call_address(&address, FrameKind::Vote, Bytes::new(), soon()).await;
    let text = detail(vote);
    assert!(text.starts_with(&format!("refused: n1 belongs to cluster {}", name(8))), "{text}");
}
