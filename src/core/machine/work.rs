//! How much work writes will be when they are applied: an entry of the log is applied in one go, and
//! everybody waits meanwhile.
//!
//! A few bytes in the log can be much work: an append copies the value it appends to, a new deadline
//! and a delete hash it for the digest. So what writes will touch is added up before they are put into
//! one entry. Small values are not counted: their number is bounded.

use bytes::Bytes;

use super::Machine;
use crate::core::keyspace::LARGE_BYTES;
use crate::types::{Command, Step, Transaction, Write};

/// Bytes that an entry's writes touch, as they are added up.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    bytes: usize,
    /// The largest value that these writes make: others of the same entry may work on it.
    largest: usize,
}

impl Machine {
    /// How many of these units are at most `bytes_max` of work together. A unit that is more by itself
    /// counts as one that fits alone.
    pub fn units_within<'a>(
        &self,
        units: impl Iterator<Item = &'a [Write]>,
        bytes_max: usize,
    ) -> usize {
        let mut work = Work::default();
        let mut fit = 0;
        for unit in units {
            unit.iter().for_each(|write| self.add_work(&write.command, &mut work));
            if work.bytes > bytes_max {
                return fit.max(1);
            }
            fit += 1;
        }
        fit
    }

    /// Bytes of large values that a transaction will touch if it is applied now, at most.
    pub(super) fn work_of(&self, transaction: &Transaction) -> usize {
        let mut work = Work::default();
        self.add_steps(transaction, &mut work);
        work.bytes
    }

    fn add_steps(&self, transaction: &Transaction, work: &mut Work) {
        for step in &transaction.steps {
            if let Step::Write(command) = step {
                self.add_work(command, work);
            }
        }
    }

    fn add_work(&self, command: &Command, work: &mut Work) {
        let (makes, rewrites) = match command {
            Command::Transaction(transaction) => return self.add_steps(transaction, work),
            Command::Set(set) | Command::GetSet(set) => (set.value.data.len(), false),
            Command::Fill(fill) => (fill.value.data.len(), false),
            Command::Append(append) => (append.value.data.len(), true),
            Command::SetRange(range) => {
                let end = usize::try_from(range.offset).unwrap_or(usize::MAX);
                (end.saturating_add(range.value.data.len()), true)
            }
            Command::Increment(_)
            | Command::IncrementFloat(_)
            | Command::Expire(_)
            | Command::GetExpire(_)
            | Command::Copy(_)
            | Command::Rename(_) => (0, true),
            Command::Delete(_)
            | Command::GetDelete(_)
            | Command::Lock(_)
            | Command::Renew(_)
            | Command::Unlock(_)
            | Command::Tick
            | Command::SetLimit { .. }
            | Command::Flush => (0, false),
        };
        let held = self.held_bytes(command.key());
        work.largest = work.largest.max(makes);
        let touched = if rewrites { held.max(work.largest) } else { held };
        for touched in [touched, self.held_bytes(command.target())] {
            if touched > LARGE_BYTES {
                work.bytes = work.bytes.saturating_add(touched);
            }
        }
    }

    /// Bytes of the value a key has. One whose time is over counts for none: whether it is still there is
    /// not the same on all replicas.
    fn held_bytes(&self, key: Option<&Bytes>) -> usize {
        let key = key.filter(|_| self.keyspace.large() > 0);
        let found = key.and_then(|key| self.keyspace.find(self.keyspace.hash_of(key), key));
        let entry = found.map(|id| self.keyspace.get(id));
        let alive = entry.filter(|entry| entry.is_alive(self.log_time_ms));
        alive.map_or(0, |entry| entry.value_len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::machine_tests::{apply, at, config, put, write};
    use crate::types::{
        Append, Condition, CopyKey, Expire, ExpireCondition, Expiry, SetRange, Value, ValueKind,
    };

    const MIB: usize = 1 << 20;

    fn value(len: usize) -> Value {
        Value { data: vec![b'v'; len].into(), kind: ValueKind::Bytes }
    }

    fn expire(key: &'static str) -> Vec<Write> {
        let (expiry, condition) = (Expiry::AfterMs(9), ExpireCondition::Always);
        vec![write(Command::Expire(Expire { key: key.into(), expiry, condition }))]
    }

    fn append(len: usize) -> Vec<Write> {
        vec![write(Command::Append(Append { key: "new".into(), value: value(len) }))]
    }

    fn fit(machine: &Machine, units: &[Vec<Write>]) -> usize {
        machine.units_within(units.iter().map(|unit| &unit[..]), 16 * MIB)
    }

    #[test]
    fn what_touches_large_values_is_spread_over_entries() {
        let mut machine = Machine::new(config(100 << 20));
        apply(&mut machine, 1, &at(0, vec![put("small", "v")]));
        let small = vec![expire("small"); 1_000];
        assert_eq!(fit(&machine, &small), 1_000);
        let range = |offset, len| {
            vec![write(Command::SetRange(SetRange { key: "r".into(), offset, value: value(len) }))]
        };
        let ranges = vec![range(MIB as u64 - 1, 1); 100];
        assert_eq!(fit(&machine, &ranges), 16, "each copies what the first one makes");
        let mut appends = vec![append(200_000)];
        appends.resize(1_000, append(1));
        assert_eq!(fit(&machine, &appends), 16 * MIB / 200_000);
        apply(&mut machine, 2, &at(0, vec![put("large", &"v".repeat(MIB))]));
        assert_eq!(fit(&machine, &vec![expire("large"); 100]), 16);
        assert_eq!(fit(&machine, &small), 1_000, "not all suffer for it");
        let copy = |to: &'static str| {
            let names =
                CopyKey { key: "large".into(), to: to.into(), condition: Condition::Always };
            vec![write(Command::Copy(names))]
        };
        assert_eq!(fit(&machine, &vec![copy("new"); 100]), 16);
        apply(&mut machine, 3, &at(0, copy("there")));
        assert_eq!(
            fit(&machine, &vec![copy("there"); 100]),
            8,
            "what is replaced is touched as well"
        );
        let unit: Vec<Write> = vec![expire("large"); 40].into_iter().flatten().collect();
        assert_eq!(fit(&machine, &[unit.clone(), unit]), 1, "a unit is never parted");
    }
}
