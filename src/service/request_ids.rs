//! Request ids that the node itself gives to writes, so that its own retries are applied once
//! (INV-6).
//!
//! A group remembers the last `SESSION_REPLIES_MAX` replies of a session; a sequence number older
//! than those is refused as `SessionExpired`, even one that was never applied. So the numbers in
//! use within one session must never lie further apart than that window. The node therefore keeps
//! a pool of **lanes**, each a session of its own with a sliding window of `WINDOW` numbers: the
//! next number is given out only while it is less than `WINDOW` past the oldest one in use. A
//! slow operation stalls its lane, and the pool goes on with another.
//!
//! The lane used last is used next, so that the sessions a group has to remember are as many as
//! the load asks for, not as many as the pool has ever had.
//!
//! A number is given back when its operation ends, whatever its outcome. A copy of it that arrives
//! at the group later finds either its remembered reply or `SessionExpired`; it is never applied
//! a second time.

use parking_lot::Mutex;

use crate::raft::delay::RETRY_AFTER;
use crate::types::limits::{SESSION_REPLIES_MAX, SESSIONS_MAX};
use crate::types::{Error, Reason, RequestId};

/// Numbers in use within one session: half of what a group remembers, so that even a number that
/// was given back just now is still remembered when a late copy of it arrives.
const WINDOW: u64 = 64;
/// Most sessions of one node.
const LANES_MAX: usize = 2048;
const _: () = assert!(WINDOW as usize * 2 <= SESSION_REPLIES_MAX);
const _: () = assert!(WINDOW <= u64::BITS as u64);
const _: () = assert!(LANES_MAX * 8 <= SESSIONS_MAX);

/// The node's own request ids.
#[derive(Debug)]
pub(super) struct RequestIds {
    /// Random at each start of the node: no two starts share a session.
    seed: u128,
    // parking_lot: held for a few instructions, never across an await.
    pool: Mutex<Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    lanes: Vec<Lane>,
    /// Lanes with room; the last is used next. Invariant: `i` is in it iff `lanes[i]` has room.
    roomy: Vec<usize>,
}

#[derive(Debug, Default)]
struct Lane {
    /// Oldest number in use, or `next`. Invariant: `base <= next <= base + WINDOW`.
    base: u64,
    /// Next number to give out.
    next: u64,
    /// Bit `i`: number `base + i` was given back. Invariant: bit 0 is clear.
    returned: u64,
}

/// One request id, in use until dropped.
#[derive(Debug)]
pub(super) struct Lease<'a> {
    ids: &'a RequestIds,
    lane: usize,
    sequence: u64,
}

impl RequestIds {
    pub(super) fn new(seed: u128) -> Self {
        RequestIds { seed, pool: Mutex::default() }
    }

    /// An id nobody else uses.
    pub(super) fn take(&self) -> Result<Lease<'_>, Error> {
        let mut pool = self.pool.lock();
        if pool.roomy.is_empty() {
            if pool.lanes.len() == LANES_MAX {
                let limit = LANES_MAX as u64;
                let reason = Reason::ResourceExhausted { what: "request id sessions", limit };
                return Err(Error::from(reason).retry_after(RETRY_AFTER));
            }
            let lane = pool.lanes.len();
            pool.lanes.push(Lane::default());
            pool.roomy.push(lane);
        }
        let lane = *pool.roomy.last().expect("a lane was added if there was none");
        let sequence = pool.lanes[lane].take();
        if !pool.lanes[lane].has_room() {
            pool.roomy.pop();
        }
        Ok(Lease { ids: self, lane, sequence })
    }
}

impl Lane {
    fn has_room(&self) -> bool {
        self.next - self.base < WINDOW
    }

    fn take(&mut self) -> u64 {
        assert!(self.has_room(), "a lane without room was taken from");
        self.next += 1;
        self.next - 1
    }

    fn give_back(&mut self, sequence: u64) {
        assert!(self.base <= sequence && sequence < self.next, "a number nobody holds");
        self.returned |= 1 << (sequence - self.base);
        let settled = self.returned.trailing_ones();
        self.base += u64::from(settled);
        self.returned = self.returned.checked_shr(settled).unwrap_or(0);
    }
}

impl Lease<'_> {
    /// The id.
    pub(super) fn id(&self) -> RequestId {
        RequestId {
            session: self.ids.seed.wrapping_add(self.lane as u128),
            sequence: self.sequence,
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut pool = self.ids.pool.lock();
        let had_room = pool.lanes[self.lane].has_room();
        pool.lanes[self.lane].give_back(self.sequence);
        if !had_room && pool.lanes[self.lane].has_room() {
            pool.roomy.push(self.lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The window: at no time do the numbers in use within a session, and the newest one ever
        /// given out, lie `SESSION_REPLIES_MAX / 2` or more apart.
        #[test]
        fn numbers_in_use_stay_within_the_window(
            steps in proptest::collection::vec((any::<bool>(), any::<usize>()), 1..2000),
        ) {
            let ids = RequestIds::new(7);
            let mut held: Vec<Lease<'_>> = Vec::new();
            let mut newest: BTreeMap<u128, u64> = BTreeMap::new();
            let mut seen = BTreeSet::new();
            for (take, pick) in steps {
                if take || held.is_empty() {
                    let lease = ids.take().unwrap();
                    prop_assert!(seen.insert(lease.id()), "an id was given out twice");
                    newest.insert(lease.id().session, lease.id().sequence);
                    held.push(lease);
                } else {
                    let index = pick % held.len();
                    held.swap_remove(index);
                }
                for lease in &held {
                    let apart = newest[&lease.id().session] - lease.id().sequence;
                    prop_assert!(apart < (SESSION_REPLIES_MAX / 2) as u64);
                }
            }
        }
    }

    #[test]
    fn a_stalled_number_stalls_its_lane_and_not_the_pool() {
        let ids = RequestIds::new(1);
        let stalled = ids.take().unwrap();
        let mut sessions = BTreeSet::new();
        for _ in 0..10_000 {
            sessions.insert(ids.take().unwrap().id().session);
        }
        assert_eq!(sessions.len(), 2, "one stalled lane and one that is used again and again");
        drop(stalled);
        assert_eq!(ids.pool.lock().roomy.len(), 2);
    }

    #[test]
    fn the_pool_is_bounded() {
        let ids = RequestIds::new(1);
        let held: Vec<_> = (0..LANES_MAX * WINDOW as usize).map(|_| ids.take().unwrap()).collect();
        let error = ids.take().unwrap_err();
        assert!(matches!(error.reason, Reason::ResourceExhausted { limit, .. } if limit == 2048));
        drop(held);
        assert!(ids.take().is_ok());
    }
}
