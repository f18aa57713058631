//! Runs the doors: each in a task that ends when told to, after the requests in flight.

use std::sync::Arc;
use std::time::Duration;

use axum::middleware;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Builder as Reflection;

use super::activity::HTTP2_GREETING_BYTES;
use super::admin::AdminGrpc;
use super::door::Door;
use super::grpc::{CacheGrpc, head};
use super::health::HealthGrpc;
use super::listen::Listener;
use super::pb::admin_service_server::AdminServiceServer;
use super::pb::cache_service_server::CacheServiceServer;
use super::visitor::{VisitedLayer, Visitor, visited};
use super::{FrontLimits, http, pb};
use crate::service::Execute;
use crate::types::metrics::Metrics;
use crate::types::task::spawn;

/// HTTP/2 window of a stream, bytes: a large value travels without a pause. A client can make a
/// node hold no more than the window of its connection beside the messages being put together.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// HTTP/2 window of a connection, shared by its streams, bytes.
const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Longest list of headers of a request, bytes: ours are short.
const HEADERS_BYTES_MAX: u32 = 16 * 1024;
/// Streams of one connection that its client reset before this node had begun with them; one more
/// ends the connection (CVE-2023-44487, "rapid reset").
const RESET_STREAMS_MAX: usize = 32;

/// Why a door ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The gRPC server failed.
    #[error("grpc door: {0}")]
    Grpc(#[from] tonic::transport::Error),
    /// The HTTP server failed.
    #[error("http door: {0}")]
    Http(#[from] std::io::Error),
}

/// A running door: `None` if its task panicked.
pub type DoorHandle = JoinHandle<Option<Result<(), Error>>>;

/// Serves `cache.CacheService`, `cache.AdminService`, health and reflection (v1 and v1alpha) on `listener` until
/// `cancel` is cancelled; then no connection is accepted, pipelines stop reading, and the task
/// ends when the requests in flight are answered or the grace has passed.
pub fn serve_grpc<S: Execute>(
    listener: TcpListener,
    service: Arc<S>,
    limits: FrontLimits,
    metrics: &Arc<Metrics>,
    cancel: CancellationToken,
) -> DoorHandle {
    let greeting = Some(HTTP2_GREETING_BYTES);
    let listener = Listener::new(listener, "grpc", greeting, limits, metrics, cancel.clone());
    let door = Arc::new(Door::new(service, limits, metrics));
    spawn("grpc door", async move {
        tokio::select! {
            biased;
            result = serve_router(&door, listener, &cancel) => Ok(result?),
            () = grace(&cancel, limits, "grpc") => Ok(()),
        }
    })
}

async fn serve_router<S: Execute>(
    door: &Arc<Door<S>>,
    listener: Listener,
    cancel: &CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let limits = &door.limits;
    let cache = CacheServiceServer::new(CacheGrpc::new(Arc::clone(door), cancel.clone()))
        .max_decoding_message_size(limits.message_bytes_max);
    let cache = InterceptedService::new(cache, head(Arc::clone(door)));
    let admin = AdminServiceServer::new(AdminGrpc::new(Arc::clone(door)))
        .max_decoding_message_size(limits.message_bytes_max);
    let admin = InterceptedService::new(admin, head(Arc::clone(door)));
    let health = HealthServer::new(HealthGrpc::new(Arc::clone(&door.service), cancel.clone()));
    let reflection = || {
        Reflection::configure()
            .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = reflection().build_v1().expect("the descriptors were built with this program");
    let v1alpha =
        reflection().build_v1alpha().expect("the descriptors were built with this program");
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(limits.streams_per_connection_max)
        .http2_keepalive_interval(Some(Duration::from_millis(limits.keepalive_interval_ms)))
        .http2_keepalive_timeout(Some(Duration::from_millis(limits.keepalive_timeout_ms)))
        .http2_max_pending_accept_reset_streams(Some(RESET_STREAMS_MAX))
        .http2_max_header_list_size(Some(HEADERS_BYTES_MAX))
        .layer(VisitedLayer)
        .add_service(cache)
        .add_service(admin)
        .add_service(health)
        .add_service(v1)
        .add_service(v1alpha)
        .serve_with_incoming_shutdown(listener.into_stream(), cancel.clone().cancelled_owned())
        .await
}

/// Serves `/cache` and the pages for operators on `listener` until `cancel` is cancelled.
pub fn serve_http<S: Execute>(
    listener: TcpListener,
    service: Arc<S>,
    limits: FrontLimits,
    metrics: &Arc<Metrics>,
    cancel: CancellationToken,
) -> DoorHandle {
    let listener = Listener::new(listener, "http", None, limits, metrics, cancel.clone());
    let router = http::router(service, limits, metrics).layer(middleware::from_fn(visited));
    let router = router.into_make_service_with_connect_info::<Visitor>();
    spawn("http door", async move {
        let stopped = cancel.clone().cancelled_owned();
        let serve = axum::serve(listener, router).with_graceful_shutdown(stopped);
        tokio::select! {
            biased;
            result = serve.into_future() => Ok(result?),
            () = grace(&cancel, limits, "http") => Ok(()),
        }
    })
}

/// Ends when a stopping door has waited long enough.
async fn grace(cancel: &CancellationToken, limits: FrontLimits, door: &'static str) {
    cancel.cancelled().await;
    tokio::time::sleep(Duration::from_millis(limits.shutdown_grace_ms)).await;
    tracing::warn!(door, ms = limits.shutdown_grace_ms, "stopped with requests in flight");
}
