//! `SetRange`.

use crate::core::keyspace::{NEVER, Parts};
use crate::core::machine::Machine;
use crate::types::{Refusal, Reply, SetRange, ValueKind, Version};

impl Machine {
    /// Copies the value: it takes time in proportion to it, which `VALUE_BYTES_MAX` bounds. Nothing
    /// to put changes nothing, and makes no key, as in Redis.
    pub(in crate::core::machine) fn set_range(&mut self, range: &SetRange, version: u64) -> Reply {
        if let Some(refusal) = self.not_owned(&range.key) {
            return Reply::Refused(refusal);
        }
        let found = self.find_alive(&range.key);
        if self.wrong_kind(found) {
            return Reply::Refused(Refusal::WrongKind);
        }
        let entry = found.map(|id| self.keyspace.get(id));
        let data = &range.value.data;
        if data.is_empty() {
            return entry.map_or(Reply::NotFound, |entry| Reply::Length {
                version: Version(entry.version),
                value_bytes: entry.value_len() as u64,
            });
        }
        let (old, old_kind, deadline_ms) = match entry {
            None => (&[][..], range.value.kind, NEVER),
            Some(entry) => (entry.value_bytes(), entry.kind, entry.deadline_ms),
        };
        let offset = usize::try_from(range.offset).unwrap_or(usize::MAX);
        let value_len = offset.saturating_add(data.len()).max(old.len());
        if let Some(refusal) = self.too_large(&range.key, value_len) {
            return Reply::Refused(refusal);
        }
        let before = &old[..offset.min(old.len())];
        let zeros = vec![0; offset - before.len()];
        let behind = old.get(offset + data.len()..).unwrap_or_default();
        let both_text = (old_kind, range.value.kind) == (ValueKind::Text, ValueKind::Text);
        let parts =
            Parts { key: &range.key, value: before, kind: ValueKind::Bytes, deadline_ms, version };
        let mut entry = self.keyspace.make_joined(parts, &[&zeros, data, behind]);
        // An end of the range may have cut a character in two.
        if both_text && std::str::from_utf8(entry.value_bytes()).is_ok() {
            entry.kind = ValueKind::Text;
        }
        self.put(found, entry);
        Reply::Length { version: Version(version), value_bytes: value_len as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use crate::types::{Command, Condition, Expiry};

    fn set_range(offset: u64, value: &str) -> Command {
        Command::SetRange(SetRange { key: "k".into(), offset, value: text(value) })
    }

    #[test]
    fn a_part_is_replaced_and_what_is_missing_is_zero() {
        let mut machine = machine();
        assert_eq!(run(&mut machine, set_range(3, "")), Reply::NotFound);
        assert_eq!(get(&machine, "k"), None, "nothing to put makes no key");
        run(&mut machine, set_range(2, "ab"));
        assert_eq!(get(&machine, "k"), Some(found("\0\0ab", version(&machine, "k"), None)));
        let value = set("k", "Hello World", Expiry::AfterMs(70), Condition::Always);
        run(&mut machine, Command::Set(value));
        let reply = run(&mut machine, set_range(6, "Redis"));
        let after = version(&machine, "k");
        assert_eq!(reply, Reply::Length { version: after, value_bytes: 11 });
        assert_eq!(get(&machine, "k"), Some(found("Hello Redis", after, Some(70))));
        run(&mut machine, set_range(0, "J"));
        run(&mut machine, set_range(10, "s!"));
        assert_eq!(get(&machine, "k").map(|f| f.value), Some(text("Jello Redis!")));
        let before = version(&machine, "k");
        let reply = run(&mut machine, set_range(1_000, ""));
        assert_eq!(reply, Reply::Length { version: before, value_bytes: 12 });
    }

    #[test]
    fn a_character_cut_in_two_makes_bytes_of_text() {
        let mut machine = machine();
        run(&mut machine, put("k", "aéb"));
        run(&mut machine, set_range(1, "x"));
        let value = get(&machine, "k").expect("it was set").value;
        assert_eq!((&value.data[..], value.kind), (&b"ax\xa9b"[..], ValueKind::Bytes));
    }

    #[test]
    fn an_offset_out_of_bounds_changes_nothing() {
        let mut machine = machine();
        run(&mut machine, put("k", "v"));
        for offset in [1 << 20, u64::MAX, u64::MAX - 1] {
            let reply = run(&mut machine, set_range(offset, "x"));
            assert!(matches!(reply, Reply::Refused(Refusal::TooLarge { .. })), "{reply:?}");
        }
        assert_eq!(get(&machine, "k").map(|f| f.value), Some(text("v")));
    }
}
