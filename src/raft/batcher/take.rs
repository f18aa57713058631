//! What goes into one entry.

use std::sync::atomic::Ordering;

use super::{ABANDONED, Batcher, PROPOSED, QUEUED, Shares, is_tick};
use crate::types::Write;
use crate::types::limits::BATCH_WORK_BYTES_MAX;

impl Batcher {
    /// Takes units off the backlog until the entry is full, skipping those whose caller left and
    /// refusing those that waited too long.
    pub(super) fn take_batch(&mut self) -> (Vec<Write>, usize, Shares) {
        let (mut writes, mut taken, mut bytes, mut shares) = (Vec::new(), 0, 0, Vec::new());
        let max = self.replica.settings();
        let mut units_left = self.units_within_work();
        while let Some(next) = self.backlog.front() {
            let wide = taken + next.positions > max.batch_writes_max;
            let large = bytes + next.bytes > max.batch_bytes_max || units_left == 0;
            if !writes.is_empty() && (wide || large) {
                break;
            }
            let Some(next) = self.backlog.pop_front() else { break };
            units_left = units_left.saturating_sub(1);
            self.queued.fetch_sub(next.positions, Ordering::Relaxed);
            self.queued_bytes.fetch_sub(next.bytes, Ordering::Relaxed);
            let verdict = match is_tick(&next.writes) {
                true => Ok(()),
                false => self.delay.take(next.queued_at, next.positions),
            };
            let claim = if verdict.is_ok() { PROPOSED } else { ABANDONED };
            let claimed =
                next.state.compare_exchange(QUEUED, claim, Ordering::AcqRel, Ordering::Acquire);
            match (claimed, verdict) {
                (Ok(_), Ok(())) => {
                    shares.push((next.writes.len(), next.reply));
                    taken += next.positions;
                    writes.extend(next.writes);
                    bytes += next.bytes;
                }
                // Not proposed, and never will be: `Rejected`. The caller may be gone.
                (Ok(_), Err(error)) => drop(next.reply.send(Err(error))),
                (Err(_left), _) => {}
            }
        }
        if self.turned_away.swap(false, Ordering::Relaxed) {
            self.delay.refused();
        }
        if self.backlog.is_empty() && self.rx.is_empty() {
            self.delay.emptied();
        }
        self.room.store(self.delay.room(), Ordering::Relaxed);
        (writes, bytes, shares)
    }

    /// Refuses all that is queued while there is no quorum: what is in flight may stay there for
    /// ever, and what waits behind it was not proposed.
    pub(super) fn refuse_without_quorum(&mut self) {
        if !self.replica.has_lost_quorum() {
            return;
        }
        while let Ok(next) = self.rx.try_recv() {
            self.backlog.push_back(next);
        }
        let error = self.replica.no_quorum();
        for next in self.backlog.drain(..) {
            self.queued.fetch_sub(next.positions, Ordering::Relaxed);
            self.queued_bytes.fetch_sub(next.bytes, Ordering::Relaxed);
            let claimed =
                next.state.compare_exchange(QUEUED, ABANDONED, Ordering::AcqRel, Ordering::Acquire);
            if claimed.is_ok() {
                // The caller may be gone.
                drop(next.reply.send(Err(error.clone())));
            }
        }
        self.delay.emptied();
        self.room.store(self.delay.room(), Ordering::Relaxed);
    }

    /// How many units of the backlog may share an entry, by the work of applying it.
    fn units_within_work(&self) -> usize {
        let units = self.backlog.iter().map(|pending| &pending.writes[..]);
        self.replica.with_machine(|machine| machine.units_within(units, BATCH_WORK_BYTES_MAX))
    }
}
