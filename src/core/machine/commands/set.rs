//! `Set` and `GetSet`.

use crate::core::keyspace::{EntryId, NEVER, Parts};
use crate::core::machine::{Machine, holds};
use crate::types::{Refusal, Reply, Set, Version};

impl Machine {
    pub(in crate::core::machine) fn set(&mut self, set: &Set, version: u64) -> Reply {
        if let Some(refusal) = self.refuse(&set.key, set.value.data.len()) {
            return Reply::Refused(refusal);
        }
        let found = self.find_alive(&set.key);
        if self.wrong_kind(found) {
            return Reply::Refused(Refusal::WrongKind);
        }
        let current = found.map(|id| self.keyspace.get(id));
        if !holds(set.condition, current) {
            return Reply::ConditionFailed { current: current.map(|e| Version(e.version)) };
        }
        self.put_set(set, found, version);
        Reply::Set { version: Version(version) }
    }

    /// The old value is a handle on its allocation, not a copy.
    pub(in crate::core::machine) fn get_set(&mut self, set: &Set, version: u64) -> Reply {
        if let Some(refusal) = self.refuse(&set.key, set.value.data.len()) {
            return Reply::Refused(refusal);
        }
        let found = self.find_alive(&set.key);
        if self.wrong_kind(found) {
            return Reply::Refused(Refusal::WrongKind);
        }
        let old = found.map(|id| Box::new(self.found(id)));
        if !holds(set.condition, found.map(|id| self.keyspace.get(id))) {
            return Reply::NotSwapped { current: old };
        }
        self.put_set(set, found, version);
        Reply::Swapped { version: Version(version), old }
    }

    fn put_set(&mut self, set: &Set, found: Option<EntryId>, version: u64) {
        let kept_ms = found.map_or(NEVER, |id| self.keyspace.get(id).deadline_ms);
        let deadline_ms = self.deadline(set.expiry, kept_ms);
        if deadline_ms <= self.log_time_ms {
            // Set and expired in one: the key is absent from here on, as Redis does it.
            if let Some(id) = found {
                self.remove(id);
            }
            self.note_removal(&set.key, version);
            return;
        }
        let entry = self.keyspace.make(Parts {
            key: &set.key,
            value: &set.value.data,
            kind: set.value.kind,
            deadline_ms,
            version,
        });
        self.put(found, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use crate::types::*;

    #[test]
    fn get_set_answers_what_was_there() {
        let mut machine = machine();
        let swap = |value, expiry, condition| Command::GetSet(set("k", value, expiry, condition));
        let first = run(&mut machine, swap("a", Expiry::AfterMs(50), Condition::Always));
        assert_eq!(first, Reply::Swapped { version: version(&machine, "k"), old: None });
        let old = Some(Box::new(found("a", version(&machine, "k"), Some(50))));
        let kept = run(&mut machine, swap("b", Expiry::Never, Condition::IfAbsent));
        assert_eq!(kept, Reply::NotSwapped { current: old.clone() });
        let second = run(&mut machine, swap("b", Expiry::Keep, Condition::IfPresent));
        assert_eq!(second, Reply::Swapped { version: version(&machine, "k"), old });
        assert_eq!(get(&machine, "k"), Some(found("b", version(&machine, "k"), Some(50))));
        let absent = Command::GetSet(set("x", "a", Expiry::Never, Condition::IfPresent));
        assert_eq!(run(&mut machine, absent), Reply::NotSwapped { current: None });
    }

    #[test]
    fn the_old_value_is_not_copied() {
        let mut machine = machine();
        run(&mut machine, put("k", "value"));
        let before = get(&machine, "k").expect("it was set").value.data.as_ptr();
        let swap = Command::GetSet(set("k", "other", Expiry::Never, Condition::Always));
        let Reply::Swapped { old: Some(old), .. } = run(&mut machine, swap) else {
            panic!("it was present")
        };
        assert_eq!(old.value.data.as_ptr(), before);
    }

    #[test]
    fn get_set_with_a_deadline_that_has_come_deletes() {
        let mut machine = machine();
        run(&mut machine, put("k", "a"));
        let swap = Command::GetSet(set("k", "b", Expiry::AtMs(1), Condition::Always));
        assert!(matches!(run(&mut machine, swap), Reply::Swapped { old: Some(_), .. }));
        assert_eq!(get(&machine, "k"), None);
    }
}
