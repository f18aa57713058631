//! INV-6 over whole log entries: what is remembered, what is forgotten, and that nothing is applied
//! twice.

use proptest::prelude::*;

use super::machine::Machine;
use super::machine_tests::{apply, at, config, delete, put, write};
use super::restore::MachineRestorer;
use crate::types::limits::{SESSION_IDLE_MS_MAX, SESSIONS_BYTES_MAX, SESSIONS_MAX};
use crate::types::{
    Asker, Command, Condition, Increment, Once, Refusal, Reply, RequestId, Sent, Transaction,
    Version, Watch, Write,
};

const MINUTE_MS: u64 = 60_000;

fn machine() -> Machine {
    Machine::new(config(1 << 20))
}

fn once(session: u128, sequence: u64, asker: Asker, sent: Sent) -> Once {
    let id = RequestId { session, sequence };
    Once { id, part: 0, asker, age_ms_max: sent.age_ms_max() }
}

/// Adds 1 to a counter: applied twice, it shows.
fn add(once: Once) -> Write {
    let increment = Increment { key: "n".into(), delta: 1 };
    Write { request_id: Some(once), ..write(Command::Increment(increment)) }
}

fn first(session: u128) -> Write {
    add(once(session, 1, Asker::Node, Sent::First))
}

fn again(session: u128) -> Write {
    add(once(session, 1, Asker::Node, Sent::Before { ms: 100 }))
}

fn sum(reply: &Reply) -> i64 {
    let Reply::Integer { value, .. } = reply else { panic!("{reply:?}") };
    *value
}

fn unknown() -> Reply {
    Reply::Refused(Refusal::SessionExpired)
}

/// A group whose age is a bit over this many minutes; gives the next index and the stamp.
fn aged(machine: &mut Machine, minutes: u64, index: u64, stamp_ms: u64) -> (u64, u64) {
    let entries = minutes * 60 + 1;
    for n in 0..entries {
        apply(machine, index + n, &at(stamp_ms + (n + 1) * 1_000, Vec::new()));
    }
    (index + entries, stamp_ms + entries * 1_000)
}

/// A new leader's clock is 11 minutes ahead, in the very entry that carries the retry.
#[test]
fn a_leap_of_the_clock_forgets_nothing() {
    let mut machine = machine();
    let reply = apply(&mut machine, 1, &at(1_000, vec![first(1)]));
    for (index, leap) in (2..30).zip(1..) {
        let stamp_ms = 1_000 + leap * 11 * MINUTE_MS;
        assert_eq!(apply(&mut machine, index, &at(stamp_ms, vec![again(1)])), reply);
    }
}

/// The retry stands in the entry that makes its session old enough to go.
#[test]
fn a_retry_is_looked_up_before_anything_is_forgotten() {
    let mut machine = machine();
    let reply = apply(&mut machine, 1, &at(1_000, vec![first(1)]));
    for n in 1..600 {
        apply(&mut machine, 1 + n, &at(1_000 + n * 1_000, Vec::new()));
    }
    let mut idle = 1_000 + 600_000;
    assert_eq!(apply(&mut machine, 601, &at(idle, vec![again(1)])), reply);
    assert_eq!(machine.stats().sessions, 1, "it was used");
    for n in 1..=600 {
        idle += 1_000;
        apply(&mut machine, 601 + n, &at(idle, Vec::new()));
    }
    assert_eq!(machine.stats().sessions, 0, "10 minutes of age after its last use");
}

/// What may have been forgotten is `Unknown` to a retry; what is sent for the first time is new.
#[test]
fn what_may_be_forgotten_is_unknown_to_a_retry() {
    let mut machine = machine();
    apply(&mut machine, 1, &at(1_000, vec![first(1)]));
    let (index, stamp_ms) = aged(&mut machine, 11, 2, 1_000);
    let late = |session| add(once(session, 1, Asker::Node, Sent::Before { ms: 11 * MINUTE_MS }));
    // 1 was applied and 2 never was: nobody can tell any more.
    let writes = vec![late(1), late(2), first(3), again(4), late(3), late(5)];
    let replies = apply(&mut machine, index, &at(stamp_ms, writes));
    assert_eq!(replies[..2], [unknown(), unknown()]);
    assert_eq!(sum(&replies[2]), 2, "a new session");
    assert_eq!(sum(&replies[3]), 3, "sent after anything that was forgotten");
    assert_eq!(replies[4], replies[2]);
    assert_eq!(replies[5], unknown());
    // A session that began anew does not know what it did before.
    let anew = add(once(1, 2, Asker::Node, Sent::First));
    let replies = apply(&mut machine, index + 1, &at(stamp_ms, vec![anew, late(1)]));
    assert_eq!((sum(&replies[0]), &replies[1]), (4, &unknown()));
}

