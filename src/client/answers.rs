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
}

/// A length of time that a node told; nothing if it is negative.
pub(super) fn duration(ttl: pb::Ttl) -> Duration {
    let seconds = u64::try_from(ttl.seconds).unwrap_or(0);
    Duration::new(seconds, u32::try_from(ttl.nanos).unwrap_or(0).min(999_999_999))
}

impl Read {
    pub(super) fn of(reply: pb::GetResponse) -> Result<Read, Failure> {
        let value = reply.value_form.map(|form| match form {
            pb::get_response::ValueForm::Value(text) => Value::Text(text),
            pb::get_response::ValueForm::ValueBytes(bytes) => Value::Bytes(bytes),
        });
        let found = match (reply.found, value) {
            (false, _) => None,
            (true, Some(value)) => {
                Some(Found { value, version: reply.version, ttl: reply.ttl.map(duration) })
            }
            (true, None) => return Err(Failure::bad_answer("a key was found without a value")),
        };
        let freshness = reply.freshness.unwrap_or_default();
        let age = freshness.age.map_or(Duration::ZERO, duration);
        Ok(Read { found, term: freshness.term, index: freshness.index, age })
    }
}

impl From<pb::SetResponse> for Written {
    fn from(reply: pb::SetResponse) -> Self {
        Written { applied: reply.applied, version: reply.version }
    }
}

impl From<pb::IncrementResponse> for Counted {
    fn from(reply: pb::IncrementResponse) -> Self {
        Counted { value: reply.value, version: reply.version }
    }
}

impl From<pb::DeleteResponse> for Deleted {
    fn from(reply: pb::DeleteResponse) -> Self {
        Deleted { found: reply.found, applied: reply.applied, version: reply.version }
    }
}
