//! Commands as bytes: a part of the log format. Tags are append only.
//!
//! Lengths and counts have the bounds of `types::limits` at both ends: what is past them is refused
//! when it is read, and is a fault of this program when it is written.

use bytes::{BufMut, Bytes, BytesMut};

use super::fields::{
    get_bounded, get_condition, get_expiry, get_key, get_value, put_bounded, put_condition,
    put_expiry, put_key, put_value,
};
use super::lease_record::{get_fill, put_fill};
use super::query_record::{get_query, put_query, query_bytes};
use crate::types::limits::{FLOAT_BYTES_MAX, LOCK_OWNER_BYTES_MAX, TRANSACTION_OPERATIONS_MAX};
use crate::types::wire::{Error, get_u8, get_u64, get_varint, put_varint};
use crate::types::{
    Append, Command, CopyKey, Delete, Expire, ExpireCondition, Increment, IncrementFloat, Lock,
    Renew, Set, SetRange, Step, Transaction, Unlock, Version, Watch,
};

const COMMAND_SET: u8 = 1;
const COMMAND_DELETE: u8 = 2;
const COMMAND_TICK: u8 = 3;
const COMMAND_SET_LIMIT: u8 = 4;
const COMMAND_GET_SET: u8 = 5;
const COMMAND_GET_DELETE: u8 = 6;
const COMMAND_EXPIRE: u8 = 7;
const COMMAND_GET_EXPIRE: u8 = 8;
const COMMAND_INCREMENT: u8 = 9;
const COMMAND_INCREMENT_FLOAT: u8 = 10;
const COMMAND_APPEND: u8 = 11;
const COMMAND_SET_RANGE: u8 = 12;
const COMMAND_TRANSACTION: u8 = 13;
const COMMAND_FLUSH: u8 = 14;
const COMMAND_COPY: u8 = 24;
const COMMAND_RENAME: u8 = 25;
const COMMAND_LOCK: u8 = 15;
const COMMAND_RENEW: u8 = 16;
const COMMAND_UNLOCK: u8 = 17;
const COMMAND_FILL: u8 = 18;

const STEP_WRITE: u8 = 1;
const STEP_READ: u8 = 2;

/// Most bytes a command takes besides its key and value: tag, kind, expiry, condition or offset, and
/// two lengths.
const COMMAND_OVERHEAD_BYTES: usize = 1 + 1 + 11 + 11 + 5 + 5;

/// What a fill takes beyond them: times, token and version.
const FILL_BYTES: usize = 11 + 10 + 8 + 11;

/// Upper bound of the encoded size of a command.
pub fn command_bytes(command: &Command) -> usize {
    COMMAND_OVERHEAD_BYTES
        + match command {
            Command::Set(set) | Command::GetSet(set) => set.key.len() + set.value.data.len(),
            Command::Append(append) => append.key.len() + append.value.data.len(),
            Command::SetRange(range) => range.key.len() + range.value.data.len(),
            Command::IncrementFloat(increment) => increment.key.len() + increment.delta.len(),
            Command::Copy(copy) | Command::Rename(copy) => copy.key.len() + copy.to.len(),
            Command::Transaction(transaction) => transaction_bytes(transaction),
            Command::Fill(fill) => FILL_BYTES + fill.key.len() + fill.value.data.len(),
            other => other.payload_bytes(),
        }
}

fn transaction_bytes(transaction: &Transaction) -> usize {
    let watches = transaction.watches.iter().map(|watch| watch.key.len() + 5 + 11);
    let steps = transaction.steps.iter().map(|step| match step {
        Step::Write(command) => 1 + command_bytes(command),
        Step::Read(query) => 1 + query_bytes(query),
    });
    10 + watches.sum::<usize>() + steps.sum::<usize>()
}

