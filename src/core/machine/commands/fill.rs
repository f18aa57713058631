//! `Fill`: store what was worked out under a token, unless anything happened to the key meanwhile.

use crate::core::keyspace::{NEVER, Parts, Refill, Shape};
use crate::core::machine::Machine;
use crate::types::probe::{Probe, reached};
use crate::types::{Fill, Refusal, Reply, Version};

impl Machine {
    /// The leader vouches that nothing happened to the key from the token up to `since`; what came
    /// after that is seen here, in the same way on every replica. A key that is there tells by its
    /// version, one that is not by `removals`.
    pub(in crate::core::machine) fn fill(&mut self, fill: &Fill, version: u64) -> Reply {
        if let Some(refusal) = self.refuse(&fill.key, fill.value.data.len() + Refill::BYTES) {
            return Reply::Refused(refusal);
        }
        let found = self.find_alive(&fill.key);
        if self.wrong_kind(found) {
            return Reply::Refused(Refusal::WrongKind);
        }
        let written = found.map_or(0, |id| self.keyspace.get(id).version);
        let changed = written.max(self.removals.last(self.keyspace.hash_of(&fill.key)));
        if fill.since.is_none_or(|since| changed > since.0) {
            reached(Probe::FillRefused);
            return Reply::Refused(Refusal::OutdatedToken);
        }
        let deadline_ms = self.deadline(fill.expiry, NEVER);
        if deadline_ms <= self.log_time_ms {
            if let Some(id) = found {
                self.remove(id);
            }
            self.note_removal(&fill.key, version);
            return Reply::Set { version: Version(version) };
        }
        let soft_ms = fill.soft_ms.map_or(deadline_ms, |ms| self.log_time_ms.saturating_add(ms));
        let cost_ms = u32::try_from(fill.cost_ms).unwrap_or(u32::MAX);
        let refill = Refill { soft_ms: soft_ms.min(deadline_ms), cost_ms }.to_bytes();
        let parts = Parts {
            key: &fill.key,
            value: &fill.value.data,
            kind: fill.value.kind,
            deadline_ms,
            version,
        };
        let entry = self.keyspace.make_joined(parts, &[&refill]).shaped(Shape::Filled);
        self.put(found, entry);
        Reply::Set { version: Version(version) }
    }
}

#[cfg(test)]
#[path = "fill_tests.rs"]
mod tests;
