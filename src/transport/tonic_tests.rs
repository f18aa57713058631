//! The real transport over loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::options::PeerOptions;
use super::proto::peer_client::PeerClient;
use super::proto::{Frame, Hello, PeerMessage, Status};
use super::server::PeerService;
use super::tonic_peer::TonicTransport;
use super::{Error, FrameKind, Handler, PROTOCOL_VERSION, Refusal, Transport};
use crate::types::clock::{Instant, now};
use crate::types::limits::{APPEND_BYTES_MAX, FRAME_BYTES_MAX};
use crate::types::metrics::Metrics;
use crate::types::{GroupId, NodeId};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const G: GroupId = GroupId(7);

/// A handler made of a function.
struct Serve<F>(F);

pub(super) type Handled = BoxFuture<'static, Result<Bytes, Refusal>>;

impl<F: Fn(NodeId, FrameKind, Bytes) -> Handled + Send + Sync + 'static> Handler for Serve<F> {
    fn handle(&self, from: NodeId, group: GroupId, kind: FrameKind, payload: Bytes) -> Handled {
        assert!(group == G || group == GroupId::CONTROLLER);
        (self.0)(from, kind, payload)
    }
}

fn echo() -> Arc<dyn Handler> {
    Arc::new(Serve(|_, _, payload| async move { Ok(payload) }.boxed()))
}

pub(super) struct Node {
    pub(super) address: SocketAddr,
    metrics: Arc<Metrics>,
    cancel: CancellationToken,
    task: JoinHandle<Option<()>>,
}

async fn node_with(address: &str, handler: Arc<dyn Handler>, options: PeerOptions) -> Node {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (metrics, cancel) = (Metrics::new(), CancellationToken::new());
    let service = PeerService::new(B, handler, Arc::clone(&metrics), options, cancel.clone());
    let task = service.serve(listener);
    Node { address, metrics, cancel, task }
}

pub(super) async fn node(handler: Arc<dyn Handler>) -> Node {
    node_with("127.0.0.1:0", handler, PeerOptions::default()).await
}

pub(super) fn transport_to(
    address: SocketAddr,
    options: PeerOptions,
) -> (Arc<TonicTransport>, Arc<Metrics>) {
    let metrics = Metrics::new();
    let transport = TonicTransport::new(A, Arc::clone(&metrics), options);
    transport.set_address(B, &address.to_string());
    (transport, metrics)
}

pub(super) fn soon() -> Instant {
    now() + Duration::from_secs(10)
}

pub(super) fn call(
    transport: &TonicTransport,
    text: impl Into<Bytes>,
) -> BoxFuture<'static, Answer> {
    transport.call(B, G, FrameKind::Forward, text.into(), soon())
}

pub(super) type Answer = Result<Bytes, Error>;

