//! The simulated network: each fault, and that a seed replays.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::sim::SimNetwork;
use super::{Error, FrameKind, Handler, Refusal, SharedTransport};
use crate::types::clock::{Instant, now};
use crate::types::{GroupId, NodeId};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
const G: GroupId = GroupId(1);

type Handled = BoxFuture<'static, Result<Bytes, Refusal>>;
type Answer = Result<Bytes, Error>;
type Seen = Arc<Mutex<Vec<(Duration, NodeId, Bytes)>>>;

/// Answers with what it was asked, noting when; never answers `stuck`.
struct Recorder {
    seen: Seen,
    start: Instant,
    /// Held by each future at work, so that a test sees when it is dropped.
    working: watch::Sender<()>,
}

impl Recorder {
    fn new() -> Arc<Self> {
        let (working, _) = watch::channel(());
        Arc::new(Recorder { seen: Seen::default(), start: now(), working })
    }

    fn texts(&self) -> Vec<Bytes> {
        self.seen.lock().iter().map(|(_, _, payload)| payload.clone()).collect()
    }
}

impl Handler for Recorder {
    fn handle(&self, from: NodeId, _: GroupId, _: FrameKind, payload: Bytes) -> Handled {
        self.seen.lock().push((self.start.elapsed(), from, payload.clone()));
        let held = self.working.subscribe();
        async move {
            let _held = held;
            match &payload[..] {
                b"stuck" => std::future::pending().await,
                b"panic" => panic!("made to"),
                b"refuse" => Err(Refusal("no".to_owned())),
                _ => Ok(payload),
            }
        }
        .boxed()
    }
}

fn call(transport: &SharedTransport, to: NodeId, text: &str) -> BoxFuture<'static, Answer> {
    let deadline = now() + Duration::from_secs(1);
    transport.call(to, G, FrameKind::Append, Bytes::copy_from_slice(text.as_bytes()), deadline)
}

fn lost(answer: &Answer) -> bool {
    matches!(answer, Err(Error::NoAnswer { detail, .. }) if detail == "deadline passed")
}

