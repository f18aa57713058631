//! What a replica does while its node's disk has little room: it would rather not lead.
//!
//! It says so in its answers to appends, refuses to take over, and does not campaign unless nobody
//! else does. If it leads, it hands the leadership to a voter that wants it; where there is none it
//! stays leader, so that reads go on, and refuses writes by name of the limit.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::raft::TransferLeaderRequest;

use super::{Replica, StateMachine};
use crate::raft::compactor;
use crate::raft::frame_codec::decode;
use crate::raft::types::TypeConfig;
use crate::transport::Refusal;
use crate::types::clock::Instant;
use crate::types::limits::{WHAT_DISK_ROOM, WHAT_LOG_WITHOUT_SNAPSHOT};
use crate::types::{Error, Reason};

/// Election time-outs without a leader after which even a reluctant replica campaigns: a leader that
/// only reads is better than none.
const PATIENCE: u64 = 3;
/// When a refused writer should try again: room is looked at once a second.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// What a disk with little room asks of a replica.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// The reserve that is not there, bytes; 0 while there is room.
    reserve_bytes: AtomicU64,
    /// It leads, and nobody wants to take over.
    refuses: AtomicBool,
    /// When a leader was heard of last, by the replica's own clock, milliseconds.
    heard_ms: AtomicU64,
}

impl<M: StateMachine> Replica<M> {
    /// Tells the replica whether the disk has less room than this reserve; to be called again about
    /// once a second while it has. With `shed` it gives a leadership away, or refuses writes.
    pub async fn see_room(&self, reserve_bytes: Option<u64>, shed: bool, deadline: Instant) {
        let room = &self.inner.room;
        let limit = reserve_bytes.unwrap_or(0);
        if room.reserve_bytes.swap(limit, Ordering::AcqRel) == 0 && limit == 0 {
            return;
        }
        let shed = shed && reserve_bytes.is_some();
        let stays = shed && self.is_leader() && !self.shed(deadline).await;
        room.refuses.store(stays, Ordering::Release);
        self.let_campaign();
    }

    /// Hands the leadership over if somebody wants it; true if it is gone.
    async fn shed(&self, deadline: Instant) -> bool {
        if self.successor(None).is_none() {
            return false;
        }
        match self.hand_over(deadline).await {
            Ok(()) => !self.is_leader(),
            Err(error) => {
                tracing::warn!(replica = %self.inner.key, %error, "leadership not handed over");
                false
            }
        }
    }

    /// True while it would rather not lead.
    pub fn is_reluctant(&self) -> bool {
        self.inner.room.reserve_bytes.load(Ordering::Acquire) > 0
    }

    /// Lets openraft campaign, or keeps it from it.
    pub(super) fn let_campaign(&self) {
        let silent_ms = self
            .inner
            .freshness
            .now_ms()
            .saturating_sub(self.inner.room.heard_ms.load(Ordering::Acquire));
        let nobody = silent_ms >= PATIENCE * self.inner.settings.election_ms_max;
        let whole = !self.is_shortened();
        let may = whole && !self.keeps_still() && (!self.is_reluctant() || nobody);
        self.inner.raft.runtime_config().elect(may);
    }

    /// A leader was heard of.
    pub(super) fn heard(&self) {
        self.inner.room.heard_ms.store(self.inner.freshness.now_ms(), Ordering::Release);
    }

    /// Refuses to take over while the disk has little room.
    pub(super) fn check_willing(&self, payload: &Bytes) -> Result<(), Refusal> {
        let request: TransferLeaderRequest<TypeConfig> =
            decode(payload, "transfer").map_err(|error| Refusal(error.to_string()))?;
        // The frame goes to every voter: to the others it says that the old leader's lease is over.
        if self.is_reluctant() && *request.to_node_id() == self.inner.key.replica {
            return Err(Refusal("its disk has little room: it does not take over".to_owned()));
        }
        Ok(())
    }

    /// Whether a write may be proposed here as far as the disk is concerned.
    pub(in crate::raft) fn check_room(&self) -> Result<(), Error> {
        let room = &self.inner.room;
        if room.refuses.load(Ordering::Acquire) {
            let limit = room.reserve_bytes.load(Ordering::Acquire);
            return Err(exhausted(WHAT_DISK_ROOM, limit));
        }
        if self.inner.builds.failing() && !self.log_has_room() {
            let base = self.inner.settings.snapshot_log_bytes;
            let limit = compactor::leader_max(base, self.live_bytes());
            return Err(exhausted(WHAT_LOG_WITHOUT_SNAPSHOT, limit));
        }
        Ok(())
    }
}

fn exhausted(what: &'static str, limit: u64) -> Error {
    Error::from(Reason::ResourceExhausted { what, limit }).retry_after(RETRY_AFTER)
}