pub(super) fn detail(answer: Answer) -> String {
    match answer.unwrap_err() {
        Error::Unreachable { detail, .. } => format!("unreachable: {detail}"),
        Error::NoAnswer { detail, .. } => format!("no answer: {detail}"),
        Error::Refused { detail, .. } => format!("refused: {detail}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_10k_concurrent_calls_in_fewer_messages() {
    let node = node(echo()).await;
    let (transport, metrics) = transport_to(node.address, PeerOptions::default());
    // As many at once as the queue takes, since nothing leaves before the connection is up.
    for round in 0..2 {
        let calls = (0..5_000).map(|i| call(&transport, format!("{round} {i}")));
        for (i, answer) in join_all(calls).await.into_iter().enumerate() {
            assert_eq!(answer.unwrap(), format!("{round} {i}"));
        }
    }
    assert_eq!(metrics.peer_frames.get(), 10_000);
    assert_eq!(node.metrics.peer_frames.get(), 10_000);
    // The first round was queued before anything could be sent; the second shares as it can.
    assert!(metrics.peer_messages.get() < 5_000, "{}", metrics.peer_messages.get());
    assert!(node.metrics.peer_messages.get() < 10_000, "{}", node.metrics.peer_messages.get());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_are_handled_and_first_polled_in_the_order_called() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let gate = Arc::new(Semaphore::new(0));
    let (record, wait) = (Arc::clone(&seen), Arc::clone(&gate));
    let handler = Serve(move |_, _, payload: Bytes| {
        let (record, wait) = (Arc::clone(&record), Arc::clone(&wait));
        record.lock().push((payload.clone(), "handled"));
        async move {
            record.lock().push((payload.clone(), "polled"));
            let _permit = wait.acquire().await;
            Ok(payload)
        }
        .boxed()
    });
    let node = node(Arc::new(handler)).await;
    let (transport, _) = transport_to(node.address, PeerOptions::default());
    let calls: Vec<_> = (0..3_000).map(|i| call(&transport, i.to_string())).collect();
    gate.add_permits(10);
    for answer in join_all(calls).await {
        answer.unwrap();
    }
    let expected: Vec<_> = (0..3_000)
        .flat_map(|i: i32| ["handled", "polled"].map(|what| (Bytes::from(i.to_string()), what)))
        .collect();
    assert_eq!(*seen.lock(), expected);
}

#[tokio::test]
async fn a_slow_answer_holds_up_no_other() {
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let handler = Serve(move |_, _, payload: Bytes| {
        let wait = Arc::clone(&wait);
        async move {
            if payload == "slow" {
                let _permit = wait.acquire().await;
            }
            Ok(payload)
        }
        .boxed()
    });
    let node = node(Arc::new(handler)).await;
    let (transport, _) = transport_to(node.address, PeerOptions::default());
    let slow = call(&transport, "slow");
    assert_eq!(call(&transport, "fast").await.unwrap(), "fast");
    gate.add_permits(1);
    assert_eq!(slow.await.unwrap(), "slow");
}

/// A peer in a runtime of its own: dropping the runtime resets its connections, as a kill does.
fn killable(address: &str, handler: Arc<dyn Handler>) -> (tokio::runtime::Runtime, SocketAddr) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let node = runtime.block_on(node_with(address, handler, PeerOptions::default()));
    (runtime, node.address)
}

#[test]
fn a_killed_peer_is_told_and_found_again_when_it_is_back() {
    let (started, mut starts) = watch::channel(0usize);
    let stuck = Serve(move |_, _, _| {
        started.send_modify(|n| *n += 1);
        std::future::pending().boxed()
    });
    let (peer, address) = killable("127.0.0.1:0", Arc::new(stuck));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (transport, _) = transport_to(address, PeerOptions::default());
        let sent = call(&transport, "x");
        starts.wait_for(|n| *n == 1).await.unwrap();
        let kill = move || peer.shutdown_timeout(Duration::from_secs(5));
        tokio::task::spawn_blocking(kill).await.unwrap();
        assert!(detail(sent.await).starts_with("no answer: "), "it was sent");
        // Known to be down: each call fails at once, however many they are.
        let (calls, asked) = (10_000, now());
        for _ in 0..calls {
            assert!(detail(call(&transport, "x").await).starts_with("unreachable: "));
        }
        // Far less than one of them would wait for its deadline.
        let each = asked.elapsed() / calls;
        assert!(each < Duration::from_millis(5), "{each:?}");
        let (peer, _) = killable_async(address.to_string()).await;
        let back = now();
        while let Err(error) = call(&transport, "x").await {
            assert!(matches!(error, Error::Unreachable { .. }), "{error}");
            assert!(back.elapsed() < Duration::from_secs(60), "{error}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        peer.shutdown_background();
    });
}

async fn killable_async(address: String) -> (tokio::runtime::Runtime, SocketAddr) {
    tokio::task::spawn_blocking(move || killable(&address, echo())).await.unwrap()
}

#[tokio::test]
async fn a_stopped_server_closes_its_connections() {
    let node = node(echo()).await;
    let (transport, _) = transport_to(node.address, PeerOptions::default());
    call(&transport, "x").await.unwrap();
    node.cancel.cancel();
    tokio::time::timeout(Duration::from_secs(5), node.task).await.unwrap().unwrap();
    let error = call(&transport, "x").await.unwrap_err();
    assert!(!matches!(error, Error::Refused { .. }), "{error}");
}

#[tokio::test]
async fn deadlines_tell_sent_from_unsent() {
    let (started, mut starts) = watch::channel(0usize);
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let handler = Serve(move |_, _, payload: Bytes| {
        let (started, wait) = (started.clone(), Arc::clone(&wait));
        async move {
            started.send_modify(|n| *n += 1);
            let _permit = wait.acquire().await;
            Ok(payload)
        }
        .boxed()
    });
    let node = node(Arc::new(handler)).await;
    let (transport, _) = transport_to(node.address, PeerOptions::default());
    let short = now() + Duration::from_millis(300);
    let late = transport.call(B, G, FrameKind::Vote, Bytes::new(), short);
    starts.wait_for(|n| *n == 1).await.unwrap();
    assert_eq!(detail(late.await), "no answer: deadline passed");
    // The late answer finds nobody and disturbs nobody.
    gate.add_permits(1);
    assert_eq!(call(&transport, "next").await.unwrap(), "next");

    // A listener that never answers: nothing is sent before the peer says who it is.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (transport, _) = transport_to(silent.local_addr().unwrap(), PeerOptions::default());
    let short = now() + Duration::from_millis(20);
    let unsent = transport.call(B, G, FrameKind::Vote, Bytes::new(), short).await;
    assert_eq!(detail(unsent), "unreachable: deadline passed before it was sent");
}

#[tokio::test]
async fn what_was_reported_as_not_delivered_is_not_delivered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (transport, _) = transport_to(listener.local_addr().unwrap(), PeerOptions::default());
    let short = now() + Duration::from_millis(20);
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    let late = transport.call(B, G, FrameKind::Vote, text("late"), short).await;
    assert!(matches!(late, Err(Error::Unreachable { .. })));
    drop(call(&transport, "left"));
    let last = call(&transport, "last");
    // Only now does anybody listen: the connection is made, and the queue goes out.
    let (seen, cancel) = (Arc::new(Mutex::new(Vec::new())), CancellationToken::new());
    let record = Arc::clone(&seen);
    let handler = Serve(move |_, _, payload: Bytes| {
        record.lock().push(payload.clone());
        async move { Ok(payload) }.boxed()
    });
    let (metrics, options) = (Metrics::new(), PeerOptions::default());
    drop(PeerService::new(B, Arc::new(handler), metrics, options, cancel).serve(listener));
    assert_eq!(last.await.unwrap(), "last");
    assert_eq!(*seen.lock(), ["last"]);
}

