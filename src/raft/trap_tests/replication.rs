//! Replication to a follower that is dead, or that takes what it gets and never answers.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use openraft::errors::RPCError;
use openraft::network::RPCOption;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use openraft::{RaftNetworkFactory, RaftNetworkV2};
use parking_lot::Mutex;

use crate::core::machine::Machine;
use crate::raft::countermeasure::{
    Countermeasure, EARLY_FAILURES_MAX, early_failures, fail_early, take_out,
};
use crate::raft::digests::Digests;
use crate::raft::frame_codec::{AnswerExtras, addressed, decode, encode, encode_append_response};
use crate::raft::log_store::LogStore;
use crate::raft::lost_replicas::LostReplicas;
use crate::raft::network::{NetworkContext, NetworkFactory, PeerNetwork};
use crate::raft::settings::RaftSettings;
use crate::raft::testkit::{Cluster, GROUP, Options, put};
use crate::raft::types::{LogId, ReplicaNode, TypeConfig, Vote, log_id};
use crate::storage::sim_files::SimFiles;
use crate::storage::snapshot_files::SnapshotFiles;
use crate::storage::wal::Recovered;
use crate::transport::sim::SimNetwork;
use crate::transport::{FrameKind, Handler, Refusal};
use crate::types::clock::now;
use crate::types::{GroupId, LogKey, NodeId, ReplicaId};

/// A leader's connection to replica 2, without openraft.
async fn connection(network: &SimNetwork, lost: LostReplicas) -> PeerNetwork<Machine> {
    let key = LogKey { group: GROUP, replica: ReplicaId(1) };
    let context = NetworkContext::new(
        GROUP,
        network.transport(NodeId(1)),
        Arc::new(SnapshotFiles::new(SimFiles::new(1), "/snapshots").unwrap()),
        Arc::new(Digests::default()),
        Arc::new(|| None),
        LogStore::open(key, None, Recovered::default()).unwrap(),
        (lost, &RaftSettings::default()),
    );
    let mut factory = NetworkFactory::<Machine> { context, machine: PhantomData };
    factory.new_client(ReplicaId(2), &ReplicaNode { node: NodeId(2) }).await
}

fn empty_append(prev_log_id: Option<LogId>) -> AppendEntriesRequest<TypeConfig> {
    AppendEntriesRequest {
        vote: Vote::new_committed(1, ReplicaId(1)),
        prev_log_id,
        entries: Vec::new(),
        leader_commit: None,
    }
}

#[tokio::test(start_paused = true)]
async fn an_append_stream_fails_only_after_it_took_a_request() {
    let network = SimNetwork::new(1);
    // Nothing runs there: every call fails at once.
    let mut peer = connection(&network, LostReplicas::default()).await;
    let input = futures_util::stream::once(async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        empty_append(None)
    });
    let before = now();
    let option = RPCOption::new(Duration::from_millis(150));
    let mut answers = match peer.stream_append(Box::pin(input), option).await {
        Ok(answers) => answers,
        Err(error) => panic!("failed before the input was polled: {error}"),
    };
    let answer = answers.next().await;
    assert!(now() - before >= Duration::from_secs(1), "failed before the input gave a request");
    // `Unreachable` and nothing weaker: only that makes openraft back off.
    assert!(matches!(answer, Some(Err(RPCError::Unreachable(_)))), "{answer:?}");
    assert!(answers.next().await.is_none(), "the stream ends with its error");
}

/// Answers one append after the other with what it was given.
struct Answers(Mutex<Vec<AppendEntriesResponse<TypeConfig>>>);

