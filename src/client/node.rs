//! One node: its connections, and whether it is left alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tonic::transport::{Channel, Endpoint};

use super::ask::{Answer, Ask};
use super::breaker::Breaker;
use super::error::{Error, Failure, UNREACHABLE};
use super::lane::Lane;
use super::options::{Door, Options};
use super::unary;
use crate::pb;
use crate::pb::cache_service_client::CacheServiceClient;
use crate::pb::pipeline_request::Operation;
use crate::pb::pipeline_response::Result as Reply;
use crate::types::Outcome;
use crate::types::clock::{Instant, now};
use crate::types::limits::READS_REPLY_BYTES_MAX;

/// How often a silent connection is asked for a sign of life, and how long that may take. Servers
/// of gRPC do not like to be asked more often.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest answer, bytes: what the reads of one request may show, and the last of them beyond it.
const ANSWER_BYTES_MAX: usize = 2 * READS_REPLY_BYTES_MAX;

/// An answer, and the epoch of the routing table of who gave it.
pub(super) type Answered = (Answer, u64);

#[derive(Debug)]
struct Connection {
    client: CacheServiceClient<Channel>,
    /// Not async: looked at.
    lane: Mutex<Option<Arc<Lane>>>,
    /// Async: held while a stream is opened, so that one caller does it and the others wait.
    opening: tokio::sync::Mutex<()>,
    /// Places for calls that wait at the node, as many as the stream has for the others.
    waiting: Semaphore,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Node {
    /// `host:port`.
    pub address: String,
    door: Door,
    in_flight_max: usize,
    connections: Vec<Connection>,
    turn: AtomicUsize,
    /// Not async: held for a comparison.
    breaker: Mutex<Breaker>,
    /// Places for attempts that are heard out; see `hedge`.
    pub heard_out: Arc<Semaphore>,
}

impl Node {
    /// Connects when it is first used, and again after each failure. Needs a runtime of tokio.
    pub fn new(address: &str, options: &Options) -> Result<Arc<Node>, Error> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"));
        let endpoint = endpoint.map_err(|error| {
            Error::rejected("invalid_argument", format!("{address} is not an address: {error}"))
        })?;
        let endpoint = endpoint
            .connect_timeout(options.attempt)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        let connection = |_| Connection {
            client: CacheServiceClient::new(endpoint.connect_lazy())
                .max_decoding_message_size(ANSWER_BYTES_MAX),
            lane: Mutex::new(None),
            opening: tokio::sync::Mutex::new(()),
            waiting: Semaphore::new(options.in_flight_max),
        };
        Ok(Arc::new(Node {
            address: address.to_owned(),
            door: options.door,
            in_flight_max: options.in_flight_max,
            connections: (0..options.connections).map(connection).collect(),
            turn: AtomicUsize::new(0),
            breaker: Mutex::new(Breaker::new(options.breaker_failures, options.breaker_open)),
            heard_out: Arc::new(Semaphore::new(options.breaker_failures as usize)),
        }))
    }

    /// Whether the node may be asked now; see [`Breaker::allows`].
    pub fn allows(&self) -> bool {
        self.breaker.lock().allows(now())
    }

    /// Whether nothing speaks against the node; spends no try, unlike [`Node::allows`].
    pub fn in_good_standing(&self) -> bool {
        self.breaker.lock().is_closed()
    }

    /// Takes note of how a call ended. True if the node is left alone from now on.
    fn note(&self, failure: Option<&Failure>) -> bool {
        let mut breaker = self.breaker.lock();
        match failure {
            // Not the node's doing.
            Some(failure) if failure.unasked => false,
            Some(failure) if failure.silent && failure.reason == UNREACHABLE => {
                breaker.unreachable(now())
            }
            Some(failure) if failure.silent => breaker.silent(now()),
            _ => {
                breaker.answered();
                false
            }
        }
    }

    fn connection(&self) -> &Connection {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        &self.connections[turn % self.connections.len()]
    }

    /// One attempt of an operation.
    pub async fn call(&self, ask: Ask, until: Instant) -> Result<Answered, Failure> {
        let connection = self.connection();
        // One that waits at the node would take a place on the stream all that time, and many of them
        // all places: each goes as a call of its own.
        let waits = ask.waits();
        let result = match ask {
            Ask::One(operation) if self.door == Door::Pipeline && !waits => {
                connection.pipeline(operation, until, self.in_flight_max).await
            }
            ask => connection.unary(ask, until).await,
        };
        let opened = self.note(result.as_ref().err());
        if opened {
            tracing::debug!(node = self.address, "does not answer; left alone for a while");
        }
        result
    }

    /// The routing table as this node knows it.
    pub async fn routing(
        &self,
        known_epoch: u64,
        until: Instant,
    ) -> Result<pb::RoutingResponse, Failure> {
        let mut client = self.connection().client.clone();
        let call = client.routing(pb::RoutingRequest { known_epoch });
        let result = match tokio::time::timeout_at(until, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(Failure::of_status(&status)),
            Err(_) => Err(Failure::silent(true, "no answer in time")),
        };
        self.note(result.as_ref().err());
        result.map_err(|failure| Failure {
            message: format!("{}: {}", self.address, failure.message),
            ..failure
        })
    }
}

impl Connection {
    async fn unary(&self, ask: Ask, until: Instant) -> Result<Answered, Failure> {
        // Servers take so many calls on one connection; the next would wait for its turn unseen, and
        // its node would seem silent.
        let _place = if ask.waits() {
            let full = |_| Failure::too_many("as many wait for fills as may on one connection");
            Some(self.waiting.try_acquire().map_err(full)?)
        } else {
            None
        };
        unary::call(self.client.clone(), ask, until).await
    }

    async fn pipeline(
        &self,
        operation: Operation,
        until: Instant,
        in_flight_max: usize,
    ) -> Result<Answered, Failure> {
        let lane = self.lane(until, in_flight_max).await?;
        let reply = lane.call(operation, until).await?;
        match reply.result {
            Some(Reply::Failure(failure)) => Err(Failure::of_failure(failure)),
            Some(answer) => Ok((Answer::One(answer), reply.routing_epoch)),
            None => Err(Failure::bad_answer("an answer without a result")),
        }
    }

    /// The stream, opened if there is none that lives.
    async fn lane(&self, until: Instant, in_flight_max: usize) -> Result<Arc<Lane>, Failure> {
        let living = || self.lane.lock().clone().filter(|lane| lane.lives());
        if let Some(lane) = living() {
            return Ok(lane);
        }
        let open = async {
            let _turn = self.opening.lock().await;
            if let Some(lane) = living() {
                return Ok(lane);
            }
            let opened = Lane::open(self.client.clone(), in_flight_max).await;
            let lane = opened.map(Arc::new).map_err(|status| Failure {
                // Whatever became of the stream, no operation was on it.
                outcome: Outcome::Rejected,
                ..Failure::of_status(&status)
            })?;
            *self.lane.lock() = Some(Arc::clone(&lane));
            Ok(lane)
        };
        match tokio::time::timeout_at(until, open).await {
            Ok(result) => result,
            Err(_) => {
                let slow = Failure::silent(false, "no connection in time");
                Err(Failure { reason: "no_connection".to_owned(), ..slow })
            }
        }
    }
}
