//! Replies that clients have not taken: reserved before they are built, and counted until their last
//! byte was written, on one connection and on all of a door together (INV-8).
//!
//! An HTTP/2 client decides how much of a reply it takes, and when. What it does not take stays in the
//! buffers of its streams, so a client that asks and never reads could make a node hold as many replies
//! as it has streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use prometheus::IntCounter;

use super::FrontLimits;
use crate::raft::delay::RETRY_AFTER;
use crate::types::limits::REPLIES_FREE_BYTES;
use crate::types::metrics::Metrics;
use crate::types::{Error, Reason};

/// What a reply takes beside its payload, about: names and numbers, and what they are kept in.
const REPLY_OVERHEAD_BYTES: usize = 1024;

/// A number of bytes that all connections of a door share.
#[derive(Debug)]
pub struct Replies {
    bytes_max: usize,
    connection_bytes_max: usize,
    /// Invariant: the sum of `held` over all shares.
    used: AtomicUsize,
    refused: IntCounter,
    refused_connection: IntCounter,
}

/// What the replies of one connection hold of it.
#[derive(Debug)]
pub struct Share {
    replies: Arc<Replies>,
    /// Invariant: the sum of the living `Reserved`.
    held: AtomicUsize,
}

/// Bytes of a reply; given back when dropped.
#[derive(Debug)]
#[must_use]
pub struct Reserved {
    share: Arc<Share>,
    bytes: usize,
}

impl Replies {
    /// Nothing is held.
    pub fn new(limits: &FrontLimits, metrics: &Metrics) -> Arc<Self> {
        let refused = |limit| metrics.refused.with_label_values(&[limit]);
        Arc::new(Replies {
            bytes_max: limits.replies_bytes_max,
            connection_bytes_max: limits.connection_replies_bytes_max,
            used: AtomicUsize::new(0),
            refused: refused("replies_bytes"),
            refused_connection: refused("replies_bytes_of_the_connection"),
        })
    }

    /// The share of a connection.
    pub fn share(self: &Arc<Self>) -> Arc<Share> {
        Arc::new(Share { replies: Arc::clone(self), held: AtomicUsize::new(0) })
    }
}

impl Share {
    /// Whether anything may be begun for this connection, or `ResourceExhausted` at once.
    pub fn admit(&self) -> Result<(), Error> {
        let (held, used) =
            (self.held.load(Ordering::Relaxed), self.replies.used.load(Ordering::Relaxed));
        self.check(held, used, 1)
    }

    /// Room for a reply of so many bytes, or `ResourceExhausted` at once.
    pub fn reserve(self: &Arc<Self>, bytes: usize) -> Result<Reserved, Error> {
        let bytes = bytes.saturating_add(REPLY_OVERHEAD_BYTES);
        let (held, used, reserved) = self.add(bytes);
        self.check(held, used, bytes).map(|()| reserved)
    }

    /// Counts a reply that must be given whatever it weighs: what it tells has happened.
    pub fn hold(self: &Arc<Self>, bytes: usize) -> Reserved {
        self.add(bytes).2
    }

    /// Counts so many bytes; what the connection and the door held before.
    fn add(self: &Arc<Self>, bytes: usize) -> (usize, usize, Reserved) {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed);
        let used = self.replies.used.fetch_add(bytes, Ordering::Relaxed);
        (held, used, Reserved { share: Arc::clone(self), bytes })
    }

    /// Whether `bytes` more fit. One reply alone always does, and a connection that holds little is
    /// not refused for what the others hold.
    fn check(&self, held: usize, used: usize, bytes: usize) -> Result<(), Error> {
        let replies = &*self.replies;
        let past = |before: usize, max: usize| before > 0 && before.saturating_add(bytes) > max;
        if past(held, replies.connection_bytes_max) {
            replies.refused_connection.inc();
            let what = "bytes of replies not taken on the connection";
            return Err(exhausted(what, replies.connection_bytes_max));
        }
        if past(used, replies.bytes_max) && held.saturating_add(bytes) > REPLIES_FREE_BYTES {
            replies.refused.inc();
            return Err(exhausted("bytes of replies not taken", replies.bytes_max));
        }
        Ok(())
    }
}

