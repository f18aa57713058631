//! Accepts connections of a door, counts them, and closes those past a limit at once (INV-8).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, IntGauge};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::FrontLimits;
use super::activity::{Activity, Patience};
use super::connection::Connection;
use super::replies::Replies;
use crate::types::metrics::Metrics;

/// How long to wait when the process has no descriptors left to accept with.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening socket with a limit of connections.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    door: &'static str,
    limits: FrontLimits,
    patience: Patience,
    places: Arc<Places>,
    replies: Arc<Replies>,
    open: IntGauge,
    closed: IntCounterVec,
    refused: IntCounter,
    refused_address: IntCounter,
    cancel: CancellationToken,
}

/// Who is connected. One a door.
#[derive(Debug, Default)]
struct Places {
    /// parking_lot: held for a look-up in a map, never across an await.
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// Invariant: the sum of `by_address`.
    all: usize,
    /// Invariant: no zero in it.
    by_address: HashMap<IpAddr, usize>,
}

/// Which limit a newcomer met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Full {
    Door,
    Address,
}

/// The place of one connection; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    fn take(self: &Arc<Self>, address: IpAddr, limits: &FrontLimits) -> Result<Place, Full> {
        let mut taken = self.taken.lock();
        if taken.all >= limits.connections_max {
            return Err(Full::Door);
        }
        let of_address = taken.by_address.get(&address).copied().unwrap_or(0);
        if of_address >= limits.connections_per_address_max {
            return Err(Full::Address);
        }
        taken.all += 1;
        taken.by_address.insert(address, of_address + 1);
        Ok(Place { places: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all -= 1;
        let of_address = taken.by_address.get(&self.address).copied().unwrap_or(0);
        assert!(of_address > 0, "a place was given back twice");
        match of_address {
            1 => taken.by_address.remove(&self.address),
            more => taken.by_address.insert(self.address, more - 1),
        };
    }
}

impl Listener {
    /// Wraps `socket`; `door` names it in metrics. `greeting_bytes` is the length of what every
    /// client of the protocol says first, if it has that. When `cancel` is cancelled, connections
    /// that have not said anything yet are closed: the server would wait for their first request.
    pub fn new(
        socket: TcpListener,
        door: &'static str,
        greeting_bytes: Option<usize>,
        limits: FrontLimits,
        metrics: &Metrics,
        cancel: CancellationToken,
    ) -> Self {
        Listener {
            socket,
            door,
            limits,
            patience: Patience::new(&limits, greeting_bytes),
            places: Arc::default(),
            replies: Replies::new(&limits, metrics),
            open: metrics.connections.with_label_values(&[door]),
            closed: metrics.connections_closed.clone(),
            refused: metrics.refused.with_label_values(&["connections"]),
            refused_address: metrics.refused.with_label_values(&["connections_per_address"]),
            cancel,
        }
    }

    /// The next connection within the limits.
    pub async fn next(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.socket.accept().await {
                Ok((socket, peer)) => {
                    if let Some(connection) = self.admit(socket, peer) {
                        return (connection, peer);
                    }
                }
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    tracing::warn!(door = self.door, %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, socket: TcpStream, peer: SocketAddr) -> Option<Connection> {
        let place = match self.places.take(peer.ip(), &self.limits) {
            Ok(place) => place,
            Err(full) => {
                match full {
                    Full::Door => self.refused.inc(),
                    Full::Address => self.refused_address.inc(),
                }
                tracing::debug!(door = self.door, %peer, ?full, "refused: too many connections");
                return None;
            }
        };
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(door = self.door, %peer, %error, "peer left while it was accepted");
            return None;
        }
        let (in_flight_max, replies) = (self.limits.connection_in_flight_max, self.replies.share());
        let activity = Activity::new(self.patience, in_flight_max, replies);
        let (open, closed) = (self.open.clone(), self.closed.clone());
        Some(Connection::new(socket, activity, open, closed, self.cancel.clone(), place))
    }

    /// The connections as tonic takes them.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Connection>> {
        stream::unfold(self, |mut listener| async move {
            let (connection, _) = listener.next().await;
            Some((Ok(connection), listener))
        })
    }
}

/// The connection was gone before it was accepted: no fault of this node.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        self.next().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_all_and_by_address() {
        let limits = FrontLimits {
            connections_max: 3,
            connections_per_address_max: 2,
            ..FrontLimits::default()
        };
        let places = Arc::new(Places::default());
        let address = |last| IpAddr::from([10, 0, 0, last]);
        let take = |last| places.take(address(last), &limits);
        let (first, _second) = (take(1).unwrap(), take(1).unwrap());
        assert_eq!(take(1).unwrap_err(), Full::Address);
        let third = take(2).unwrap();
        assert_eq!(take(3).unwrap_err(), Full::Door);
        drop(first);
        drop(third);
        let _fourth = take(1).unwrap();
        let taken = places.taken.lock();
        assert_eq!((taken.all, taken.by_address.len()), (2, 1), "who left leaves no trace");
    }
}