/// Callers with as many request ids as they like push out each other, never the nodes; a retry of what
/// was pushed out is `Unknown`, whether its caller says that it is one or not.
#[test]
fn callers_cannot_push_out_the_nodes() {
    let mut machine = machine();
    let caller = |session, sent| add(once(session, 1, Asker::Caller, sent));
    let mut replies = apply(&mut machine, 1, &at(1_000, vec![first(1)]));
    replies.extend(apply(&mut machine, 2, &at(1_000, vec![caller(1, Sent::First)])));
    assert_eq!(sum(&replies[1]), 2, "the same id of somebody else");
    let (mut session, mut index) = (2, 3);
    while session <= SESSIONS_MAX as u128 + 1_000 {
        let keyed = (0..1_000).map(|n| caller(session + n, Sent::Unsaid)).collect();
        apply(&mut machine, index, &at(1_000 + index, keyed));
        (session, index) = (session + 1_000, index + 1);
    }
    assert_eq!(machine.stats().sessions as usize, SESSIONS_MAX + 1);
    assert!(machine.stats().session_bytes as usize <= SESSIONS_BYTES_MAX);
    assert_eq!(apply(&mut machine, index, &at(2_000, vec![again(1)])), replies[..1]);
    let retries = [Sent::Unsaid, Sent::Before { ms: 5 }].map(|sent| caller(1, sent));
    let retried = apply(&mut machine, index + 1, &at(2_000, retries.to_vec()));
    assert_eq!(retried, [unknown(), unknown()]);
    let new = apply(&mut machine, index + 2, &at(2_000, vec![caller(u128::MAX, Sent::First)]));
    assert!(matches!(new[0], Reply::Integer { .. }), "one that says so is new: {new:?}");
}

/// INV-3: replicas that would forget another session next, or refuse another retry, are not equal.
#[test]
fn the_digest_has_what_decides_a_later_answer() {
    let mut machines = [machine(), machine()];
    for machine in &mut machines {
        apply(machine, 1, &at(1_000, vec![first(1), first(2)]));
    }
    assert_eq!(machines[0].digest(), machines[1].digest());
    for (machine, session) in machines.iter_mut().zip([1, 2]) {
        apply(machine, 2, &at(2_000, vec![again(session)]));
    }
    assert_ne!(machines[0].digest(), machines[1].digest(), "who was used last");
    // The same sessions, used at another age.
    let mut machines = [machine(), machine()];
    for (machine, pauses) in machines.iter_mut().zip([0, 1]) {
        apply(machine, 1, &at(1_000, Vec::new()));
        apply(machine, 2, &at(1_000 + pauses, vec![first(1)]));
        apply(machine, 3, &at(1_001, Vec::new()));
    }
    assert_ne!(machines[0].digest(), machines[1].digest(), "when it was used");
    // One has forgotten a session, the other never had one.
    let mut machines = [machine(), machine()];
    let unnamed = Write { request_id: None, ..first(1) };
    for (machine, write) in machines.iter_mut().zip([first(1), unnamed]) {
        apply(machine, 1, &at(1_000, vec![write]));
        aged(machine, 11, 2, 1_000);
        assert_eq!(machine.stats().sessions, 0);
    }
    assert_ne!(machines[0].digest(), machines[1].digest(), "what was forgotten");
}

/// A snapshot has all of it: age, what was forgotten, parts, slots, and the order of use.
#[test]
fn a_snapshot_has_what_is_remembered_and_forgotten() {
    let mut machine = machine();
    apply(&mut machine, 1, &at(1_000, vec![first(1)]));
    let (index, stamp_ms) = aged(&mut machine, 11, 2, 1_000);
    let part = |part, sent: Sent| {
        let named = once(7, 3, Asker::Caller, sent);
        add(Once { part, ..named })
    };
    let key = |key: &str, at| Write {
        request_id: Some(Once { part: at, ..once(7, 3, Asker::Caller, Sent::First) }),
        ..put(key, "v")
    };
    apply(&mut machine, index, &at(stamp_ms, vec![part(0, Sent::First), key("other", 4)]));
    machine.snapshot_begin();
    let mut restorer = MachineRestorer::new();
    while let Some(chunk) = machine.snapshot_chunk(100) {
        restorer.push(chunk).expect("sound");
    }
    machine.snapshot_end();
    let mut restored = restorer.finish().expect("whole");
    assert_eq!(restored.digest(), machine.digest());
    let late = add(once(1, 1, Asker::Node, Sent::Before { ms: SESSION_IDLE_MS_MAX }));
    let writes =
        vec![part(0, Sent::Unsaid), key("other", 4), part(1, Sent::Unsaid), late, first(9)];
    let replies = apply(&mut machine, index + 1, &at(stamp_ms, writes.clone()));
    assert_eq!(apply(&mut restored, index + 1, &at(stamp_ms, writes)), replies);
    assert!(matches!(replies[..2], [Reply::Integer { .. }, Reply::Set { .. }]), "{replies:?}");
    assert_eq!(replies[2..4], [unknown(), unknown()]);
    assert_eq!(restored.digest(), machine.digest());
}

