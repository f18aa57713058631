//! `grpc.health.v1` (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>): serving
//! means ready.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService as _;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::admin::AdminGrpc;
use super::grpc::CacheGrpc;
use super::pb::admin_service_server::AdminServiceServer;
use super::pb::cache_service_server::CacheServiceServer;
use crate::service::Execute;

/// How often a watch looks whether readiness changed.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Answers health checks from the node's readiness.
#[derive(Debug)]
pub struct HealthGrpc<S> {
    service: Arc<S>,
    cancel: CancellationToken,
}

impl<S: Execute> HealthGrpc<S> {
    /// Health of `service`; not serving, and watches end, when `cancel` is cancelled.
    pub fn new(service: Arc<S>, cancel: CancellationToken) -> Self {
        HealthGrpc { service, cancel }
    }

    fn status(&self) -> ServingStatus {
        if !self.cancel.is_cancelled() && self.service.is_ready() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        }
    }
}

/// The whole server is asked for by an empty name.
fn is_known<S: Execute>(name: &str) -> bool {
    let services =
        [CacheServiceServer::<CacheGrpc<S>>::NAME, AdminServiceServer::<AdminGrpc<S>>::NAME];
    name.is_empty() || services.contains(&name)
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

type WatchStream =
    Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

#[tonic::async_trait]
impl<S: Execute> Health for HealthGrpc<S> {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !is_known::<S>(&request.get_ref().service) {
            return Err(Status::not_found("service not registered"));
        }
        Ok(Response::new(response(self.status())))
    }

    type WatchStream = WatchStream;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<WatchStream>, Status> {
        let known = is_known::<S>(&request.get_ref().service);
        let health = HealthGrpc::new(Arc::clone(&self.service), self.cancel.clone());
        let stream = stream::unfold((health, None), move |(health, last)| async move {
            let next = health.change(known, last).await?;
            Some((Ok(response(next)), (health, Some(next))))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

impl<S: Execute> HealthGrpc<S> {
    /// Waits until the status differs from `last`; `None` after the last one of a stopping node.
    async fn change(&self, known: bool, last: Option<ServingStatus>) -> Option<ServingStatus> {
        loop {
            let next = if known { self.status() } else { ServingStatus::ServiceUnknown };
            if last != Some(next) {
                return Some(next);
            }
            if self.cancel.is_cancelled() {
                return None;
            }
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => {}
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
            }
        }
    }
}
