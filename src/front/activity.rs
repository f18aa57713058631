//! What goes on on one client connection, and when this node has waited long enough for its client.
//!
//! The socket ([`super::connection`]) tells what was read, the doors tell which requests are under
//! way and whether their answers are taken ([`super::visitor`]). Four things close a connection:
//! its client did not make itself understood in time (slow or half handshakes), asked for nothing
//! for a long time, does not end what it began to ask, or does not take the answers to what it asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::FrontLimits;
use super::replies::Share;
use crate::raft::delay::RETRY_AFTER;
use crate::types::clock::{Instant, now};
use crate::types::{Error, Reason};

/// Bytes of an HTTP/2 connection preface (24) and the head of the first frame (9), RFC 9113,
/// section 3.4: who has sent them speaks HTTP/2, and is asked for signs of life from then on.
pub const HTTP2_GREETING_BYTES: usize = 33;

/// How long a connection may keep this node waiting.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    handshake_us: u64,
    idle_us: u64,
    stall_us: u64,
    whole_us: u64,
    /// Bytes that make a greeting; none: a whole request.
    greeting_bytes: Option<usize>,
}

impl Patience {
    /// As the limits say; a door whose protocol has a preface says how long that is.
    pub fn new(limits: &FrontLimits, greeting_bytes: Option<usize>) -> Self {
        let us = |ms: u64| ms.saturating_mul(1_000);
        Patience {
            handshake_us: us(limits.handshake_timeout_ms),
            idle_us: us(limits.idle_timeout_ms),
            stall_us: us(limits.stall_timeout_ms),
            whole_us: us(limits.deadline_ms_max),
            greeting_bytes,
        }
    }
}

/// Why a connection is closed; names in metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed {
    /// Its client did not make itself understood in time.
    Handshake,
    /// Its client asked for nothing for too long.
    Idle,
    /// Its client does not take its answers, or does not end a request.
    Stalled,
}

impl Closed {
    /// Name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Closed::Handshake => "handshake",
            Closed::Idle => "idle",
            Closed::Stalled => "stalled",
        }
    }
}

/// What goes on on one connection. Times are microseconds since it was accepted.
#[derive(Debug)]
pub struct Activity {
    accepted: Instant,
    patience: Patience,
    operations_max: usize,
    greeted: AtomicBool,
    bytes_read: AtomicUsize,
    /// Last time anything was read.
    read_us: AtomicU64,
    /// Since when half a request is held; 0: none is.
    half_us: AtomicU64,
    /// Requests whose answers are not wholly handed over.
    requests: AtomicUsize,
    /// Last time a request began or ended.
    used_us: AtomicU64,
    /// What the replies hold that were not taken.
    replies: Arc<Share>,
    /// Operations in flight; more than requests where streams carry many.
    operations: AtomicUsize,
    /// Answers, or pieces of them, that wait to be taken.
    offered: AtomicUsize,
    /// Last time one was offered to a client that had taken all, or taken.
    taken_us: AtomicU64,
}

impl Activity {
    /// Of a connection accepted now, with at most `operations_max` operations in flight, whose replies
    /// are counted in `replies`.
    pub fn new(patience: Patience, operations_max: usize, replies: Arc<Share>) -> Self {
        Activity {
            accepted: now(),
            patience,
            operations_max,
            greeted: AtomicBool::new(false),
            bytes_read: AtomicUsize::new(0),
            read_us: AtomicU64::new(0),
            half_us: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
            replies,
            used_us: AtomicU64::new(0),
            operations: AtomicUsize::new(0),
            offered: AtomicUsize::new(0),
            taken_us: AtomicU64::new(0),
        }
    }

    /// Microseconds since the connection was accepted.
    pub fn now_us(&self) -> u64 {
        u64::try_from(now().saturating_duration_since(self.accepted).as_micros())
            .unwrap_or(u64::MAX)
    }

    /// The moment that is so far after the connection was accepted.
    pub fn at(&self, us: u64) -> Instant {
        // Saturating: what is further away than a century is never.
        let far = Duration::from_secs(100 * 365 * 24 * 3_600);
        self.accepted + Duration::from_micros(us).min(far)
    }

