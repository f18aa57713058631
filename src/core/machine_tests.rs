//! Property tests of the machine against the model, and of its snapshots against itself.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;

use super::keyspace::{Keyspace, logical_bytes};
use super::machine::{Lookup, Machine, MachineConfig};
use super::machine_model::Model;
use super::machine_words_tests::any_log;
use super::restore::MachineRestorer;
use super::slot::slot_of;
use super::slot_set::SlotSet;
use crate::types::{
    Answer, Batch, Command, Condition, Delete, Expiry, Query, Refusal, Reply, RequestId, Scan, Set,
    Value, ValueKind, Version, Write,
};

pub(super) const SEED: u64 = 0x5eed;
const LIMIT: u64 = 2048;

pub(super) fn config(bytes_max: u64) -> MachineConfig {
    MachineConfig { bytes_max, hash_seed: SEED, versions_from: 0, owned: SlotSet::all() }
}

pub(super) fn write(command: Command) -> Write {
    Write { request_id: None, command }
}

pub(super) fn set(key: &str, value: &str, expiry: Expiry, condition: Condition) -> Write {
    let value = Value { data: Bytes::from(value.to_owned()), kind: ValueKind::Text };
    write(Command::Set(Set { key: Bytes::from(key.to_owned()), value, expiry, condition }))
}

pub(super) fn put(key: &str, value: &str) -> Write {
    set(key, value, Expiry::Never, Condition::Always)
}

pub(super) fn delete(key: &str, condition: Condition) -> Write {
    write(Command::Delete(Delete { key: Bytes::from(key.to_owned()), condition }))
}

pub(super) fn at(stamp_ms: u64, writes: Vec<Write>) -> Batch {
    Batch { stamp_ms, touches: Vec::new(), writes }
}

pub(super) fn apply(machine: &mut Machine, index: u64, batch: &Batch) -> Vec<Reply> {
    let mut replies = Vec::new();
    machine.apply(index, batch, &mut replies);
    replies
}

fn value_of(machine: &Machine, key: &str) -> Option<String> {
    match machine.get(key.as_bytes(), 0) {
        Lookup::Found(found) => {
            Some(String::from_utf8(found.value.data.to_vec()).expect("tests store text"))
        }
        Lookup::Absent => None,
        Lookup::DueAt(_) => panic!("a follower's read is never due"),
    }
}

pub(super) fn recency(machine: &Machine) -> Vec<Vec<u8>> {
    machine.keys_by_recency().map(<[u8]>::to_vec).collect()
}

/// Compares everything that can be seen of the machine with the model.
fn check(machine: &Machine, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(machine.log_time_ms(), model.log_time_ms);
    prop_assert_eq!(machine.stats().bytes, model.bytes());
    let locks = model.entries.values().filter(|e| e.lock).count() as u64;
    prop_assert_eq!(machine.stats().locks, locks);
    // A smaller limit evicts no lock.
    prop_assert!(machine.stats().bytes <= machine.bytes_max() || model.order.is_empty());
    let mut order = recency(machine);
    order.reverse();
    prop_assert_eq!(&order, &model.order);
    for k in 0..16u8 {
        let key = format!("key-{k}");
        match (machine.get(key.as_bytes(), 0), model.alive(key.as_bytes())) {
            (Lookup::Absent, None) => {}
            // What is a lock is seen by `read`, below.
            (Lookup::Found(_), Some(entry)) if entry.lock => {}
            (Lookup::Found(found), Some(entry)) => {
                prop_assert_eq!(&found.value, &entry.value);
                prop_assert_eq!(found.version.0, entry.version);
                let ttl_ms = found.ttl_ms.map_or(u64::MAX, |ttl| model.log_time_ms + ttl);
                prop_assert_eq!(ttl_ms, entry.deadline_ms);
            }
            (seen, expected) => prop_assert!(false, "{key}: {seen:?}, not {expected:?}"),
        }
        let key = Bytes::from(key);
        let ranges = [(0, -1), (-3, -2), (2, 5)].map(|(start, end)| Query::GetRange {
            key: key.clone(),
            start,
            end,
        });
        for query in ranges.into_iter().chain([Query::Inspect { key }, Query::Size { slot: None }])
        {
            prop_assert_eq!(machine.read(&query, 0), Ok(model.read(&query)), "{:?}", query);
        }
    }
    let alive = |key: &&Vec<u8>| model.alive(key).is_some();
    let expected: BTreeSet<Vec<u8>> = model.entries.keys().filter(alive).cloned().collect();
    prop_assert_eq!(scanned(machine, 3), expected);
    Ok(())
}

