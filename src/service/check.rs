//! What is refused before anything is done with it.

use super::api::Operation;
use crate::types::limits::{KEY_BYTES_MAX, TTL_MS_MAX, VALUE_BYTES_MAX};
use crate::types::{Error, Expiry, Reason, Set, ValueKind};

/// Limits of what a client may ask for. The constants of `types::limits` are the ceilings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Longest key, bytes.
    pub key_bytes_max: usize,
    /// Longest value, bytes.
    pub value_bytes_max: usize,
    /// Longest time to live, milliseconds.
    pub ttl_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            key_bytes_max: KEY_BYTES_MAX,
            value_bytes_max: VALUE_BYTES_MAX,
            ttl_ms_max: TTL_MS_MAX,
        }
    }
}

impl Limits {
    /// `InvalidArgument` with the field and its limit, if the operation is past one.
    pub fn check(&self, operation: &Operation) -> Result<(), Error> {
        let (key, bytes_max) = (operation.key(), self.key_bytes_max);
        if key.is_empty() {
            return invalid("key", "is empty".to_owned());
        }
        if key.len() > bytes_max {
            return invalid("key", format!("{} bytes, at most {bytes_max}", key.len()));
        }
        match operation {
            Operation::Set(set) => self.check_set(set),
            Operation::Delete(_) | Operation::Get { .. } => Ok(()),
        }
    }

    fn check_set(&self, set: &Set) -> Result<(), Error> {
        let (data, bytes_max) = (&set.value.data, self.value_bytes_max);
        if data.len() > bytes_max {
            return invalid("value", format!("{} bytes, at most {bytes_max}", data.len()));
        }
        if set.value.kind == ValueKind::Text && std::str::from_utf8(data).is_err() {
            return invalid("value", "text that is not UTF-8".to_owned());
        }
        match set.expiry {
            Expiry::AfterMs(0) => invalid("ttl", "is 0 ms, at least 1".to_owned()),
            Expiry::AfterMs(ttl_ms) if ttl_ms > self.ttl_ms_max => {
                invalid("ttl", format!("{ttl_ms} ms, at most {}", self.ttl_ms_max))
            }
            Expiry::AfterMs(_) | Expiry::AtMs(_) | Expiry::Keep | Expiry::Never => Ok(()),
        }
    }
}

fn invalid(field: &'static str, problem: String) -> Result<(), Error> {
    Err(Reason::InvalidArgument { field, problem }.into())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::{Condition, Value};

    fn set(key: usize, value: Vec<u8>, kind: ValueKind, expiry: Expiry) -> Operation {
        let value = Value { data: value.into(), kind };
        let key = Bytes::from(vec![b'k'; key]);
        Operation::Set(Set { key, value, expiry, condition: Condition::Always })
    }

    fn field(operation: &Operation) -> Option<&'static str> {
        match Limits::default().check(operation).err()?.reason {
            Reason::InvalidArgument { field, .. } => Some(field),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn each_limit_names_its_field() {
        let (bytes, never) = (ValueKind::Bytes, Expiry::Never);
        assert_eq!(field(&set(1, vec![], bytes, never)), None);
        assert_eq!(field(&set(0, vec![], bytes, never)), Some("key"));
        assert_eq!(field(&set(KEY_BYTES_MAX, vec![], bytes, never)), None);
        assert_eq!(field(&set(KEY_BYTES_MAX + 1, vec![], bytes, never)), Some("key"));
        assert_eq!(field(&set(1, vec![0; VALUE_BYTES_MAX], bytes, never)), None);
        assert_eq!(field(&set(1, vec![0; VALUE_BYTES_MAX + 1], bytes, never)), Some("value"));
        assert_eq!(field(&set(1, vec![0xff], ValueKind::Text, never)), Some("value"));
        assert_eq!(field(&set(1, vec![], bytes, Expiry::AfterMs(0))), Some("ttl"));
        assert_eq!(field(&set(1, vec![], bytes, Expiry::AfterMs(TTL_MS_MAX))), None);
        assert_eq!(field(&set(1, vec![], bytes, Expiry::AfterMs(TTL_MS_MAX + 1))), Some("ttl"));
    }
}
