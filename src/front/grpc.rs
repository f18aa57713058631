//! The gRPC door: `cache.CacheService`.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request, Response, Status, Streaming};

use super::convert_locks as locks;
use super::convert_many as many;
use super::convert_words as words;
use super::door::{Call, Door, Kind};
use super::pipeline::{self, PipelineStream};
use super::visitor::Visitor;
use super::{convert, pb, routing, status, validate};
use crate::core::table::RoutingTable;
use crate::service::{Execute, NodeStatus};
use crate::types::clock::{Instant, now};
use crate::types::{Error, Reason};

/// When a request came in, before its message was read, on which connection, and how long its caller
/// waits.
#[derive(Clone, Debug)]
struct Waits {
    arrived: Instant,
    timeout: Option<Duration>,
    visitor: Option<Visitor>,
}

/// Looks at the head of each request; must stand before [`CacheGrpc`].
///
/// Tonic starts its own timer of `grpc-timeout` at that moment and, when it ends, answers CANCELLED
/// without an outcome; ours must end before it. A caller that does not wait at all is refused here,
/// because that timer would end before the message is read.
pub fn head<S: Execute>(
    door: Arc<Door<S>>,
) -> impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static {
    move |mut request| {
        let timeout = match grpc_timeout(request.metadata()) {
            Ok(Some(Duration::ZERO)) => Err(Reason::DeadlineBeforePropose.into()),
            other => other,
        };
        let timeout = timeout.map_err(|error| status::status(&error, &door.table()))?;
        let visitor = request.extensions().get::<Visitor>().cloned();
        // It has waited for its turn since it was read.
        let arrived = visitor.as_ref().map_or_else(now, |visitor| visitor.0.read_at());
        request.extensions_mut().insert(Waits { arrived, timeout, visitor });
        Ok(request)
    }
}

fn waits(extensions: &Extensions) -> Waits {
    extensions.get::<Waits>().expect("`head` stands before this service").clone()
}

/// When a call of another service behind `head` must be answered.
pub(super) fn deadline<S: Execute>(door: &Door<S>, extensions: &Extensions) -> Instant {
    let Waits { arrived, timeout, .. } = waits(extensions);
    door.deadline(arrived, timeout)
}

/// Serves `cache.CacheService` by `S`.
#[derive(Debug)]
pub struct CacheGrpc<S> {
    door: Arc<Door<S>>,
    cancel: CancellationToken,
}

impl<S: Execute> CacheGrpc<S> {
    /// A door; pipelines end when `cancel` is cancelled.
    pub fn new(door: Arc<Door<S>>, cancel: CancellationToken) -> Self {
        CacheGrpc { door, cancel }
    }

    fn refuse(&self, error: &Error) -> Status {
        status::status(error, &self.door.table())
    }

    /// Checks, runs and translates one request of several operations.
    async fn many<Q>(
        &self,
        kind: Kind,
        request: Request<Q>,
        check: impl FnOnce(&super::FrontLimits, Q) -> Result<many::CheckedMany, Error>,
    ) -> Result<Response<pb::BatchResponse>, Status> {
        let mut answerings = Vec::new();
        let check = |limits: &super::FrontLimits, message| {
            let (checked, answers) = check(limits, message)?;
            answerings = answers;
            Ok(checked)
        };
        // The answers are read behind the check, which fills in how.
        let response = self.unary(kind, request, check, Ok).await?;
        let (metadata, response, extensions) = response.into_parts();
        let batch = many::batch_response(response, &answerings, &self.door.table());
        let batch = batch.map_err(|error| self.refuse(&error))?;
        Ok(Response::from_parts(metadata, batch, extensions))
    }

    /// An answer under the epoch of this node's routing table.
    fn answer<A>(&self, message: A) -> Response<A> {
        let mut response = Response::new(message);
        status::put_epoch(response.metadata_mut(), self.door.table().epoch);
        response
    }

    /// Checks, runs and translates one unary operation.
    async fn unary<Q, A>(
        &self,
        kind: Kind,
        request: Request<Q>,
        check: impl FnOnce(&super::FrontLimits, Q) -> Result<convert::Checked, Error>,
        answer: impl FnOnce(crate::service::Response) -> Result<A, Error>,
    ) -> Result<Response<A>, Status> {
        let (metadata, extensions, message) = request.into_parts();
        let Waits { arrived, timeout, visitor } = waits(&extensions);
        let call = Call {
            arrived,
            deadline: self.door.deadline(arrived, timeout),
            trace: traceparent(&metadata),
            activity: visitor.as_ref().map(|visitor| visitor.0.as_ref()),
        };
        let checked = check(&self.door.limits, message);
        let result = self.door.run_reserved(kind, checked, call, None).await;
        let answered = result.and_then(|(response, reserved)| Ok((answer(response)?, reserved)));
        let (message, reserved) = answered.map_err(|error| self.refuse(&error))?;
        let mut response = self.answer(message);
        if let Some(reserved) = reserved {
            // `visitor::Answer` keeps it with the bytes of the message.
            response.extensions_mut().insert(reserved);
        }
        Ok(response)
    }
}