/// Appends a command.
///
/// # Panics
/// If it is past a limit.
pub fn put_command(out: &mut BytesMut, command: &Command) {
    match command {
        Command::Set(set) => put_set(out, COMMAND_SET, set),
        Command::GetSet(set) => put_set(out, COMMAND_GET_SET, set),
        Command::Delete(delete) => put_delete(out, COMMAND_DELETE, delete),
        Command::GetDelete(delete) => put_delete(out, COMMAND_GET_DELETE, delete),
        Command::Expire(expire) => put_expire(out, COMMAND_EXPIRE, expire),
        Command::GetExpire(expire) => put_expire(out, COMMAND_GET_EXPIRE, expire),
        Command::Increment(increment) => {
            out.put_u8(COMMAND_INCREMENT);
            put_key(out, &increment.key);
            out.put_i64_le(increment.delta);
        }
        Command::IncrementFloat(increment) => {
            out.put_u8(COMMAND_INCREMENT_FLOAT);
            put_key(out, &increment.key);
            put_bounded(out, &increment.delta, FLOAT_BYTES_MAX);
        }
        Command::Append(append) => {
            out.put_u8(COMMAND_APPEND);
            put_key(out, &append.key);
            put_value(out, &append.value);
        }
        Command::SetRange(range) => {
            out.put_u8(COMMAND_SET_RANGE);
            put_key(out, &range.key);
            put_varint(out, range.offset);
            put_value(out, &range.value);
        }
        Command::Transaction(transaction) => put_transaction(out, transaction),
        Command::Tick => out.put_u8(COMMAND_TICK),
        Command::SetLimit { bytes_max } => {
            out.put_u8(COMMAND_SET_LIMIT);
            put_varint(out, *bytes_max);
        }
        Command::Flush => out.put_u8(COMMAND_FLUSH),
        Command::Copy(copy) => put_copy(out, COMMAND_COPY, copy),
        Command::Rename(copy) => put_copy(out, COMMAND_RENAME, copy),
        Command::Lock(_) | Command::Renew(_) | Command::Unlock(_) => put_of_lock(out, command),
        Command::Fill(fill) => {
            out.put_u8(COMMAND_FILL);
            put_fill(out, fill);
        }
    }
}

fn put_of_lock(out: &mut BytesMut, command: &Command) {
    let mut begin = |tag, key, owner| {
        out.put_u8(tag);
        put_key(out, key);
        put_bounded(out, owner, LOCK_OWNER_BYTES_MAX);
    };
    match command {
        Command::Lock(Lock { key, owner, ttl_ms, locks_max }) => {
            begin(COMMAND_LOCK, key, owner);
            put_varint(out, *ttl_ms);
            put_varint(out, u64::from(*locks_max));
        }
        Command::Renew(Renew { key, owner, token, ttl_ms }) => {
            begin(COMMAND_RENEW, key, owner);
            put_varint(out, token.0);
            put_varint(out, *ttl_ms);
        }
        Command::Unlock(Unlock { key, owner, token }) => {
            begin(COMMAND_UNLOCK, key, owner);
            put_varint(out, token.0);
        }
        other => unreachable!("{} is not about a lock", other.name()),
    }
}

fn get_owner(input: &mut Bytes) -> Result<Bytes, Error> {
    get_bounded(input, "owner", LOCK_OWNER_BYTES_MAX)
}

fn get_lock(input: &mut Bytes) -> Result<Lock, Error> {
    let (key, owner) = (get_key(input)?, get_owner(input)?);
    let ttl_ms = get_varint(input, "ttl")?;
    let locks_max = u32::try_from(get_varint(input, "locks")?);
    let locks_max = locks_max.map_err(|_| Error::Malformed { what: "locks" })?;
    Ok(Lock { key, owner, ttl_ms, locks_max })
}

fn get_renew(input: &mut Bytes) -> Result<Renew, Error> {
    Ok(Renew {
        key: get_key(input)?,
        owner: get_owner(input)?,
        token: Version(get_varint(input, "token")?),
        ttl_ms: get_varint(input, "ttl")?,
    })
}

