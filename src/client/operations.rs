//! Get, set, delete and increment.

use super::answers::{Counted, Deleted, Found, Read, Swapped, Taken, Value, Written};
use super::ask::{Answer, Ask};
use super::calls::{Client, Task};
use super::error::{Error, Failure};
use super::messages;
use super::requests::{DeleteOptions, GetOptions, Only, SetOptions};
use crate::core::slot::slot_of;
use crate::pb;
use crate::pb::pipeline_request::Operation;
use crate::pb::pipeline_response::Result as Reply;
use crate::types::Slot;

/// An answer of another kind than was asked for.
pub(super) fn other_answer<T>(asked: &str) -> Result<T, Failure> {
    Err(Failure::bad_answer(format!("another answer than that of {asked}")))
}

/// Reads the one kind of answer that an operation has.
macro_rules! reply {
    ($kind:ident, $asked:literal, $read:expr) => {
        |reply| match reply {
            $crate::pb::pipeline_response::Result::$kind(reply) => $read(reply),
            _ => $crate::client::operations::other_answer($asked),
        }
    };
}
pub(super) use reply;

impl Client {
    /// A read of one key.
    pub(super) async fn read<T>(
        &self,
        slot: Slot,
        operation: Operation,
        options: GetOptions,
        read: impl Fn(Reply) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let task = Task::read(Ask::One(operation), slot, options.consistency);
        let read = |answer, _: &_| match answer {
            Answer::One(reply) => read(reply),
            _ => other_answer("a read"),
        };
        self.run(task, read).await
    }

    /// A write of one key, under a request id of its own.
    pub(super) async fn write<T>(
        &self,
        slot: Slot,
        operation: impl FnOnce(Option<pb::RequestId>) -> Operation,
        read: impl Fn(Reply) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let ticket = self.ticket()?;
        let task = Task::write(Ask::One(operation(Some(ticket.id()))), slot);
        let read = |answer, _: &_| match answer {
            Answer::One(reply) => read(reply),
            _ => other_answer("a write"),
        };
        self.run(task, read).await
    }

    /// A request id; given back when the operation has ended.
    pub(super) fn ticket(&self) -> Result<super::sessions::Ticket<'_>, Error> {
        let full = || Error::rejected("too_many_in_flight", "too many writes are in flight");
        self.inner.sessions.take().ok_or_else(full)
    }

    /// Reads a key, linearizably.
    ///
    /// # Errors
    /// If no node gave an answer within the deadline.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Found>, Error> {
        Ok(self.get_with(key, GetOptions::default()).await?.found)
    }

    /// Reads a key, as fresh as asked for.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_with(
        &self,
        key: impl AsRef<[u8]>,
        options: GetOptions,
    ) -> Result<Read, Error> {
        let key = messages::key(key);
        let slot = slot_of(&key);
        let operation = Operation::Get(messages::get(key, options));
        self.read(slot, operation, options, reply!(Get, "a read", Read::of)).await
    }

    /// Sets a key.
    ///
    /// # Errors
    /// With the outcome: surely not applied, or perhaps.
    pub async fn set(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Value>,
    ) -> Result<Written, Error> {
        self.set_with(key, value, SetOptions::default()).await
    }

    /// Sets a key if a condition holds, with a time to live if one is given. A condition that does
    /// not hold is an answer and no error.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn set_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Value>,
        options: SetOptions,
    ) -> Result<Written, Error> {
        let key = messages::key(key);
        let (slot, message) = (slot_of(&key), messages::set(key, value.into(), options));
        let ask = |request_id| Operation::Set(pb::SetRequest { request_id, ..message });
        self.write(slot, ask, reply!(Set, "a set", Written::of)).await
    }

    /// Sets a key and answers what it was.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn get_and_set(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Value>,
        options: SetOptions,
    ) -> Result<Swapped, Error> {
        let key = messages::key(key);
        let (slot, message) = (slot_of(&key), messages::set(key, value.into(), options));
        let ask =
            |request_id| Operation::Set(pb::SetRequest { request_id, return_old: true, ..message });
        self.write(slot, ask, reply!(Set, "a set", Swapped::of)).await
    }

    /// Sets a key if it still has this version.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn compare_and_set(
        &self,
        key: impl AsRef<[u8]>,
        version: u64,
        value: impl Into<Value>,
    ) -> Result<Written, Error> {
        let options = SetOptions { only: Only::IfVersion(version), ..SetOptions::default() };
        self.set_with(key, value, options).await
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<Deleted, Error> {
        self.delete_with(key, DeleteOptions::default()).await
    }

    /// Deletes a key if it still has this version.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn compare_and_delete(
        &self,
        key: impl AsRef<[u8]>,
        version: u64,
    ) -> Result<Deleted, Error> {
        self.delete_with(key, DeleteOptions { only: Only::IfVersion(version) }).await
    }

    /// Deletes a key if a condition holds.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn delete_with(
        &self,
        key: impl AsRef<[u8]>,
        options: DeleteOptions,
    ) -> Result<Deleted, Error> {
        let key = messages::key(key);
        let (slot, message) = (slot_of(&key), messages::delete(key, options));
        let ask = |request_id| Operation::Delete(pb::DeleteRequest { request_id, ..message });
        self.write(slot, ask, reply!(Delete, "a delete", Deleted::of)).await
    }

    /// Deletes a key and answers what it was.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn get_and_delete(
        &self,
        key: impl AsRef<[u8]>,
        options: DeleteOptions,
    ) -> Result<Taken, Error> {
        let key = messages::key(key);
        let (slot, message) = (slot_of(&key), messages::delete(key, options));
        let ask = |request_id| {
            Operation::Delete(pb::DeleteRequest { request_id, return_old: true, ..message })
        };
        self.write(slot, ask, reply!(Delete, "a delete", Taken::of)).await
    }

    /// Adds to a whole number of 64 bits; a key that is not there counts from 0.
    ///
    /// # Errors
    /// As [`Client::set`]; `not_integer` and `overflow` if the value or the sum is no such number.
    pub async fn increment(&self, key: impl AsRef<[u8]>, delta: i64) -> Result<Counted, Error> {
        let key = messages::key(key);
        let (slot, message) = (slot_of(&key), messages::increment(key, delta));
        let ask = |request_id| Operation::Increment(pb::IncrementRequest { request_id, ..message });
        self.write(slot, ask, reply!(Increment, "an increment", Counted::of)).await
    }
}
