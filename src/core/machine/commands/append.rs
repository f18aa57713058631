//! `Append`.

use crate::core::keyspace::{NEVER, Parts};
use crate::core::machine::Machine;
use crate::types::{Append, Refusal, Reply, ValueKind, Version};

impl Machine {
    /// Copies the old value: it takes time in proportion to it, which `VALUE_BYTES_MAX` bounds.
    pub(in crate::core::machine) fn append(&mut self, append: &Append, version: u64) -> Reply {
        if let Some(refusal) = self.not_owned(&append.key) {
            return Reply::Refused(refusal);
        }
        let found = self.find_alive(&append.key);
        if self.wrong_kind(found) {
            return Reply::Refused(Refusal::WrongKind);
        }
        let (old, old_kind, deadline_ms) = match found.map(|id| self.keyspace.get(id)) {
            None => (&[][..], append.value.kind, NEVER),
            Some(entry) => (entry.value_bytes(), entry.kind, entry.deadline_ms),
        };
        let value_len = old.len() + append.value.data.len();
        if let Some(refusal) = self.too_large(&append.key, value_len) {
            return Reply::Refused(refusal);
        }
        let both_text = (old_kind, append.value.kind) == (ValueKind::Text, ValueKind::Text);
        let kind = if both_text { ValueKind::Text } else { ValueKind::Bytes };
        let parts = Parts { key: &append.key, value: old, kind, deadline_ms, version };
        let entry = self.keyspace.make_joined(parts, &[&append.value.data]);
        self.put(found, entry);
        Reply::Length { version: Version(version), value_bytes: value_len as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use crate::core::machine::entry_bytes_max;
    use crate::types::{Command, Condition, Expiry, Value};

    fn append(value: Value) -> Command {
        Command::Append(Append { key: "k".into(), value })
    }

    #[test]
    fn an_absent_key_is_set_and_the_deadline_stays() {
        let mut machine = machine();
        run(&mut machine, append(text("")));
        assert_eq!(get(&machine, "k"), Some(found("", version(&machine, "k"), None)));
        run(&mut machine, Command::Set(set("k", "ab", Expiry::AfterMs(70), Condition::Always)));
        let reply = run(&mut machine, append(text("cd")));
        let after = version(&machine, "k");
        assert_eq!(reply, Reply::Length { version: after, value_bytes: 4 });
        assert_eq!(get(&machine, "k"), Some(found("abcd", after, Some(70))));
        let bytes = Value { data: vec![0xff].into(), kind: ValueKind::Bytes };
        run(&mut machine, append(bytes));
        let kind = get(&machine, "k").map(|found| found.value.kind);
        assert_eq!(kind, Some(ValueKind::Bytes), "not UTF-8 any more");
    }

    #[test]
    fn a_value_too_large_changes_nothing() {
        let mut machine = machine();
        let half = "v".repeat(usize::try_from(entry_bytes_max(1 << 20)).expect("small") / 2);
        run(&mut machine, append(text(&half)));
        let before = get(&machine, "k");
        let reply = run(&mut machine, append(text(&half)));
        assert!(matches!(reply, Reply::Refused(Refusal::TooLarge { .. })), "{reply:?}");
        assert_eq!(get(&machine, "k"), before);
    }
}