fn get_unlock(input: &mut Bytes) -> Result<Unlock, Error> {
    Ok(Unlock {
        key: get_key(input)?,
        owner: get_owner(input)?,
        token: Version(get_varint(input, "token")?),
    })
}

/// Reads a command; keys and values share the input's buffer.
///
/// # Errors
/// If the bytes are none, or past a limit.
pub fn get_command(input: &mut Bytes) -> Result<Command, Error> {
    match get_u8(input, "command")? {
        COMMAND_TRANSACTION => get_transaction(input).map(Command::Transaction),
        tag => get_plain_command(tag, input),
    }
}

fn get_plain_command(tag: u8, input: &mut Bytes) -> Result<Command, Error> {
    Ok(match tag {
        COMMAND_SET => Command::Set(get_set(input)?),
        COMMAND_GET_SET => Command::GetSet(get_set(input)?),
        COMMAND_DELETE => Command::Delete(get_delete(input)?),
        COMMAND_GET_DELETE => Command::GetDelete(get_delete(input)?),
        COMMAND_EXPIRE => Command::Expire(get_expire(input)?),
        COMMAND_GET_EXPIRE => Command::GetExpire(get_expire(input)?),
        COMMAND_INCREMENT => Command::Increment(Increment {
            key: get_key(input)?,
            delta: get_u64(input, "delta")?.cast_signed(),
        }),
        COMMAND_INCREMENT_FLOAT => Command::IncrementFloat(IncrementFloat {
            key: get_key(input)?,
            delta: get_bounded(input, "delta", FLOAT_BYTES_MAX)?,
        }),
        COMMAND_APPEND => {
            Command::Append(Append { key: get_key(input)?, value: get_value(input)? })
        }
        COMMAND_SET_RANGE => Command::SetRange(SetRange {
            key: get_key(input)?,
            offset: get_varint(input, "offset")?,
            value: get_value(input)?,
        }),
        COMMAND_TICK => Command::Tick,
        COMMAND_SET_LIMIT => Command::SetLimit { bytes_max: get_varint(input, "limit")? },
        COMMAND_FLUSH => Command::Flush,
        COMMAND_COPY => Command::Copy(get_copy(input)?),
        COMMAND_RENAME => Command::Rename(get_copy(input)?),
        COMMAND_LOCK => Command::Lock(get_lock(input)?),
        COMMAND_RENEW => Command::Renew(get_renew(input)?),
        COMMAND_UNLOCK => Command::Unlock(get_unlock(input)?),
        COMMAND_FILL => Command::Fill(get_fill(input)?),
        tag => return Err(Error::Tag { what: "command", tag: u64::from(tag) }),
    })
}

fn put_transaction(out: &mut BytesMut, transaction: &Transaction) {
    let Transaction { watches, steps } = transaction;
    let bounded = watches.len().max(steps.len()) <= TRANSACTION_OPERATIONS_MAX;
    assert!(bounded, "operations of a transaction are bounded");
    out.put_u8(COMMAND_TRANSACTION);
    put_varint(out, watches.len() as u64);
    for watch in watches {
        put_key(out, &watch.key);
        match (watch.version, watch.since) {
            (None, None) => out.put_u8(0),
            (Some(version), _) => {
                out.put_u8(1);
                put_varint(out, version.0);
            }
            (None, Some(since)) => {
                out.put_u8(2);
                put_varint(out, since.0);
            }
        }
    }
    put_varint(out, steps.len() as u64);
    for step in steps {
        assert!(step.key().is_some(), "a step is about one key");
        match step {
            Step::Write(command) => {
                out.put_u8(STEP_WRITE);
                put_command(out, command);
            }
            Step::Read(query) => {
                out.put_u8(STEP_READ);
                put_query(out, query);
            }
        }
    }
}

