//! `Expire` and `GetExpire`: when a key ends, as `EXPIRE`, `EXPIREAT`, `PERSIST`, `TOUCH` and `GETEX`
//! of Redis have it. A new deadline is a new version (`WATCH` of Redis sees it too); `Keep` is not, nor is none where
//! there was none.

use crate::core::keyspace::{EntryId, NEVER};
use crate::core::machine::Machine;
use crate::types::{Expire, ExpireCondition, Expiry, Found, Refusal, Reply, Version};

enum Retimed {
    /// The key lives, here.
    Lives(EntryId),
    /// The new deadline has come and the key is gone; this it was.
    Gone(Found),
}

impl Machine {
    pub(in crate::core::machine) fn expire(&mut self, expire: &Expire, version: u64) -> Reply {
        match self.retime(expire, version) {
            Err(reply) => reply,
            Ok(Retimed::Gone(found)) => Reply::Deleted { version: found.version },
            Ok(Retimed::Lives(id)) => {
                let entry = self.keyspace.get(id);
                let ends = entry.deadline_ms != NEVER;
                Reply::Expires {
                    version: Version(entry.version),
                    deadline_ms: ends.then_some(entry.deadline_ms),
                }
            }
        }
    }

    pub(in crate::core::machine) fn get_expire(&mut self, expire: &Expire, version: u64) -> Reply {
        match self.retime(expire, version) {
            Err(reply) => reply,
            Ok(Retimed::Gone(found)) => Reply::Taken(Box::new(found)),
            Ok(Retimed::Lives(id)) => Reply::Got(Box::new(self.found(id))),
        }
    }

    fn retime(&mut self, expire: &Expire, version: u64) -> Result<Retimed, Reply> {
        if let Some(refusal) = self.refuse_key(&expire.key) {
            return Err(Reply::Refused(refusal));
        }
        let Some(id) = self.find_alive(&expire.key) else { return Err(Reply::NotFound) };
        if self.wrong_kind(Some(id)) {
            return Err(Reply::Refused(Refusal::WrongKind));
        }
        let entry = self.keyspace.get(id);
        let (kept_ms, old_version) = (entry.deadline_ms, entry.version);
        let deadline_ms = self.deadline(expire.expiry, kept_ms);
        if !allows(expire.condition, kept_ms, deadline_ms) {
            return Err(Reply::ConditionFailed { current: Some(Version(old_version)) });
        }
        if deadline_ms <= self.log_time_ms {
            let found = self.found(id);
            self.remove(id);
            self.note_removal(&expire.key, version);
            return Ok(Retimed::Gone(found));
        }
        let persists = expire.expiry == Expiry::Never && kept_ms == NEVER;
        if expire.expiry == Expiry::Keep || persists {
            self.before_change(id);
            self.promote(id, old_version);
        } else {
            let entry = self.keyspace.redated(id, deadline_ms, version);
            self.replace(id, entry);
        }
        Ok(Retimed::Lives(id))
    }
}

