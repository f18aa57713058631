use super::super::testkit::*;
use super::*;
use crate::core::machine::{MachineConfig, versions_from};
use crate::core::machine_tests::config;
use crate::types::{
    Answer, Batch, Command, Condition, Delete, Expiry, Generation, Increment, Query, RequestId,
    Step, Transaction, Watch, Write,
};

fn lock(key: &'static str, owner: &'static str, ttl_ms: u64) -> Command {
    Command::Lock(Lock { key: key.into(), owner: owner.into(), ttl_ms, locks_max: 3 })
}

fn renew(owner: &'static str, token: Version, ttl_ms: u64) -> Command {
    Command::Renew(Renew { key: "k".into(), owner: owner.into(), token, ttl_ms })
}

fn unlock(owner: &'static str, token: Version) -> Command {
    Command::Unlock(Unlock { key: "k".into(), owner: owner.into(), token })
}

fn token(reply: &Reply) -> Version {
    match reply {
        Reply::Locked { token, .. } => *token,
        other => panic!("{other:?}"),
    }
}

fn at(machine: &mut Machine, time_ms: u64) {
    let index = machine.log_time_ms() + 1_000_000;
    let batch = crate::types::Batch { stamp_ms: time_ms, ..Default::default() };
    machine.apply(index, &batch, &mut Vec::new());
}

#[test]
fn one_holder_at_a_time_and_the_token_grows_with_each() {
    let mut machine = machine();
    let first = run(&mut machine, lock("k", "a", 100));
    assert_eq!(first, Reply::Locked { token: token(&first), deadline_ms: TIME_MS + 100 });
    let held = Reply::LockHeld { token: token(&first), ttl_ms: 100 };
    assert_eq!(run(&mut machine, lock("k", "b", 100)), held);
    // The same owner holds it for longer, under the same token.
    let again = run(&mut machine, lock("k", "a", 300));
    assert_eq!(again, Reply::Locked { token: token(&first), deadline_ms: TIME_MS + 300 });
    let not_held = Reply::NotHeld { current: Some(token(&first)) };
    assert_eq!(run(&mut machine, unlock("b", token(&first))), not_held);
    assert_eq!(run(&mut machine, unlock("a", Version(1))), not_held);
    assert_eq!(run(&mut machine, renew("a", Version(1), 50)), not_held);
    let renewed = run(&mut machine, renew("a", token(&first), 50));
    assert_eq!(renewed, Reply::Locked { token: token(&first), deadline_ms: TIME_MS + 50 });
    let gone = Reply::Deleted { version: token(&first) };
    assert_eq!(run(&mut machine, unlock("a", token(&first))), gone);
    assert_eq!(run(&mut machine, unlock("a", token(&first))), Reply::NotHeld { current: None });
    let second = run(&mut machine, lock("k", "b", 100));
    assert!(token(&second) > token(&first));
    // It ends by log time, and whoever comes next has a later token.
    at(&mut machine, TIME_MS + 100);
    let renewed = run(&mut machine, renew("b", token(&second), 50));
    assert_eq!(renewed, Reply::NotHeld { current: None });
    let third = run(&mut machine, lock("k", "a", 100));
    assert!(token(&third) > token(&second));
}

#[test]
fn a_lock_is_no_value_and_a_value_no_lock() {
    let mut machine = machine();
    let held = token(&run(&mut machine, lock("k", "a", 100)));
    run(&mut machine, put("v", "value"));
    let wrong = Reply::Refused(Refusal::WrongKind);
    let (condition, key) = (Condition::Always, || bytes::Bytes::from("k"));
    let others = [
        put("k", "x"),
        Command::GetSet(set("k", "x", Expiry::Never, Condition::IfAbsent)),
        Command::Delete(Delete { key: key(), condition }),
        Command::GetDelete(Delete { key: key(), condition }),
        Command::Increment(Increment { key: key(), delta: 1 }),
        Command::Append(crate::types::Append { key: key(), value: text("x") }),
        lock("v", "a", 100),
        Command::Unlock(Unlock { key: "v".into(), owner: "a".into(), token: held }),
    ];
    for command in others {
        assert_eq!(run(&mut machine, command.clone()), wrong, "{command:?}");
    }
    assert_eq!(machine.read(&Query::Get { key: key() }, 0), Ok(Answer::WrongKind));
    let Ok(Answer::Meta(Some(meta))) = machine.read(&Query::Inspect { key: key() }, 0) else {
        panic!("it exists")
    };
    assert_eq!((meta.version, meta.ttl_ms), (held, Some(100)));
}

/// What a store in the same shard does to be safe from a holder that does not know it is none any
/// more: a watch on the lock under the token.
#[test]
fn a_write_under_an_outdated_token_is_aborted() {
    let mut machine = machine();
    let first = token(&run(&mut machine, lock("k", "a", 100)));
    let fenced = |token, value| {
        let watches = vec![Watch::of("k".into(), Some(token))];
        let steps = vec![Step::Write(put("data", value))];
        Command::Transaction(Transaction { watches, steps })
    };
    assert!(matches!(run(&mut machine, fenced(first, "1")), Reply::Transaction(_)));
    run(&mut machine, renew("a", first, 200));
    assert!(matches!(run(&mut machine, fenced(first, "2")), Reply::Transaction(_)));
    at(&mut machine, TIME_MS + 200);
    let nobody = run(&mut machine, fenced(first, "3"));
    assert_eq!(nobody, Reply::Aborted { watch: 0, current: None });
    let second = token(&run(&mut machine, lock("k", "b", 100)));
    let late = run(&mut machine, fenced(first, "4"));
    assert_eq!(late, Reply::Aborted { watch: 0, current: Some(second) });
    assert!(matches!(run(&mut machine, fenced(second, "5")), Reply::Transaction(_)));
    assert_eq!(&get(&machine, "data").expect("it was set").value.data[..], b"5");
}

