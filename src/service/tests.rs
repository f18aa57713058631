//! The service over a fake shard and a fake network, under virtual time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{advance, timeout};

use super::fake::*;
use super::*;
use crate::codec::forward as frames;
use crate::core::queue_delay::DelayLimits;
use crate::types::clock::now;
use crate::types::task::spawn;
use crate::types::*;

fn reason(result: Result<Response, Error>) -> Reason {
    result.expect_err("it must fail").reason
}

fn found(response: &Response) -> bool {
    match response {
        Response::Read { answer, .. } => answer.hit() == Some(true),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_at_the_leader_goes_nowhere_and_at_another_node_takes_one_hop() {
    let cluster = Cluster::new(3, &[1, 2, 3], Some(1));
    cluster.node(1).execute(set("a", 100)).await.unwrap();
    assert!(cluster.frames().is_empty());
    cluster.node(2).execute(set("b", 100)).await.unwrap();
    assert_eq!(cluster.frames(), [1]);
    let read = get("a", Consistency::Linearizable, 100);
    assert!(found(&cluster.node(3).execute(read).await.unwrap()));
    assert_eq!(cluster.frames(), [1, 1]);
    let metrics = &cluster.metrics;
    assert_eq!(metrics[&NodeId(1)].sets.get(), 2, "counted at the leader");
    assert_eq!(metrics[&NodeId(2)].sets.get(), 0);
    assert_eq!(metrics[&NodeId(2)].forwarded.get(), 1);
    assert_eq!((metrics[&NodeId(1)].hits.get(), metrics[&NodeId(1)].misses.get()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_node_without_a_replica_follows_the_hint_and_remembers_the_leader() {
    let cluster = Cluster::new(4, &[1, 2, 3], Some(1));
    let begun = now();
    cluster.node(4).execute(set("a", 1000)).await.unwrap();
    assert_eq!(now(), begun, "a hint is followed without a pause");
    let first = cluster.frames();
    assert_eq!(first.last(), Some(&1));
    assert!(first.len() <= 2, "{first:?}");
    assert_eq!(cluster.asked()[0].age_ms_max, None, "a refusal was no attempt");
    cluster.node(4).execute(set("b", 1000)).await.unwrap();
    assert_eq!(cluster.frames().len(), first.len() + 1, "straight to the leader");
}

#[tokio::test(start_paused = true)]
async fn the_leader_moves_while_a_write_is_under_way_and_it_is_applied_once() {
    for fault in [Fault::LoseAfterApply, Fault::LoseBeforeApply] {
        let cluster = Cluster::new(3, &[1, 2, 3], Some(1));
        cluster.fault(fault);
        let (service, request) = (cluster.node(1), set("a", 1000));
        let run = spawn("test", async move { service.execute(request).await });
        while cluster.proposed_at().is_empty() {
            tokio::task::yield_now().await;
        }
        cluster.lead(Some(2));
        let response = run.await.unwrap().unwrap().unwrap();
        assert_eq!(response, Response::Written(Reply::Set { version: Version(1) }));
        assert_eq!(cluster.applied(), 1, "INV-6");
        assert_eq!(cluster.proposed_at(), [1, 2]);
        let asked = cluster.asked();
        assert_eq!(asked.len(), 2);
        assert_eq!(asked[0].id, asked[1].id, "the same request id");
        assert_eq!((asked[0].asker, asked[0].age_ms_max), (Asker::Node, None), "the first time");
        assert!(asked[1].age_ms_max >= Some(120_000), "the first may have been applied");
        assert_eq!(cluster.metrics[&NodeId(1)].retried.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_id_what_may_have_been_proposed_is_not_tried_again() {
    let options = Options { local_ids: false, ..Options::default() };
    let cluster = Cluster::with_options(3, &[1, 2, 3], Some(1), &options);
    cluster.fault(Fault::LoseAfterApply);
    let error = cluster.node(1).execute(set("a", 1000)).await.unwrap_err();
    assert!(matches!(error.reason, Reason::Lost { .. }), "{error}");
    assert_eq!(cluster.proposed_at(), [1]);
    // What leaves the node has an id all the same, and is tried again.
    cluster.fault(Fault::LoseAfterApply);
    cluster.node(2).execute(set("b", 1000)).await.unwrap();
    assert_eq!(cluster.applied(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_lost_on_the_way_is_asked_for_again_under_the_same_id() {
    let cluster = Cluster::new(3, &[1, 2, 3], Some(1));
    cluster.cut(1, Cut::LoseAnswer);
    let response = cluster.node(2).execute(set("a", 1000)).await.unwrap();
    assert_eq!(response, Response::Written(Reply::Set { version: Version(1) }));
    assert_eq!(cluster.applied(), 1, "INV-6");
    assert_eq!(cluster.proposed_at(), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_callers_id_is_kept_and_a_second_call_gets_the_first_answer() {
    let cluster = Cluster::new(3, &[1, 2, 3], Some(1));
    let id = RequestId { session: 9, sequence: 4 };
    let request = || Request { request_id: Some(id.into()), ..set("a", 1000) };
    let first = cluster.node(1).execute(request()).await.unwrap();
    let second = cluster.node(3).execute(request()).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(cluster.applied(), 1);
    let unsaid = Sent::Unsaid.age_ms_max();
    assert!(cluster.asked().iter().all(|asked| asked.asker == Asker::Caller));
    assert!(cluster.asked().iter().all(|asked| asked.age_ms_max == unsaid));
}

/// What a caller says of its request, and what happened to it here since.
#[tokio::test(start_paused = true)]
async fn a_callers_word_on_its_request_goes_to_the_shard() {
    let id = RequestId { session: 9, sequence: 4 };
    let said = [(Sent::First, None), (Sent::Before { ms: 1_000 }, Some(122_000))];
    for (sent, first) in said {
        let cluster = Cluster::new(3, &[1, 2, 3], Some(1));
        cluster.fault(Fault::LoseBeforeApply);
        let request = Request { request_id: Some(Named { id, sent }), ..set("a", 1000) };
        cluster.node(1).execute(request).await.unwrap();
        let asked: Vec<_> = cluster.asked().iter().map(|asked| asked.age_ms_max).collect();
        assert_eq!((asked.len(), asked[0]), (2, first));
        assert!(asked[1] > first.max(Some(120_000)), "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_leader_is_waited_for() {
    for asked in [1, 2, 4] {
        let cluster = Cluster::new(4, &[1, 2, 3], None);
        let (service, request) = (cluster.node(asked), set("a", 5000));
        let run = spawn("test", async move { service.execute(request).await });
        advance(Duration::from_secs(1)).await;
        assert!(!run.is_finished());
        cluster.lead(Some(1));
        let begun = now();
        run.await.unwrap().unwrap().unwrap();
        assert!(now() - begun <= Duration::from_millis(250), "asked {asked}");
        // Bounded back-off, no hot loop.
        assert!(cluster.frames().len() < 30, "{} frames", cluster.frames().len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_appears_here_wakes_the_waiter_at_once() {
    let cluster = Cluster::new(3, &[1, 2, 3], None);
    let (service, request) = (cluster.node(1), set("a", 5000));
    let run = spawn("test", async move { service.execute(request).await });
    advance(Duration::from_millis(100)).await;
    cluster.lead(Some(1));
    let begun = now();
    run.await.unwrap().unwrap().unwrap();
    assert_eq!(now(), begun);
    assert!(cluster.frames().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_deadline_says_whether_the_write_may_have_been_proposed() {
    // Nobody leads: surely not proposed.
    let cluster = Cluster::new(3, &[1, 2, 3], None);
    let begun = now();
    let no_leader = reason(cluster.node(1).execute(set("a", 700)).await);
    assert_eq!(no_leader, Reason::NoLeader { group: GroupId::of_shard(SHARD) });
    assert_eq!(now() - begun, Duration::from_millis(700), "INV-8: ends at the deadline");
    // The deadline had passed before.
    let cluster = Cluster::new(3, &[1, 2, 3], Some(1));
    assert_eq!(reason(cluster.node(1).execute(set("a", 0)).await), Reason::DeadlineBeforePropose);
    // The group hangs with it, here and at another node.
    for node in [1, 2] {
        cluster.fault(Fault::Hang);
        let late = reason(cluster.node(node).execute(set("a", 300)).await);
        assert_eq!(late, Reason::DeadlineAfterPropose);
    }
    // A frame that vanished may have arrived.
    cluster.cut(1, Cut::LoseFrame);
    let late = reason(cluster.node(2).execute(set("a", 300)).await);
    assert_eq!(late, Reason::DeadlineAfterPropose);
    // A read changes nothing, so it is never `Unknown`.
    cluster.cut(1, Cut::LoseFrame);
    let read = get("a", Consistency::Linearizable, 300);
    let error = cluster.node(2).execute(read).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Rejected, "{error}");
}

#[tokio::test(start_paused = true)]
async fn unknown_never_becomes_rejected() {
    // The first attempt may be applied; then nobody leads until the deadline.
    let cluster = Cluster::new(3, &[1, 2, 3], Some(1));
    cluster.fault(Fault::LoseBeforeApply);
    let (service, request) = (cluster.node(1), set("a", 500));
    let run = spawn("test", async move { service.execute(request).await });
    while cluster.proposed_at().is_empty() {
        tokio::task::yield_now().await;
    }
    cluster.lead(None);
    assert_eq!(reason(run.await.unwrap().unwrap()), Reason::DeadlineAfterPropose);
    // The second attempt is refused for good: that says nothing about the first.
    let cluster = Cluster::new(3, &[1, 2, 3], Some(1));
    cluster.fault(Fault::LoseBeforeApply);
    cluster.fault(Fault::Refuse(Refusal::TooLarge { bytes: 2, bytes_max: 1 }));
    let error = cluster.node(2).execute(set("a", 500)).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    // With nothing before it, the same refusal is definite.
    cluster.fault(Fault::Refuse(Refusal::TooLarge { bytes: 2, bytes_max: 1 }));
    let definite = reason(cluster.node(2).execute(set("a", 500)).await);
    assert_eq!(definite, Reason::TooLarge { bytes: 2, bytes_max: 1 });
    cluster.fault(Fault::Refuse(Refusal::SessionExpired));
    assert_eq!(reason(cluster.node(2).execute(set("a", 500)).await), Reason::SessionExpired);
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_the_group_is_told_at_once() {
    let cluster = Cluster::new(3, &[1, 2, 3], Some(1));
    let full = Reason::ResourceExhausted { what: "group queue", limit: 5 };
    cluster.fault(Fault::Fail(full.clone()));
    let begun = now();
    assert_eq!(reason(cluster.node(2).execute(set("a", 500)).await), full);
    assert_eq!(now(), begun);
    let refused = &cluster.metrics[&NodeId(2)].refused;
    assert_eq!(refused.with_label_values(&["group_queue"]).get(), 1);
}

#[tokio::test(start_paused = true)]
async fn operations_queued_together_travel_together_and_each_gets_its_own_answer() {
    let cluster = Cluster::new(3, &[1, 2, 3], Some(1));
    let service = cluster.node(2);
    let keys: Vec<String> = (0..5000).map(|i| format!("key-{i}")).collect();
    let writes = join_all(keys.iter().map(|key| service.execute(set(key, 1000)))).await;
    assert!(writes.iter().all(Result::is_ok));
    let frames = cluster.frames().len();
    assert!(frames <= 20, "{frames} frames for 5000 writes");
    let reads = keys.iter().map(|key| get(key, Consistency::Linearizable, 1000));
    let reads = join_all(reads.map(|read| service.execute(read))).await;
    for (key, response) in keys.iter().zip(reads) {
        let Ok(Response::Read { answer: Answer::Value(Some(found)), .. }) = response else {
            panic!("{key}")
        };
        assert_eq!(found.value.data, key.as_bytes());
    }
    assert_eq!(cluster.applied(), 5000);
    assert_eq!(cluster.metrics[&NodeId(2)].forwarded.get(), 10_000);
}

#[tokio::test(start_paused = true)]
async fn reads_that_do_not_fit_one_answer_are_asked_for_again() {
    let cluster = Cluster::new(2, &[1, 2], Some(1));
    let value = Value { data: vec![7; 1 << 20].into(), kind: ValueKind::Bytes };
    cluster.shard.state.lock().values.insert("big".into(), (value, Version(1)));
    let service = cluster.node(2);
    let read = || service.execute(get("big", Consistency::Linearizable, 1000));
    let reads = join_all((0..20).map(|_| read())).await;
    assert!(reads.iter().all(|read| found(read.as_ref().unwrap())));
    assert_eq!(cluster.metrics[&NodeId(2)].retried.get(), 0, "within the lane, not as failures");
    assert!(cluster.frames().len() > 5, "2 MiB an answer");
}

#[tokio::test(start_paused = true)]
async fn a_stuck_frame_holds_up_no_other_lane() {
    let cluster = Cluster::new(2, &[1, 2], Some(1));
    for _ in 0..8 {
        cluster.fault(Fault::Hang);
    }
    let service = cluster.node(2);
    let mut stuck = Vec::new();
    for index in 0..9 {
        let (service, request) = (service.clone(), set("a", 1000));
        stuck.push(spawn("test", async move { service.execute(request).await }));
        while cluster.frames().len() < (index + 1).min(8) {
            tokio::task::yield_now().await;
        }
    }
    while cluster.proposed_at().len() < 8 {
        tokio::task::yield_now().await;
    }
    let begun = now();
    let read = get("a", Consistency::Linearizable, 500);
    assert!(!found(&service.execute(read).await.unwrap()));
    assert_eq!(now(), begun);
    // The ninth write was never sent, and its caller knows that.
    let ends: Vec<_> = join_all(stuck).await.into_iter().map(|run| run.unwrap().unwrap()).collect();
    let unsent = ends
        .iter()
        .filter(|end| matches!(end, Err(error) if error.reason == Reason::DeadlineBeforePropose));
    assert_eq!(unsent.count(), 1, "{ends:?}");
    assert_eq!(cluster.proposed_at().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn stale_reads_stay_here_and_too_stale_ones_go_to_the_leader() {
    let cluster = Cluster::new(4, &[1, 2, 3], Some(1));
    cluster.node(1).execute(set("a", 100)).await.unwrap();
    cluster.node(2).execute(get("a", Consistency::Stale, 100)).await.unwrap();
    assert!(cluster.frames().is_empty());
    let bounded = Consistency::Bounded { staleness_ms_max: 10 };
    cluster.shard.state.lock().age_ms.insert(NodeId(2), 50);
    cluster.node(2).execute(get("a", bounded, 100)).await.unwrap();
    assert_eq!(cluster.frames(), [1]);
    // The leader too stale: that is the answer.
    cluster.shard.state.lock().age_ms.insert(NodeId(1), 60);
    let too_stale = Reason::TooStale { age_ms: 60, staleness_ms_max: 10 };
    assert_eq!(reason(cluster.node(2).execute(get("a", bounded, 100)).await), too_stale);
    // Without a replica here any other serves, without a leader too.
    cluster.lead(None);
    let response = cluster.node(4).execute(get("a", Consistency::Stale, 100)).await.unwrap();
    assert!(found(&response));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_down_is_passed_by() {
    let cluster = Cluster::new(4, &[1, 2, 3], Some(1));
    cluster.node(4).execute(set("a", 1000)).await.unwrap();
    // A connection that breaks once.
    cluster.cut(1, Cut::Unreachable);
    cluster.node(4).execute(set("a", 1000)).await.unwrap();
    // A node that is gone, its successor not known here.
    cluster.net.down.lock().push(NodeId(1));
    cluster.lead(Some(3));
    cluster.node(4).execute(set("b", 1000)).await.unwrap();
    let read = get("b", Consistency::Stale, 1000);
    assert!(found(&cluster.node(4).execute(read).await.unwrap()));
    assert_eq!(cluster.applied(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_newer_epoch_in_an_answer_is_told_and_a_new_table_wakes_the_waiter() {
    let cluster = Cluster::new(2, &[1], Some(1));
    cluster.tables[&NodeId(1)].send_replace(Arc::new(table(7, &[1])));
    cluster.node(2).execute(set("a", 1000)).await.unwrap();
    assert_eq!(*cluster.epochs[&NodeId(2)].borrow(), RoutingEpoch(7));
    // A refusal at apply with a newer epoch: told, and tried again when the table is there.
    let epoch = RoutingEpoch(9);
    cluster.fault(Fault::Refuse(Refusal::NotOwner { epoch }));
    let (service, request) = (cluster.node(2), set("b", 1000));
    let run = spawn("test", async move { service.execute(request).await });
    let mut told = cluster.epochs[&NodeId(2)].clone();
    told.wait_for(|seen| *seen == epoch).await.unwrap();
    cluster.tables[&NodeId(2)].send_replace(Arc::new(table(9, &[1])));
    let begun = now();
    run.await.unwrap().unwrap().unwrap();
    assert_eq!(now(), begun);
}

#[tokio::test(start_paused = true)]
async fn before_the_cluster_formed_a_request_waits_and_then_says_not_ready() {
    let cluster = Cluster::new(1, &[1], Some(1));
    let empty = Arc::new(crate::core::table::RoutingTable::default());
    cluster.tables[&NodeId(1)].send_replace(empty);
    assert_eq!(reason(cluster.node(1).execute(set("a", 200)).await), Reason::NotReady);
    let status = cluster.node(1).status();
    assert!(!status.ready);
    assert_eq!(status.not_ready_because, ["the cluster has not formed yet"]);
    let (service, request) = (cluster.node(1), set("a", 1000));
    let run = spawn("test", async move { service.execute(request).await });
    advance(Duration::from_millis(100)).await;
    cluster.tables[&NodeId(1)].send_replace(Arc::new(table(1, &[1])));
    run.await.unwrap().unwrap().unwrap();
    assert!(cluster.node(1).status().ready);
    cluster.node(1).registry().remove(GROUP);
    assert_eq!(cluster.node(1).status().not_ready_because, ["the replica of s0 does not run yet"]);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_starts_here_wakes_the_waiter() {
    let cluster = Cluster::new(1, &[1], Some(1));
    let group = cluster.node(1).registry().remove(GROUP).unwrap();
    let (service, request) = (cluster.node(1), set("a", 60_000));
    let run = spawn("test", async move { service.execute(request).await });
    advance(Duration::from_millis(1000)).await;
    cluster.node(1).registry().insert(GROUP, group);
    let begun = now();
    run.await.unwrap().unwrap().unwrap();
    assert_eq!(now(), begun);
}

#[tokio::test(start_paused = true)]
async fn past_the_limit_requests_are_refused_and_a_stopping_node_drains() {
    let admission = AdmissionLimits { in_flight_max: 2, ..AdmissionLimits::default() };
    let options = Options { admission, ..Options::default() };
    let cluster = Cluster::with_options(2, &[1, 2], Some(1), &options);
    cluster.fault(Fault::Hang);
    cluster.fault(Fault::Hang);
    let service = cluster.node(1);
    let run = |key: &'static str| {
        let (service, request) = (cluster.node(1), set(key, 1000));
        spawn("test", async move { service.execute(request).await })
    };
    let (first, second) = (run("a"), run("b"));
    while cluster.proposed_at().len() < 2 {
        tokio::task::yield_now().await;
    }
    let refusal = reason(service.execute(set("c", 1000)).await);
    assert!(matches!(refusal, Reason::ResourceExhausted { limit: 2, .. }));
    service.admission().stop();
    assert_eq!(reason(service.execute(set("c", 1000)).await), Reason::Stopping);
    let drained = timeout(Duration::from_millis(500), service.admission().drain()).await;
    assert!(drained.is_err(), "two requests are still under way");
    service.admission().drain().await;
    assert!(first.is_finished() || first.await.is_ok());
    assert!(second.is_finished() || second.await.is_ok());
    assert_eq!(service.admission().in_flight(), 0);
    // A peer's frames are refused as well, and the peer waits for another leader.
    let (other, request) = (cluster.node(2), set("d", 1000));
    let moved = spawn("test", async move { other.execute(request).await });
    advance(Duration::from_millis(50)).await;
    cluster.lead(Some(2));
    moved.await.unwrap().unwrap().unwrap();
    assert_eq!(cluster.proposed_at().last(), Some(&2));
    service.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_forwarded_operation_is_not_forwarded_again_and_garbage_is_refused() {
    let cluster = Cluster::new(3, &[1, 2, 3], Some(1));
    let Operation::Write(command) = set("a", 1000).operation else { unreachable!() };
    let request = frames::Request {
        epoch: RoutingEpoch(1),
        batch: 1,
        deadline_ms: 1000,
        operations: frames::Operations::Writes(vec![Write { request_id: None, command }]),
        traces: Vec::new(),
    };
    let serve = |group, payload| {
        let service = cluster.node(2);
        async move { service.handle_forward(NodeId(3), group, payload).await }
    };
    let answer = serve(GROUP, request.encode()).await.unwrap();
    let hint = Reason::NotLeader { group: GroupId::of_shard(SHARD), leader: Some(NodeId(1)) };
    let results = frames::Response::decode(answer).unwrap().results;
    assert_eq!(results, frames::Results::Failed(hint.into()));
    assert!(cluster.frames().is_empty());
    let answer = serve(GroupId(9), request.encode()).await.unwrap();
    let not_here = Reason::NotOwner { epoch: RoutingEpoch(1) };
    let results = frames::Response::decode(answer).unwrap().results;
    assert_eq!(results, frames::Results::Failed(not_here.into()));
    assert!(serve(GROUP, bytes::Bytes::from_static(b"\xff\xff")).await.is_err());
    assert_eq!(cluster.applied(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_forwarding_task_that_panics_hangs_nobody_and_begins_afresh() {
    let cluster = Cluster::new(2, &[1], Some(1));
    let service = cluster.node(2);
    let panics = crate::types::task::panics();
    cluster.cut(1, Cut::Panic);
    // Not sent as far as anyone can tell, so the node may try again under its own id, and does.
    service.execute(set("a", 2_000)).await.unwrap();
    assert_eq!(cluster.applied(), 1);
    assert!(crate::types::task::panics() > panics);
    service.execute(set("b", 2_000)).await.unwrap();
    assert_eq!(cluster.applied(), 2);
}

#[tokio::test(start_paused = true)]
async fn operations_wait_for_a_slow_node_only_so_long_and_for_so_many_bytes() {
    let forward =
        ForwardLimits { in_flight_max: 1, queue_bytes_max: 2_000, ..ForwardLimits::default() };
    let options = Options { forward, ..Options::default() };
    let cluster = Cluster::with_options(2, &[1], Some(1), &options);
    let service = cluster.node(2);
    // Every frame takes 80 ms, and each carries one operation: 12 a second.
    let big = |ms| {
        let mut request = set("a", ms);
        if let Operation::Write(Command::Set(set)) = &mut request.operation {
            set.value.data = vec![7; 1_500].into();
        }
        request
    };
    cluster.fault(Fault::Hang);
    let run = |request: Request| {
        let service = service.clone();
        spawn("test", async move { service.execute(request).await })
    };
    let (first, second) = (run(big(300)), run(big(300)));
    while cluster.frames().is_empty() {
        tokio::task::yield_now().await;
    }
    let refusal = service.execute(set("c", 300)).await.unwrap_err();
    let reason = Reason::ResourceExhausted { what: "bytes of the forward queue", limit: 2_000 };
    assert_eq!(refusal.reason, reason);
    assert!(refusal.retry_after.is_some());
    assert!(first.await.unwrap().unwrap().is_err());
    drop(second.await);
    // What was answered weighs nothing any more.
    service.execute(set("c", 300)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_stands_refuses_what_waited_too_long() {
    let forward = ForwardLimits {
        in_flight_max: 1,
        frame_operations_max: 1,
        delay: DelayLimits::from_ms(20, 100),
        ..ForwardLimits::default()
    };
    let options = Options { forward, ..Options::default() };
    let cluster = Cluster::with_options(2, &[1], Some(1), &options);
    let service = cluster.node(2);
    // One frame at a time, each stuck for 10 ms: 100 operations a second, and 400 callers at once.
    for _ in 0..400 {
        cluster.fault(Fault::Slow(Duration::from_millis(10)));
    }
    let begun = now();
    let runs = (0..400).map(|i| service.execute(set(&format!("k{i}"), 5_000)));
    let (mut served, mut refused) = (0, 0);
    for result in join_all(runs).await {
        match result {
            Ok(_) => served += 1,
            Err(error) => {
                let what = "milliseconds of queueing on the way to another node";
                assert_eq!(error.reason, Reason::ResourceExhausted { what, limit: 40 });
                assert_eq!(error.outcome(), Outcome::Rejected);
                refused += 1;
            }
        }
    }
    assert!(served >= 10 && refused >= 300, "{served} served, {refused} refused");
    assert_eq!(cluster.applied(), served, "what was refused was not applied (INV-5)");
    assert!(now() - begun < Duration::from_millis(250), "{:?}", now() - begun);
    // The lane is short again: everything is let in.
    service.execute(set("after", 1_000)).await.unwrap();
}
