//! The operations.

use bytes::Bytes;

use super::answers::{Counted, Deleted, Found, Read, Value, Written};
use super::calls::{Client, Task};
use super::error::{Error, Failure};
use super::requests::{DeleteOptions, GetOptions, Only, SetOptions};
use crate::core::slot::slot_of;
use crate::pb;
use crate::pb::pipeline_request::Operation;
use crate::pb::pipeline_response::Result as Answer;

/// An answer of another kind than was asked for.
pub(super) fn other_answer<T>(asked: &str) -> Result<T, Failure> {
    Err(Failure::bad_answer(format!("another answer than that of {asked}")))
}

impl Client {
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
        let key = Bytes::copy_from_slice(key.as_ref());
        let slot = slot_of(&key);
        let mut message = pb::GetRequest {
            key_form: Some(pb::get_request::KeyForm::KeyBytes(key)),
            ..pb::GetRequest::default()
        };
        options.fill(&mut message);
        let operation = Operation::Get(message);
        let task = Task::read(operation, slot, options.consistency);
        let read = |answer, _: &_| match answer {
            Answer::Get(reply) => Read::of(reply),
            _ => other_answer("a read"),
        };
        self.run(task, read).await
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
        let key = Bytes::copy_from_slice(key.as_ref());
        let slot = slot_of(&key);
        let value_form = match value.into() {
            Value::Text(text) => pb::set_request::ValueForm::Value(text),
            Value::Bytes(bytes) => pb::set_request::ValueForm::ValueBytes(bytes),
        };
        let ticket = self.ticket()?;
        let mut message = pb::SetRequest {
            key_form: Some(pb::set_request::KeyForm::KeyBytes(key)),
            value_form: Some(value_form),
            request_id: Some(ticket.id()),
            ..pb::SetRequest::default()
        };
        options.fill(&mut message);
        let operation = Operation::Set(message);
        let read = |answer, _: &_| match answer {
            Answer::Set(reply) => Ok(reply.into()),
            _ => other_answer("a set"),
        };
        self.run(Task::write(operation, slot), read).await
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

    /// Deletes a key if a condition holds.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn delete_with(
        &self,
        key: impl AsRef<[u8]>,
        options: DeleteOptions,
    ) -> Result<Deleted, Error> {
        let key = Bytes::copy_from_slice(key.as_ref());
        let slot = slot_of(&key);
        let ticket = self.ticket()?;
        let message = pb::DeleteRequest {
            key_form: Some(pb::delete_request::KeyForm::KeyBytes(key)),
            condition: options.only.message(),
            request_id: Some(ticket.id()),
            ..pb::DeleteRequest::default()
        };
        let operation = Operation::Delete(message);
        let read = |answer, _: &_| match answer {
            Answer::Delete(reply) => Ok(reply.into()),
            _ => other_answer("a delete"),
        };
        self.run(Task::write(operation, slot), read).await
    }

    /// Adds to a whole number of 64 bits; a key that is not there counts from 0.
    ///
    /// # Errors
    /// As [`Client::set`]; `not_integer` and `overflow` if the value or the sum is no such number.
    pub async fn increment(&self, key: impl AsRef<[u8]>, delta: i64) -> Result<Counted, Error> {
        let key = Bytes::copy_from_slice(key.as_ref());
        let slot = slot_of(&key);
        let ticket = self.ticket()?;
        let message = pb::IncrementRequest {
            key_form: Some(pb::increment_request::KeyForm::KeyBytes(key)),
            delta,
            request_id: Some(ticket.id()),
        };
        let operation = Operation::Increment(message);
        let read = |answer, _: &_| match answer {
            Answer::Increment(reply) => Ok(reply.into()),
            _ => other_answer("an increment"),
        };
        self.run(Task::write(operation, slot), read).await
    }

    pub(super) fn ticket(&self) -> Result<super::sessions::Ticket<'_>, Error> {
        let full = || Error::rejected("too_many_in_flight", "too many writes are in flight");
        self.inner.sessions.take().ok_or_else(full)
    }
}