/// The keys that a whole scan of a machine that stands still finds, each once.
fn scanned(machine: &Machine, keys_max: u32) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    let mut first = Some(0);
    while let Some(position) = first {
        let scan = Scan { first: position, last: u32::MAX, keys_max, pattern: None };
        let Ok(Answer::Keys(keys)) = machine.read(&Query::Scan(scan), 0) else {
            panic!("a scan answers keys")
        };
        assert!(keys.next.is_none_or(|next| next > position), "it goes on");
        for key in keys.keys {
            assert!(found.insert(key.to_vec()), "a key is found once");
        }
        first = keys.next;
    }
    found
}

proptest! {
    /// The machine does what the model does, to the byte, the reply and the order.
    #[test]
    fn follows_the_model(log in any_log()) {
        let owned: SlotSet = (0..16u8).filter(|k| *k != 7)
            .map(|k| slot_of(format!("key-{k}").as_bytes())).collect();
        let mut machine = Machine::new(MachineConfig { owned: owned.clone(), ..config(LIMIT) });
        let mut model = Model::new(LIMIT, SEED, owned);
        for (index, batch) in log.iter().enumerate() {
            let index = index as u64;
            prop_assert_eq!(apply(&mut machine, index, batch), model.apply(index, batch));
            check(&machine, &model)?;
        }
    }

    /// INV-3: a replica that came up from a snapshot taken while entries went on is equal to one
    /// that applied the whole log.
    #[test]
    fn a_snapshot_is_the_state_at_its_point(
        log in any_log(),
        point in 0..40usize,
        chunk_bytes in 1..3000usize,
        chunks_per_batch in 0..3usize,
    ) {
        let mut machine = Machine::new(config(LIMIT));
        let point = point.min(log.len());
        for (index, batch) in log[..point].iter().enumerate() {
            apply(&mut machine, index as u64, batch);
        }
        machine.snapshot_begin();
        let (keys_at_point, digest_at_point) = (machine.stats().keys, machine.digest());
        let order_at_point = recency(&machine);
        let mut chunks = Vec::new();
        for (index, batch) in log.iter().enumerate().skip(point) {
            apply(&mut machine, index as u64, batch);
            prop_assert!(machine.snapshot_preimages() as u64 <= keys_at_point);
            for _ in 0..chunks_per_batch {
                chunks.extend(machine.snapshot_chunk(chunk_bytes));
            }
        }
        while let Some(chunk) = machine.snapshot_chunk(chunk_bytes) {
            chunks.push(chunk);
        }
        machine.snapshot_end();
        let mut restorer = machine.restorer();
        for chunk in chunks {
            prop_assert_eq!(restorer.push(chunk), Ok(()));
        }
        let mut restored = restorer.finish().expect("the snapshot is whole");
        prop_assert_eq!(restored.digest(), digest_at_point);
        prop_assert_eq!(recency(&restored), order_at_point);
        let mut plain = Machine::new(config(LIMIT));
        for (index, batch) in log.iter().enumerate() {
            let replies = apply(&mut plain, index as u64, batch);
            if index >= point {
                prop_assert_eq!(apply(&mut restored, index as u64, batch), replies);
            }
        }
        prop_assert_eq!(restored.digest(), plain.digest());
        prop_assert_eq!(restored.digest(), machine.digest());
        prop_assert_eq!(recency(&restored), recency(&plain));
        for k in 0..16u8 {
            let key = format!("key-{k}");
            prop_assert_eq!(
                restored.wants_touch(key.as_bytes()), plain.wants_touch(key.as_bytes()));
        }
    }

    /// INV-4: whatever the stamps, a key whose deadline has come stays absent until a new write.
    #[test]
    fn what_expired_stays_absent(
        ttl_ms in 1..100u64,
        stamps in proptest::collection::vec(0..1000u64, 1..30),
    ) {
        let mut machine = Machine::new(config(LIMIT));
        let expiry = Expiry::AfterMs(ttl_ms);
        apply(&mut machine, 1, &at(500, vec![set("k", "v", expiry, Condition::Always)]));
        let mut gone = false;
        let mut time_ms = 500;
        for (index, stamp_ms) in stamps.into_iter().enumerate() {
            apply(&mut machine, 2 + index as u64, &at(stamp_ms, vec![write(Command::Tick)]));
            prop_assert!(machine.log_time_ms() >= time_ms, "log time only grows");
            time_ms = machine.log_time_ms();
            gone |= time_ms >= 500 + ttl_ms;
            prop_assert_eq!(value_of(&machine, "k").is_none(), gone);
        }
    }

    /// What is no snapshot is an error, checksum or not, and never a panic.
    #[test]
    fn garbage_in_a_sound_frame_never_panics(
        body in proptest::collection::vec(any::<u8>(), 0..400),
        header in any::<bool>(),
    ) {
        let mut source = Machine::new(config(LIMIT));
        source.snapshot_begin();
        let empty = source.snapshot_chunk(1).expect("one chunk at least");
        let mut forged = empty[..if header { empty.len() - 4 } else { 18 }].to_vec();
        forged.extend(body);
        let crc = crc32c::crc32c(&forged);
        forged.extend(crc.to_le_bytes());
        let mut restorer = MachineRestorer::new();
        if restorer.push(forged.into()).is_ok() {
            let _ = restorer.finish();
        }
    }
}