#[tonic::async_trait]
impl<S: Execute> pb::cache_service_server::CacheService for CacheGrpc<S> {
    async fn set(
        &self,
        request: Request<pb::SetRequest>,
    ) -> Result<Response<pb::SetResponse>, Status> {
        let kind = if request.get_ref().return_old { Kind::GetSet } else { Kind::Set };
        self.unary(kind, request, convert::set, convert::set_response).await
    }

    async fn get(
        &self,
        request: Request<pb::GetRequest>,
    ) -> Result<Response<pb::GetResponse>, Status> {
        self.unary(Kind::Get, request, convert::get, convert::get_response).await
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteRequest>,
    ) -> Result<Response<pb::DeleteResponse>, Status> {
        let kind = if request.get_ref().return_old { Kind::GetDelete } else { Kind::Delete };
        self.unary(kind, request, convert::delete, convert::delete_response).await
    }

    async fn inspect(
        &self,
        request: Request<pb::InspectRequest>,
    ) -> Result<Response<pb::InspectResponse>, Status> {
        self.unary(Kind::Inspect, request, words::inspect, words::inspect_response).await
    }

    async fn increment(
        &self,
        request: Request<pb::IncrementRequest>,
    ) -> Result<Response<pb::IncrementResponse>, Status> {
        self.unary(Kind::Increment, request, words::increment, words::increment_response).await
    }

    async fn increment_float(
        &self,
        request: Request<pb::IncrementFloatRequest>,
    ) -> Result<Response<pb::IncrementFloatResponse>, Status> {
        self.unary(
            Kind::IncrementFloat,
            request,
            words::increment_float,
            words::increment_float_response,
        )
        .await
    }

    async fn append(
        &self,
        request: Request<pb::AppendRequest>,
    ) -> Result<Response<pb::LengthResponse>, Status> {
        self.unary(Kind::Append, request, words::append, words::length_response).await
    }

    async fn get_range(
        &self,
        request: Request<pb::GetRangeRequest>,
    ) -> Result<Response<pb::GetResponse>, Status> {
        self.unary(Kind::GetRange, request, words::get_range, convert::get_response).await
    }

    async fn set_range(
        &self,
        request: Request<pb::SetRangeRequest>,
    ) -> Result<Response<pb::LengthResponse>, Status> {
        self.unary(Kind::SetRange, request, words::set_range, words::length_response).await
    }

    async fn scan(
        &self,
        request: Request<pb::ScanRequest>,
    ) -> Result<Response<pb::ScanResponse>, Status> {
        self.unary(Kind::Scan, request, |_, scan| many::scan(scan), many::scan_response).await
    }

    async fn size(
        &self,
        request: Request<pb::SizeRequest>,
    ) -> Result<Response<pb::SizeResponse>, Status> {
        self.unary(Kind::Size, request, |_, size| many::size(size), many::size_response).await
    }

    async fn flush(
        &self,
        request: Request<pb::FlushRequest>,
    ) -> Result<Response<pb::FlushResponse>, Status> {
        self.unary(Kind::Flush, request, |_, flush| many::flush(flush), many::flush_response).await
    }

    async fn lock(
        &self,
        request: Request<pb::LockRequest>,
    ) -> Result<Response<pb::LockResponse>, Status> {
        self.unary(Kind::Lock, request, locks::lock, locks::lock_response).await
    }