#[tokio::test]
async fn the_queue_is_bounded_by_frames_and_by_bytes() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let options = PeerOptions { queue_frames_max: 4, ..PeerOptions::default() };
    let (transport, _) = transport_to(address, options);
    let waiting: Vec<_> = (0..4).map(|_| call(&transport, "x")).collect();
    assert_eq!(detail(call(&transport, "x").await), "unreachable: queue full");
    // When the connection cannot be made, those who waited hear so, long before their deadlines.
    for answer in join_all(waiting).await {
        assert!(detail(answer).starts_with("unreachable: connecting to"));
    }
    let options = PeerOptions { queue_bytes_max: 1_000, ..PeerOptions::default() };
    let (transport, _) = transport_to(address, options);
    let _waiting = call(&transport, vec![0; 900]);
    assert_eq!(detail(call(&transport, vec![0; 900]).await), "unreachable: queue full");
}

#[tokio::test]
async fn frames_and_answers_over_the_limit_are_refused() {
    let handler = Serve(|_, _, _| async { Ok(Bytes::from(vec![0; FRAME_BYTES_MAX + 1])) }.boxed());
    let big = node(Arc::new(handler)).await;
    let (transport, _) = transport_to(big.address, PeerOptions::default());
    let over = detail(call(&transport, vec![0; FRAME_BYTES_MAX + 1]).await);
    assert_eq!(over, "refused: a frame of 8388609 bytes is over the limit of 8388608");
    // The handler ran, so what it did is unknown.
    let answer = detail(call(&transport, "x").await);
    assert_eq!(answer, "no answer: an answer of 8388609 bytes is over the limit 8388608");

    let node = node(echo()).await;
    let (transport, _) = transport_to(node.address, PeerOptions::default());
    let largest = Bytes::from(vec![7; FRAME_BYTES_MAX]);
    let calls = (0..3).map(|_| call(&transport, largest.clone()));
    for answer in join_all(calls).await {
        assert_eq!(answer.unwrap(), largest);
    }
}

