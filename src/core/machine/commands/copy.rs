//! `Copy` and `Rename`: a value under another key of the shard, with its deadline, as `COPY`, `RENAME`
//! and `RENAMENX` of Redis have it.

use crate::core::keyspace::Parts;
use crate::core::machine::{Machine, holds};
use crate::types::{CopyKey, Refusal, Reply, Version};

impl Machine {
    pub(in crate::core::machine) fn copy(&mut self, copy: &CopyKey, version: u64) -> Reply {
        self.put_copy(copy, version, false)
    }

    pub(in crate::core::machine) fn rename(&mut self, copy: &CopyKey, version: u64) -> Reply {
        self.put_copy(copy, version, true)
    }

    /// Copies the value, because key and value are one allocation: it takes time in proportion to it,
    /// which `VALUE_BYTES_MAX` bounds.
    fn put_copy(&mut self, copy: &CopyKey, version: u64, rename: bool) -> Reply {
        let refusal = self.not_owned(&copy.key).or_else(|| self.not_owned(&copy.to));
        if let Some(refusal) = refusal {
            return Reply::Refused(refusal);
        }
        let Some(from) = self.find_alive(&copy.key) else { return Reply::NotFound };
        let to = self.find_alive(&copy.to);
        if self.wrong_kind(Some(from)) || self.wrong_kind(to) {
            return Reply::Refused(Refusal::WrongKind);
        }
        let current = to.map(|id| self.keyspace.get(id));
        if !holds(copy.condition, current) {
            return Reply::ConditionFailed { current: current.map(|e| Version(e.version)) };
        }
        let entry = self.keyspace.get(from);
        if to == Some(from) {
            return Reply::Set { version: Version(entry.version) };
        }
        if let Some(refusal) = self.too_large(&copy.to, entry.value_len()) {
            return Reply::Refused(refusal);
        }
        let (kind, deadline_ms) = (entry.kind, entry.deadline_ms);
        let parts = Parts { key: &copy.to, value: entry.value_bytes(), kind, deadline_ms, version };
        let entry = self.keyspace.make(parts);
        if rename {
            self.remove(from);
            self.note_removal(&copy.key, version);
        }
        self.put(to, entry);
        Reply::Set { version: Version(version) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use crate::core::machine::{MachineConfig, entry_bytes_max};
    use crate::core::machine_tests::config;
    use crate::core::slot::slot_of;
    use crate::types::{Command, Condition, Expiry, Step, Transaction};

    fn names(to: &'static str, condition: Condition) -> CopyKey {
        CopyKey { key: "k".into(), to: to.into(), condition }
    }

    fn rename(to: &'static str, condition: Condition) -> Command {
        Command::Rename(names(to, condition))
    }

    #[test]
    fn a_copy_has_value_and_deadline_and_a_version_of_its_own() {
        let mut machine = machine();
        let copy = |condition| Command::Copy(names("to", condition));
        assert_eq!(run(&mut machine, copy(Condition::Always)), Reply::NotFound);
        run(&mut machine, Command::Set(set("k", "v", Expiry::AfterMs(70), Condition::Always)));
        let from = get(&machine, "k");
        let reply = run(&mut machine, copy(Condition::IfAbsent));
        let to = version(&machine, "to");
        assert_eq!(reply, Reply::Set { version: to });
        assert_eq!(get(&machine, "to"), Some(found("v", to, Some(70))));
        assert_eq!(get(&machine, "k"), from);
        let failed = Reply::ConditionFailed { current: Some(to) };
        assert_eq!(run(&mut machine, copy(Condition::IfAbsent)), failed);
        run(&mut machine, put("k", "other"));
        run(&mut machine, copy(Condition::Always));
        assert_eq!(get(&machine, "to"), Some(found("other", version(&machine, "to"), None)));
    }

    #[test]
    fn a_renamed_key_is_gone() {
        let mut machine = machine();
        assert_eq!(run(&mut machine, rename("to", Condition::Always)), Reply::NotFound);
        run(&mut machine, put("k", "v"));
        run(&mut machine, put("to", "old"));
        let failed = Reply::ConditionFailed { current: Some(version(&machine, "to")) };
        assert_eq!(run(&mut machine, rename("to", Condition::IfAbsent)), failed);
        run(&mut machine, rename("to", Condition::Always));
        assert_eq!(get(&machine, "k"), None);
        assert_eq!(get(&machine, "to"), Some(found("v", version(&machine, "to"), None)));
    }

    #[test]
    fn to_itself_nothing_changes() {
        let mut machine = machine();
        run(&mut machine, put("k", "v"));
        let before = get(&machine, "k");
        let version = version(&machine, "k");
        let same = run(&mut machine, rename("k", Condition::Always));
        assert_eq!(same, Reply::Set { version });
        let absent = run(&mut machine, rename("k", Condition::IfAbsent));
        assert_eq!(absent, Reply::ConditionFailed { current: Some(version) });
        assert_eq!(get(&machine, "k"), before);
    }

    #[test]
    fn both_keys_must_be_owned() {
        let owned = [slot_of(b"k")].into_iter().collect();
        let mut machine = Machine::new(MachineConfig { owned, ..config(1 << 20) });
        run(&mut machine, put("k", "v"));
        let before = get(&machine, "k");
        let alone = run(&mut machine, rename("other", Condition::Always));
        assert!(matches!(alone, Reply::Refused(Refusal::NotOwner { .. })), "{alone:?}");
        let steps = vec![Step::Write(put("k", "w")), Step::Write(rename("x", Condition::Always))];
        let among = Command::Transaction(Transaction { watches: Vec::new(), steps });
        let among = run(&mut machine, among);
        assert!(matches!(among, Reply::Refused(Refusal::NotOwner { .. })), "{among:?}");
        assert_eq!(get(&machine, "k"), before);
    }

    /// A longer key may make an entry too large that was not.
    #[test]
    fn a_copy_too_large_changes_nothing() {
        let mut machine = machine();
        let long: &'static str = Box::leak("t".repeat(4_096).into_boxed_str());
        let most = usize::try_from(entry_bytes_max(1 << 20)).expect("small") - 100;
        run(&mut machine, put("k", &"v".repeat(most)));
        let before = get(&machine, "k");
        let reply = run(&mut machine, rename(long, Condition::Always));
        assert!(matches!(reply, Reply::Refused(Refusal::TooLarge { .. })), "{reply:?}");
        assert_eq!(get(&machine, "k"), before);
    }
}
