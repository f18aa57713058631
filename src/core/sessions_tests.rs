//! One memory: order, bounds, digest, export.

use super::*;
use crate::core::slot_set::SlotSet;
use crate::types::{Asker, Found, RequestId, Slot, Value, ValueKind, Version};

fn once(session: u128, sequence: u64) -> Once {
    RequestId { session, sequence }.into()
}

fn now(version: u64, age_ms: u64) -> Moment {
    Moment { version, age_ms }
}

fn slots() -> Slots {
    Slots::One(Slot(7))
}

fn reply(sequence: u64) -> Reply {
    Reply::Set { version: Version(1000 + sequence) }
}

fn remember(sessions: &mut Sessions, session: u128, sequence: u64, now: Moment) {
    let name = once(session, sequence);
    assert_eq!(sessions.look(&name, &slots(), now), Seen::New);
    sessions.remember(&name, slots(), &reply(sequence), now);
}

fn copy_of(sessions: &Sessions) -> Sessions {
    let mut copy = Sessions::new(1);
    copy.import_forgotten_ms(sessions.forgotten_ms());
    for (id, session) in sessions.export() {
        assert!(copy.import(id, Session::clone(&session)));
        assert!(!copy.import(id, Session::default()), "twice");
    }
    assert_eq!(copy.digest(), sessions.digest());
    assert_eq!(copy.bytes(), sessions.bytes());
    copy
}

#[test]
fn the_least_recently_used_session_goes_first() {
    let mut sessions = Sessions::new(1);
    for session in 0..SESSIONS_MAX as u64 {
        remember(&mut sessions, session.into(), 1, now(session, 0));
    }
    let used = now(SESSIONS_MAX as u64, 0);
    assert_eq!(sessions.look(&once(0, 1), &slots(), used), Seen::Again(reply(1)));
    remember(&mut sessions, u128::MAX, 1, now(SESSIONS_MAX as u64 + 1, 0));
    sessions.settle(0);
    assert_eq!((sessions.len(), sessions.forgotten_ms()), (SESSIONS_MAX, 1));
    let later = now(SESSIONS_MAX as u64 + 2, 0);
    assert_eq!(sessions.look(&once(0, 1), &slots(), later), Seen::Again(reply(1)), "used since");
    assert_eq!(sessions.look(&once(1, 1), &slots(), later), Seen::New);
    let retry = Once { age_ms_max: Some(0), ..once(1, 1) };
    assert_eq!(sessions.look(&retry, &slots(), later), Seen::Forgotten);
}

/// INV-8: bounded in bytes, whatever a session's replies take.
#[test]
fn sessions_are_bounded_in_bytes() {
    let mut sessions = Sessions::new(1);
    let wide = Slots::from_slots((0..1_024).map(Slot));
    let mut version = 0;
    for session in 0..60 {
        for sequence in 0..SESSION_REPLIES_MAX as u64 {
            version += 1;
            let moment = now(version, version);
            sessions.remember(&once(session, sequence), wide.clone(), &reply(sequence), moment);
        }
        sessions.settle(version);
        assert!(sessions.bytes() <= SESSIONS_BYTES_MAX);
    }
    assert!((20..40).contains(&sessions.len()), "{}", sessions.len());
    assert!(sessions.bytes() > SESSIONS_BYTES_MAX * 3 / 4);
    copy_of(&sessions);
}

#[test]
fn idle_sessions_go_by_age() {
    let mut sessions = Sessions::new(1);
    remember(&mut sessions, 1, 1, now(1, 1000));
    remember(&mut sessions, 2, 1, now(2, 2000));
    sessions.settle(1000 + SESSION_IDLE_MS_MAX - 1);
    assert_eq!((sessions.len(), sessions.forgotten_ms()), (2, 0));
    sessions.settle(1000 + SESSION_IDLE_MS_MAX);
    assert_eq!((sessions.len(), sessions.forgotten_ms()), (1, 1001));
}

/// INV-3: the digest is that of what decides later answers, however it came about.
#[test]
fn the_digest_follows_what_decides_later_answers() {
    let (mut long, mut short) = (Sessions::new(1), Sessions::new(1));
    let count = SESSION_REPLIES_MAX as u64;
    for sequence in 0..3 * count {
        remember(&mut long, 1, sequence, now(sequence, 0));
    }
    for sequence in 2 * count..3 * count {
        remember(&mut short, 1, sequence, now(sequence, 0));
    }
    let lower = |sessions: &mut Sessions| sessions.look(&once(1, 5), &slots(), now(3 * count, 0));
    assert_ne!(long.digest(), short.digest(), "one refuses what the other takes");
    assert_eq!((lower(&mut long), lower(&mut short)), (Seen::Forgotten, Seen::New));
    let mut copy = copy_of(&long);
    assert_eq!(lower(&mut copy), Seen::Forgotten);
    for (sessions, age_ms) in
        [(&mut long, SESSION_IDLE_MS_MAX), (&mut copy, 2 * SESSION_IDLE_MS_MAX)]
    {
        sessions.settle(age_ms);
        assert!(sessions.is_empty());
    }
    assert_eq!(long.digest(), copy.digest(), "the same was forgotten");
    assert_ne!(long.digest(), Sessions::new(1).digest(), "something was forgotten");
}