#[tokio::test]
async fn another_protocol_or_another_node_is_refused() {
    let node = node(echo()).await;
    let protocol = PROTOCOL_VERSION + 1;
    let options = PeerOptions { protocol, ..PeerOptions::default() };
    let (transport, _) = transport_to(node.address, options);
    let text = detail(call(&transport, "x").await);
    assert!(text.starts_with("unreachable: "), "{text}");
    let known = format!("n1 speaks peer protocol {protocol}, n2 speaks {PROTOCOL_VERSION}");
    assert!(text.ends_with(&known), "{text}");

    let metrics = Metrics::new();
    let transport = TonicTransport::new(A, metrics, PeerOptions::default());
    transport.set_address(NodeId(3), &node.address.to_string());
    let answer = transport.call(NodeId(3), G, FrameKind::Vote, Bytes::new(), soon()).await;
    assert!(detail(answer).ends_with("is n2, not n3"));
}

#[tokio::test]
async fn a_panic_of_a_handler_costs_its_own_call_only() {
    let handler = Serve(|_, kind, payload: Bytes| match kind {
        FrameKind::Vote => panic!("made to"),
        FrameKind::Append => async { panic!("made to, later") }.boxed(),
        FrameKind::Table => async { Err(Refusal("no such group".to_owned())) }.boxed(),
        _ => async move { Ok(payload) }.boxed(),
    });
    let node = node(Arc::new(handler)).await;
    let (transport, _) = transport_to(node.address, PeerOptions::default());
    let ask = |kind| transport.call(B, G, kind, Bytes::from_static(b"x"), soon());
    let answers = join_all([
        ask(FrameKind::Vote),
        ask(FrameKind::Append),
        ask(FrameKind::Table),
        ask(FrameKind::Forward),
    ]);
    let answers: Vec<_> = answers.await;
    assert_eq!(detail(answers[0].clone()), "no answer: its handler panicked");
    assert_eq!(detail(answers[1].clone()), "no answer: its handler panicked");
    assert_eq!(detail(answers[2].clone()), "refused: no such group");
    assert_eq!(answers[3].clone().unwrap(), "x");
    assert_eq!(node.metrics.panics.get(), 2);
}

/// Says hello, sends `frames`, and returns the last the server says.
async fn raw(address: SocketAddr, hello: Option<Hello>, frame: Frame) -> Result<Frame, String> {
    let mut client = PeerClient::connect(format!("http://{address}")).await.unwrap();
    let first = PeerMessage { hello, frames: Vec::new() };
    let second = PeerMessage { hello: None, frames: vec![frame] };
    let open = tokio_stream::StreamExt::chain(
        tokio_stream::iter([first, second]),
        futures_util::stream::pending(),
    );
    let answers = client.exchange(open).await;
    let mut answers = answers.map_err(|status| status.message().to_owned())?.into_inner();
    assert!(answers.message().await.unwrap().unwrap().hello.is_some());
    match answers.message().await {
        Ok(message) => Ok(message.unwrap().frames.remove(0)),
        Err(status) => Err(status.message().to_owned()),
    }
}

