//! The messages of operations on one key, without request ids: alone and in a batch they are the same.

#![allow(clippy::needless_update, reason = "some messages have only the fields that are given")]

use std::time::Duration;

use bytes::Bytes;

use super::answers::Value;
use super::lane::ttl;
use super::requests::{
    Consistency, DeleteOptions, Ends, ExpireOptions, Expiry, FillOptions, GetOptions, LeaseOptions,
    SetOptions, When,
};
use crate::pb;

macro_rules! message {
    ($message:ident, $module:ident, $key:expr $(, $field:ident: $value:expr)* $(,)?) => {
        pb::$message {
            key_form: Some(pb::$module::KeyForm::KeyBytes($key)),
            $($field: $value,)*
            ..pb::$message::default()
        }
    };
}

macro_rules! value_form {
    ($module:ident, $value:expr) => {
        Some(match $value {
            Value::Text(text) => pb::$module::ValueForm::Value(text),
            Value::Bytes(bytes) => pb::$module::ValueForm::ValueBytes(bytes),
        })
    };
}

pub(super) fn key(key: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(key.as_ref())
}

/// As the wire has it: the kind, and the age for a bounded one.
pub(super) fn consistency(consistency: Consistency) -> (i32, Option<pb::Ttl>) {
    let (kind, age) = match consistency {
        Consistency::Linearizable => (pb::Consistency::Linearizable, None),
        Consistency::Lease => (pb::Consistency::Lease, None),
        Consistency::Bounded(age) => (pb::Consistency::Bounded, Some(ttl(age))),
        Consistency::Stale => (pb::Consistency::Stale, None),
    };
    (kind.into(), age)
}

pub(super) fn get(key: Bytes, options: GetOptions) -> pb::GetRequest {
    let (consistency, max_staleness) = consistency(options.consistency);
    message!(GetRequest, get_request, key, consistency: consistency, max_staleness: max_staleness)
}

pub(super) fn get_range(
    key: Bytes,
    (start, end): (i64, i64),
    options: GetOptions,
) -> pb::GetRangeRequest {
    let (consistency, max_staleness) = consistency(options.consistency);
    let request = message!(GetRangeRequest, get_range_request, key, start: start, end: end);
    pb::GetRangeRequest { consistency, max_staleness, ..request }
}

pub(super) fn inspect(key: Bytes, options: GetOptions) -> pb::InspectRequest {
    let (consistency, max_staleness) = consistency(options.consistency);
    let request = message!(InspectRequest, inspect_request, key);
    pb::InspectRequest { consistency, max_staleness, ..request }
}

pub(super) fn set(key: Bytes, value: Value, options: SetOptions) -> pb::SetRequest {
    use pb::set_request::Expiry as Wire;
    let expiry = match options.expiry {
        Expiry::Never => None,
        Expiry::After(time) => Some(Wire::Ttl(ttl(time))),
        Expiry::AtMs(at) => Some(Wire::ExpireAtMs(at)),
        Expiry::Keep => Some(Wire::KeepTtl(true)),
    };
    let value_form = value_form!(set_request, value);
    let request = message!(SetRequest, set_request, key, value_form: value_form, expiry: expiry);
    pb::SetRequest { condition: options.only.message(), ..request }
}

pub(super) fn delete(key: Bytes, options: DeleteOptions) -> pb::DeleteRequest {
    message!(DeleteRequest, delete_request, key, condition: options.only.message())
}

/// When a key ends: at a time, never (`persist`), or as it is (`touch`).
pub(super) fn expire(
    key: Bytes,
    expiry: pb::expire_request::Expiry,
    options: ExpireOptions,
) -> pb::ExpireRequest {
    use pb::expire_request::When as Wire;
    let when = match options.when {
        When::Always => Wire::Always,
        When::IfNone => Wire::IfNone,
        When::IfSome => Wire::IfSome,
        When::IfLater => Wire::IfLater,
        When::IfEarlier => Wire::IfEarlier,
        When::IfSomeAndEarlier => Wire::IfSomeAndEarlier,
    };
    let request =
        message!(ExpireRequest, expire_request, key, expiry: Some(expiry), when: when.into());
    pb::ExpireRequest { return_value: options.return_value, ..request }
}

/// A time as `expire` takes it.
pub(super) fn ends(ends: Ends) -> pb::expire_request::Expiry {
    match ends {
        Ends::After(time) => pb::expire_request::Expiry::Ttl(ttl(time)),
        Ends::AtMs(at) => pb::expire_request::Expiry::ExpireAtMs(at),
    }
}

pub(super) fn increment(key: Bytes, delta: i64) -> pb::IncrementRequest {
    message!(IncrementRequest, increment_request, key, delta: delta)
}

pub(super) fn increment_float(key: Bytes, delta: String) -> pb::IncrementFloatRequest {
    message!(IncrementFloatRequest, increment_float_request, key, delta: delta)
}

pub(super) fn append(key: Bytes, value: Value) -> pb::AppendRequest {
    message!(AppendRequest, append_request, key, value_form: value_form!(append_request, value))
}

pub(super) fn set_range(key: Bytes, offset: u64, value: Value) -> pb::SetRangeRequest {
    let value_form = value_form!(set_range_request, value);
    message!(SetRangeRequest, set_range_request, key, value_form: value_form, offset: offset)
}

pub(super) fn lock(key: Bytes, owner: &[u8], time: Duration) -> pb::LockRequest {
    let owner = Bytes::copy_from_slice(owner);
    message!(LockRequest, lock_request, key, owner: owner, ttl: Some(ttl(time)))
}

pub(super) fn renew(key: Bytes, owner: &[u8], token: u64, time: Duration) -> pb::RenewRequest {
    let owner = Bytes::copy_from_slice(owner);
    message!(RenewRequest, renew_request, key, owner: owner, token: token, ttl: Some(ttl(time)))
}

pub(super) fn unlock(key: Bytes, owner: &[u8], token: u64) -> pb::UnlockRequest {
    let owner = Bytes::copy_from_slice(owner);
    message!(UnlockRequest, unlock_request, key, owner: owner, token: token)
}

pub(super) fn get_or_lease(key: Bytes, options: LeaseOptions) -> pb::GetOrLeaseRequest {
    let LeaseOptions { wait, stale_ok, beta } = options;
    let wait = (!wait.is_zero()).then(|| ttl(wait));
    message!(GetOrLeaseRequest, get_or_lease_request, key, wait: wait, stale_ok: stale_ok, beta: beta)
}

pub(super) fn fill(key: Bytes, token: u64, value: Value, options: FillOptions) -> pb::FillRequest {
    use pb::fill_request::Expiry as Wire;
    let expiry = options.ends.map(|ends| match ends {
        Ends::After(time) => Wire::Ttl(ttl(time)),
        Ends::AtMs(at) => Wire::ExpireAtMs(at),
    });
    let value_form = value_form!(fill_request, value);
    let request = message!(FillRequest, fill_request, key, value_form: value_form, expiry: expiry);
    let (soft_ttl, cost) = (options.soft.map(ttl), Some(ttl(options.cost)));
    pb::FillRequest { token, soft_ttl, cost, ..request }
}