/// Whether a key that ends at `kept_ms` may be made to end at `new_ms`. `NEVER` is later than all.
fn allows(condition: ExpireCondition, kept_ms: u64, new_ms: u64) -> bool {
    match condition {
        ExpireCondition::Always => true,
        ExpireCondition::IfNone => kept_ms == NEVER,
        ExpireCondition::IfSome => kept_ms != NEVER,
        ExpireCondition::IfLater => new_ms > kept_ms,
        ExpireCondition::IfEarlier => new_ms < kept_ms,
        ExpireCondition::IfSomeAndEarlier => kept_ms != NEVER && new_ms < kept_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use crate::types::Command;

    fn expire(expiry: Expiry, condition: ExpireCondition) -> Command {
        Command::Expire(Expire { key: "k".into(), expiry, condition })
    }

    fn ends(machine: &Machine) -> Option<u64> {
        get(machine, "k").expect("it lives").ttl_ms
    }

    #[test]
    fn a_deadline_is_given_moved_and_taken_away() {
        use ExpireCondition::Always;
        let mut machine = machine();
        assert_eq!(run(&mut machine, expire(Expiry::AfterMs(5), Always)), Reply::NotFound);
        run(&mut machine, put("k", "v"));
        let value = get(&machine, "k").expect("it was set").value.data.as_ptr();
        let before = version(&machine, "k");
        let reply = run(&mut machine, expire(Expiry::AfterMs(100), Always));
        let (after, at_ms) = (version(&machine, "k"), machine.log_time_ms() + 100);
        assert_eq!(reply, Reply::Expires { version: after, deadline_ms: Some(at_ms) });
        assert!(after > before);
        assert_eq!(ends(&machine), Some(100));
        let shared = get(&machine, "k").expect("it lives").value.data.as_ptr();
        assert_eq!(shared, value, "the value is not copied");
        run(&mut machine, expire(Expiry::AtMs(TIME_MS + 7), Always));
        assert_eq!(ends(&machine), Some(7));
        let reply = run(&mut machine, expire(Expiry::Never, Always));
        assert_eq!(reply, Reply::Expires { version: version(&machine, "k"), deadline_ms: None });
        assert_eq!(ends(&machine), None);
        let before = version(&machine, "k");
        run(&mut machine, expire(Expiry::Never, Always));
        assert_eq!(version(&machine, "k"), before, "nothing changed");
    }

    #[test]
    fn a_deadline_that_has_come_deletes() {
        let mut machine = machine();
        run(&mut machine, put("k", "v"));
        let past = expire(Expiry::AtMs(1), ExpireCondition::Always);
        assert!(matches!(run(&mut machine, past), Reply::Deleted { .. }));
        assert_eq!(get(&machine, "k"), None);
        run(&mut machine, put("k", "v"));
        let (key, condition) = ("k".into(), ExpireCondition::Always);
        let get_past = Command::GetExpire(Expire { key, expiry: Expiry::AtMs(1), condition });
        let Reply::Taken(taken) = run(&mut machine, get_past) else { panic!("it was present") };
        assert_eq!((&taken.value.data[..], taken.ttl_ms), (&b"v"[..], None));
        assert_eq!(get(&machine, "k"), None);
    }

    /// NX, XX, GT and LT, by whether the key has a deadline and how the new one stands to it.
    #[test]
    fn conditions_are_those_of_redis() {
        use ExpireCondition::*;
        let cases = [
            (Always, [true, true, true]),
            (IfNone, [true, false, false]),
            (IfSome, [false, true, true]),
            (IfLater, [false, false, true]),
            (IfEarlier, [true, true, false]),
            (IfSomeAndEarlier, [false, true, false]),
        ];
        for (condition, expected) in cases {
            // No deadline; a later one than the new; an earlier one.
            for (kept, expected) in [None, Some(200), Some(50)].into_iter().zip(expected) {
                let mut machine = machine();
                run(&mut machine, put("k", "v"));
                if let Some(ttl_ms) = kept {
                    run(&mut machine, expire(Expiry::AfterMs(ttl_ms), Always));
                }
                let before = version(&machine, "k");
                let reply = run(&mut machine, expire(Expiry::AfterMs(100), condition));
                let failed = Reply::ConditionFailed { current: Some(before) };
                assert_eq!(reply != failed, expected, "{condition:?} {kept:?}: {reply:?}");
                assert_eq!(ends(&machine), if expected { Some(100) } else { kept });
            }
        }
    }

    #[test]
    fn keep_makes_a_key_recent_and_nothing_else() {
        let mut machine = machine();
        run(&mut machine, put("k", "v"));
        run(&mut machine, put("other", "v"));
        let before = version(&machine, "k");
        let reply = run(&mut machine, expire(Expiry::Keep, ExpireCondition::Always));
        assert_eq!(reply, Reply::Expires { version: before, deadline_ms: None });
        assert_eq!(machine.keys_by_recency().next(), Some(&b"k"[..]));
        assert_eq!(version(&machine, "k"), before);
    }

    #[test]
    fn get_expire_answers_the_value_as_it_is_now() {
        let mut machine = machine();
        let (key, condition) = ("k".into(), ExpireCondition::Always);
        let command = Command::GetExpire(Expire { key, expiry: Expiry::AfterMs(9), condition });
        assert_eq!(run(&mut machine, command.clone()), Reply::NotFound);
        run(&mut machine, put("k", "v"));
        let reply = run(&mut machine, command);
        let expected = found("v", version(&machine, "k"), Some(9));
        assert_eq!(reply, Reply::Got(Box::new(expected)));
    }
}