#[tokio::test]
async fn malformed_input_ends_its_own_connection_only() {
    let node = node(echo()).await;
    let hello = Some(Hello::of(9, PROTOCOL_VERSION, 0));
    let frame =
        |kind: u32, status: i32| Frame { id: 5, group: G.0, kind, status, payload: Bytes::new() };
    assert_eq!(raw(node.address, None, frame(1, 0)).await.unwrap_err(), "no hello");
    let nobody = Some(Hello::of(0, PROTOCOL_VERSION, 0));
    let refused = raw(node.address, nobody, frame(1, 0)).await.unwrap_err();
    assert_eq!(refused, "a node id is at least 1");
    assert_eq!(raw(node.address, hello, frame(1, 1)).await.unwrap_err(), "status 1");
    assert_eq!(raw(node.address, hello, frame(1, 99)).await.unwrap_err(), "status 99");
    let unknown = raw(node.address, hello, frame(200, 0)).await.unwrap();
    assert_eq!(unknown.status, i32::from(Status::Refused));
    assert_eq!(unknown.payload, "unknown frame kind 200");

    let mut garbage = TcpStream::connect(node.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut garbage, &[0xff; 4096]).await.unwrap();
    let (transport, _) = transport_to(node.address, PeerOptions::default());
    assert_eq!(call(&transport, "x").await.unwrap(), "x");
}

#[tokio::test]
async fn an_address_answers_before_its_node_is_known() {
    let handler = Serve(|from: NodeId, kind, _| {
        async move { Ok(Bytes::from(format!("{from} {kind:?}"))) }.boxed()
    });
    let node = node(Arc::new(handler)).await;
    let transport = TonicTransport::new(A, Metrics::new(), PeerOptions::default());
    let address = node.address.to_string();
    let answer = transport.call_address(&address, FrameKind::Hello, Bytes::new(), soon()).await;
    assert_eq!(answer.unwrap(), "n1 Hello");
    let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for address in [nowhere.to_string(), "not an address".to_owned()] {
        let answer = transport.call_address(&address, FrameKind::Hello, Bytes::new(), soon()).await;
        assert!(detail(answer).starts_with("unreachable: "));
    }
    let answer = transport.call(B, G, FrameKind::Vote, Bytes::new(), soon()).await;
    assert_eq!(detail(answer), "unreachable: no address is known");
}

#[tokio::test]
async fn a_new_address_is_used_at_once() {
    let old = node(Arc::new(Serve(|_, _, _| std::future::pending().boxed()))).await;
    let new = node(echo()).await;
    let (transport, _) = transport_to(old.address, PeerOptions::default());
    let waiting = call(&transport, "x");
    transport.set_address(B, &new.address.to_string());
    assert_eq!(call(&transport, "y").await.unwrap(), "y");
    assert!(detail(waiting.await).ends_with("the transport to it is closed"));
}

#[tokio::test]
async fn handlers_at_work_are_bounded() {
    handlers_bounded(false).await;
    handlers_bounded(true).await;
}

