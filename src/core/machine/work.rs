//! How much work writes will be when they are applied: an entry of the log is applied in one go, and
//! everybody waits meanwhile.
//!
//! A few bytes in the log can be much work: an append copies the value it appends to, a new deadline
//! and a delete hash it for the digest. So what writes will touch is added up before they are put into
//! one entry. Small values are not counted: their number is bounded.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Machine;
use crate::core::keyspace::LARGE_BYTES;
use crate::types::limits::VALUE_BYTES_MAX;
use crate::types::{Command, Condition, CopyKey, Step, Transaction, Write};

/// What an entry's writes touch, as it is added up.
#[derive(Debug, Default)]
struct Work<'a> {
    /// Of large values.
    bytes: usize,
    /// How long the values of these keys will be by then, where the writes so far make that another
    /// length than the machine holds; at most, where a write may be refused.
    made: BTreeMap<&'a Bytes, usize>,
}

impl<'a> Work<'a> {
    fn touch(&mut self, value_bytes: usize) {
        if value_bytes > LARGE_BYTES {
            self.bytes = self.bytes.saturating_add(value_bytes);
        }
    }

    /// A key has a value of this length from now on, and had one of `before`.
    fn make(&mut self, key: &'a Bytes, before: usize, value_bytes: usize) {
        // A value too long for any key is refused.
        if value_bytes > VALUE_BYTES_MAX {
            return;
        }
        // Nothing that matters is small and was small, but for what grows.
        if before.max(value_bytes) > LARGE_BYTES || self.made.contains_key(key) {
            self.made.insert(key, value_bytes);
        }
    }

    /// The same of one that grew.
    fn grow(&mut self, key: &'a Bytes, value_bytes: usize) {
        if value_bytes <= VALUE_BYTES_MAX {
            self.made.insert(key, value_bytes);
        }
    }
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

    fn add_steps<'a>(&self, transaction: &'a Transaction, work: &mut Work<'a>) {
        for step in &transaction.steps {
            if let Step::Write(command) = step {
                self.add_work(command, work);
            }
        }
    }

    fn add_work<'a>(&self, command: &'a Command, work: &mut Work<'a>) {
        match command {
            Command::Transaction(transaction) => self.add_steps(transaction, work),
            Command::Set(set) | Command::GetSet(set) => {
                self.add_put(&set.key, set.value.data.len(), set.condition, work);
            }
            Command::Fill(fill) => {
                // An outdated token is refused.
                self.add_put(&fill.key, fill.value.data.len(), Condition::IfPresent, work);
            }
            Command::Append(append) => {
                let length = self.length(&append.key, work) + append.value.data.len();
                work.touch(length);
                work.grow(&append.key, length);
            }
            Command::SetRange(range) => {
                let end = usize::try_from(range.offset).unwrap_or(usize::MAX);
                let end = end.saturating_add(range.value.data.len());
                let before = self.length(&range.key, work);
                // One that is too long is refused, and nothing is touched but what is there.
                let length = if end > VALUE_BYTES_MAX { before } else { before.max(end) };
                work.touch(length);
                work.grow(&range.key, length);
            }
            Command::Increment(_)
            | Command::IncrementFloat(_)
            | Command::Expire(_)
            | Command::GetExpire(_) => {
                let length = command.key().map_or(0, |key| self.length(key, work));
                work.touch(length);
            }
            Command::Delete(delete) | Command::GetDelete(delete) => {
                self.add_put(&delete.key, 0, delete.condition, work);
            }
            Command::Copy(copy) => self.add_copy(copy, work),
            Command::Rename(copy) => {
                self.add_copy(copy, work);
                self.add_put(&copy.key, 0, copy.condition, work);
            }
            Command::Lock(_)
            | Command::Renew(_)
            | Command::Unlock(_)
            | Command::Tick
            | Command::SetLimit { .. }
            | Command::Flush => {}
        }
    }

    /// A value is replaced, if the condition holds: that of before is touched.
    fn add_put<'a>(
        &self,
        key: &'a Bytes,
        value_bytes: usize,
        condition: Condition,
        work: &mut Work<'a>,
    ) {
        let before = self.length(key, work);
        work.touch(before);
        let surely = condition == Condition::Always;
        work.make(key, before, if surely { value_bytes } else { value_bytes.max(before) });
    }

    fn add_copy<'a>(&self, copy: &'a CopyKey, work: &mut Work<'a>) {
        let length = self.length(&copy.key, work);
        work.touch(length);
        self.add_put(&copy.to, length, copy.condition, work);
    }

    /// Bytes of the value a key will have by then.
    fn length(&self, key: &Bytes, work: &Work<'_>) -> usize {
        match work.made.get(key) {
            Some(made) => *made,
            None if self.keyspace.large() == 0 => 0,
            None => {
                let found = self.keyspace.find(self.keyspace.hash_of(key), key);
                let entry = found.map(|id| self.keyspace.get(id));
                // One whose time is over goes when it is looked at, whatever the write does.
                let alive = entry.filter(|entry| entry.is_alive(self.log_time_ms));
                alive.map_or(0, |entry| entry.value_len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::machine_tests::{apply, at, config, put, write};
    use crate::types::{
        Append, Condition, CopyKey, Delete, Expire, ExpireCondition, Expiry, SetRange, Value,
        ValueKind,
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
        assert_eq!(
            fit(&machine, &vec![copy("new"); 100]),
            8,
            "each replaces what the first one makes"
        );
        apply(&mut machine, 3, &at(0, copy("there")));
        assert_eq!(
            fit(&machine, &vec![copy("there"); 100]),
            8,
            "what is replaced is touched as well"
        );
        // What is made is what is touched, under its own key alone.
        let grown = [vec![copy("fresh")], vec![expire("fresh"); 100]].concat();
        assert_eq!(fit(&machine, &grown), 16);
        let mut beside = vec![vec![put("big", &"v".repeat(MIB))]];
        beside.extend(vec![expire("small"); 1_000]);
        assert_eq!(fit(&machine, &beside), 1_001);
        let pieces = vec![append(LARGE_BYTES - 1); 64];
        assert!(fit(&machine, &pieces) < 64, "they add up");
        let gone = Delete { key: "large".into(), condition: Condition::Always };
        let mut after = vec![vec![write(Command::Delete(gone))]];
        after.extend(vec![expire("large"); 100]);
        assert_eq!(fit(&machine, &after), 101);
        let unit: Vec<Write> = vec![expire("large"); 40].into_iter().flatten().collect();
        assert_eq!(fit(&machine, &[unit.clone(), unit]), 1, "a unit is never parted");
    }
}
