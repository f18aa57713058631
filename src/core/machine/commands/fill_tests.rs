use super::super::testkit::*;
use super::*;
use crate::core::machine::Refillable;
use crate::types::{Command, Condition, Delete, Expiry, Value};

/// A fill that is vouched for up to now.
fn fill(since: u64, value: &str) -> Command {
    Command::Fill(Fill {
        key: "k".into(),
        value: text(value),
        soft_ms: Some(50),
        expiry: Expiry::AfterMs(100),
        cost_ms: 7,
        token: 1,
        since: Some(Version(since)),
    })
}

/// The last version given: indexes of these tests only grow.
fn seen(machine: &mut Machine) -> u64 {
    match run(machine, put("other", "x")) {
        Reply::Set { version } => machine.last_version(version.0 >> 10).0,
        other => panic!("{other:?}"),
    }
}

fn outdated() -> Reply {
    Reply::Refused(Refusal::OutdatedToken)
}

#[test]
fn a_fill_is_stored_and_gets_stale_before_it_ends() {
    let mut machine = machine();
    let since = seen(&mut machine);
    assert!(matches!(run(&mut machine, fill(since, "v")), Reply::Set { .. }));
    let look = |machine: &Machine, at_ms| match machine.refillable(b"k", at_ms) {
        Ok(Refillable::Value(value)) => (value.stale_ms, value.fresh_ms, value.cost_ms),
        other => panic!("{other:?}"),
    };
    assert_eq!(look(&machine, TIME_MS + 10), (None, Some(40), 7));
    assert_eq!(look(&machine, TIME_MS + 60), (Some(10), Some(0), 7));
    assert_eq!(get(&machine, "k"), Some(found("v", version(&machine, "k"), Some(100))));
    // Any other write makes it an ordinary value.
    run(&mut machine, Command::Append(crate::types::Append { key: "k".into(), value: text("w") }));
    let found = get(&machine, "k").expect("it was set");
    assert_eq!((&found.value.data[..], found.ttl_ms), (&b"vw"[..], Some(100)));
    assert_eq!(look(&machine, TIME_MS + 60), (None, Some(40), 0));
}

#[test]
fn nothing_may_have_happened_to_the_key() {
    let delete = |condition| Command::Delete(Delete { key: "k".into(), condition });
    let changes: [(&str, Vec<Command>); 7] = [
        ("a set", vec![put("k", "new")]),
        ("a delete of an absent key", vec![delete(Condition::Always)]),
        ("a set and a delete", vec![put("k", "new"), delete(Condition::Always)]),
        ("a flush", vec![Command::Flush]),
        (
            "a set that is over at once",
            vec![Command::Set(set("k", "new", Expiry::AtMs(1), Condition::Always))],
        ),
        ("another fill", Vec::new()),
        (
            "a set that was evicted",
            vec![
                put("k", "new"),
                Command::SetLimit { bytes_max: 1 },
                Command::SetLimit { bytes_max: 1 << 20 },
            ],
        ),
    ];
    for (what, commands) in changes {
        let mut machine = machine();
        let since = seen(&mut machine);
        if commands.is_empty() {
            run(&mut machine, fill(since, "first"));
        }
        for command in commands {
            run(&mut machine, command);
        }
        let before = get(&machine, "k");
        assert_eq!(run(&mut machine, fill(since, "old")), outdated(), "after {what}");
        assert_eq!(get(&machine, "k"), before, "after {what}");
        let since = seen(&mut machine);
        assert!(matches!(run(&mut machine, fill(since, "v")), Reply::Set { .. }), "after {what}");
    }
}

#[test]
fn what_nobody_vouches_for_is_refused() {
    let mut machine = machine();
    let Command::Fill(fill) = fill(0, "v") else { unreachable!("made above") };
    let unknown = Command::Fill(Fill { since: None, ..fill.clone() });
    assert_eq!(run(&mut machine, unknown), outdated());
    // What expired is absent, and was newer than the token.
    let since = seen(&mut machine);
    run(&mut machine, Command::Set(set("k", "new", Expiry::AfterMs(5), Condition::Always)));
    let later = crate::types::Batch { stamp_ms: TIME_MS + 5, ..Default::default() };
    machine.apply(1 << 20, &later, &mut Vec::new());
    let late = Command::Fill(Fill { since: Some(Version(since)), ..fill.clone() });
    assert_eq!(run(&mut machine, late), outdated());
    // A condition that failed changed nothing.
    let since = seen(&mut machine);
    run(&mut machine, Command::Set(set("k", "x", Expiry::Never, Condition::IfPresent)));
    let good = Command::Fill(Fill { since: Some(Version(since)), ..fill.clone() });
    assert!(matches!(run(&mut machine, good), Reply::Set { .. }));
    let value = Value { data: vec![0; 1 << 20].into(), ..fill.value };
    let large = Command::Fill(Fill { value, since: Some(Version(u64::MAX)), ..fill });
    let refused = run(&mut machine, large);
    assert!(matches!(refused, Reply::Refused(Refusal::TooLarge { .. })), "{refused:?}");
}
