//! Locks with fencing tokens, and one fill for many misses. `docs/locks.md` tells what they promise.

use std::time::Duration;

use super::answers::{Found, Value, Written, duration};
use super::ask::{Answer, Ask};
use super::calls::{Client, Task};
use super::error::{Error, Failure};
use super::messages;
use super::operations::{other_answer, reply};
use super::requests::{FillOptions, LeaseOptions};
use crate::core::slot::slot_of;
use crate::pb;
use crate::pb::pipeline_request::Operation;
use crate::pb::pipeline_response::Result as Reply;

/// Who has a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Locked {
    /// The caller.
    Held {
        /// The fencing token: it grows with every new holder, and stays while one renews.
        token: u64,
        /// When the lock ends, milliseconds since the Unix epoch by the cluster's clock.
        ends_at_ms: u64,
    },
    /// Somebody else.
    ByOther {
        /// Their token.
        token: u64,
        /// How long they have it yet; of a renewal, not told.
        left: Option<Duration>,
    },
    /// Nobody (any more): what a renewal is told that came too late.
    Free,
}

impl Locked {
    /// The fencing token, if the lock is the caller's.
    pub fn token(&self) -> Option<u64> {
        match self {
            Locked::Held { token, .. } => Some(*token),
            Locked::ByOther { .. } | Locked::Free => None,
        }
    }

    pub(super) fn of(reply: pb::LockResponse) -> Result<Locked, Failure> {
        let pb::LockResponse { held, token, expire_at_ms, held_by_other_for } = reply;
        Ok(match (held, token) {
            (true, token) => Locked::Held { token, ends_at_ms: expire_at_ms },
            (false, 0) => Locked::Free,
            (false, token) => Locked::ByOther { token, left: held_by_other_for.map(duration) },
        })
    }
}

/// What became of an unlock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unlocked {
    /// The lock was the caller's and is free; false if it was not (any more).
    pub unlocked: bool,
    /// The token of who has it, if somebody else does.
    pub by_other: Option<u64>,
}

impl Unlocked {
    pub(super) fn of(reply: pb::UnlockResponse) -> Result<Unlocked, Failure> {
        let by_other = (reply.current_token != 0).then_some(reply.current_token);
        Ok(Unlocked { unlocked: reply.unlocked, by_other })
    }
}

/// A value, or who is to work it out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Leased {
    /// The value.
    Hit(Found),
    /// A stale value; another caller fills the key.
    Stale {
        /// What it was.
        found: Found,
        /// How long it has been stale.
        stale_for: Duration,
    },
    /// The caller is to work the value out and [`Client::fill`] it.
    Fill {
        /// Under this token.
        token: u64,
        /// How long the token is good.
        good_for: Duration,
        /// What is there still.
        found: Option<Found>,
    },
    /// Another caller fills the key, and the wait is over. Ask again.
    Busy,
}

impl Leased {
    fn of(reply: pb::GetOrLeaseResponse) -> Result<Leased, Failure> {
        use pb::get_or_lease_response::State;
        let state = reply.state();
        let found = Found::if_any(reply.entry)?;
        let time = |ttl: Option<pb::Ttl>| ttl.map_or(Duration::ZERO, duration);
        Ok(match (state, found) {
            (State::Hit, Some(found)) => Leased::Hit(found),
            (State::Stale, Some(found)) => {
                Leased::Stale { found, stale_for: time(reply.stale_for) }
            }
            (State::Fill, found) => {
                Leased::Fill { token: reply.token, good_for: time(reply.token_ttl), found }
            }
            (State::Busy, _) => Leased::Busy,
            (State::Hit | State::Stale, None) => {
                return Err(Failure::bad_answer("a hit without a value"));
            }
            (State::Unspecified, _) => return Err(Failure::bad_answer("an unknown state")),
        })
    }
}

impl Client {
    /// Takes a lock for so long, or holds it for longer if `owner` has it: 1 to 64 bytes of the
    /// caller's own for as long as it lives. Not being given it is an answer and no error; there is
    /// no queue. What the lock protects should check the token: a holder that stands still for longer
    /// than its lock does not know that it has ended.
    ///
    /// # Errors
    /// As [`Client::set`]; `wrong_kind` if the key holds a value.
    pub async fn lock(
        &self,
        key: impl AsRef<[u8]>,
        owner: impl AsRef<[u8]>,
        time: Duration,
    ) -> Result<Locked, Error> {
        let key = messages::key(key);
        let (slot, message) = (slot_of(&key), messages::lock(key, owner.as_ref(), time));
        let ask = |request_id| Operation::Lock(pb::LockRequest { request_id, ..message });
        self.write(slot, ask, reply!(Lock, "a lock", Locked::of)).await
    }

    /// Holds a lock for so long from now on.
    ///
    /// # Errors
    /// As [`Client::lock`].
    pub async fn renew(
        &self,
        key: impl AsRef<[u8]>,
        owner: impl AsRef<[u8]>,
        token: u64,
        time: Duration,
    ) -> Result<Locked, Error> {
        let key = messages::key(key);
        let (slot, message) = (slot_of(&key), messages::renew(key, owner.as_ref(), token, time));
        let ask = |request_id| Operation::Renew(pb::RenewRequest { request_id, ..message });
        self.write(slot, ask, reply!(Lock, "a renewal", Locked::of)).await
    }

    /// Gives a lock back.
    ///
    /// # Errors
    /// As [`Client::lock`].
    pub async fn unlock(
        &self,
        key: impl AsRef<[u8]>,
        owner: impl AsRef<[u8]>,
        token: u64,
    ) -> Result<Unlocked, Error> {
        let key = messages::key(key);
        let (slot, message) = (slot_of(&key), messages::unlock(key, owner.as_ref(), token));
        let ask = |request_id| Operation::Unlock(pb::UnlockRequest { request_id, ..message });
        self.write(slot, ask, reply!(Unlock, "an unlock", Unlocked::of)).await
    }

    /// Reads a key, or gets the one right to fill it, or waits for who has it. Changes no data. If the
    /// answer with the right gets lost, nobody fills the key until the token's time is over; the next
    /// attempt waits with the others.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_or_lease(
        &self,
        key: impl AsRef<[u8]>,
        options: LeaseOptions,
    ) -> Result<Leased, Error> {
        let key = messages::key(key);
        let (slot, wait) = (slot_of(&key), options.wait);
        let ask = Ask::One(Operation::GetOrLease(messages::get_or_lease(key, options)));
        // As a write it goes to the leader and to nobody else beside: two who ask for one caller would
        // wait for each other. But nothing is applied.
        let task = Task { write: false, wait, ..Task::write(ask, slot) };
        let read = |answer, _: &_| match answer {
            Answer::One(Reply::GetOrLease(reply)) => Leased::of(reply),
            _ => other_answer("a read that may end in a fill"),
        };
        self.run(task, read).await
    }

    /// Sets a key under the token of [`Client::get_or_lease`].
    ///
    /// # Errors
    /// As [`Client::set`]; `outdated_token` if anything happened to the key since, or the token's time
    /// is over: ask again.
    pub async fn fill(
        &self,
        key: impl AsRef<[u8]>,
        token: u64,
        value: impl Into<Value>,
        options: FillOptions,
    ) -> Result<Written, Error> {
        let key = messages::key(key);
        let (slot, message) = (slot_of(&key), messages::fill(key, token, value.into(), options));
        let ask = |request_id| Operation::Fill(pb::FillRequest { request_id, ..message });
        self.write(slot, ask, reply!(Set, "a fill", Written::of)).await
    }
}
