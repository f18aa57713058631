//! What the tests of the commands share.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::core::machine::{Lookup, Machine};
use crate::core::machine_tests::config;
use crate::types::*;

/// Where log time stands in these tests.
pub(super) const TIME_MS: u64 = 1_000;

pub(super) fn machine() -> Machine {
    let mut machine = Machine::new(config(1 << 20));
    machine.apply(1, &Batch { stamp_ms: TIME_MS, ..Batch::default() }, &mut Vec::new());
    machine
}

/// Applies a command in an entry of its own.
pub(super) fn run(machine: &mut Machine, command: Command) -> Reply {
    // Indexes only have to grow.
    static INDEX: AtomicU64 = AtomicU64::new(2);
    let index = INDEX.fetch_add(1, Ordering::Relaxed);
    let mut replies = Vec::new();
    let writes = vec![Write { request_id: None, command }];
    machine.apply(index, &Batch { stamp_ms: 0, touches: Vec::new(), writes }, &mut replies);
    replies.pop().expect("one reply for each write")
}

pub(super) fn text(value: &str) -> Value {
    Value { data: Bytes::from(value.to_owned()), kind: ValueKind::Text }
}

pub(super) fn set(key: &str, value: &str, expiry: Expiry, condition: Condition) -> Set {
    Set { key: Bytes::from(key.to_owned()), value: text(value), expiry, condition }
}

pub(super) fn put(key: &str, value: &str) -> Command {
    Command::Set(set(key, value, Expiry::Never, Condition::Always))
}

pub(super) fn get(machine: &Machine, key: &str) -> Option<Found> {
    match machine.get(key.as_bytes(), 0) {
        Lookup::Found(found) => Some(found),
        Lookup::Absent => None,
        Lookup::DueAt(_) => panic!("a follower's read is never due"),
    }
}

pub(super) fn version(machine: &Machine, key: &str) -> Version {
    get(machine, key).expect("the key is there").version
}

pub(super) fn found(value: &str, version: Version, ttl_ms: Option<u64>) -> Found {
    Found { value: text(value), version, ttl_ms }
}
