//! Values as JSON, and JSON as values.
//!
//! A JSON string is kept as its text, so that the other doors see what a person would expect, and any
//! other JSON as it was written. On the way back what reads as JSON is JSON and other text is a string.
//! So that a string comes back as a string although it reads as JSON (`"5"`), such a string is kept
//! with its quotes. What is not UTF-8 is shown in base64.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::seconds::OfMs;
use crate::front::validate::invalid;
use crate::types::limits::JSON_DEPTH_MAX;
use crate::types::{Error, Found, Value, ValueKind, Version};

/// Whether arrays and objects stand within each other deeper than they may. `text` is JSON.
pub fn too_deep(text: &str) -> bool {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return true;
                }
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Text that is JSON from its first byte to its last.
fn as_json(text: &str) -> Option<&RawValue> {
    // Most text is told apart by its first byte.
    let first = text.bytes().next()?;
    if !matches!(first, b'"' | b'[' | b'{' | b't' | b'f' | b'n' | b'-' | b'0'..=b'9') {
        return None;
    }
    // Else a long text that ends in other characters would be read to its end for nothing.
    let json: &RawValue = serde_json::from_str(text).ok()?;
    (json.get().len() == text.len() && !too_deep(text)).then_some(json)
}

/// JSON as it is kept.
///
/// # Errors
/// If it is nested too deep.
pub fn of_json(json: &RawValue) -> Result<Value, Error> {
    let text = json.get();
    if too_deep(text) {
        let problem = format!("is nested deeper than {JSON_DEPTH_MAX}");
        return Err(invalid("value", problem));
    }
    // A string that names half a character cannot be kept as text: it stays as it was written.
    let string = match text.starts_with('"') {
        true => serde_json::from_str::<String>(text).ok(),
        false => None,
    };
    let kept = match string {
        Some(string) if as_json(&string).is_none() => Bytes::from(string),
        _ => Bytes::copy_from_slice(text.as_bytes()),
    };
    Ok(Value { data: kept, kind: ValueKind::Text })
}

/// Bytes in base64 (RFC 4648, section 4, with padding).
///
/// # Errors
/// If they are not.
pub fn of_base64(field: &'static str, text: &str) -> Result<Bytes, Error> {
    STANDARD.decode(text).map(Bytes::from).map_err(|_| invalid(field, "is not base64"))
}

/// A value, or a part of an answer that may be absent, as JSON shows it.
#[derive(Debug)]
pub enum Shown<'a> {
    /// It reads as JSON.
    Json(&'a RawValue),
    /// Other text.
    Text(&'a str),
    /// Not UTF-8.
    Bytes(&'a [u8]),
}

impl<'a> Shown<'a> {
    /// Of bytes that are kept.
    pub fn of(data: &'a [u8]) -> Self {
        match std::str::from_utf8(data) {
            Ok(text) => as_json(text).map_or(Shown::Text(text), Shown::Json),
            Err(_) => Shown::Bytes(data),
        }
    }
}

/// A cache entry as JSON shows it: `value`, or `value_base64` if it is not UTF-8.
#[derive(Debug, Serialize)]
pub(super) struct Entry<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<OfText<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    version: Version,
    /// Seconds until it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<OfMs>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum OfText<'a> {
    Json(&'a RawValue),
    Text(&'a str),
}

impl<'a> Entry<'a> {
    pub(super) fn of(found: &'a Found) -> Self {
        let (value, value_base64) = match Shown::of(&found.value.data) {
            Shown::Json(json) => (Some(OfText::Json(json)), None),
            Shown::Text(text) => (Some(OfText::Text(text)), None),
            Shown::Bytes(bytes) => (None, Some(STANDARD.encode(bytes))),
        };
        Entry { value, value_base64, version: found.version, ttl: found.ttl_ms.map(OfMs) }
    }
}

/// A key as JSON shows it.
#[derive(Debug)]
pub(super) struct Base64<'a>(pub(super) &'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0))
    }
}

/// For members of which `null` is a value: given or not.
pub(super) fn given<'de, D: Deserializer<'de>>(
    input: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(input).map(Some)
}

/// Text that is borrowed unless it has escapes.
#[derive(Debug, Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    fn kept(text: &str) -> String {
        String::from_utf8(of_json(raw(text)).unwrap().data.to_vec()).unwrap()
    }

    fn shown(data: &[u8]) -> String {
        match Shown::of(data) {
            Shown::Json(json) => json.get().to_owned(),
            Shown::Text(text) => serde_json::to_string(text).unwrap(),
            Shown::Bytes(bytes) => format!("base64 {}", STANDARD.encode(bytes)),
        }
    }

    #[test]
    fn what_is_kept_is_what_other_doors_expect() {
        for (json, expected) in [
            ("\"hello\"", "hello"),
            ("\"\"", ""),
            ("\"line\\nbreak\"", "line\nbreak"),
            ("5", "5"),
            ("\"5\"", "\"5\""),
            ("\" 5\"", " 5"),
            ("\"007\"", "007"),
            ("true", "true"),
            ("\"true\"", "\"true\""),
            ("null", "null"),
            ("{\"b\": 1, \"a\": [2]}", "{\"b\": 1, \"a\": [2]}"),
            (
                "1234567890123456789012345678901234567890",
                "1234567890123456789012345678901234567890",
            ),
            ("\"\\ud800\"", "\"\\ud800\""),
        ] {
            assert_eq!(kept(json), expected, "{json}");
        }
    }

    #[test]
    fn what_other_doors_set_is_shown_as_json_if_it_reads_so() {
        for (data, expected) in [
            (&b"hello"[..], "\"hello\""),
            (b"", "\"\""),
            (b"10", "10"),
            (b"1e3", "1e3"),
            (b"010", "\"010\""),
            (b"5 ", "\"5 \""),
            (b"{\"a\":1}", "{\"a\":1}"),
            (b"{\"a\":1", "\"{\\\"a\\\":1\""),
            (b"nullx", "\"nullx\""),
            (b"\xff", "base64 /w=="),
        ] {
            assert_eq!(shown(data), expected, "{data:?}");
        }
    }

    #[test]
    fn depth_has_a_limit() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(of_json(raw(&nested(JSON_DEPTH_MAX))).is_ok());
        let error = of_json(raw(&nested(JSON_DEPTH_MAX + 1))).unwrap_err();
        assert!(error.to_string().contains(&format!("deeper than {JSON_DEPTH_MAX}")), "{error}");
        // Set by another door it is text.
        let deep = nested(JSON_DEPTH_MAX + 1);
        assert!(matches!(Shown::of(deep.as_bytes()), Shown::Text(_)));
        assert!(!too_deep(&format!("\"{}\\\"[\"", "[".repeat(500))), "brackets in a string");
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[0-9\\-\\[\\]{}\",:truefalsn .]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// The promise of the door: the same JSON comes back.
        #[test]
        fn any_json_comes_back(value in json()) {
            let text = serde_json::to_string(&value).unwrap();
            let kept = of_json(raw(&text)).unwrap();
            let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
            prop_assert_eq!(parsed(&shown(&kept.data)), parsed(&text));
        }

        #[test]
        fn any_bytes_are_shown(data in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = shown(&data);
        }
    }
}