    /// Something was read. Returns when, and how long a stall may last from then.
    pub fn has_read(&self, bytes: usize) -> (u64, u64) {
        let at_us = self.now_us();
        self.read_us.store(at_us, Ordering::Relaxed);
        if let Some(greeting) = self.patience.greeting_bytes
            && !self.greeted.load(Ordering::Relaxed)
            && self.bytes_read.fetch_add(bytes, Ordering::Relaxed) + bytes >= greeting
        {
            self.used_us.store(at_us, Ordering::Relaxed);
            self.greeted.store(true, Ordering::Relaxed);
        }
        (at_us, self.patience.stall_us)
    }

    /// When something was last read: what is found in it has come in by then.
    pub fn read_at(&self) -> Instant {
        self.at(self.read_us.load(Ordering::Relaxed))
    }

    /// Tells whether what was read ends within a request.
    pub(super) fn half_read(&self, half: bool) {
        match half {
            true if self.half_us.load(Ordering::Relaxed) == 0 => {
                self.half_us.store(self.now_us().max(1), Ordering::Relaxed);
            }
            true => {}
            false => self.half_us.store(0, Ordering::Relaxed),
        }
    }

    /// A request begins.
    pub(super) fn request_began(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.used_us.store(self.now_us(), Ordering::Relaxed);
        self.greeted.store(true, Ordering::Relaxed);
    }

    /// Its answer was handed over, or nobody wants it any more.
    pub(super) fn request_ended(&self) {
        self.used_us.store(self.now_us(), Ordering::Relaxed);
        let before = self.requests.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a request ended that had not begun");
    }

    /// A piece of an answer waits to be taken.
    pub(super) fn offered(&self) {
        if self.offered.fetch_add(1, Ordering::Relaxed) == 0 {
            self.taken_us.store(self.now_us(), Ordering::Relaxed);
        }
    }

    /// It was taken.
    pub(super) fn taken(&self) {
        self.taken_us.store(self.now_us(), Ordering::Relaxed);
        let before = self.offered.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "what was not offered was taken");
    }

    /// What its replies hold that were not taken.
    pub fn replies(&self) -> &Arc<Share> {
        &self.replies
    }

    /// Leave for one operation, or `ResourceExhausted` at once.
    pub fn operation(&self) -> Result<OnConnection<'_>, Error> {
        let before = self.operations.fetch_add(1, Ordering::Relaxed);
        let held = OnConnection { activity: self };
        if before >= self.operations_max {
            let limit = self.operations_max as u64;
            let what = "requests in flight on the connection";
            let reason = Reason::ResourceExhausted { what, limit };
            return Err(Error::from(reason).retry_after(RETRY_AFTER));
        }
        Ok(held)
    }

    /// Whether the connection is to be closed at `now_us`, else when to look again.
    /// `blocked_us`: since when the socket has taken nothing.
    pub fn verdict(&self, now_us: u64, blocked_us: Option<u64>) -> Result<u64, Closed> {
        let Patience { handshake_us, idle_us, stall_us, whole_us, .. } = self.patience;
        let mut look_us = u64::MAX;
        let mut due = |since_us: u64, patience_us: u64, why: Closed| {
            let due_us = since_us.saturating_add(patience_us);
            look_us = look_us.min(due_us);
            if now_us >= due_us { Err(why) } else { Ok(()) }
        };
        if let Some(since_us) = blocked_us {
            due(since_us, stall_us, Closed::Stalled)?;
        }
        if !self.greeted.load(Ordering::Relaxed) {
            due(0, handshake_us, Closed::Handshake)?;
        } else if self.requests.load(Ordering::Relaxed) == 0 {
            due(self.used_us.load(Ordering::Relaxed), idle_us, Closed::Idle)?;
            let half_us = self.half_us.load(Ordering::Relaxed);
            if half_us > 0 {
                // Neither silence nor one byte after the other holds what others could have.
                due(self.read_us.load(Ordering::Relaxed).max(half_us), stall_us, Closed::Stalled)?;
                due(half_us, whole_us, Closed::Stalled)?;
            }
        } else {
            if self.offered.load(Ordering::Relaxed) > 0 {
                due(self.taken_us.load(Ordering::Relaxed), stall_us, Closed::Stalled)?;
            }
            // What is not offered yet may be at any time.
            look_us = look_us.min(now_us.saturating_add(stall_us));
        }
        Ok(look_us)
    }
}

