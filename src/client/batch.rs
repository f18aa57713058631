//! Several operations as one request: what is asked and what it answers. `batches` takes them through
//! their attempts.

use std::time::Duration;

use bytes::Bytes;

use super::answers::{Counted, Deleted, Expired, Inspected, Length, Read, Summed, Value, Written};
use super::error::Failure;
use super::locks::{Locked, Unlocked};
use super::messages;
use super::requests::{Consistency, DeleteOptions, Ends, ExpireOptions, GetOptions, SetOptions};
use crate::core::slot::slot_of;
use crate::pb;
use crate::pb::batch_operation::Operation;
use crate::pb::batch_result::Result as Reply;
use crate::pb::expire_request::Expiry;
use crate::types::Slot;

/// One operation of several.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub slot: Slot,
    pub operation: Operation,
}

impl Step {
    /// Whether it changes anything.
    pub fn writes(&self) -> bool {
        match &self.operation {
            Operation::Get(_) | Operation::GetRange(_) | Operation::Inspect(_) => false,
            Operation::Set(_)
            | Operation::Delete(_)
            | Operation::Expire(_)
            | Operation::Increment(_)
            | Operation::IncrementFloat(_)
            | Operation::Append(_)
            | Operation::SetRange(_)
            | Operation::Lock(_)
            | Operation::Renew(_)
            | Operation::Unlock(_) => true,
        }
    }
}

/// Operations to be asked for together, in order. The answers come in the same order.
///
/// ```no_run
/// # use raftcache::client::{Batch, Client, Done};
/// # async fn example(client: &Client) {
/// let mut batch = Batch::new();
/// batch.set("a", "1").increment("b", 1).get("c");
/// for done in client.batch(&batch).await {
///     match done {
///         Ok(Done::Set(written)) => println!("version {}", written.version),
///         Ok(other) => println!("{other:?}"),
///         Err(error) => println!("{error}"),
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(super) steps: Vec<Step>,
    pub(super) consistency: Consistency,
}

impl Batch {
    /// Nothing yet.
    pub fn new() -> Self {
        Batch::default()
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// How fresh reads are of shards that nothing is written to; all others are linearizable.
    pub fn consistency(&mut self, consistency: Consistency) -> &mut Self {
        self.consistency = consistency;
        self
    }

    fn add(
        &mut self,
        key: impl AsRef<[u8]>,
        operation: impl FnOnce(Bytes) -> Operation,
    ) -> &mut Self {
        let key = messages::key(key);
        self.steps.push(Step { slot: slot_of(&key), operation: operation(key) });
        self
    }

    /// As [`Client::get`](super::Client::get).
    pub fn get(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        self.add(key, |key| Operation::Get(messages::get(key, GetOptions::default())))
    }

    /// As [`Client::get_range`](super::Client::get_range).
    pub fn get_range(&mut self, key: impl AsRef<[u8]>, start: i64, end: i64) -> &mut Self {
        let range = (start, end);
        self.add(key, |key| {
            Operation::GetRange(messages::get_range(key, range, GetOptions::default()))
        })
    }

    /// As [`Client::inspect`](super::Client::inspect).
    pub fn inspect(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        self.add(key, |key| Operation::Inspect(messages::inspect(key, GetOptions::default())))
    }

    /// As [`Client::set`](super::Client::set).
    pub fn set(&mut self, key: impl AsRef<[u8]>, value: impl Into<Value>) -> &mut Self {
        self.set_with(key, value, SetOptions::default())
    }

    /// As [`Client::set_with`](super::Client::set_with).
    pub fn set_with(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl Into<Value>,
        options: SetOptions,
    ) -> &mut Self {
        self.add(key, |key| Operation::Set(messages::set(key, value.into(), options)))
    }

    /// As [`Client::delete`](super::Client::delete).
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        self.delete_with(key, DeleteOptions::default())
    }

    /// As [`Client::delete_with`](super::Client::delete_with).
    pub fn delete_with(&mut self, key: impl AsRef<[u8]>, options: DeleteOptions) -> &mut Self {
        self.add(key, |key| Operation::Delete(messages::delete(key, options)))
    }

    /// As [`Client::expire_with`](super::Client::expire_with).
    pub fn expire(
        &mut self,
        key: impl AsRef<[u8]>,
        ends: Ends,
        options: ExpireOptions,
    ) -> &mut Self {
        let expiry = messages::ends(ends);
        self.add(key, |key| Operation::Expire(messages::expire(key, expiry, options)))
    }

    /// As [`Client::persist`](super::Client::persist).
    pub fn persist(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        let (expiry, options) = (Expiry::Persist(true), ExpireOptions::default());
        self.add(key, |key| Operation::Expire(messages::expire(key, expiry, options)))
    }

    /// As [`Client::touch`](super::Client::touch).
    pub fn touch(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        let (expiry, options) = (Expiry::Touch(true), ExpireOptions::default());
        self.add(key, |key| Operation::Expire(messages::expire(key, expiry, options)))
    }

    /// As [`Client::increment`](super::Client::increment).
    pub fn increment(&mut self, key: impl AsRef<[u8]>, delta: i64) -> &mut Self {
        self.add(key, |key| Operation::Increment(messages::increment(key, delta)))
    }

