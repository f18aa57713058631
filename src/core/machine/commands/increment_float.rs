//! `IncrementFloat`. Numbers and their sum: see `decimal`.

use super::decimal::Number;
use crate::core::keyspace::{NEVER, Parts};
use crate::core::machine::Machine;
use crate::types::limits::FLOAT_BYTES_MAX;
use crate::types::{IncrementFloat, Refusal, Reply, ValueKind, Version};

impl Machine {
    /// The deadline stays, as in Redis. An absent key counts from 0 and becomes text.
    pub(in crate::core::machine) fn increment_float(
        &mut self,
        increment: &IncrementFloat,
        version: u64,
    ) -> Reply {
        if let Some(refusal) = self.not_owned(&increment.key) {
            return Reply::Refused(refusal);
        }
        let found = self.find_alive(&increment.key);
        if self.wrong_kind(found) {
            return Reply::Refused(Refusal::WrongKind);
        }
        let (sum, kind, deadline_ms) = match found.map(|id| self.keyspace.get(id)) {
            None => (sum(b"0", &increment.delta), ValueKind::Text, NEVER),
            Some(entry) => {
                (sum(entry.value_bytes(), &increment.delta), entry.kind, entry.deadline_ms)
            }
        };
        let text = match sum {
            Ok(text) => text.into_boxed_str(),
            Err(refusal) => return Reply::Refused(refusal),
        };
        if let Some(refusal) = self.too_large(&increment.key, text.len()) {
            return Reply::Refused(refusal);
        }
        let (key, value) = (&increment.key[..], text.as_bytes());
        let entry = self.keyspace.make(Parts { key, value, kind, deadline_ms, version });
        self.put(found, entry);
        Reply::Float { version: Version(version), text }
    }
}

/// The sum of two texts, as text.
pub(in crate::core) fn sum(value: &[u8], delta: &[u8]) -> Result<String, Refusal> {
    let parse = |text: &[u8]| {
        let short = text.len() <= FLOAT_BYTES_MAX;
        short.then(|| Number::parse(text)).flatten().ok_or(Refusal::NotFloat)
    };
    match (parse(value)?, parse(delta)?) {
        (Number::Finite(value), Number::Finite(delta)) => {
            value.sum(&delta).ok_or(Refusal::NotFinite)
        }
        _ => Err(Refusal::NotFinite),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use crate::types::{Command, Condition, Expiry};

    fn add(delta: &'static str) -> Command {
        Command::IncrementFloat(IncrementFloat { key: "k".into(), delta: delta.into() })
    }

    #[test]
    fn an_absent_key_counts_from_zero_and_the_deadline_stays() {
        let mut machine = machine();
        let reply = run(&mut machine, add("1.50"));
        let text = "1.5".into();
        assert_eq!(reply, Reply::Float { version: version(&machine, "k"), text });
        let value = Command::Set(set("k", "5.0e3", Expiry::AfterMs(70), Condition::Always));
        run(&mut machine, value);
        run(&mut machine, add("2.0e2"));
        assert_eq!(get(&machine, "k"), Some(found("5200", version(&machine, "k"), Some(70))));
    }

    #[test]
    fn what_is_no_number_or_too_large_changes_nothing() {
        let mut machine = machine();
        let (largest, long) = ("9".repeat(309), "0".repeat(FLOAT_BYTES_MAX + 1));
        for (text, delta, expected) in [
            ("abc", "1", Refusal::NotFloat),
            ("", "1", Refusal::NotFloat),
            (&long, "1", Refusal::NotFloat),
            ("1", "abc", Refusal::NotFloat),
            ("1", "inf", Refusal::NotFinite),
            ("-inf", "1", Refusal::NotFinite),
            (&largest, "1", Refusal::NotFinite),
        ] {
            run(&mut machine, put("k", text));
            let before = get(&machine, "k");
            assert_eq!(run(&mut machine, add(delta)), Reply::Refused(expected), "{text} {delta}");
            assert_eq!(get(&machine, "k"), before);
        }
    }
}
