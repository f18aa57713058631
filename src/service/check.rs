//! What is refused before anything is done with it.

use bytes::Bytes;

use super::api::{Multi, Operation};
use super::check_locks::check_lock;
use super::unit::slot_of_query;
use crate::types::limits::{
    FLOAT_BYTES_MAX, KEY_BYTES_MAX, LOCKS_MAX, PATTERN_BYTES_MAX, READS_REPLY_BYTES_MAX,
    SCAN_KEYS_MAX, TRANSACTION_BYTES_MAX, TRANSACTION_OPERATIONS_MAX, TTL_MS_MAX, VALUE_BYTES_MAX,
};
use crate::types::{Command, Error, Expiry, Query, Reason, SLOTS, Step, Value, ValueKind};

/// Limits of what a client may ask for. The constants of `types::limits` are the ceilings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Longest key, bytes.
    pub key_bytes_max: usize,
    /// Longest value, bytes.
    pub value_bytes_max: usize,
    /// Longest time to live, milliseconds.
    pub ttl_ms_max: u64,
    /// Operations of one request of several.
    pub transaction_operations_max: usize,
    /// Bytes of keys and values of one request of several.
    pub transaction_bytes_max: usize,
    /// Bytes of values that the reads of one request answer before the rest is refused.
    pub reads_reply_bytes_max: usize,
    /// Keys that one call of a scan looks at in a shard.
    pub scan_keys_max: u32,
    /// Locks that a shard holds.
    pub locks_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            key_bytes_max: KEY_BYTES_MAX,
            value_bytes_max: VALUE_BYTES_MAX,
            ttl_ms_max: TTL_MS_MAX,
            transaction_operations_max: TRANSACTION_OPERATIONS_MAX,
            transaction_bytes_max: TRANSACTION_BYTES_MAX,
            reads_reply_bytes_max: READS_REPLY_BYTES_MAX,
            scan_keys_max: SCAN_KEYS_MAX,
            locks_max: LOCKS_MAX,
        }
    }
}

impl Limits {
    /// `InvalidArgument` with the field and its limit, if the operation is past one.
    pub fn check(&self, operation: &Operation) -> Result<(), Error> {
        match operation {
            Operation::Write(command) => self.check_command(command),
            Operation::Read { query, .. } => self.check_query(query),
            Operation::Multi(multi) => self.check_multi(multi),
            Operation::Scan(scan) => self.check_scan(scan.count, scan.pattern.as_ref()),
            Operation::GetOrLease(ask) => self.check_lease(ask),
            Operation::Size { .. } | Operation::Flush => Ok(()),
        }
    }

    fn check_command(&self, command: &Command) -> Result<(), Error> {
        let Some(key) = command.key() else {
            return invalid("command", format!("{} is no operation of a client", command.name()));
        };
        self.check_key(key)?;
        command.target().map_or(Ok(()), |target| self.check_key(target))?;
        match command {
            Command::Set(set) | Command::GetSet(set) => {
                self.check_value(&set.value)?;
                self.check_expiry(set.expiry)
            }
            Command::Expire(expire) | Command::GetExpire(expire) => {
                // A time to live that is over deletes the key, as in Redis.
                match expire.expiry {
                    Expiry::AfterMs(0) => Ok(()),
                    expiry => self.check_expiry(expiry),
                }
            }
            Command::Append(append) => self.check_value(&append.value),
            Command::SetRange(range) => {
                self.check_value(&range.value)?;
                let value_bytes = range.offset.saturating_add(range.value.data.len() as u64);
                self.check_value_bytes("offset", value_bytes)
            }
            Command::IncrementFloat(increment) if increment.delta.len() > FLOAT_BYTES_MAX => {
                let len = increment.delta.len();
                invalid("delta", format!("{len} bytes, at most {FLOAT_BYTES_MAX}"))
            }
            Command::Lock(_) | Command::Renew(_) | Command::Unlock(_) => check_lock(command),
            Command::Fill(fill) => self.check_fill(fill),
            Command::Delete(_)
            | Command::GetDelete(_)
            | Command::Increment(_)
            | Command::Copy(_)
            | Command::Rename(_)
            | Command::IncrementFloat(_)
            | Command::Tick
            | Command::SetLimit { .. }
            | Command::Transaction(_)
            | Command::Flush => Ok(()),
        }
    }