    /// As [`Client::increment_float`](super::Client::increment_float).
    pub fn increment_float(
        &mut self,
        key: impl AsRef<[u8]>,
        delta: impl Into<String>,
    ) -> &mut Self {
        let delta = delta.into();
        self.add(key, |key| Operation::IncrementFloat(messages::increment_float(key, delta)))
    }

    /// As [`Client::append`](super::Client::append).
    pub fn append(&mut self, key: impl AsRef<[u8]>, value: impl Into<Value>) -> &mut Self {
        self.add(key, |key| Operation::Append(messages::append(key, value.into())))
    }

    /// As [`Client::set_range`](super::Client::set_range).
    pub fn set_range(
        &mut self,
        key: impl AsRef<[u8]>,
        offset: u64,
        value: impl Into<Value>,
    ) -> &mut Self {
        self.add(key, |key| Operation::SetRange(messages::set_range(key, offset, value.into())))
    }

    /// As [`Client::lock`](super::Client::lock).
    pub fn lock(
        &mut self,
        key: impl AsRef<[u8]>,
        owner: impl AsRef<[u8]>,
        time: Duration,
    ) -> &mut Self {
        self.add(key, |key| Operation::Lock(messages::lock(key, owner.as_ref(), time)))
    }

    /// As [`Client::renew`](super::Client::renew).
    pub fn renew(
        &mut self,
        key: impl AsRef<[u8]>,
        owner: impl AsRef<[u8]>,
        token: u64,
        time: Duration,
    ) -> &mut Self {
        self.add(key, |key| Operation::Renew(messages::renew(key, owner.as_ref(), token, time)))
    }

    /// As [`Client::unlock`](super::Client::unlock).
    pub fn unlock(
        &mut self,
        key: impl AsRef<[u8]>,
        owner: impl AsRef<[u8]>,
        token: u64,
    ) -> &mut Self {
        self.add(key, |key| Operation::Unlock(messages::unlock(key, owner.as_ref(), token)))
    }
}

/// A version that a key must have for a transaction to be done at all. Of a lock it is the token: a
/// watch on a lock is a fence (`docs/locks.md`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watch {
    pub(super) key: Bytes,
    pub(super) version: u64,
    pub(super) absent_since: u64,
}

impl Watch {
    /// The key must have this version; 0 if it must be absent.
    pub fn new(key: impl AsRef<[u8]>, version: u64) -> Self {
        Watch { key: messages::key(key), version, absent_since: 0 }
    }

    /// The key must have been absent ever since a read that answered this `state_version`. It may fail
    /// although nothing happened to the key, when another one was removed.
    pub fn absent_since(key: impl AsRef<[u8]>, state_version: u64) -> Self {
        Watch { key: messages::key(key), version: 0, absent_since: state_version }
    }

    pub(super) fn message(&self) -> pb::Watch {
        let key_form = Some(pb::watch::KeyForm::KeyBytes(self.key.clone()));
        pb::Watch { key_form, version: self.version, absent_since: self.absent_since }
    }
}

/// What became of one operation of several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Done {
    /// Of a set.
    Set(Written),
    /// Of a read of a value or of a part of it.
    Get(Read),
    /// Of a delete.
    Delete(Deleted),
    /// Of a change of when a key ends.
    Expire(Expired),
    /// Of an increment.
    Increment(Counted),
    /// Of an increment of a decimal number.
    IncrementFloat(Summed),
    /// Of an append or a write of a part.
    Length(Length),
    /// Of an inspection.
    Inspect(Inspected),
    /// Of a lock or a renewal.
    Lock(Locked),
    /// Of an unlock.
    Unlock(Unlocked),
}

impl Done {
    pub(super) fn of(result: pb::BatchResult) -> Result<Done, Failure> {
        let result = result.result;
        Ok(match result.ok_or_else(|| Failure::bad_answer("an operation without a result"))? {
            Reply::Set(reply) => Done::Set(Written::of(reply)?),
            Reply::Get(reply) => Done::Get(Read::of(reply)?),
            Reply::Delete(reply) => Done::Delete(Deleted::of(reply)?),
            Reply::Expire(reply) => Done::Expire(Expired::of(reply)?),
            Reply::Increment(reply) => Done::Increment(Counted::of(reply)?),
            Reply::IncrementFloat(reply) => Done::IncrementFloat(Summed::of(reply)?),
            Reply::Length(reply) => Done::Length(Length::of(reply)?),
            Reply::Inspect(reply) => Done::Inspect(Inspected::of(reply)?),
            Reply::Lock(reply) => Done::Lock(Locked::of(reply)?),
            Reply::Unlock(reply) => Done::Unlock(Unlocked::of(reply)?),
            Reply::Failure(failure) => return Err(Failure::of_failure(failure)),
        })
    }
}

/// What became of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Transacted {
    /// It was done. An operation that failed changed nothing; the others took effect all the same.
    Done(Vec<Result<Done, super::Error>>),
    /// A watch did not hold, and nothing was done.
    Aborted {
        /// Which of the watches, from 0.
        watch: usize,
        /// The version its key has; 0 if it is absent.
        version: u64,
    },
}
