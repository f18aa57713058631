//! Which number raft-engine knows each log by. Append only, guarded by golden bytes.
//!
//! raft-engine's numbers have 64 bits and a log's key has 96; and a number is never used twice, so
//! that nothing of a removed log can turn up in a new one.

use std::collections::BTreeMap;

use crate::types::wire::{self, get_varint, put_varint};
use crate::types::{GroupId, LogKey, ReplicaId};

use super::store_record::{self as record, Error};

/// Key of the directory, which is under its checksum.
pub(super) const KEY: &[u8] = b"directory";
/// The number under which the directory and the manifests lie.
pub(super) const META: u64 = 1;

/// All logs of a store.
///
/// Invariant: numbers are above `META`, different, and below `next`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Directory {
    next: u64,
    numbers: BTreeMap<LogKey, u64>,
}

impl Default for Directory {
    fn default() -> Self {
        Directory { next: META + 1, numbers: BTreeMap::new() }
    }
}

impl Directory {
    pub(super) fn get(&self, log: LogKey) -> Option<u64> {
        self.numbers.get(&log).copied()
    }

    pub(super) fn logs(&self) -> impl Iterator<Item = LogKey> + '_ {
        self.numbers.keys().copied()
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.numbers.values().copied()
    }

    /// Gives a log that has none the next number.
    pub(super) fn add(&mut self, log: LogKey) -> u64 {
        let number = self.next;
        self.next += 1;
        self.numbers.insert(log, number);
        number
    }

    pub(super) fn remove(&mut self, log: LogKey) -> Option<u64> {
        self.numbers.remove(&log)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        record::seal(KEY, |out| {
            put_varint(out, self.next);
            for (log, number) in &self.numbers {
                put_varint(out, log.group.0.into());
                put_varint(out, log.replica.0);
                put_varint(out, *number);
            }
        })
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Error> {
        let mut input = record::unseal(KEY, value)?;
        let next = get_varint(&mut input, "next number")?;
        let mut numbers = BTreeMap::new();
        let mut used = std::collections::BTreeSet::new();
        while !input.is_empty() {
            let group = u32::try_from(get_varint(&mut input, "group")?)
                .map_err(|_| wire::Error::Malformed { what: "group" })?;
            let replica = ReplicaId(get_varint(&mut input, "replica")?);
            let number = get_varint(&mut input, "number of a log")?;
            if number <= META || number >= next || !used.insert(number) {
                return Err(wire::Error::Malformed { what: "number of a log" }.into());
            }
            numbers.insert(LogKey { group: GroupId(group), replica }, number);
        }
        Ok(Directory { next, numbers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(group: u32, replica: u64) -> LogKey {
        LogKey { group: GroupId(group), replica: ReplicaId(replica) }
    }

    #[test]
    fn a_number_is_never_given_twice() {
        let mut directory = Directory::default();
        assert_eq!(directory.add(key(1, 1)), 2);
        assert_eq!(directory.add(key(1, 2)), 3);
        assert_eq!(directory.remove(key(1, 2)), Some(3));
        let mut read = Directory::decode(&directory.encode()).unwrap();
        assert_eq!(read, directory);
        assert_eq!(read.add(key(1, 2)), 4);
        assert_eq!(read.logs().collect::<Vec<_>>(), [key(1, 1), key(1, 2)]);
    }

    #[test]
    fn golden_bytes_and_damage() {
        let mut directory = Directory::default();
        directory.add(key(3, 300));
        let value = directory.encode();
        let hex: String = value.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "07fe18c4010303ac0202");
        for at in 0..value.len() {
            let mut flipped = value.clone();
            flipped[at] ^= 4;
            assert!(Directory::decode(&flipped).is_err());
        }
        for (next, number) in [(3, 1), (3, 3), (2, 2)] {
            let wrong = record::seal(KEY, |out| {
                for part in [next, 3, 300, number] {
                    put_varint(out, part);
                }
            });
            assert!(Directory::decode(&wrong).is_err(), "{next} {number}");
        }
    }
}
