//! What can be done to one key beyond get, set, delete and increment.

use super::answers::{About, Expired, Found, Inspected, Length, Read, Summed, Value};
use super::calls::Client;
use super::error::Error;
use super::messages;
use super::operations::reply;
use super::requests::{Ends, ExpireOptions, GetOptions};
use crate::core::slot::slot_of;
use crate::pb;
use crate::pb::expire_request::Expiry;
use crate::pb::pipeline_request::Operation;

impl Client {
    /// All of a key but its value: its version, its length, when it ends.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn inspect(&self, key: impl AsRef<[u8]>) -> Result<Option<About>, Error> {
        Ok(self.inspect_with(key, GetOptions::default()).await?.found)
    }

    /// The same, as fresh as asked for.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn inspect_with(
        &self,
        key: impl AsRef<[u8]>,
        options: GetOptions,
    ) -> Result<Inspected, Error> {
        let key = messages::key(key);
        let slot = slot_of(&key);
        let operation = Operation::Inspect(messages::inspect(key, options));
        self.read(slot, operation, options, reply!(Inspect, "an inspection", Inspected::of)).await
    }

    /// Reads a part of a value: from the byte `start` to the byte `end`, which belongs to it. Negative
    /// ones count from the end: -1 is the last.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_range(
        &self,
        key: impl AsRef<[u8]>,
        start: i64,
        end: i64,
    ) -> Result<Option<Found>, Error> {
        Ok(self.get_range_with(key, start, end, GetOptions::default()).await?.found)
    }

    /// The same, as fresh as asked for.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_range_with(
        &self,
        key: impl AsRef<[u8]>,
        start: i64,
        end: i64,
        options: GetOptions,
    ) -> Result<Read, Error> {
        let key = messages::key(key);
        let slot = slot_of(&key);
        let operation = Operation::GetRange(messages::get_range(key, (start, end), options));
        self.read(slot, operation, options, reply!(Get, "a read of a part", Read::of)).await
    }

    /// Puts bytes behind a value; an absent key is set to them.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn append(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Value>,
    ) -> Result<Length, Error> {
        let key = messages::key(key);
        let (slot, message) = (slot_of(&key), messages::append(key, value.into()));
        let ask = |request_id| Operation::Append(pb::AppendRequest { request_id, ..message });
        self.write(slot, ask, reply!(Length, "an append", Length::of)).await
    }

    /// Puts bytes over a part of a value, which grows with zero bytes where it is too short.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn set_range(
        &self,
        key: impl AsRef<[u8]>,
        offset: u64,
        value: impl Into<Value>,
    ) -> Result<Length, Error> {
        let key = messages::key(key);
        let (slot, message) = (slot_of(&key), messages::set_range(key, offset, value.into()));
        let ask = |request_id| Operation::SetRange(pb::SetRangeRequest { request_id, ..message });
        self.write(slot, ask, reply!(Length, "a write of a part", Length::of)).await
    }

    /// Adds to a decimal number, exactly, rounded to 17 decimals; an absent key counts from 0. `delta`
    /// is text such as `-1.5e3`, so that no digit is lost on the way.
    ///
    /// # Errors
    /// As [`Client::set`]; `not_float` and `not_finite` if one of them, or the sum, is no such number.
    pub async fn increment_float(
        &self,
        key: impl AsRef<[u8]>,
        delta: impl Into<String>,
    ) -> Result<Summed, Error> {
        let key = messages::key(key);
        let (slot, message) = (slot_of(&key), messages::increment_float(key, delta.into()));
        let ask = |request_id| {
            Operation::IncrementFloat(pb::IncrementFloatRequest { request_id, ..message })
        };
        self.write(slot, ask, reply!(IncrementFloat, "an increment", Summed::of)).await
    }

    /// Sets when a key ends. A time that has passed deletes it.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn expire(&self, key: impl AsRef<[u8]>, ends: Ends) -> Result<Expired, Error> {
        self.expire_with(key, ends, ExpireOptions::default()).await
    }

    /// Sets when a key ends if a condition holds, and answers its value if asked to. A condition that
    /// does not hold is an answer and no error.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn expire_with(
        &self,
        key: impl AsRef<[u8]>,
        ends: Ends,
        options: ExpireOptions,
    ) -> Result<Expired, Error> {
        self.change_end(key, messages::ends(ends), options).await
    }

    /// Lets a key live for ever. Applied if it is there, also if it had no end.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn persist(&self, key: impl AsRef<[u8]>) -> Result<Expired, Error> {
        self.change_end(key, Expiry::Persist(true), ExpireOptions::default()).await
    }

    /// Makes a key the most recent one: among the last to be evicted.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn touch(&self, key: impl AsRef<[u8]>) -> Result<Expired, Error> {
        self.change_end(key, Expiry::Touch(true), ExpireOptions::default()).await
    }

    async fn change_end(
        &self,
        key: impl AsRef<[u8]>,
        expiry: Expiry,
        options: ExpireOptions,
    ) -> Result<Expired, Error> {
        let key = messages::key(key);
        let (slot, message) = (slot_of(&key), messages::expire(key, expiry, options));
        let ask = |request_id| Operation::Expire(pb::ExpireRequest { request_id, ..message });
        self.write(slot, ask, reply!(Expire, "a change of an end", Expired::of)).await
    }
}
