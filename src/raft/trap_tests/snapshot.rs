//! Snapshots travel in chunks with back-pressure, and every accident on the way is got over.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::raft::frame_codec::addressed;
use crate::raft::snapshot_send::{SnapshotFrame, decode_frame, encode_frame};
use crate::raft::state_store::{StoredMeta, encode_meta};
use crate::raft::testkit::{Cluster, Options, Tapped, put};
use crate::raft::types::log_id;
use crate::transport::FrameKind;
use crate::types::clock::now;
use crate::types::limits::SNAPSHOT_CHUNKS_IN_FLIGHT_MAX;
use crate::types::{NodeId, ReplicaId};

const VALUE_BYTES: usize = 100_000;
const KEYS: usize = 40;
/// The frame that has the accident.
const VICTIM: u64 = 3;

/// A group whose follower needs the snapshot: leader, follower.
async fn far_behind(seed: u64) -> (Cluster, NodeId, NodeId) {
    let cluster = Cluster::with(Options { seed, bytes_max: 16 << 20, ..Options::default() }).await;
    let (leader, group) = cluster.leader(&[]).await;
    let follower = cluster.others(leader)[0];
    cluster.isolate(follower);
    for i in 0..KEYS {
        put(&group, &format!("key-{i}"), &"v".repeat(VALUE_BYTES)).await.unwrap();
    }
    group.replica().snapshot_now(now() + Duration::from_secs(30)).await.unwrap();
    group.replica().purge_to_snapshot().await.unwrap();
    put(&group, "after", "x").await.unwrap();
    (cluster, leader, follower)
}

/// Heals, writes until all replicas are equal, and checks what must hold whatever happens.
async fn recovers(cluster: &Cluster, leader: NodeId, follower: NodeId) {
    cluster.network.heal();
    let begin = now();
    let group = &cluster.groups[&leader];
    let mut writes = 0;
    while cluster.groups[&follower].replica().progress().snapshot_index == 0 {
        let before = now();
        put(group, "meanwhile", &writes.to_string()).await.expect("the group goes on");
        let took = now() - before;
        assert!(took < Duration::from_millis(500), "a write took {took:?} meanwhile");
        assert!(now() - begin < Duration::from_secs(60), "no snapshot within a minute");
        writes += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cluster.wait_equal().await;
    assert_eq!(cluster.metrics.digest_mismatches.get(), 0);
    assert_eq!(cluster.network.panics(), 0);
    let calls = cluster.wires[&leader].calls(follower, FrameKind::Snapshot);
    let chunks = (KEYS * VALUE_BYTES / (256 * 1024)) as u64;
    assert!(calls.calls > chunks, "it travels in chunks: {calls:?}");
    // The window, and the end of an abandoned transfer that overlaps the next.
    assert!(calls.in_flight_max <= SNAPSHOT_CHUNKS_IN_FLIGHT_MAX as u64, "{calls:?}");
    assert!(calls.in_flight_max > 1, "several chunks travel at a time: {calls:?}");
}

/// Runs one transfer in which `accident` happens to one frame.
async fn with_accident(
    seed: u64,
    mut accident: impl FnMut(u64, u64, SnapshotFrame, &Bytes) -> Tapped + Send + 'static,
) {
    let (cluster, leader, follower) = far_behind(seed).await;
    let happened = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = std::sync::Arc::clone(&happened);
    cluster.wires[&leader].tap(move |_, kind, payload| {
        let done = counted.load(std::sync::atomic::Ordering::Relaxed) > 0;
        if kind != FrameKind::Snapshot || done {
            return Tapped::Pass;
        }
        let (id, sequence, frame) = decode_frame(payload.slice(8..)).unwrap();
        let tapped = accident(id, sequence, frame, payload);
        if !matches!(tapped, Tapped::Pass) {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        tapped
    });
    recovers(&cluster, leader, follower).await;
    assert_eq!(happened.load(std::sync::atomic::Ordering::Relaxed), 1, "the accident happened");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_travels_in_chunks_with_back_pressure() {
    let (cluster, leader, follower) = far_behind(1).await;
    recovers(&cluster, leader, follower).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_chunk() {
    with_accident(2, |_, sequence, _, _| match sequence {
        VICTIM => Tapped::Lose,
        _ => Tapped::Pass,
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_begin_that_arrives_twice() {
    with_accident(3, |_, _, frame, _| match frame {
        SnapshotFrame::Begin { .. } => Tapped::Twice,
        _ => Tapped::Pass,
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_arrives_twice() {
    with_accident(4, |_, sequence, _, _| match sequence {
        VICTIM => Tapped::Twice,
        _ => Tapped::Pass,
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_lost() {
    with_accident(5, |_, _, frame, _| match frame {
        SnapshotFrame::End => Tapped::Lose,
        _ => Tapped::Pass,
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_is_damaged() {
    with_accident(6, |_, sequence, _, payload| {
        if sequence != VICTIM {
            return Tapped::Pass;
        }
        let mut damaged = BytesMut::from(&payload[..]);
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0x40;
        Tapped::Replace(damaged.freeze())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn another_transfer_in_between() {
    let mut begin = None;
    with_accident(7, move |id, sequence, frame, payload| match frame {
        SnapshotFrame::Begin { .. } => {
            begin = Some(frame);
            Tapped::Pass
        }
        _ if sequence == VICTIM => {
            let begin = begin.take().expect("seen before its chunks");
            let replica = ReplicaId(u64::from_le_bytes(payload[..8].try_into().unwrap()));
            Tapped::Replace(addressed(replica, &encode_frame(id ^ 1, 0, &begin)))
        }
        _ => Tapped::Pass,
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_begin_from_beyond_its_leaders_term() {
    // openraft would panic: the replica would be gone.
    with_accident(8, |id, _, frame, payload| match frame {
        SnapshotFrame::Begin { vote, meta } => {
            let StoredMeta(mut meta) = postcard::from_bytes(&meta).unwrap();
            let index = meta.last_log_id.unwrap().index;
            meta.last_log_id = Some(log_id(vote.leader_id.term + 1, index));
            let replica = ReplicaId(u64::from_le_bytes(payload[..8].try_into().unwrap()));
            let begin = SnapshotFrame::Begin { vote, meta: encode_meta(&meta) };
            Tapped::Replace(addressed(replica, &encode_frame(id, 0, &begin)))
        }
        _ => Tapped::Pass,
    })
    .await;
}