/// One operation of a connection; given back when dropped.
#[derive(Debug)]
#[must_use]
pub struct OnConnection<'a> {
    activity: &'a Activity,
}

impl Drop for OnConnection<'_> {
    fn drop(&mut self) {
        self.activity.operations.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::replies::unlimited;

    const S: u64 = 1_000_000;

    fn activity(greeting_bytes: Option<usize>) -> Activity {
        let limits = FrontLimits {
            handshake_timeout_ms: 10_000,
            idle_timeout_ms: 600_000,
            stall_timeout_ms: 20_000,
            ..FrontLimits::default()
        };
        Activity::new(Patience::new(&limits, greeting_bytes), 2, unlimited())
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_make_itself_understood_is_closed() {
        let grpc = activity(Some(HTTP2_GREETING_BYTES));
        assert_eq!(grpc.verdict(0, None), Ok(10 * S));
        // One byte after the other does not help.
        grpc.has_read(32);
        assert_eq!(grpc.verdict(10 * S, None), Err(Closed::Handshake));
        grpc.has_read(1);
        assert_eq!(grpc.verdict(10 * S, None), Ok(600 * S));

        let http = activity(None);
        http.has_read(1_000);
        assert_eq!(http.verdict(10 * S, None), Err(Closed::Handshake), "half a head");
        http.request_began();
        http.request_ended();
        assert_eq!(http.verdict(10 * S, None), Ok(600 * S));
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_nothing_is_closed_in_the_end() {
        let activity = activity(None);
        activity.request_began();
        tokio::time::sleep(Duration::from_secs(5_000)).await;
        // A stream that lives for long is not idle, and nothing is waiting to be taken.
        assert_eq!(activity.verdict(activity.now_us(), None), Ok(5_020 * S));
        activity.request_ended();
        assert_eq!(activity.verdict(activity.now_us(), None), Ok(5_600 * S));
        assert_eq!(activity.verdict(5_600 * S, None), Err(Closed::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_end_a_request_is_closed() {
        let activity = activity(None);
        activity.request_began();
        activity.request_ended();
        tokio::time::sleep(Duration::from_secs(1)).await;
        activity.half_read(true);
        assert_eq!(activity.verdict(activity.now_us(), None), Ok(21 * S));
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(19)).await;
            activity.has_read(1);
            activity.half_read(true);
            assert!(activity.verdict(activity.now_us(), None).is_ok(), "it goes on");
        }
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(activity.verdict(activity.now_us(), None), Err(Closed::Stalled), "for too long");
        activity.half_read(false);
        assert!(activity.verdict(activity.now_us(), None).is_ok());
        activity.half_read(true);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(activity.verdict(activity.now_us(), None), Err(Closed::Stalled), "silence");
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_closed_and_who_takes_slowly_is_not() {
        let activity = activity(None);
        activity.request_began();
        activity.offered();
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(19)).await;
            assert!(activity.verdict(activity.now_us(), None).is_ok());
            activity.taken();
            activity.offered();
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(activity.verdict(activity.now_us(), None), Err(Closed::Stalled));
        activity.taken();
        let now_us = activity.now_us();
        assert!(activity.verdict(now_us, None).is_ok());
        // The socket itself is full.
        assert_eq!(activity.verdict(now_us, Some(now_us - 20 * S)), Err(Closed::Stalled));
        activity.request_ended();
    }

    #[test]
    fn past_its_share_a_connection_is_refused_and_told_so() {
        let activity = activity(None);
        let (first, _second) = (activity.operation().unwrap(), activity.operation().unwrap());
        let error = activity.operation().unwrap_err();
        let what = "requests in flight on the connection";
        assert_eq!(error.reason, Reason::ResourceExhausted { what, limit: 2 });
        assert!(error.retry_after.is_some());
        drop(first);
        drop(activity.operation().unwrap());
    }
}