async fn handlers_bounded(by_bytes: bool) {
    let gate = Arc::new(Semaphore::new(0));
    let (working, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (wait, highest) = (Arc::clone(&gate), Arc::clone(&most));
    let (started, mut starts) = watch::channel(0usize);
    let handler = Serve(move |_, _, payload: Bytes| {
        let (wait, working) = (Arc::clone(&wait), Arc::clone(&working));
        highest.fetch_max(working.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        started.send_modify(|n| *n += 1);
        async move {
            let _permit = wait.acquire().await;
            working.fetch_sub(1, Ordering::SeqCst);
            Ok(payload)
        }
        .boxed()
    });
    // Frames of three digits count for 51 bytes: the eighth crosses the line of bytes as well.
    let options = if by_bytes {
        PeerOptions { in_flight_bytes_max: 7 * 51 + 1, ..PeerOptions::default() }
    } else {
        PeerOptions { in_flight_max: 8, ..PeerOptions::default() }
    };
    let node = node_with("127.0.0.1:0", Arc::new(handler), options).await;
    let (transport, _) = transport_to(node.address, PeerOptions::default());
    let calls: Vec<_> = (100..600).map(|i| call(&transport, i.to_string())).collect();
    starts.wait_for(|n| *n == 8).await.unwrap();
    gate.add_permits(3);
    for (i, answer) in join_all(calls).await.into_iter().enumerate() {
        assert_eq!(answer.unwrap(), (100 + i).to_string());
    }
    assert_eq!(most.load(Ordering::SeqCst), 8);
}

#[tokio::test]
async fn a_caller_that_leaves_takes_its_handlers_with_it() {
    let (working, _) = watch::channel(());
    let working = Arc::new(working);
    let (held, mut starts) = (Arc::clone(&working), working.subscribe());
    let handler = Serve(move |_, _, _| {
        let held_on = held.subscribe();
        held.send_replace(());
        async move {
            let _held_on = held_on;
            std::future::pending().await
        }
        .boxed()
    });
    let node = node(Arc::new(handler)).await;
    let (transport, _) = transport_to(node.address, PeerOptions::default());
    let stuck = call(&transport, "x");
    starts.changed().await.unwrap();
    drop(starts);
    drop(transport);
    assert_eq!(detail(stuck.await), "no answer: the transport to it is closed");
    tokio::time::timeout(Duration::from_secs(5), working.closed()).await.unwrap();
}

/// Forwards TCP between the two, until it is told to stop reading: as a stopped process, or a
/// network that drops everything, the connection stays open and silent.
async fn stalling_proxy(to: SocketAddr, stalled: watch::Receiver<bool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    crate::types::task::spawn("proxy", async move {
        let (mut inner, _) = listener.accept().await.unwrap();
        let mut outer = TcpStream::connect(to).await.unwrap();
        let mut until = stalled.clone();
        tokio::select! {
            biased;
            _ = until.wait_for(|stalled| *stalled) => {}
            _ = tokio::io::copy_bidirectional(&mut inner, &mut outer) => {}
        }
        std::future::pending::<()>().await;
    });
    address
}

#[tokio::test]
async fn a_silent_peer_is_noticed() {
    let (stall, stalled) = watch::channel(false);
    let (started, mut starts) = watch::channel(0usize);
    let handler = Serve(move |_, _, payload: Bytes| {
        started.send_modify(|n| *n += 1);
        async move { if payload == "stuck" { std::future::pending().await } else { Ok(payload) } }
            .boxed()
    });
    let node = node(Arc::new(handler)).await;
    let proxy = stalling_proxy(node.address, stalled).await;
    let (transport, _) = transport_to(proxy, PeerOptions::default());
    let sent = call(&transport, "stuck");
    starts.wait_for(|n| *n == 1).await.unwrap();
    stall.send_replace(true);
    // And not that the deadline of the call has passed.
    assert!(detail(sent.await).starts_with("no answer: connection lost"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throughput_is_shown() {
    let node = node(echo()).await;
    let (transport, metrics) = transport_to(node.address, PeerOptions::default());
    call(&transport, "warm").await.unwrap();
    let payload = Bytes::from(vec![1; 100]);
    let (callers, each) = (64, 500);
    let began = now();
    let tasks = (0..callers).map(|_| {
        let (transport, payload) = (Arc::clone(&transport), payload.clone());
        crate::types::task::spawn("caller", async move {
            for _ in 0..each {
                assert_eq!(call(&transport, payload.clone()).await.unwrap(), payload);
            }
        })
    });
    for task in join_all(tasks).await {
        task.unwrap().unwrap();
    }
    let seconds = began.elapsed().as_secs_f64();
    let per_message = metrics.peer_frames.get() as f64 / metrics.peer_messages.get() as f64;
    println!(
        "{:.0} calls/s ({callers} callers, 100 bytes), {per_message:.1} frames a message",
        f64::from(callers * each) / seconds
    );
    assert_eq!(metrics.peer_frames.get(), u64::try_from(callers * each).unwrap() + 1);
    assert!(per_message > 1.5, "callers at the same time share messages");

    let append = Bytes::from(vec![1; APPEND_BYTES_MAX]);
    let began = now();
    for answer in join_all((0..16).map(|_| call(&transport, append.clone()))).await {
        assert_eq!(answer.unwrap().len(), append.len());
    }
    let megabytes = 16.0 * 2.0 * append.len() as f64 / 1e6;
    println!("{:.0} MB/s both ways in 2 MiB frames", megabytes / began.elapsed().as_secs_f64());
}
