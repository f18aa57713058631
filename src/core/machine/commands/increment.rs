//! `Increment`: whole numbers of 64 bits, written as Redis writes them.

use crate::core::keyspace::{NEVER, Parts};
use crate::core::machine::Machine;
use crate::types::{Increment, Refusal, Reply, ValueKind, Version};

impl Machine {
    /// The deadline stays, as in Redis. An absent key counts from 0 and becomes text.
    pub(in crate::core::machine) fn increment(
        &mut self,
        increment: &Increment,
        version: u64,
    ) -> Reply {
        if let Some(refusal) = self.not_owned(&increment.key) {
            return Reply::Refused(refusal);
        }
        let found = self.find_alive(&increment.key);
        if self.wrong_kind(found) {
            return Reply::Refused(Refusal::WrongKind);
        }
        let (old, kind, deadline_ms) = match found.map(|id| self.keyspace.get(id)) {
            None => (Some(0), ValueKind::Text, NEVER),
            Some(entry) => (whole(entry.value_bytes()), entry.kind, entry.deadline_ms),
        };
        let Some(old) = old else { return Reply::Refused(Refusal::NotInteger) };
        let Some(value) = old.checked_add(increment.delta) else {
            return Reply::Refused(Refusal::Overflow);
        };
        let text = value.to_string();
        if let Some(refusal) = self.too_large(&increment.key, text.len()) {
            return Reply::Refused(refusal);
        }
        let (key, value_text) = (&increment.key[..], text.as_bytes());
        let parts = Parts { key, value: value_text, kind, deadline_ms, version };
        let entry = self.keyspace.make(parts);
        self.put(found, entry);
        Reply::Integer { version: Version(version), value }
    }
}

/// The number a text is, if it is one in the only form Redis takes (`string2ll`): no space, no `+`,
/// no leading zero, no `-0`.
fn whole(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let plain = match digits {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !plain {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use crate::types::{Command, Condition, Expiry};

    fn add(delta: i64) -> Command {
        Command::Increment(Increment { key: "k".into(), delta })
    }

    #[test]
    fn an_absent_key_counts_from_zero_and_the_deadline_stays() {
        let mut machine = machine();
        let reply = run(&mut machine, add(-5));
        assert_eq!(reply, Reply::Integer { version: version(&machine, "k"), value: -5 });
        assert_eq!(get(&machine, "k"), Some(found("-5", version(&machine, "k"), None)));
        run(&mut machine, Command::Set(set("k", "10", Expiry::AfterMs(70), Condition::Always)));
        let reply = run(&mut machine, add(32));
        assert_eq!(reply, Reply::Integer { version: version(&machine, "k"), value: 42 });
        assert_eq!(get(&machine, "k"), Some(found("42", version(&machine, "k"), Some(70))));
    }

    #[test]
    fn what_is_no_number_or_overflows_changes_nothing() {
        let mut machine = machine();
        let (largest, smallest) = (i64::MAX.to_string(), i64::MIN.to_string());
        for (text, delta, expected) in [
            ("abc", 1, Refusal::NotInteger),
            ("9223372036854775808", 1, Refusal::NotInteger),
            (&largest, 1, Refusal::Overflow),
            (&smallest, -1, Refusal::Overflow),
            ("1", i64::MAX, Refusal::Overflow),
        ] {
            run(&mut machine, put("k", text));
            let before = get(&machine, "k");
            assert_eq!(run(&mut machine, add(delta)), Reply::Refused(expected), "{text}");
            assert_eq!(get(&machine, "k"), before);
        }
        run(&mut machine, put("k", &smallest));
        assert!(matches!(run(&mut machine, add(i64::MAX)), Reply::Integer { value: -1, .. }));
    }

    #[test]
    fn only_one_form_of_a_number_is_taken() {
        for (text, value) in [("0", 0), ("-1", -1), ("10", 10), ("9223372036854775807", i64::MAX)] {
            assert_eq!(whole(text.as_bytes()), Some(value), "{text}");
        }
        for text in ["", "-", "-0", "+1", "01", " 1", "1 ", "1.0", "0x1", "1e1", "--1", "1-"] {
            assert_eq!(whole(text.as_bytes()), None, "{text}");
        }
    }
}