    async fn renew(
        &self,
        request: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::LockResponse>, Status> {
        self.unary(Kind::Renew, request, locks::renew, locks::lock_response).await
    }

    async fn unlock(
        &self,
        request: Request<pb::UnlockRequest>,
    ) -> Result<Response<pb::UnlockResponse>, Status> {
        self.unary(Kind::Unlock, request, locks::unlock, locks::unlock_response).await
    }

    async fn get_or_lease(
        &self,
        request: Request<pb::GetOrLeaseRequest>,
    ) -> Result<Response<pb::GetOrLeaseResponse>, Status> {
        self.unary(Kind::GetOrLease, request, locks::get_or_lease, locks::lease_response).await
    }

    async fn fill(
        &self,
        request: Request<pb::FillRequest>,
    ) -> Result<Response<pb::SetResponse>, Status> {
        self.unary(Kind::Fill, request, locks::fill, convert::set_response).await
    }

    async fn expire(
        &self,
        request: Request<pb::ExpireRequest>,
    ) -> Result<Response<pb::ExpireResponse>, Status> {
        let kind = if request.get_ref().return_value { Kind::GetExpire } else { Kind::Expire };
        self.unary(kind, request, words::expire, words::expire_response).await
    }

    async fn multi_get(
        &self,
        request: Request<pb::MultiGetRequest>,
    ) -> Result<Response<pb::MultiGetResponse>, Status> {
        let response = self.many(Kind::Multi, request, many::multi_get).await?;
        Ok(response.map(|batch| pb::MultiGetResponse { results: batch.results }))
    }

    async fn multi_set(
        &self,
        request: Request<pb::MultiSetRequest>,
    ) -> Result<Response<pb::BatchResponse>, Status> {
        let kind = if request.get_ref().atomic { Kind::Transaction } else { Kind::Multi };
        self.many(kind, request, many::multi_set).await
    }

    async fn batch(
        &self,
        request: Request<pb::BatchRequest>,
    ) -> Result<Response<pb::BatchResponse>, Status> {
        let kind = if request.get_ref().atomic { Kind::Transaction } else { Kind::Multi };
        self.many(kind, request, many::batch).await
    }

    async fn health(
        &self,
        _request: Request<pb::HealthRequest>,
    ) -> Result<Response<pb::HealthResponse>, Status> {
        Ok(self.answer(health(self.door.service.status(), &self.door.table())))
    }

    async fn routing(
        &self,
        request: Request<pb::RoutingRequest>,
    ) -> Result<Response<pb::RoutingResponse>, Status> {
        let (known_epoch, service) = (request.get_ref().known_epoch, &self.door.service);
        let leader = |shard| service.leader(shard);
        Ok(self.answer(routing::response(&self.door.table(), known_epoch, leader)))
    }

    type PipelineStream = PipelineStream;

    async fn pipeline(
        &self,
        request: Request<Streaming<pb::PipelineRequest>>,
    ) -> Result<Response<PipelineStream>, Status> {
        let (metadata, extensions, input) = request.into_parts();
        let Waits { timeout, visitor, .. } = waits(&extensions);
        let trace = traceparent(&metadata).map(str::to_owned);
        let door = Arc::clone(&self.door);
        let cancel = self.cancel.clone();
        let caller = pipeline::Caller { timeout, trace, activity: visitor.map(|v| v.0) };
        Ok(self.answer(pipeline::run(door, input, caller, cancel)))
    }
}

fn health(node: NodeStatus, table: &RoutingTable) -> pb::HealthResponse {
    use pb::health_response::Status as Wire;
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let status = if node.ready { Wire::Serving } else { Wire::NotReady };
    pb::HealthResponse {
        status: status.into(),
        not_ready_because: node.not_ready_because,
        node_id: node.node.0,
        version: node.version,
        routing_epoch: table.epoch.0,
        nodes: count(table.nodes.len()),
        shards: count(table.shards.len()),
        replicas: count(node.replicas.len()),
        leaders: count(node.replicas.iter().filter(|r| r.role == "leader").count()),
    }
}

fn traceparent(metadata: &MetadataMap) -> Option<&str> {
    metadata.get("traceparent")?.to_str().ok()
}

/// How long the caller waits: at most eight digits and a unit
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
fn grpc_timeout(metadata: &MetadataMap) -> Result<Option<Duration>, Error> {
    let Some(header) = metadata.get("grpc-timeout") else { return Ok(None) };
    let malformed = || {
        let allowed = "1 to 8 digits and one of H M S m u n are allowed";
        validate::invalid("grpc-timeout", format!("is malformed; {allowed}"))
    };
    let text = header.to_str().map_err(|_| malformed())?;
    // A header value that is text is ASCII, so the last character is one byte.
    let (digits, unit) = text.split_at(text.len().saturating_sub(1));
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed());
    }
    let amount: u64 = digits.parse().map_err(|_| malformed())?;
    Ok(Some(match unit {
        "H" => Duration::from_secs(amount * 3_600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return Err(malformed()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Duration>, Error> {
        let mut map = MetadataMap::new();
        map.insert("grpc-timeout", text.parse().unwrap());
        grpc_timeout(&map)
    }

    #[test]
    fn grpc_timeouts_are_read_as_the_protocol_says() {
        assert_eq!(grpc_timeout(&MetadataMap::new()), Ok(None));
        assert_eq!(parse("2H"), Ok(Some(Duration::from_secs(7_200))));
        assert_eq!(parse("3M"), Ok(Some(Duration::from_secs(180))));
        assert_eq!(parse("4S"), Ok(Some(Duration::from_secs(4))));
        assert_eq!(parse("5m"), Ok(Some(Duration::from_millis(5))));
        assert_eq!(parse("6u"), Ok(Some(Duration::from_micros(6))));
        assert_eq!(parse("7n"), Ok(Some(Duration::from_nanos(7))));
        assert_eq!(parse("99999999H"), Ok(Some(Duration::from_secs(99_999_999 * 3_600))));
        for bad in ["", "5", "m", "5x", "123456789m", "-5m", "+5m", " 5m", "5.0S"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
