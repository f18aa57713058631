//! The steps that commands become.

use bytes::Bytes;

use crate::types::{
    Command, Condition, Delete, Expire, ExpireCondition, Expiry, Query, Set, Step, Value,
};

/// Reads a value.
pub fn get(key: Bytes) -> Step {
    Step::Read(Query::Get { key })
}

/// Reads all but the value.
pub fn inspect(key: Bytes) -> Step {
    Step::Read(Query::Inspect { key })
}

/// Sets a key to a value that never ends.
pub fn set(key: Bytes, value: Value) -> Step {
    let (expiry, condition) = (Expiry::Never, Condition::Always);
    Step::Write(Command::Set(Set { key, value, expiry, condition }))
}

/// Deletes a key.
pub fn delete(key: Bytes) -> Step {
    Step::Write(Command::Delete(Delete { key, condition: Condition::Always }))
}

/// Makes a key the most recent one.
pub fn touch(key: Bytes) -> Step {
    let (expiry, condition) = (Expiry::Keep, ExpireCondition::Always);
    Step::Write(Command::Expire(Expire { key, expiry, condition }))
}