#[test]
fn conditions_hold_or_change_nothing() {
    let mut machine = Machine::new(config(LIMIT));
    let v = |index: u64, position: u64| Version(index * 1024 + position);
    let replies = apply(
        &mut machine,
        1,
        &at(
            0,
            vec![
                set("k", "a", Expiry::Never, Condition::IfPresent),
                set("k", "b", Expiry::Never, Condition::IfAbsent),
                set("k", "c", Expiry::Never, Condition::IfAbsent),
                set("k", "d", Expiry::Never, Condition::IfVersion(v(1, 1))),
                set("k", "e", Expiry::Never, Condition::IfVersion(v(1, 1))),
                delete("k", Condition::IfVersion(v(1, 1))),
                delete("k", Condition::IfAbsent),
                delete("k", Condition::IfVersion(v(1, 3))),
                delete("k", Condition::Always),
                delete("k", Condition::IfPresent),
            ],
        ),
    );
    let failed = |current| Reply::ConditionFailed { current };
    let expected = vec![
        failed(None),
        Reply::Set { version: v(1, 1) },
        failed(Some(v(1, 1))),
        Reply::Set { version: v(1, 3) },
        failed(Some(v(1, 3))),
        failed(Some(v(1, 3))),
        failed(Some(v(1, 3))),
        Reply::Deleted { version: v(1, 3) },
        Reply::NotFound,
        failed(None),
    ];
    assert_eq!(replies, expected);
}