fn exhausted(what: &'static str, limit: usize) -> Error {
    let limit = limit as u64;
    Error::from(Reason::ResourceExhausted { what, limit }).retry_after(RETRY_AFTER)
}

impl Reserved {
    /// How many bytes it is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.share.replies.used.fetch_sub(self.bytes, Ordering::Relaxed);
        let before = self.share.held.fetch_sub(self.bytes, Ordering::Relaxed);
        assert!(before >= self.bytes, "a reservation was given back twice");
    }
}

/// Bytes on their way to a client, with what was reserved for them.
struct OnTheWay<R> {
    bytes: Bytes,
    _reserved: R,
}

impl<R> AsRef<[u8]> for OnTheWay<R> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The same bytes; what was reserved is given back when the last of them was written, or dropped.
pub(super) fn on_the_way<R: Send + 'static>(bytes: Bytes, reserved: R) -> Bytes {
    Bytes::from_owner(OnTheWay { bytes, _reserved: reserved })
}

#[cfg(test)]
pub(super) fn unlimited() -> Arc<Share> {
    Replies::new(&FrontLimits::default(), &Metrics::new()).share()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Outcome;

    const MIB: usize = 1024 * 1024;

    fn replies(bytes_max: usize, connection_bytes_max: usize) -> (Arc<Replies>, Arc<Metrics>) {
        let metrics = Metrics::new();
        let limits = FrontLimits {
            replies_bytes_max: bytes_max,
            connection_replies_bytes_max: connection_bytes_max,
            ..FrontLimits::default()
        };
        (Replies::new(&limits, &metrics), metrics)
    }

    #[test]
    fn past_its_share_a_connection_is_refused_at_once_and_told_when_to_retry() {
        let (replies, metrics) = replies(8 * MIB, 2 * MIB);
        let share = replies.share();
        let first = share.reserve(3 * MIB).expect("one reply alone always fits");
        let error = share.reserve(1).unwrap_err();
        let what = "bytes of replies not taken on the connection";
        assert_eq!(error.reason, Reason::ResourceExhausted { what, limit: 2 << 20 });
        assert_eq!(error.outcome(), Outcome::Rejected);
        assert!(error.retry_after.is_some());
        assert!(share.admit().is_err(), "nothing is begun for it either");
        replies.share().admit().expect("another connection is not concerned");
        drop(first);
        share.admit().unwrap();
        let label = ["replies_bytes_of_the_connection"];
        assert_eq!(metrics.refused.with_label_values(&label).get(), 2);
        assert_eq!(replies.used.load(Ordering::Relaxed), 0, "a refusal holds nothing");
    }

    #[test]
    fn all_connections_share_one_number_and_who_holds_little_is_let_through() {
        let (replies, metrics) = replies(4 * MIB, 2 * MIB);
        let shares: Vec<_> = (0..3).map(|_| replies.share()).collect();
        let held: Vec<_> = shares.iter().map(|share| share.reserve(MIB).unwrap()).collect();
        let error = replies.share().reserve(MIB).unwrap_err();
        let what = "bytes of replies not taken";
        assert_eq!(error.reason, Reason::ResourceExhausted { what, limit: 4 << 20 });
        let over = shares[0].hold(MIB);
        assert!(shares[1].admit().is_err(), "who holds much begins nothing");
        drop(replies.share().reserve(100).expect("a small reply to who holds nothing"));
        drop((held, over));
        drop(shares[1].reserve(MIB).unwrap());
        assert_eq!(metrics.refused.with_label_values(&["replies_bytes"]).get(), 2);
    }

    #[test]
    fn what_is_on_the_way_is_counted_until_its_last_byte_is_gone() {
        let (replies, _) = replies(8 * MIB, 2 * MIB);
        let share = replies.share();
        let reserved = share.reserve(6).unwrap();
        let mut bytes = on_the_way(Bytes::from_static(b"answer"), reserved);
        let first = bytes.split_to(3);
        drop(bytes);
        assert_eq!(&first[..], b"ans");
        assert_eq!(replies.used.load(Ordering::Relaxed), 6 + REPLY_OVERHEAD_BYTES);
        drop(first);
        assert_eq!(replies.used.load(Ordering::Relaxed), 0);
    }
}