impl Handler for Answers {
    fn handle(
        &self,
        _from: NodeId,
        _group: GroupId,
        _kind: FrameKind,
        _payload: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        let answer = self.0.lock().pop().expect("an answer is left");
        let bytes = encode_append_response(&answer, AnswerExtras::default());
        Box::pin(async move { Ok(bytes) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_conflict_below_what_was_acknowledged_is_told_and_kept_from_openraft() {
    let network = SimNetwork::new(1);
    let answers = vec![AppendEntriesResponse::Conflict, AppendEntriesResponse::Success];
    network.register(NodeId(2), Arc::new(Answers(Mutex::new(answers))));
    let lost = LostReplicas::default();
    let mut peer = connection(&network, lost.clone()).await;
    let option = || RPCOption::new(Duration::from_millis(150));
    let held = peer.append_entries(empty_append(Some(log_id(1, 7))), option()).await;
    assert_eq!(held.unwrap(), AppendEntriesResponse::Success);
    let conflict = peer.append_entries(empty_append(Some(log_id(1, 5))), option()).await;
    assert!(matches!(conflict, Err(RPCError::Unreachable(_))), "{conflict:?}");
    let key = LogKey { group: GROUP, replica: ReplicaId(2) };
    assert_eq!(lost.subscribe().borrow().keys().collect::<Vec<_>>(), [&key]);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_above_what_was_acknowledged_is_openrafts_and_one_with_nothing_is_an_error() {
    let network = SimNetwork::new(1);
    let conflict = || AppendEntriesResponse::Conflict;
    let answers = vec![conflict(), conflict(), AppendEntriesResponse::Success];
    network.register(NodeId(2), Arc::new(Answers(Mutex::new(answers))));
    let lost = LostReplicas::default();
    let mut peer = connection(&network, lost.clone()).await;
    let option = || RPCOption::new(Duration::from_millis(150));
    peer.append_entries(empty_append(Some(log_id(1, 7))), option()).await.unwrap();
    let above = peer.append_entries(empty_append(Some(log_id(1, 8))), option()).await;
    assert_eq!(above.unwrap(), conflict());
    // openraft would panic at it.
    let nothing = peer.append_entries(empty_append(None), option()).await;
    assert!(matches!(nothing, Err(RPCError::Unreachable(_))), "{nothing:?}");
    assert!(lost.subscribe().borrow().is_empty());
}

/// Calls to a dead follower in ten seconds of writes.
async fn calls_to_the_dead(seed: u64, silent: bool) -> u64 {
    let mut cluster = Cluster::with(Options { seed, ..Options::default() }).await;
    let (leader, group) = cluster.leader(&[]).await;
    let dead = cluster.others(leader)[0];
    if silent {
        cluster.isolate(dead);
    } else {
        cluster.crash(dead).await;
    }
    let (before, begin) = (cluster.wires[&leader].calls_to(dead), now());
    let mut writes = 0;
    while now() - begin < Duration::from_secs(10) {
        put(&group, &format!("key-{writes}"), "v").await.unwrap();
        writes += 1;
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    assert!(writes > 200, "{writes} writes (seed {seed})");
    cluster.wires[&leader].calls_to(dead) - before
}

#[tokio::test(start_paused = true)]
async fn a_dead_follower_costs_little() {
    for seed in 1..2 {
        for silent in [false, true] {
            let calls = calls_to_the_dead(seed, silent).await;
            // 67 heartbeats, and retries that back off to two a second.
            assert!(calls < 200, "{calls} calls in 10 s (silent: {silent}, seed {seed})");
            assert!(calls > 60, "{calls} calls in 10 s: heartbeats go on (seed {seed})");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_before_it_took_a_request_is_retried_without_pause() {
    let mut cluster = Cluster::with(Options::default()).await;
    let (leader, group) = cluster.leader(&[]).await;
    put(&group, "k", "0").await.unwrap();
    let dead = cluster.others(leader)[0];
    cluster.crash(dead).await;
    let _early = fail_early(dead);
    let begin = now();
    put(&group, "k", "1").await.unwrap();
    while early_failures() < EARLY_FAILURES_MAX && now() - begin < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let took = now() - begin;
    println!("{} attempts in {took:?}", early_failures());
    assert_eq!(early_failures(), EARLY_FAILURES_MAX, "attempts in {took:?}: openraft paused");
}

/// A follower takes appends for a while without its answers getting through. Returns whether the
/// leader knows, within `patience` after that ended, that it has everything.
async fn silent_follower_recovers(seed: u64, patience: Duration) -> bool {
    let cluster = Cluster::with(Options { seed, ..Options::default() }).await;
    let (leader, group) = cluster.leader(&[]).await;
    put(&group, "k", "0").await.unwrap();
    cluster.wait_equal().await;
    let silent = cluster.others(leader)[0];
    cluster.network.cut(silent, leader);
    for i in 0..20 {
        put(&group, "k", &i.to_string()).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    cluster.network.heal();
    let healed = now();
    while now() - healed < patience {
        let behind = group.replica().voters_behind();
        if behind.len() == 2 && behind.iter().all(|(_, entries)| *entries == 0) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_never_answers_does_not_hang_replication() {
    for seed in 1..5 {
        let recovered = silent_follower_recovers(seed, Duration::from_secs(3)).await;
        assert!(recovered, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_timeouts_of_its_own_a_stream_hangs() {
    let _out = take_out(Countermeasure::AppendTimeout);
    let mut hung = 0;
    for seed in 1..5 {
        hung += u64::from(!silent_follower_recovers(seed, Duration::from_secs(30)).await);
    }
    assert!(hung > 0, "without time-outs replication hangs; if not, they are not needed");
}

#[tokio::test(start_paused = true)]
async fn frames_for_another_replica_of_the_group_are_refused() {
    let cluster = Cluster::with(Options::default()).await;
    let (leader, group) = cluster.leader(&[]).await;
    put(&group, "k", "1").await.unwrap();
    cluster.wait_equal().await;
    let follower = cluster.groups[&cluster.others(leader)[0]].replica();
    let before = follower.progress();
    let raft_kinds = [
        FrameKind::Append,
        FrameKind::Vote,
        FrameKind::PreVote,
        FrameKind::TransferLeader,
        FrameKind::Snapshot,
    ];
    for kind in raft_kinds {
        let refusal = follower.handle(leader, kind, addressed(ReplicaId(9), b"")).await;
        let refusal = refusal.expect_err("a frame for replica 9").0;
        assert!(refusal.contains("does not run here"), "{kind:?}: {refusal}");
        let refusal = follower.handle(leader, kind, bytes::Bytes::from_static(b"abc")).await;
        assert!(refusal.is_err(), "{kind:?}: a frame without an address");
    }
    assert_eq!(follower.progress(), before);
}

#[tokio::test(start_paused = true)]
async fn without_the_check_a_replica_votes_under_the_id_of_another() {
    let cluster = Cluster::with(Options::default()).await;
    let (leader, _) = cluster.leader(&[]).await;
    cluster.wait_equal().await;
    let cut_off = cluster.others(leader)[0];
    let follower = cluster.groups[&cut_off].replica();
    let vote = Vote::new(99, ReplicaId(8));
    let last = Some(log_id(98, 1_000));
    let ballot = addressed(ReplicaId(9), &encode(&VoteRequest::<TypeConfig>::new(vote, last)));
    // Past the leader's lease, so that nothing but the address speaks against it.
    cluster.isolate(cut_off);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let refusal = follower.handle(leader, FrameKind::Vote, ballot.clone()).await;
    assert!(refusal.is_err(), "a vote asked of replica 9");
    let _out = take_out(Countermeasure::TargetReplica);
    let answer = follower.handle(leader, FrameKind::Vote, ballot).await.expect("an answer");
    let answer: VoteResponse<TypeConfig> = decode(&answer, "vote response").unwrap();
    assert!(answer.vote_granted, "it voted in the name of replica 9: {answer:?}");
}
