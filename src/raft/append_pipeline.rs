//! One append stream to a follower: several requests in flight, answered in order.

use std::io;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{BoxFuture, Either, select};
use futures_util::stream::{BoxStream, FuturesOrdered};
use futures_util::{Stream, StreamExt};
use openraft::errors::{RPCError, Unreachable};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, StreamAppendResult};

use super::machine::StateMachine;
use super::network::{PeerNetwork, Rpc};
use super::types::{LogId, TypeConfig};

/// A commit index that advanced waits this long for entries to travel with. openraft asks for an
/// append of its own for it as soon as the stream is polled, which would double the frames of a
/// busy group; followers need it only for stale reads.
const COMMIT_WAIT: Duration = Duration::from_millis(10);

struct Sent {
    prev: Option<LogId>,
    last: Option<LogId>,
    response: Rpc<AppendEntriesResponse<TypeConfig>>,
}

/// State of one append stream: requests in flight, answered in order.
pub(super) struct AppendPipeline<'s, S, M> {
    network: &'s mut PeerNetwork<M>,
    input: Option<S>,
    in_flight: FuturesOrdered<BoxFuture<'static, Sent>>,
    soft_ttl: Duration,
    /// Newest log id that the follower confirmed on this stream.
    matched: Option<LogId>,
    /// Last index sent whose successors are waited for before openraft is asked for more.
    lull: Option<u64>,
}

impl<'s, S, M> AppendPipeline<'s, S, M>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin + Send + 's,
    M: StateMachine,
{
    /// A stream of the requests of `input`; those without entries wait `soft_ttl` for an answer.
    pub(super) fn new(network: &'s mut PeerNetwork<M>, input: S, soft_ttl: Duration) -> Self {
        AppendPipeline {
            network,
            input: Some(input),
            in_flight: FuturesOrdered::new(),
            soft_ttl,
            matched: None,
            lull: None,
        }
    }

    /// The answers, as openraft takes them; the stream ends with what is no whole success.
    pub(super) fn answers(self) -> BoxStream<'s, Rpc<StreamAppendResult<TypeConfig>>> {
        let stream = futures_util::stream::unfold(Some(self), |state| async move {
            let mut pipeline = state?;
            let sent = pipeline.next().await?;
            let judged = pipeline.judge(&sent);
            let response = match judged.and(sent.response) {
                Ok(response) => response,
                Err(error) => return Some((Err(error), None)),
            };
            let whole = match &response {
                AppendEntriesResponse::Success => true,
                AppendEntriesResponse::PartialSuccess(last) => *last == sent.last,
                AppendEntriesResponse::Conflict | AppendEntriesResponse::HigherVote(_) => false,
            };
            let result = response.into_stream_result(sent.prev, sent.last);
            Some((Ok(result), whole.then_some(pipeline)))
        });
        stream.boxed()
    }

    fn push(&mut self, request: AppendEntriesRequest<TypeConfig>) {
        let prev = request.prev_log_id;
        let last = request.entries.last().map(|e| e.log_id).or(prev);
        // Heartbeats, and commit indices that waited, need no wait after them.
        self.lull = request.entries.last().map(|entry| entry.log_id.index);
        let response = self.network.send_append(&request, self.soft_ttl);
        self.in_flight
            .push_back(Box::pin(async move { Sent { prev, last, response: response.await } }));
    }

    /// The answer as openraft may see it. A request that overtook the one before it on the network
    /// meets a gap and is answered `Conflict`, although the follower has confirmed its `prev` since:
    /// openraft would take that for a log that shrank.
    fn judge(&mut self, sent: &Sent) -> Rpc<()> {
        match &sent.response {
            Ok(AppendEntriesResponse::Success) => self.matched = self.matched.max(sent.last),
            Ok(AppendEntriesResponse::PartialSuccess(last)) => {
                self.matched = self.matched.max(*last);
            }
            Ok(AppendEntriesResponse::Conflict) if sent.prev <= self.matched => {
                let error = io::Error::other("an append overtook the one before it");
                return Err(RPCError::Unreachable(Unreachable::new(&error)));
            }
            Ok(_) | Err(_) => {}
        }
        Ok(())
    }

    /// Waits until there are entries after `sent`, at most `COMMIT_WAIT`; an answer comes first.
    async fn wait_for_entries(&mut self, sent: u64) -> Option<Sent> {
        let log = &self.network.context.log;
        let entries = pin!(log.reaches_past(sent));
        let more = pin!(tokio::time::timeout(COMMIT_WAIT, entries));
        if self.in_flight.is_empty() {
            // Elapsed or not: the stream is asked now.
            let _ = more.await;
            return None;
        }
        match select(self.in_flight.next(), more).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => None,
        }
    }

    /// Next answer; `None` when the input has ended and everything is answered.
    async fn next(&mut self) -> Option<Sent> {
        loop {
            let room = self.in_flight.len() < self.network.context.appends_in_flight.max(1);
            if let Some(sent) = self.lull.filter(|_| room && self.input.is_some()) {
                match self.wait_for_entries(sent).await {
                    Some(sent) => return Some(sent),
                    None => self.lull = None,
                }
            }
            let Some(input) = self.input.as_mut().filter(|_| room) else {
                return self.in_flight.next().await;
            };
            // Nothing fails before the first request was taken from the input: an early error
            // would make openraft retry without back-off.
            let request = if self.in_flight.is_empty() {
                input.next().await
            } else {
                match select(self.in_flight.next(), input.next()).await {
                    Either::Left((sent, _)) => return sent,
                    Either::Right((request, _)) => request,
                }
            };
            match request {
                Some(request) => self.push(request),
                None => self.input = None,
            }
        }
    }
}
