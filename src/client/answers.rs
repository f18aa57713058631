//! What operations answer.

use std::time::Duration;

use bytes::Bytes;

use super::error::Failure;
use crate::pb;

/// A value: what was set as text is read as text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// UTF-8.
    Text(String),
    /// Any bytes.
    Bytes(Bytes),
}

impl Value {
    /// The bytes, of text as well.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Value::Text(text) => text.as_bytes(),
            Value::Bytes(bytes) => bytes,
        }
    }

    /// The bytes, without a copy.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Value::Text(text) => Bytes::from(text),
            Value::Bytes(bytes) => bytes,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

impl From<Bytes> for Value {
    fn from(bytes: Bytes) -> Self {
        Value::Bytes(bytes)
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Value::Bytes(bytes.into())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Value::Bytes(Bytes::copy_from_slice(bytes))
    }
}

/// What became of a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// The write took effect; false if its condition did not hold.
    pub applied: bool,
    /// Version the key has now; 0 if it is absent (the condition did not hold).
    pub version: u64,
}

/// What became of a delete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deleted {
    /// The key was there.
    pub found: bool,
    /// This call deleted it.
    pub applied: bool,
    /// Version that was deleted, or that the key still has; 0 if it was absent.
    pub version: u64,
}

/// What a number has become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counted {
    /// The sum.
    pub value: i64,
    /// Version the key has now.
    pub version: u64,
}

/// A key that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its value.
    pub value: Value,
    /// Its version, for conditions.
    pub version: u64,
    /// Time until it ends; none if it never does.
    pub ttl: Option<Duration>,
}

/// What a read showed, and of which state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Read {
    /// The key, if it is there.
    pub found: Option<Found>,
    /// Term and index of the last log entry of the state shown.
    pub term: u64,
    /// See `term`.
    pub index: u64,
    /// Upper bound of the age of the state; zero if it is the newest.
    pub age: Duration,
    /// Version of the state, for `Watch::absent_since`; 0 if it is not known.
    pub state_version: u64,
}

/// What became of a set, and what the key was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Swapped {
    /// As of any set.
    pub written: Written,
    /// What the key was, if it was not absent; if the condition did not hold, what it is.
    pub old: Option<Found>,
}

/// What became of a delete, and what the key was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Taken {
    /// As of any delete.
    pub deleted: Deleted,
    /// What the key was, if it was not absent; if the condition did not hold, what it is.
    pub old: Option<Found>,
}

/// What a decimal number has become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summed {
    /// The sum, as the value has it.
    pub value: String,
    /// Version the key has now.
    pub version: u64,
}

/// How long a value has become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Length {
    /// Bytes of the value.
    pub length: u64,
    /// Version the key has now; 0 if it is absent: nothing was put over nothing.
    pub version: u64,
}

/// All of a key but its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct About {
    /// Its version, for conditions; of a lock, its token.
    pub version: u64,
    /// Bytes of its value.
    pub value_length: u64,
    /// It was set as text.
    pub text: bool,
    /// Time until it ends; none if it never does.
    pub ttl: Option<Duration>,
    /// When it ends, milliseconds since the Unix epoch; none if it never does.
    pub ends_at_ms: Option<u64>,
}

/// What an inspection showed, and of which state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inspected {
    /// The key, if it is there.
    pub found: Option<About>,
    /// Term and index of the last log entry of the state shown.
    pub term: u64,
    /// See `term`.
    pub index: u64,
    /// Upper bound of the age of the state; zero if it is the newest.
    pub age: Duration,
    /// Version of the state, for `Watch::absent_since`; 0 if it is not known.
    pub state_version: u64,
}

/// What became of a change of a key's end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expired {
    /// The key was there.
    pub found: bool,
    /// It took effect; false if the key was absent or the condition did not hold.
    pub applied: bool,
    /// The time had come already, and the key is gone.
    pub deleted: bool,
    /// Version of the key now, or as it was when it was deleted; 0 if it was absent.
    pub version: u64,
    /// When it ends now, milliseconds since the Unix epoch; none if never, or if the value was asked
    /// for, which says it itself.
    pub ends_at_ms: Option<u64>,
    /// The value, if it was asked for and the change took effect.
    pub value: Option<Found>,
}

