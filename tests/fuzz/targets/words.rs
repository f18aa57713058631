//! Small languages: glob patterns, and decimal numbers by way of the machine.

use bytes::Bytes;
use raftcache::core::glob::matches;
use raftcache::core::machine::{Machine, MachineConfig};
use raftcache::core::slot_set::SlotSet;
use raftcache::types::{
    Batch, Command, Condition, Expiry, IncrementFloat, Reply, Set, Value, ValueKind, Write,
};

use super::Target;

/// Steps are bounded by the product of the lengths, whatever the pattern; a pattern without special
/// bytes matches itself alone.
pub fn globs() -> Target {
    let sound =
        ["a*b?c\0axxbyc", "[a-z][^0-9]*\0q!x", "\\*\\?\0*?", "a*a*a*a*b\0aaaaaaaaaaaa", "[]\0x"];
    Target::new(sound, |input| {
        let at = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
        let (pattern, text) = (&input[..at], &input[(at + 1).min(input.len())..]);
        let (pattern, text) =
            (&pattern[..pattern.len().min(1_024)], &text[..text.len().min(4_096)]);
        let (found, steps) = matches(pattern, text);
        assert!(steps <= (pattern.len() + 1) * (text.len() + 2), "{steps} steps");
        if !pattern.iter().any(|byte| b"*?[\\".contains(byte)) {
            assert_eq!(found, pattern == text);
        }
        if pattern.iter().all(|byte| *byte == b'*') && !pattern.is_empty() {
            assert!(found);
        }
        true
    })
}

/// A value and what is added to it: the sum is a number, or the value is as it was.
pub fn decimals() -> Target {
    let owned = SlotSet::all();
    let mut machine =
        Machine::new(MachineConfig { bytes_max: 1 << 20, hash_seed: 7, versions_from: 0, owned });
    let key = Bytes::from_static(b"n");
    let mut index = 0;
    let sound =
        ["1.5\x001e3", "-0\x00.5", "99999999999999999999\x00-1e-17", "1e308\x001e308", "+5.\x000"];
    Target::new(sound, move |input| {
        let at = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
        let (value, delta) = (&input[..at], &input[(at + 1).min(input.len())..]);
        let data = Bytes::copy_from_slice(&value[..value.len().min(4_096)]);
        let delta = Bytes::copy_from_slice(&delta[..delta.len().min(512)]);
        let value = Value { data, kind: ValueKind::Bytes };
        let (expiry, condition) = (Expiry::Never, Condition::Always);
        let set = Command::Set(Set { key: key.clone(), value, expiry, condition });
        let add = Command::IncrementFloat(IncrementFloat { key: key.clone(), delta });
        let writes = [set, add].map(|command| Write { request_id: None, command }).to_vec();
        let mut replies = Vec::new();
        index += 1;
        let batch = Batch { stamp_ms: index, writes, ..Batch::default() };
        machine.apply(index, &batch, &mut replies);
        match &replies[1] {
            Reply::Float { text, .. } => {
                let plain = |byte: &u8| byte.is_ascii_digit() || b"-.".contains(byte);
                assert!(text.bytes().all(|byte| plain(&byte)), "{text}");
                assert!(text.parse::<f64>().is_ok(), "{text}");
                assert!(text.len() <= 512, "{} digits", text.len());
            }
            Reply::Refused(_) => {}
            other => panic!("{other:?}"),
        }
        true
    })
}
