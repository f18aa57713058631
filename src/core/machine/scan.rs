//! Walks over the keys of a group, and how many there are. See docs/adr/0010.

use bytes::Bytes;

use super::{Due, Machine};
use crate::core::glob;
use crate::core::keyspace::{slot_position, slot_position_last};
use crate::types::limits::SCAN_BYTES_MAX;
use crate::types::{Keys, Scan, Slot};

/// Steps of pattern matching in one call, not counting the key that crosses the line.
const MATCH_STEPS_MAX: usize = 1 << 20;

impl Machine {
    /// Keys from a position on. Looks at `keys_max` keys and ends sooner when their bytes or the
    /// matching grow too much, always behind all keys of a position: so the next call goes on at
    /// the same place on any replica, and no key that is there all the time is left out.
    pub(super) fn scan(&self, scan: &Scan, leader_now_ms: u64) -> Result<Keys, Due> {
        let (mut found, mut looked, mut bytes, mut steps) = (Keys::default(), 0, 0, 0);
        let mut reached = None;
        for (position, entry) in self.keyspace.walk(scan.first, scan.last) {
            let enough = looked >= scan.keys_max.max(1)
                || bytes >= SCAN_BYTES_MAX
                || steps >= MATCH_STEPS_MAX;
            if enough && reached != Some(position) {
                found.next = Some(position);
                break;
            }
            reached = Some(position);
            looked += 1;
            let key = entry.key();
            if let Some(pattern) = &scan.pattern {
                let (matched, took) = glob::matches(pattern, key);
                steps += took;
                if !matched {
                    continue;
                }
            }
            if self.alive(entry, leader_now_ms)? {
                bytes += key.len();
                // A copy: a handle would keep the value alive as well.
                found.keys.push(Bytes::copy_from_slice(key));
            }
        }
        Ok(found)
    }

    /// Keys that are alive, all or those of a slot. Exact by log time, and what is due by the
    /// leader's clock makes it ask for a tick as any read does. Takes time in proportion to what
    /// is due and not reaped yet, or to the keys of the slot.
    pub(super) fn size(&self, slot: Option<Slot>, leader_now_ms: u64) -> Result<u64, Due> {
        let Some(slot) = slot else {
            match self.deadlines.first_after(self.log_time_ms) {
                Some(deadline_ms) if deadline_ms <= leader_now_ms => return Err(Due(deadline_ms)),
                _ => {}
            }
            let due = self.deadlines.due(self.log_time_ms);
            return Ok((self.keyspace.len() - due) as u64);
        };
        let mut alive = 0;
        for (_, entry) in self.keyspace.walk(slot_position(slot), slot_position_last(slot)) {
            alive += u64::from(self.alive(entry, leader_now_ms)?);
        }
        Ok(alive)
    }
}