fn get_transaction(input: &mut Bytes) -> Result<Transaction, Error> {
    let mut transaction = Transaction::default();
    for _ in 0..get_count(input, "watches")? {
        let key = get_key(input)?;
        let watch = match get_u8(input, "watch")? {
            0 => Watch::of(key, None),
            1 => Watch::of(key, Some(Version(get_varint(input, "version")?))),
            2 => Watch::absent_since(key, Version(get_varint(input, "version")?)),
            tag => return Err(Error::Tag { what: "watch", tag: u64::from(tag) }),
        };
        transaction.watches.push(watch);
    }
    for _ in 0..get_count(input, "steps")? {
        let step = match get_u8(input, "step")? {
            STEP_WRITE => {
                let tag = get_u8(input, "command")?;
                Step::Write(get_plain_command(tag, input)?)
            }
            STEP_READ => Step::Read(get_query(input)?),
            tag => return Err(Error::Tag { what: "step", tag: u64::from(tag) }),
        };
        if step.key().is_none() {
            return Err(Error::Malformed { what: "step" });
        }
        transaction.steps.push(step);
    }
    Ok(transaction)
}

fn get_count(input: &mut Bytes, what: &'static str) -> Result<usize, Error> {
    match usize::try_from(get_varint(input, what)?) {
        Ok(count) if count <= TRANSACTION_OPERATIONS_MAX => Ok(count),
        _ => Err(Error::Malformed { what }),
    }
}

fn put_set(out: &mut BytesMut, tag: u8, set: &Set) {
    out.put_u8(tag);
    put_key(out, &set.key);
    put_value(out, &set.value);
    put_expiry(out, set.expiry);
    put_condition(out, set.condition);
}

fn get_set(input: &mut Bytes) -> Result<Set, Error> {
    Ok(Set {
        key: get_key(input)?,
        value: get_value(input)?,
        expiry: get_expiry(input)?,
        condition: get_condition(input)?,
    })
}

fn put_delete(out: &mut BytesMut, tag: u8, delete: &Delete) {
    out.put_u8(tag);
    put_key(out, &delete.key);
    put_condition(out, delete.condition);
}

fn get_delete(input: &mut Bytes) -> Result<Delete, Error> {
    Ok(Delete { key: get_key(input)?, condition: get_condition(input)? })
}

fn put_copy(out: &mut BytesMut, tag: u8, copy: &CopyKey) {
    out.put_u8(tag);
    put_key(out, &copy.key);
    put_key(out, &copy.to);
    put_condition(out, copy.condition);
}

fn get_copy(input: &mut Bytes) -> Result<CopyKey, Error> {
    Ok(CopyKey { key: get_key(input)?, to: get_key(input)?, condition: get_condition(input)? })
}

fn put_expire(out: &mut BytesMut, tag: u8, expire: &Expire) {
    out.put_u8(tag);
    put_key(out, &expire.key);
    put_expiry(out, expire.expiry);
    out.put_u8(match expire.condition {
        ExpireCondition::Always => 0,
        ExpireCondition::IfNone => 1,
        ExpireCondition::IfSome => 2,
        ExpireCondition::IfLater => 3,
        ExpireCondition::IfEarlier => 4,
        ExpireCondition::IfSomeAndEarlier => 5,
    });
}

fn get_expire(input: &mut Bytes) -> Result<Expire, Error> {
    let (key, expiry) = (get_key(input)?, get_expiry(input)?);
    let condition = match get_u8(input, "expire condition")? {
        0 => ExpireCondition::Always,
        1 => ExpireCondition::IfNone,
        2 => ExpireCondition::IfSome,
        3 => ExpireCondition::IfLater,
        4 => ExpireCondition::IfEarlier,
        5 => ExpireCondition::IfSomeAndEarlier,
        tag => return Err(Error::Tag { what: "expire condition", tag: u64::from(tag) }),
    };
    Ok(Expire { key, expiry, condition })
}
