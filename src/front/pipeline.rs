//! The bidirectional stream: many operations on one stream, answered as they finish.
//!
//! Everything runs in the stream's own task; no operation spawns one. Replies that are ready are
//! handed out one after the other without a pause, so tonic encodes them into one HTTP/2 write.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

use super::activity::Activity;
use super::door::{Call, Door};
use super::replies::Reserved;
use super::{asked, convert, pb, status, validate};
use crate::service::Execute;
use crate::types::clock::{Instant, now};
use crate::types::{Error, Reason};

/// What the client reads.
pub type PipelineStream =
    Pin<Box<dyn Stream<Item = Result<pb::PipelineResponse, Status>> + Send + 'static>>;

/// Whose stream it is.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// How long it lets the whole stream live.
    pub timeout: Option<Duration>,
    /// Its W3C `traceparent`, if it sent one.
    pub trace: Option<String>,
    /// Its connection, if that is known.
    pub activity: Option<Arc<Activity>>,
}

/// Answers the operations of `input` until it ends, breaks, or `cancel` is cancelled; then those
/// in flight are finished.
pub fn run<S, I>(
    door: Arc<Door<S>>,
    input: I,
    caller: Caller,
    cancel: CancellationToken,
) -> PipelineStream
where
    S: Execute,
    I: Stream<Item = Result<pb::PipelineRequest, Status>> + Send + Unpin + 'static,
{
    let ends = caller.timeout.and_then(|timeout| now().checked_add(timeout));
    let activity = caller.activity.clone();
    let caller = Arc::new(caller);
    let (in_flight_max, bytes_max) =
        (door.limits.pipeline_in_flight_max, door.limits.pipeline_bytes_max);
    let value_bytes_max = door.limits.value_bytes_max;
    let stopping = status::status(&Reason::Stopping.into(), &door.table());
    let start = move |request, weight: Weight, since: Instant| {
        // What lay in the socket while the pipeline was full waited for its own client.
        let arrived = activity.as_ref().map_or(since, |activity| activity.read_at().max(since));
        let ahead = match &activity {
            Some(activity) if weight.reply_bytes > 0 => {
                activity.replies().reserve(weight.reply_bytes).map(Some)
            }
            _ => Ok(None),
        };
        one(Arc::clone(&door), request, (weight, ahead), (arrived, ends), Arc::clone(&caller))
    };
    Box::pin(Pipeline {
        input: Input::Open(input),
        cancelled: Box::pin(cancel.cancelled_owned()),
        stopping: Some(stopping),
        in_flight: FuturesUnordered::new(),
        in_flight_max,
        bytes: 0,
        bytes_max,
        reply_bytes: value_bytes_max,
        busy_at: now(),
        handed: false,
        start,
    })
}

/// The answer to a request that weighed so much.
struct Answered {
    weight: Weight,
    reply: pb::PipelineResponse,
    /// Given back when the reply is handed out: from then on its bytes are counted.
    reserved: Option<Arc<Reserved>>,
}

/// What a request counts for while it is in flight.
#[derive(Clone, Copy)]
struct Weight {
    /// Of key and value.
    bytes: usize,
    /// Of the value that is expected back; 0: none is.
    reply_bytes: usize,
}

/// Whether a value may be answered.
fn shows_value(request: &pb::PipelineRequest) -> bool {
    use pb::pipeline_request::Operation as Asked;
    match &request.operation {
        Some(Asked::Get(_) | Asked::GetRange(_) | Asked::GetOrLease(_)) => true,
        Some(Asked::Set(set)) => set.return_old,
        Some(Asked::Delete(delete)) => delete.return_old,
        Some(Asked::Expire(expire)) => expire.return_value,
        _ => false,
    }
}

/// Bytes of key and value.
fn weight(request: &pb::PipelineRequest) -> usize {
    use pb::pipeline_request::Operation as Asked;
    use pb::{delete_request as del, get_request as get, set_request as set};
    match &request.operation {
        Some(Asked::Get(asked)) => match &asked.key_form {
            Some(get::KeyForm::Key(text)) => text.len(),
            Some(get::KeyForm::KeyBytes(bytes)) => bytes.len(),
            None => 0,
        },
        Some(Asked::Delete(asked)) => match &asked.key_form {
            Some(del::KeyForm::Key(text)) => text.len(),
            Some(del::KeyForm::KeyBytes(bytes)) => bytes.len(),
            None => 0,
        },
        Some(Asked::Set(asked)) => {
            let key = match &asked.key_form {
                Some(set::KeyForm::Key(text)) => text.len(),
                Some(set::KeyForm::KeyBytes(bytes)) => bytes.len(),
                None => 0,
            };
            let value = match &asked.value_form {
                Some(set::ValueForm::Value(text)) => text.len(),
                Some(set::ValueForm::ValueBytes(bytes)) => bytes.len(),
                None => 0,
            };
            key + value
        }
        Some(other) => other.encoded_len(),
        None => 0,
    }
}

enum Input<I> {
    /// More requests may come.
    Open(I),
    /// None will come; the stream ends with this once all are answered.
    Closed(Option<Status>),
}

struct Pipeline<I, M, F> {
    input: Input<I>,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    /// How the stream ends when it is cancelled; taken once.
    stopping: Option<Status>,
    /// Invariant: at most `in_flight_max` long; while it is full no input is read, so HTTP/2
    /// flow control holds the client back.
    in_flight: FuturesUnordered<F>,
    in_flight_max: usize,
    /// Invariant: the sum of the weights over `in_flight`. While it is not below `bytes_max` no input
    /// is read either.
    bytes: usize,
    bytes_max: usize,
    /// Bytes that a reply with a value is expected to have: at first as many as a value may have, then
    /// the most of late. They are reserved ahead, because replies that come in while the client takes
    /// none lie in `in_flight`.
    reply_bytes: usize,
    /// Last time the pipeline was full, or its client slow to take an answer: what it reads has
    /// not waited for this node before that.
    busy_at: Instant,
    /// The last poll handed an answer out.
    handed: bool,
    start: M,
}