#[test]
fn a_snapshot_keeps_its_state_while_sessions_are_used() {
    let mut sessions = Sessions::new(1);
    remember(&mut sessions, 1, 1, now(1, 0));
    remember(&mut sessions, 2, 1, now(2, 0));
    let (taken, digest) = (sessions.export(), sessions.digest());
    remember(&mut sessions, 1, 2, now(3, 5));
    sessions.settle(SESSION_IDLE_MS_MAX);
    let mut restored = Sessions::new(1);
    for (session, state) in taken {
        assert!(restored.import(session, Session::clone(&state)));
    }
    assert_eq!(restored.digest(), digest);
    assert_eq!(restored.look(&once(1, 2), &slots(), now(4, 0)), Seen::New);
    assert_eq!(restored.look(&once(1, 1), &slots(), now(5, 0)), Seen::Again(reply(1)));
}

fn heavy(bytes: usize) -> Reply {
    let value = Value { data: vec![b'v'; bytes].into(), kind: ValueKind::Bytes };
    Reply::Taken(Box::new(Found { value, version: Version(1), ttl_ms: None }))
}

/// INV-8, INV-6: values are remembered up to a bound; the retry of what was forgotten is told so, and
/// small replies stay.
#[test]
fn the_oldest_values_give_way_to_a_refusal() {
    let mut sessions = Sessions::new(1);
    remember(&mut sessions, 7, 1, now(1, 0));
    let fits = SESSION_REPLY_BYTES_MAX as u64 / (1024 * 1024 + 64);
    for n in 0..=fits {
        // Two sessions by turns: age counts, not the session.
        let name = once(u128::from(n % 2), n);
        sessions.remember(&name, slots(), &heavy(1024 * 1024), now(10 + n, 0));
    }
    assert!(sessions.totals.heavy_bytes <= SESSION_REPLY_BYTES_MAX);
    let mut restored = copy_of(&sessions);
    for sessions in [&mut sessions, &mut restored] {
        let look = |sessions: &mut Sessions, session, sequence, version| {
            sessions.look(&once(session, sequence), &slots(), now(version, 0))
        };
        let expired = Seen::Again(Reply::Refused(Refusal::SessionExpired));
        assert_eq!(look(sessions, 0, 0, 20), expired);
        assert_eq!(look(sessions, 1, 1, 21), Seen::Again(heavy(1024 * 1024)));
        assert_eq!(look(sessions, 7, 1, 22), Seen::Again(reply(1)));
        sessions.remember(&once(3, 1), slots(), &heavy(1024 * 1024), now(100, 0));
        assert_eq!(look(sessions, 1, 1, 101), expired);
    }
    assert_eq!(restored.digest(), sessions.digest());
    sessions.settle(SESSION_IDLE_MS_MAX);
    let totals = &sessions.totals;
    assert_eq!((totals.digest, totals.bytes, totals.heavy_bytes, totals.heavy.len()), (0, 0, 0, 0));
}

#[test]
fn a_small_value_keeps_nothing_else_alive() {
    let buffer = bytes::Bytes::from(vec![b'v'; 4096]);
    let value = Value { data: buffer.slice(..10), kind: ValueKind::Bytes };
    let found = Found { value, version: Version(1), ttl_ms: None };
    let mut sessions = Sessions::new(1);
    sessions.remember(&once(1, 1), slots(), &Reply::Taken(Box::new(found)), now(1, 0));
    assert!(buffer.is_unique());
}

/// What a group that takes slots over must know, and nothing of other slots.
#[test]
fn what_belongs_to_slots_is_listed() {
    let mut sessions = Sessions::new(1);
    let of = |slots: &[u16]| Slots::from_slots(slots.iter().map(|slot| Slot(*slot)));
    let written: [(u128, u64, &[u16]); 5] =
        [(1, 1, &[7]), (1, 2, &[9]), (1, 3, &[7, 9]), (2, 1, &[9]), (3, 1, &[])];
    for ((session, sequence, slots), version) in written.into_iter().zip(1..) {
        let (name, moment) = (once(session, sequence), now(version, 0));
        sessions.remember(&name, of(slots), &reply(sequence), moment);
    }
    for sequence in 0..=SESSION_REPLIES_MAX as u64 {
        let (name, moment) = (once(4, sequence), now(100 + sequence, 0));
        sessions.remember(&name, of(&[9]), &reply(sequence), moment);
    }
    let listed = |slots: &[u16]| {
        let set: SlotSet = slots.iter().map(|slot| Slot(*slot)).collect();
        let parts = sessions.of_slots(&set).into_iter();
        let sequences = |part: &SessionPart<'_>| {
            part.replies.iter().map(|known| known.sequence).collect::<Vec<_>>()
        };
        parts.map(|part| (part.id, part.forgotten_below, sequences(&part))).collect::<Vec<_>>()
    };
    // A flush, of session 3, is of every slot; what session 4 forgot may have been.
    let all_of_4 = (1..=SESSION_REPLIES_MAX as u64).collect();
    assert_eq!(listed(&[7]), [(1, 0, vec![1, 3]), (3, 0, vec![1]), (4, 1, vec![])]);
    let of_9 = [(1, 0, vec![2, 3]), (2, 0, vec![1]), (3, 0, vec![1]), (4, 1, all_of_4)];
    assert_eq!(listed(&[9]), of_9);
    assert_eq!(listed(&[8]), [(3, 0, vec![1]), (4, 1, vec![])]);
    assert_eq!(listed(&[]), [(4, 1, vec![])]);
    assert_eq!(once(1, 1).asker, Asker::Node);
}