proptest! {
    /// INV-6, whatever clocks, orders and numbers of retries: every operation is applied at most once,
    /// and every answer that is not `Unknown` is the first one.
    #[test]
    fn nothing_is_applied_twice(
        entries in proptest::collection::vec(
            (0..40u64 * MINUTE_MS, proptest::collection::vec((0..6u128, 0..4u64, any::<bool>()), 0..8)),
            1..20,
        ),
        quick in any::<bool>(),
    ) {
        let mut machine = machine();
        let mut answers = std::collections::BTreeMap::new();
        let mut applied = 0;
        let (mut index, mut stamp_ms) = (1, 0);
        for (leap_ms, requests) in entries {
            stamp_ms += leap_ms;
            let asker = |caller| if caller { Asker::Caller } else { Asker::Node };
            let requests: Vec<_> = requests
                .into_iter()
                .map(|(session, sequence, caller)| (asker(caller), session, sequence))
                .collect();
            let mut sent = std::collections::BTreeSet::new();
            let writes = requests.iter().map(|name| {
                let (asker, session, sequence) = *name;
                let before = answers.contains_key(name) || !sent.insert(*name);
                // A retry says how much age may have passed: at most a second an entry.
                let age_ms_max = before.then_some(u64::MAX);
                add(Once { age_ms_max, ..once(session, sequence, asker, Sent::First) })
            });
            let writes = writes.collect();
            let replies = apply(&mut machine, index, &at(stamp_ms, writes));
            index += 1;
            for (name, reply) in requests.into_iter().zip(replies) {
                if reply == unknown() {
                    continue;
                }
                let known = answers.entry(name).or_insert_with(|| {
                    applied += 1;
                    reply.clone()
                });
                prop_assert_eq!(&reply, known);
                prop_assert!(sum(&reply) <= applied, "{:?} was applied twice", name);
            }
            if !quick {
                (index, stamp_ms) = aged(&mut machine, 3, index, stamp_ms);
            }
        }
        let read = apply(&mut machine, index, &at(stamp_ms, vec![add(once(99, 1, Asker::Node, Sent::First))]));
        prop_assert_eq!(sum(&read[0]), applied + 1);
    }
}

fn watching(since: u64) -> Write {
    let watches = vec![Watch::absent_since("k".into(), Version(since))];
    write(Command::Transaction(Transaction { watches, steps: Vec::new() }))
}

/// A key that was absent, came and went is not as it was, however it went.
#[test]
fn an_absent_key_that_came_and_went_is_noticed() {
    let mut machine = machine();
    apply(&mut machine, 1, &at(0, vec![put("k", "old"), delete("k", Condition::Always)]));
    let seen = machine.last_version(1).0;
    let done = Reply::Transaction(Vec::new());
    let ask = |machine: &mut Machine, index| {
        apply(machine, index, &at(0, vec![watching(seen)])).remove(0)
    };
    assert_eq!(ask(&mut machine, 2), done, "it was gone before");
    apply(&mut machine, 3, &at(0, vec![put("another", "v")]));
    assert_eq!(ask(&mut machine, 4), done);
    let aborted = |current| Reply::Aborted { watch: 0, current };
    apply(&mut machine, 5, &at(0, vec![put("k", "v")]));
    assert_eq!(ask(&mut machine, 6), aborted(Some(Version(5 * 1024))));
    apply(&mut machine, 7, &at(0, vec![delete("k", Condition::Always)]));
    assert_eq!(ask(&mut machine, 8), aborted(None));
    let plain = Transaction { watches: vec![Watch::of("k".into(), None)], steps: Vec::new() };
    let replies = apply(&mut machine, 9, &at(0, vec![write(Command::Transaction(plain))]));
    assert_eq!(replies[0], done, "it is absent now");
}