/// INV-4, INV-1: more is due than one entry reaps; what is left is absent to reads, conditions and
/// `Keep` all the same.
#[test]
fn what_is_due_but_not_reaped_is_absent() {
    let mut machine = Machine::new(config(1 << 20));
    let ttl = |n: u64| set(&format!("k{n}"), "v", Expiry::AfterMs(100), Condition::Always);
    apply(&mut machine, 1, &at(1000, (0..1000).map(ttl).collect()));
    apply(&mut machine, 2, &at(1100, Vec::new()));
    assert_eq!(machine.stats().keys, 1000 - 32);
    assert_eq!(value_of(&machine, "k999"), None);
    assert_eq!(machine.wants_touch(b"k999"), None);
    let writes = vec![
        delete("k999", Condition::Always),
        set("k998", "new", Expiry::Keep, Condition::IfPresent),
        set("k997", "new", Expiry::Keep, Condition::IfAbsent),
    ];
    let replies = apply(&mut machine, 3, &at(0, writes));
    assert_eq!(replies[0], Reply::NotFound);
    assert_eq!(replies[1], Reply::ConditionFailed { current: None });
    assert!(matches!(replies[2], Reply::Set { .. }));
    let Lookup::Found(found) = machine.get(b"k997", u64::MAX - 1) else { panic!("it was set") };
    assert_eq!(found.ttl_ms, None, "Keep of an absent key is Never");
    for index in 4..40 {
        apply(&mut machine, index, &at(0, Vec::new()));
    }
    assert_eq!(machine.stats().keys, 1);
    assert_eq!(machine.stats().expirations, 1000);
}

/// INV-1: between log time and the leader's clock nobody knows yet; the caller ticks.
#[test]
fn a_deadline_between_log_time_and_the_leaders_clock_asks_for_a_tick() {
    let mut machine = Machine::new(config(LIMIT));
    let write_at_1000 = set("k", "v", Expiry::AfterMs(50), Condition::Always);
    apply(&mut machine, 1, &at(1000, vec![write_at_1000]));
    assert!(matches!(machine.get(b"k", 1049), Lookup::Found(_)));
    assert_eq!(machine.get(b"k", 1050), Lookup::DueAt(1050));
    assert!(matches!(machine.get(b"k", 0), Lookup::Found(_)));
    apply(&mut machine, 2, &at(1050, vec![write(Command::Tick)]));
    assert_eq!(machine.get(b"k", 1050), Lookup::Absent);
}

/// INV-6.
#[test]
fn a_retry_is_applied_once_and_gets_the_first_reply() {
    let mut machine = Machine::new(config(LIMIT));
    let id = RequestId { session: 9, sequence: 1 };
    let once =
        Write { request_id: Some(id.into()), ..set("k", "a", Expiry::Never, Condition::IfAbsent) };
    let first = apply(&mut machine, 1, &at(0, vec![once.clone(), once.clone()]));
    assert_eq!(first[0], Reply::Set { version: Version(1024) });
    assert_eq!(first[0], first[1]);
    apply(&mut machine, 2, &at(0, vec![put("k", "b")]));
    assert_eq!(apply(&mut machine, 3, &at(0, vec![once]))[0], first[0]);
    assert_eq!(value_of(&machine, "k").as_deref(), Some("b"));
}

/// A retry after `NotOwner` must be applied where the slot is owned: it is not remembered.
#[test]
fn slots_of_others_are_refused_and_not_remembered() {
    let owned: SlotSet = [slot_of(b"mine")].into_iter().collect();
    let mut machine = Machine::new(MachineConfig { owned, ..config(LIMIT) });
    let id = RequestId { session: 9, sequence: 1 };
    let foreign = Write { request_id: Some(id.into()), ..put("theirs", "v") };
    let replies = apply(&mut machine, 1, &at(0, vec![foreign, put("mine", "v")]));
    assert!(matches!(replies[0], Reply::Refused(Refusal::NotOwner { .. })));
    assert!(matches!(replies[1], Reply::Set { .. }));
    assert_eq!(machine.stats().sessions, 0);
}

#[test]
fn the_largest_value_of_a_default_shard_fits_and_one_more_byte_does_not() {
    use crate::types::limits::{KEY_BYTES_MAX, SHARD_BYTES_MAX_DEFAULT, VALUE_BYTES_MAX};
    let mut machine = Machine::new(config(SHARD_BYTES_MAX_DEFAULT));
    let key = "k".repeat(KEY_BYTES_MAX);
    let value = "v".repeat(VALUE_BYTES_MAX);
    let writes =
        vec![put(&key, &value), put("k", &format!("{value}v")), put(&format!("{key}k"), "v")];
    let replies = apply(&mut machine, 1, &at(0, writes));
    assert!(matches!(replies[0], Reply::Set { .. }));
    assert!(matches!(replies[1], Reply::Refused(Refusal::TooLarge { .. })));
    assert!(matches!(replies[2], Reply::Refused(Refusal::TooLarge { .. })));
}

