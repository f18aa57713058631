//! Runs the door for clients of Redis: one task a connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::budget::Budget;
use super::clients::Clients;
use super::connection::Connected;
use super::options::RespOptions;
use crate::front::door::Door;
use crate::front::listen::Listener;
use crate::front::{DoorHandle, FrontLimits};
use crate::service::Execute;
use crate::types::clock::{Instant, SharedClock, SystemClock, now};
use crate::types::metrics::Metrics;
use crate::types::task::spawn;

/// What all connections of the door share.
pub(super) struct Resp<S> {
    pub(super) door: Door<S>,
    pub(super) options: RespOptions,
    pub(super) clients: Arc<Clients>,
    pub(super) budget: Arc<Budget>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: SharedClock,
    pub(super) started: Instant,
    pub(super) port: u16,
    pub(super) cancel: CancellationToken,
}

/// Serves clients of Redis on `listener` until `cancel` is cancelled; then no connection is accepted,
/// each answers the commands it is working on and ends, and the task ends with the last of them or
/// when the grace has passed.
pub fn serve_resp<S: Execute>(
    listener: TcpListener,
    service: Arc<S>,
    limits: FrontLimits,
    options: RespOptions,
    metrics: &Arc<Metrics>,
    cancel: CancellationToken,
) -> DoorHandle {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let mut listener = Listener::new(listener, "resp", None, limits, metrics, cancel.clone());
    let resp = Arc::new(Resp {
        door: Door::new(service, limits, metrics),
        options,
        clients: Arc::default(),
        budget: Budget::new(limits.resp.buffers_bytes_max),
        metrics: Arc::clone(metrics),
        clock: Arc::new(SystemClock),
        started: now(),
        port,
        cancel: cancel.clone(),
    });
    spawn("resp door", async move {
        let connections = TaskTracker::new();
        loop {
            let (socket, address) = tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                accepted = listener.next() => accepted,
            };
            let connected = Connected::new(Arc::clone(&resp), socket, address);
            drop(spawn("resp connection", connections.track_future(connected.serve())));
        }
        drop(listener);
        connections.close();
        let grace = Duration::from_millis(limits.shutdown_grace_ms);
        if tokio::time::timeout(grace, connections.wait()).await.is_err() {
            let open = connections.len();
            tracing::warn!(door = "resp", open, "stopped with connections that take no answers");
        }
        Ok(())
    })
}