/// INV-8, and the reason for it: what is evicted under its holder has two holders.
#[test]
fn locks_are_never_evicted_and_bounded() {
    let mut machine = Machine::new(config(8 << 10));
    let held = token(&run(&mut machine, lock("k", "a", 100_000)));
    for n in 0..500 {
        run(&mut machine, put(&format!("key{n}"), &"v".repeat(100)));
    }
    assert!(machine.stats().evictions > 400);
    let renewed = run(&mut machine, renew("a", held, 100_000));
    assert_eq!(token(&renewed), held);
    let other = token(&run(&mut machine, lock("l", "a", 100_000)));
    run(&mut machine, lock("m", "a", 100_000));
    let full = run(&mut machine, lock("n", "a", 100_000));
    assert_eq!(full, Reply::Refused(Refusal::Locks { limit: 3 }));
    // By bytes: a quarter of the limit.
    let many = |key: String| {
        let owner = bytes::Bytes::from("o".repeat(64));
        Command::Lock(Lock { key: key.into(), owner, ttl_ms: 100_000, locks_max: 1_000 })
    };
    let replies: Vec<_> = (0..30).map(|n| run(&mut machine, many(format!("many{n}")))).collect();
    assert_eq!(replies.last(), Some(&Reply::Refused(Refusal::Locks { limit: 2 << 10 })));
    // A smaller limit evicts all but the locks, and then nothing fits beside them.
    run(&mut machine, Command::SetLimit { bytes_max: 1 << 10 });
    assert_eq!(machine.stats().keys, machine.stats().locks);
    let refused = run(&mut machine, put("k2", "v"));
    assert!(matches!(refused, Reply::Refused(Refusal::TooLarge { .. })), "{refused:?}");
    // What adds nothing needs no room: a lock is still held for longer and given back.
    let renewed = run(&mut machine, renew("a", held, 100_000));
    assert_eq!(token(&renewed), held);
    assert_eq!(token(&run(&mut machine, lock("l", "a", 200_000))), other, "the same lock");
    let condition = Condition::Always;
    let delete = |key: &'static str| Command::Delete(Delete { key: key.into(), condition });
    assert_eq!(run(&mut machine, delete("k2")), Reply::NotFound);
    assert_eq!(run(&mut machine, delete("l")), Reply::Refused(Refusal::WrongKind));
    assert_eq!(run(&mut machine, unlock("a", held)), Reply::Deleted { version: held });
    assert_eq!(run(&mut machine, Command::Flush), Reply::Done);
    assert_eq!(machine.stats().locks, 0);
}

#[test]
fn a_refusal_for_want_of_room_is_not_remembered() {
    let mut machine = machine();
    for key in ["x", "y", "z"] {
        token(&run(&mut machine, lock(key, "a", 100)));
    }
    let id = RequestId { session: 7, sequence: 1 };
    let ask = |machine: &mut Machine, index: u64| {
        let write = Write { request_id: Some(id.into()), command: lock("k", "a", 100) };
        let batch = Batch { stamp_ms: 0, touches: Vec::new(), writes: vec![write] };
        let mut replies = Vec::new();
        machine.apply(index, &batch, &mut replies);
        replies.remove(0)
    };
    let refused = Reply::Refused(Refusal::Locks { limit: 3 });
    assert_eq!(ask(&mut machine, 2_000_000), refused);
    at(&mut machine, TIME_MS + 100);
    let first = ask(&mut machine, 3_000_000_000);
    assert_eq!(first, Reply::Locked { token: token(&first), deadline_ms: TIME_MS + 200 });
    assert_eq!(ask(&mut machine, 3_000_000_001), first, "that is");
}

#[test]
fn a_generation_that_begins_again_empty_gives_later_tokens() {
    let began = |generation| {
        let versions_from = versions_from(Generation(generation));
        Machine::new(MachineConfig { versions_from, ..config(1 << 20) })
    };
    let ask = |machine: &mut Machine, index: u64| {
        let write = Write { request_id: None, command: lock("k", "a", 100) };
        let batch = Batch { stamp_ms: 1, touches: Vec::new(), writes: vec![write] };
        let mut replies = Vec::new();
        machine.apply(index, &batch, &mut replies);
        token(&replies[0])
    };
    let old = ask(&mut began(1), (1 << 40) - 1);
    let mut second = began(2);
    let new = ask(&mut second, 1);
    assert!(new > old, "{new:?} {old:?}");
    // Also after the machine was made anew from a snapshot.
    second.snapshot_begin();
    let mut restorer = second.restorer();
    while let Some(chunk) = second.snapshot_chunk(1 << 20) {
        restorer.push(chunk).unwrap();
    }
    second.snapshot_end();
    let mut restored = restorer.finish().unwrap();
    at(&mut restored, 1_000);
    assert!(ask(&mut restored, 5_000_000) > new);
}