    fn check_query(&self, query: &Query) -> Result<(), Error> {
        match query {
            Query::Get { key } | Query::Inspect { key } | Query::GetRange { key, .. } => {
                self.check_key(key)
            }
            Query::Scan(scan) if slot_of_query(query).is_none() => {
                let (first, last) = (scan.first, scan.last);
                invalid("cursor", format!("positions {first} and {last} are not of one slot"))
            }
            Query::Scan(scan) => self.check_scan(scan.keys_max, scan.pattern.as_ref()),
            Query::Size { slot: Some(slot) } if slot.0 < SLOTS => Ok(()),
            Query::Size { slot } => {
                let slot = slot.map_or("none".to_owned(), |slot| slot.0.to_string());
                invalid("slot", format!("is {slot}; 0 to {} are allowed", SLOTS - 1))
            }
        }
    }

    fn check_multi(&self, multi: &Multi) -> Result<(), Error> {
        let operations = multi.steps.len().max(multi.watches.len());
        let operations_max = self.transaction_operations_max;
        if operations > operations_max {
            return invalid("operations", format!("are {operations}, at most {operations_max}"));
        }
        if !multi.atomic && !multi.watches.is_empty() {
            return invalid("watches", "are only allowed in an atomic request".to_owned());
        }
        let mut bytes = 0;
        for watch in &multi.watches {
            self.check_key(&watch.key)?;
            bytes += watch.key.len();
        }
        for step in &multi.steps {
            match step {
                Step::Write(Command::Fill(_)) => {
                    return invalid("operations", "fill goes alone".to_owned());
                }
                Step::Write(command) => self.check_command(command)?,
                Step::Read(query) if query.key().is_none() => {
                    return invalid("operations", format!("{} is not about one key", query.name()));
                }
                Step::Read(query) => self.check_query(query)?,
            }
            bytes += step.payload_bytes();
        }
        let bytes_max = self.transaction_bytes_max;
        if bytes > bytes_max {
            return invalid("operations", format!("have {bytes} bytes, at most {bytes_max}"));
        }
        Ok(())
    }

    fn check_scan(&self, count: u32, pattern: Option<&Bytes>) -> Result<(), Error> {
        let (count_max, len) = (self.scan_keys_max, pattern.map_or(0, Bytes::len));
        if !(1..=count_max).contains(&count) {
            return invalid("count", format!("is {count}; 1 to {count_max} are allowed"));
        }
        if len > PATTERN_BYTES_MAX {
            return invalid("pattern", format!("{len} bytes, at most {PATTERN_BYTES_MAX}"));
        }
        Ok(())
    }

    pub(super) fn check_key(&self, key: &[u8]) -> Result<(), Error> {
        let bytes_max = self.key_bytes_max;
        match key.len() {
            0 => invalid("key", "is empty".to_owned()),
            len if len > bytes_max => invalid("key", format!("{len} bytes, at most {bytes_max}")),
            _ => Ok(()),
        }
    }

    pub(super) fn check_value(&self, value: &Value) -> Result<(), Error> {
        self.check_value_bytes("value", value.data.len() as u64)?;
        if value.kind == ValueKind::Text && std::str::from_utf8(&value.data).is_err() {
            return invalid("value", "text that is not UTF-8".to_owned());
        }
        Ok(())
    }

    fn check_value_bytes(&self, field: &'static str, len: u64) -> Result<(), Error> {
        let bytes_max = self.value_bytes_max;
        if len > bytes_max as u64 {
            return invalid(field, format!("{len} bytes, at most {bytes_max}"));
        }
        Ok(())
    }

    pub(super) fn check_expiry(&self, expiry: Expiry) -> Result<(), Error> {
        match expiry {
            Expiry::AfterMs(0) => invalid("ttl", "is 0 ms, at least 1".to_owned()),
            Expiry::AfterMs(ttl_ms) if ttl_ms > self.ttl_ms_max => {
                invalid("ttl", format!("{ttl_ms} ms, at most {}", self.ttl_ms_max))
            }
            Expiry::AfterMs(_) | Expiry::AtMs(_) | Expiry::Keep | Expiry::Never => Ok(()),
        }
    }
}

pub(super) fn invalid(field: &'static str, problem: String) -> Result<(), Error> {
    Err(Reason::InvalidArgument { field, problem }.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Condition, Set};

    fn set(key: usize, value: Vec<u8>, kind: ValueKind, expiry: Expiry) -> Operation {
        let value = Value { data: value.into(), kind };
        let key = Bytes::from(vec![b'k'; key]);
        let condition = Condition::Always;
        Operation::Write(Command::Set(Set { key, value, expiry, condition }))
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