/// A length of time that a node told; nothing if it is negative.
pub(super) fn duration(ttl: pb::Ttl) -> Duration {
    let seconds = u64::try_from(ttl.seconds).unwrap_or(0);
    Duration::new(seconds, u32::try_from(ttl.nanos).unwrap_or(0).min(999_999_999))
}

/// A value with its form, of whichever message.
macro_rules! value_of {
    ($module:ident, $form:expr) => {
        $form.map(|form| match form {
            pb::$module::ValueForm::Value(text) => Value::Text(text),
            pb::$module::ValueForm::ValueBytes(bytes) => Value::Bytes(bytes),
        })
    };
}

impl Found {
    /// What an answer carries beside what it is about.
    pub(super) fn of(entry: pb::Entry) -> Result<Found, Failure> {
        let value = value_of!(entry, entry.value_form);
        let value = value.ok_or_else(|| Failure::bad_answer("an entry without a value"))?;
        Ok(Found { value, version: entry.version, ttl: entry.ttl.map(duration) })
    }

    pub(super) fn if_any(entry: Option<pb::Entry>) -> Result<Option<Found>, Failure> {
        entry.map(Found::of).transpose()
    }
}

impl Read {
    pub(super) fn of(reply: pb::GetResponse) -> Result<Read, Failure> {
        let value = value_of!(get_response, reply.value_form);
        let found = match (reply.found, value) {
            (false, _) => None,
            (true, Some(value)) => {
                Some(Found { value, version: reply.version, ttl: reply.ttl.map(duration) })
            }
            (true, None) => return Err(Failure::bad_answer("a key was found without a value")),
        };
        let pb::Freshness { term, index, age, state_version } = reply.freshness.unwrap_or_default();
        let age = age.map_or(Duration::ZERO, duration);
        Ok(Read { found, term, index, age, state_version })
    }
}

impl Inspected {
    pub(super) fn of(reply: pb::InspectResponse) -> Result<Inspected, Failure> {
        let found = reply.found.then(|| About {
            version: reply.version,
            value_length: reply.value_length,
            text: reply.text,
            ttl: reply.ttl.map(duration),
            ends_at_ms: at_ms(reply.expire_at_ms),
        });
        let pb::Freshness { term, index, age, state_version } = reply.freshness.unwrap_or_default();
        let age = age.map_or(Duration::ZERO, duration);
        Ok(Inspected { found, term, index, age, state_version })
    }
}

/// A time on the wire, where 0 is none.
fn at_ms(at_ms: u64) -> Option<u64> {
    (at_ms != 0).then_some(at_ms)
}

impl Written {
    pub(super) fn of(reply: pb::SetResponse) -> Result<Written, Failure> {
        Ok(Written { applied: reply.applied, version: reply.version })
    }
}

impl Swapped {
    pub(super) fn of(mut reply: pb::SetResponse) -> Result<Swapped, Failure> {
        let old = Found::if_any(reply.old.take())?;
        Ok(Swapped { written: Written::of(reply)?, old })
    }
}

impl Deleted {
    pub(super) fn of(reply: pb::DeleteResponse) -> Result<Deleted, Failure> {
        Ok(Deleted { found: reply.found, applied: reply.applied, version: reply.version })
    }
}

impl Taken {
    pub(super) fn of(mut reply: pb::DeleteResponse) -> Result<Taken, Failure> {
        let old = Found::if_any(reply.old.take())?;
        Ok(Taken { deleted: Deleted::of(reply)?, old })
    }
}

impl Counted {
    pub(super) fn of(reply: pb::IncrementResponse) -> Result<Counted, Failure> {
        Ok(Counted { value: reply.value, version: reply.version })
    }
}

impl Summed {
    pub(super) fn of(reply: pb::IncrementFloatResponse) -> Result<Summed, Failure> {
        Ok(Summed { value: reply.value, version: reply.version })
    }
}

impl Length {
    pub(super) fn of(reply: pb::LengthResponse) -> Result<Length, Failure> {
        Ok(Length { length: reply.length, version: reply.version })
    }
}

impl Expired {
    pub(super) fn of(reply: pb::ExpireResponse) -> Result<Expired, Failure> {
        Ok(Expired {
            found: reply.found,
            applied: reply.applied,
            deleted: reply.deleted,
            version: reply.version,
            ends_at_ms: at_ms(reply.expire_at_ms),
            value: Found::if_any(reply.value)?,
        })
    }
}
