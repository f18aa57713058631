//! A service that notes what it is asked, and the door's parts over it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::budget::Budget;
use super::clients::Clients;
use super::options::{Redirect, RespOptions};
use super::pipeline::Pipeline;
use super::serve::Resp;
use super::session::Session;
use crate::codec::resp::encode::SLICES_MAX;
use crate::core::table::RoutingTable;
use crate::front::FrontLimits;
use crate::front::door::Door;
use crate::service::{Execute, NodeStatus, Operation, Request, Response};
use crate::types::clock::{SystemClock, now};
use crate::types::metrics::Metrics;
use crate::types::{Answer, Error, Freshness, NodeId, Query, Reason, Reply, ShardId, Step};

/// Answers every operation, after a while, as an empty cache would.
#[derive(Default)]
pub(super) struct Noting {
    pub(super) seen: Mutex<Vec<Request>>,
    /// How long each operation takes.
    pub(super) takes_ms: AtomicU64,
    /// What a scan answers, one call after the other; then its end.
    pub(super) scans: Mutex<VecDeque<(u64, Vec<Bytes>)>>,
    pub(super) table: Mutex<RoutingTable>,
}

impl Execute for Noting {
    async fn execute(&self, request: Request) -> Result<Response, Error> {
        let (operation, deadline) = (request.operation.clone(), request.deadline);
        self.seen.lock().push(request);
        let takes = Duration::from_millis(self.takes_ms.load(Ordering::Relaxed));
        let ends = now() + takes;
        tokio::time::sleep_until(ends.min(deadline)).await;
        if ends > deadline {
            return Err(Reason::DeadlineAfterPropose.into());
        }
        let step = |step: &Step| match step {
            Step::Read(query) => read(query),
            Step::Write(_) => Response::Written(Reply::NotFound),
        };
        Ok(match operation {
            Operation::Read { query, .. } => read(&query),
            Operation::Multi(multi) => {
                Response::Multi(multi.steps.iter().map(|one| Ok(step(one))).collect())
            }
            Operation::Scan(_) => {
                let (cursor, keys) = self.scans.lock().pop_front().unwrap_or_default();
                Response::Scanned { cursor, keys }
            }
            _ => Response::Written(Reply::NotFound),
        })
    }

    fn status(&self) -> NodeStatus {
        NodeStatus { node: NodeId(1), ready: true, ..NodeStatus::default() }
    }

    fn table(&self) -> Arc<RoutingTable> {
        Arc::new(self.table.lock().clone())
    }

    /// The first replica leads.
    fn leader(&self, shard: ShardId) -> Option<NodeId> {
        let table = self.table.lock();
        table.shards.get(&shard)?.replicas.first().map(|replica| replica.node)
    }
}

fn read(query: &Query) -> Response {
    let answer = match query {
        Query::Inspect { .. } => Answer::Meta(None),
        _ => Answer::Value(None),
    };
    Response::Read { answer, freshness: Freshness::default() }
}

/// A door over such a service.
pub(super) fn door(limits: FrontLimits) -> Resp<Noting> {
    let (service, metrics) = (Arc::<Noting>::default(), Metrics::new());
    let options = RespOptions {
        node: NodeId(1),
        redirect: Redirect::Auto,
        readonly_staleness_ms: 5_000,
        debug: false,
    };
    Resp {
        door: Door::new(service, limits, &metrics),
        options,
        clients: Arc::default(),
        budget: Budget::new(limits.resp.buffers_bytes_max),
        metrics,
        clock: Arc::new(SystemClock),
        started: now(),
        port: 0,
        cancel: CancellationToken::new(),
    }
}

/// A connection to it.
pub(super) fn session(resp: &Resp<Noting>) -> Session {
    let clients: &Arc<Clients> = &resp.clients;
    let address: SocketAddr = ([127, 0, 0, 1], 1).into();
    Session::new(clients.add(address), resp.options.redirect)
}

/// Has the connection send these lines together; what is on the wire then.
pub(super) async fn ask(resp: &Resp<Noting>, session: &mut Session, lines: &[&str]) -> String {
    let words = |line: &&str| -> Vec<Bytes> {
        line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    };
    let mut requests: VecDeque<Vec<Bytes>> = lines.iter().map(words).collect();
    let mut text = Vec::new();
    while !requests.is_empty() {
        let mut pipeline = Pipeline::new(resp, session, None, now());
        pipeline.run(&mut requests).await;
        let mut output = pipeline.into_output();
        while !output.is_empty() {
            let mut slices = [std::io::IoSlice::new(&[]); SLICES_MAX];
            let count = output.slices(&mut slices);
            let piece: Vec<u8> = slices[..count].iter().flat_map(|s| s.to_vec()).collect();
            output.advance(piece.len());
            text.extend(piece);
        }
    }
    String::from_utf8(text).expect("text")
}