// Nothing but the boxed future and `FuturesUnordered` (which boxes its own) needs to stay in place.
impl<I, M, F> Unpin for Pipeline<I, M, F> {}

impl<I, M, F> Pipeline<I, M, F>
where
    I: Stream<Item = Result<pb::PipelineRequest, Status>> + Unpin,
    M: FnMut(pb::PipelineRequest, Weight, Instant) -> F,
    F: Future<Output = Answered>,
{
    fn has_room(&self) -> bool {
        self.in_flight.len() < self.in_flight_max && self.bytes < self.bytes_max
    }

    /// Takes what has arrived, up to the limit. True if anything was started.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        if matches!(self.input, Input::Open(_)) && self.cancelled.as_mut().poll(cx).is_ready() {
            // What was not read was surely not applied, and the status says so.
            self.input = Input::Closed(self.stopping.take());
        }
        let mut started = false;
        while self.has_room() {
            let Input::Open(input) = &mut self.input else { break };
            match Pin::new(input).poll_next(cx) {
                Poll::Ready(Some(Ok(request))) => {
                    let reply_bytes = if shows_value(&request) { self.reply_bytes } else { 0 };
                    let weight = Weight { bytes: weight(&request), reply_bytes };
                    self.bytes += weight.bytes + weight.reply_bytes;
                    self.in_flight.push((self.start)(request, weight, self.busy_at));
                    started = true;
                }
                Poll::Ready(Some(Err(status))) => self.input = Input::Closed(Some(status)),
                Poll::Ready(None) => self.input = Input::Closed(None),
                Poll::Pending => break,
            }
        }
        started
    }
}

impl<I, M, F> Stream for Pipeline<I, M, F>
where
    I: Stream<Item = Result<pb::PipelineRequest, Status>> + Unpin,
    M: FnMut(pb::PipelineRequest, Weight, Instant) -> F,
    F: Future<Output = Answered>,
{
    type Item = Result<pb::PipelineResponse, Status>;

    /// Ready replies first, then input: phases of draining and reading, so that operations
    /// enter the groups' queues together. Ends up pending only after input and the operations in
    /// flight were both polled, so that either wakes the task.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if std::mem::take(&mut this.handed) || !this.has_room() {
            this.busy_at = now();
        }
        loop {
            if let Poll::Ready(Some(answered)) = Pin::new(&mut this.in_flight).poll_next(cx) {
                let Weight { bytes, reply_bytes } = answered.weight;
                this.bytes -= bytes + reply_bytes;
                if reply_bytes > 0
                    && let Some(reserved) = &answered.reserved
                {
                    let less = this.reply_bytes - this.reply_bytes / 8;
                    this.reply_bytes = reserved.bytes().max(less);
                }
                this.handed = true;
                return Poll::Ready(Some(Ok(answered.reply)));
            }
            if this.read(cx) {
                continue;
            }
            assert!(this.in_flight.len() <= this.in_flight_max, "the bound holds");
            assert!(
                this.bytes == 0 || !this.in_flight.is_empty(),
                "what is answered weighs nothing"
            );
            return match &mut this.input {
                Input::Closed(status) if this.in_flight.is_empty() => {
                    Poll::Ready(status.take().map(Err))
                }
                Input::Closed(_) | Input::Open(_) => Poll::Pending,
            };
        }
    }
}

/// Runs one operation; its failure is a reply as well.
async fn one<S: Execute>(
    door: Arc<Door<S>>,
    request: pb::PipelineRequest,
    (weight, ahead): (Weight, Result<Option<Reserved>, Error>),
    times: (Instant, Option<Instant>),
    caller: Arc<Caller>,
) -> Answered {
    let id = request.id;
    let answered = match ahead {
        Ok(ahead) => answer(&door, request, times, &caller, ahead).await,
        Err(error) => Err(error),
    };
    let (result, reserved) = match answered {
        Ok(answered) => answered,
        Err(error) => {
            let failure = status::failure(&error, &door.table());
            (pb::pipeline_response::Result::Failure(failure), None)
        }
    };
    let routing_epoch = door.table().epoch.0;
    let reply = pb::PipelineResponse { id, result: Some(result), routing_epoch };
    Answered { weight, reply, reserved }
}

async fn answer<S: Execute>(
    door: &Door<S>,
    request: pb::PipelineRequest,
    (arrived, ends): (Instant, Option<Instant>),
    caller: &Caller,
    ahead: Option<Reserved>,
) -> Result<(asked::Answered, Option<Arc<Reserved>>), Error> {
    let timeout = request.timeout.map(|t| convert::duration("timeout", t)).transpose()?;
    let deadline = door.deadline(arrived, timeout);
    let deadline = ends.map_or(deadline, |ends| ends.min(deadline));
    let (trace, activity) = (caller.trace.as_deref(), caller.activity.as_deref());
    let call = Call { arrived, deadline, trace, activity };
    let asked = request.operation.ok_or_else(|| {
        validate::invalid("operation", "is missing, or of a kind that this node does not know")
    })?;
    let (kind, checked, answering) = asked::read(&door.limits, asked);
    let (response, reserved) = door.run_reserved(kind, checked, call, ahead).await?;
    Ok((answering(response)?, reserved))
}
