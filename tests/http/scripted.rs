//! A service that answers as a script says, and the door over it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use raftcache::core::table::{NodeInfo, RoutingTable};
use raftcache::front::{DoorHandle, FrontLimits, serve_http};
use raftcache::service::{Execute, NodeStatus, Request, Response};
use raftcache::types::clock::now;
use raftcache::types::metrics::Metrics;
use raftcache::types::{Answer, Error, Freshness, NodeId, Reason};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::caller::Caller;

/// What every operation is answered.
pub struct Scripted {
    /// `None`: nothing before the deadline.
    pub answer: Mutex<Option<Result<Response, Error>>>,
    /// Every request that came in, and how long its caller had still to wait.
    pub seen: Mutex<Vec<(Request, Duration)>>,
}

impl Execute for Scripted {
    async fn execute(&self, request: Request) -> Result<Response, Error> {
        let deadline = request.deadline;
        self.seen.lock().push((request, deadline.saturating_duration_since(now())));
        let answer = self.answer.lock().clone();
        match answer {
            Some(answer) => answer,
            None => {
                tokio::time::sleep_until(deadline).await;
                Err(Reason::DeadlineAfterPropose.into())
            }
        }
    }

    fn status(&self) -> NodeStatus {
        NodeStatus {
            node: NodeId(1),
            version: "0.1.0".to_owned(),
            ready: false,
            not_ready_because: vec!["scripted".to_owned()],
            ..NodeStatus::default()
        }
    }

    fn table(&self) -> Arc<RoutingTable> {
        let info = NodeInfo {
            store_id: 1,
            peer_addr: "10.0.0.2:9001".to_owned(),
            grpc_addr: "10.0.0.2:8080".to_owned(),
            http_addr: "10.0.0.2:8081".to_owned(),
            zone: "a".to_owned(),
            resp_addr: String::new(),
        };
        Arc::new(RoutingTable { nodes: [(NodeId(2), info)].into(), ..RoutingTable::default() })
    }
}

pub struct Door {
    pub service: Arc<Scripted>,
    pub metrics: Arc<Metrics>,
    pub http: Caller,
    cancel: CancellationToken,
    handle: DoorHandle,
}

impl Door {
    pub async fn open(limits: FrontLimits) -> Door {
        let absent =
            Response::Read { answer: Answer::Value(None), freshness: Freshness::default() };
        let service =
            Arc::new(Scripted { answer: Mutex::new(Some(Ok(absent))), seen: Mutex::default() });
        let (metrics, cancel) = (Metrics::new(), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = Caller::new(listener.local_addr().unwrap().to_string());
        let handle = serve_http(listener, Arc::clone(&service), limits, &metrics, cancel.clone());
        Door { service, metrics, http, cancel, handle }
    }

    pub fn script(&self, answer: Option<Result<Response, Error>>) {
        *self.service.answer.lock() = answer;
    }

    pub fn refused(&self, limit: &str) -> u64 {
        self.metrics.refused.with_label_values(&[limit]).get()
    }

    pub async fn close(self) {
        self.cancel.cancel();
        self.handle.await.unwrap().expect("the door did not panic").unwrap();
    }
}