#[tokio::test(start_paused = true)]
async fn frames_arrive_in_order_and_are_answered() {
    let network = SimNetwork::new(1);
    let recorder = Recorder::new();
    network.register(B, recorder.clone());
    let a = network.transport(A);
    let texts: Vec<String> = (0..200).map(|i| i.to_string()).collect();
    let answers = join_all(texts.iter().map(|text| call(&a, B, text))).await;
    for (text, answer) in texts.iter().zip(answers) {
        assert_eq!(answer.unwrap(), *text);
    }
    assert_eq!(recorder.texts(), texts);
    let refused = call(&a, B, "refuse").await.unwrap_err();
    assert_eq!(refused, Error::Refused { peer: B, detail: "no".to_owned() });
    let deadline = now() + Duration::from_secs(1);
    let hello = Bytes::from_static(b"who");
    let answer = a.call_address("n2", FrameKind::Hello, hello.clone(), deadline).await;
    assert_eq!(answer.unwrap(), hello);
    let answer = a.call_address("nowhere", FrameKind::Hello, hello, deadline).await;
    assert!(matches!(answer, Err(Error::Unreachable { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_handler_costs_its_own_call_only() {
    let network = SimNetwork::new(1);
    network.register(B, Recorder::new());
    let a = network.transport(A);
    let panicked = call(&a, B, "panic").await.unwrap_err();
    assert_eq!(panicked, Error::NoAnswer { peer: B, detail: "its handler panicked".to_owned() });
    assert_eq!(call(&a, B, "x").await.unwrap(), "x");
    assert_eq!(network.panics(), 1);
}

#[tokio::test(start_paused = true)]
async fn frames_overtake_only_where_told_to() {
    let network = SimNetwork::new(1);
    let recorder = Recorder::new();
    network.register(B, recorder.clone());
    network.set_reordering(true);
    network.set_delay(Duration::from_millis(1)..Duration::from_millis(50));
    let a = network.transport(A);
    let texts: Vec<String> = (0..50).map(|i| i.to_string()).collect();
    for answer in join_all(texts.iter().map(|text| call(&a, B, text))).await {
        answer.unwrap();
    }
    let mut seen = recorder.texts();
    assert_ne!(seen, texts);
    seen.sort();
    let mut sorted: Vec<Bytes> = texts.iter().cloned().map(Bytes::from).collect();
    sorted.sort();
    assert_eq!(seen, sorted);
}

#[tokio::test(start_paused = true)]
async fn a_partition_is_silent_until_the_deadline_and_heals() {
    let network = SimNetwork::new(2);
    let (b, c) = (Recorder::new(), Recorder::new());
    network.register(B, b.clone());
    network.register(C, c.clone());
    let (from_a, from_b) = (network.transport(A), network.transport(B));
    network.partition(&[&[A, C], &[B]]);
    let began = now();
    assert!(lost(&call(&from_a, B, "x").await));
    assert_eq!(began.elapsed().as_secs(), 1);
    assert!(lost(&call(&from_b, C, "x").await));
    assert!(b.texts().is_empty());
    assert_eq!(call(&from_a, C, "x").await.unwrap(), "x");
    network.heal();
    assert_eq!(call(&from_a, B, "y").await.unwrap(), "y");
    assert_eq!(call(&from_b, C, "y").await.unwrap(), "y");
}

#[tokio::test(start_paused = true)]
async fn a_one_way_cut_loses_frames_one_way_and_answers_the_other() {
    let network = SimNetwork::new(3);
    let (a, b) = (Recorder::new(), Recorder::new());
    network.register(A, a.clone());
    network.register(B, b.clone());
    let (from_a, from_b) = (network.transport(A), network.transport(B));
    network.cut(A, B);
    assert!(lost(&call(&from_a, B, "x").await));
    assert!(b.texts().is_empty(), "the frame did not arrive");
    assert!(lost(&call(&from_b, A, "x").await));
    assert_eq!(a.texts(), ["x"], "the frame arrived, its answer did not");
}

#[tokio::test(start_paused = true)]
async fn a_filter_sees_the_kind() {
    let network = SimNetwork::new(4);
    network.register(B, Recorder::new());
    let a = network.transport(A);
    network.set_filter(Box::new(|_, _, kind| kind != FrameKind::Vote));
    let deadline = now() + Duration::from_secs(1);
    let vote = a.call(B, G, FrameKind::Vote, Bytes::new(), deadline).await;
    assert!(lost(&vote));
    assert!(call(&a, B, "x").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_crash_breaks_connections_and_drops_what_was_at_work() {
    let network = SimNetwork::new(5);
    let recorder = Recorder::new();
    network.register(B, recorder.clone());
    let (from_a, old_b) = (network.transport(A), network.transport(B));
    let stuck = call(&from_a, B, "stuck");
    // A call behind it has been answered, so it is at work.
    call(&from_a, B, "x").await.unwrap();
    assert_eq!(recorder.working.receiver_count(), 1);
    let began = now();
    network.unregister(B);
    let broken = stuck.await.unwrap_err();
    assert_eq!(broken, Error::NoAnswer { peer: B, detail: "connection reset".to_owned() });
    recorder.working.closed().await;
    let refused = call(&from_a, B, "x").await;
    assert!(matches!(refused, Err(Error::Unreachable { .. })), "{refused:?}");
    assert!(began.elapsed() < Duration::from_millis(10), "nobody waited for a deadline");

    // What the crashed node left running stays silent, even when the node is back.
    network.register(A, Recorder::new());
    let again = Recorder::new();
    network.register(B, again.clone());
    assert!(matches!(call(&old_b, A, "x").await, Err(Error::Unreachable { .. })));
    assert!(call(&network.transport(B), A, "x").await.is_ok());
    assert_eq!(call(&from_a, B, "y").await.unwrap(), "y");
    assert_eq!(again.texts(), ["y"]);
}

/// Everything that can be seen of a run with losses and delays.
async fn trace(seed: u64) -> Vec<String> {
    let network = SimNetwork::new(seed);
    network.set_drop_probability(0.2);
    network.set_delay(Duration::from_millis(1)..Duration::from_millis(300));
    let nodes = [A, B, C];
    let recorders = nodes.map(|node| {
        let recorder = Recorder::new();
        network.register(node, recorder.clone());
        recorder
    });
    let ends = Arc::new(Mutex::new(Vec::new()));
    let start = now();
    let mut calls = Vec::new();
    for i in 0..60u64 {
        let (from, to) = (nodes[(i % 3) as usize], nodes[((i + 1 + i % 2) % 3) as usize]);
        let answer = call(&network.transport(from), to, &i.to_string());
        let ends = Arc::clone(&ends);
        calls.push(async move {
            let answer = answer.await;
            ends.lock().push(format!("{i} {:?} {answer:?}", start.elapsed()));
        });
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    join_all(calls).await;
    let mut trace = std::mem::take(&mut *ends.lock());
    trace.extend(recorders.iter().map(|recorder| format!("{:?}", recorder.seen.lock())));
    trace
}

fn replay(seed: u64) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(trace(seed))
}

#[test]
fn a_seed_replays_a_run() {
    for seed in 0..5 {
        let first = replay(seed);
        assert_eq!(first, replay(seed), "seed {seed}");
        assert_ne!(first, replay(seed + 100), "another seed is another run");
        let lost = first.iter().filter(|line| line.contains("NoAnswer")).count();
        assert!((5..50).contains(&lost), "seed {seed}: {lost} of 60 calls lost");
    }
}