/// A lower limit through the log evicts the coldest at once.
#[test]
fn a_lower_limit_evicts_the_coldest() {
    let mut machine = Machine::new(config(1 << 20));
    apply(&mut machine, 1, &at(0, (0..100).map(|n| put(&format!("k{n}"), "v")).collect()));
    let bytes_max = 10 * logical_bytes(3);
    apply(&mut machine, 2, &at(0, vec![write(Command::SetLimit { bytes_max })]));
    let expected: Vec<_> = (90..100).rev().map(|n| format!("k{n}").into_bytes()).collect();
    assert_eq!(recency(&machine), expected);
    assert_eq!(machine.stats().evictions, 90);
}

/// An insert that does not fit evicts what it needs and a bounded number more; the next ones then
/// need not evict.
#[test]
fn an_insert_evicts_ahead_within_bounds() {
    let mut machine = Machine::new(config(1 << 20));
    let entry_bytes = logical_bytes(7);
    let fits = (1 << 20) / entry_bytes;
    let one = |n: u64| at(0, vec![put(&format!("k{n:05}"), "v")]);
    for n in 0..fits {
        apply(&mut machine, n, &one(n));
    }
    assert_eq!((machine.stats().evictions, machine.stats().keys), (0, fits));
    apply(&mut machine, fits, &one(fits));
    assert_eq!(machine.stats().evictions, 1 + 16);
    for n in fits + 1..=fits + 16 {
        apply(&mut machine, n, &one(n));
    }
    assert_eq!((machine.stats().evictions, machine.stats().keys), (1 + 16, fits));
}

/// A touch that meets two keys touches both, in the order of their versions.
#[test]
fn a_hash_of_two_keys_touches_both() {
    let hashes = Keyspace::new(SEED);
    let mut seen = std::collections::HashMap::new();
    let (first, second, hash) = (0..)
        .find_map(|n| {
            let key = format!("key-{n}");
            let hash = hashes.hash_of(key.as_bytes());
            seen.insert(hash, key.clone()).map(|other| (other, key, hash))
        })
        .expect("4-byte hashes collide after some 80,000 keys");
    let mut machine = Machine::new(config(1 << 20));
    // Places in the slab are used again last first, so their order is not that of the versions.
    let writes = vec![
        put("x", "v"),
        put("y", "v"),
        delete("x", Condition::Always),
        delete("y", Condition::Always),
        put(&second, "v"),
        put(&first, "v"),
        put("a", "v"),
        put("b", "v"),
    ];
    apply(&mut machine, 1, &at(0, writes));
    apply(&mut machine, 2, &Batch { stamp_ms: 0, touches: vec![hash], writes: Vec::new() });
    let expected = [&first, &second, "b", "a"].map(|key: &str| key.as_bytes().to_vec()).to_vec();
    assert_eq!(recency(&machine), expected);
    assert_eq!(value_of(&machine, &first).as_deref(), Some("v"));
}

/// An entry does not keep the buffer of its batch alive, and a read shares the entry's allocation.
#[test]
fn values_are_copied_in_and_shared_out() {
    let mut machine = Machine::new(config(1 << 20));
    let buffer = Bytes::from(vec![b'v'; 4096]);
    let value = Value { data: buffer.slice(..100), kind: ValueKind::Bytes };
    let (key, expiry) = (Bytes::from_static(b"k"), Expiry::Never);
    let command = Command::Set(Set { key, value, expiry, condition: Condition::Always });
    apply(&mut machine, 1, &at(0, vec![write(command)]));
    assert!(buffer.is_unique(), "nothing holds the batch's buffer");
    let read = || match machine.get(b"k", 0) {
        Lookup::Found(found) => found.value.data,
        other => panic!("it was set: {other:?}"),
    };
    assert_eq!(read().as_ptr(), read().as_ptr(), "reads do not copy");
}
