//! The gRPC door: what a message may hold once it is decoded.

use bytes::Bytes;
use prost::Message;
use raftcache::front::asked::{self, Asked};
use raftcache::front::convert::Checked;
use raftcache::front::{FrontLimits, convert_many, pb};
use raftcache::service::Operation;
use raftcache::types::{Command, Error};

use super::Target;

fn limits() -> FrontLimits {
    FrontLimits { key_bytes_max: 64, value_bytes_max: 256, ..FrontLimits::default() }
}

fn key() -> Bytes {
    Bytes::from_static(b"key\xff")
}

fn ttl() -> pb::Ttl {
    pb::Ttl { seconds: 3, nanos: 500_000_000 }
}

fn id() -> Option<pb::RequestId> {
    Some(pb::RequestId {
        session: vec![1; 16].into(),
        sequence: 9,
        sent: Some(pb::request_id::Sent::SentBeforeMs(300)),
    })
}

/// A message whose forms are the usual ones, all of one shape.
macro_rules! keyed {
    ($message:ident, $module:ident { $($field:ident: $value:expr),* $(,)? }) => {{
        let message = pb::$message {
            key_form: Some(pb::$module::KeyForm::KeyBytes(key())),
            ..Default::default()
        };
        #[allow(clippy::needless_update, reason = "some have no other fields")]
        pb::$message { $($field: $value,)* ..message }
    }};
}

fn sets() -> [Asked; 2] {
    use pb::set_request::{Expiry, KeyForm, ValueForm};
    let condition = |kind| Some(pb::Condition { kind: Some(kind) });
    let full = pb::SetRequest {
        key_form: Some(KeyForm::KeyBytes(key())),
        value_form: Some(ValueForm::Value("value".to_owned())),
        expiry: Some(Expiry::Ttl(ttl())),
        condition: condition(pb::condition::Kind::IfVersion(7)),
        request_id: id(),
        return_old: true,
    };
    let other = pb::SetRequest {
        key_form: Some(KeyForm::Key("key".to_owned())),
        value_form: Some(ValueForm::ValueBytes(key())),
        expiry: Some(Expiry::ExpireAtMs(1_700_000_000_000)),
        condition: condition(pb::condition::Kind::IfAbsent(true)),
        ..Default::default()
    };
    [Asked::Set(full), Asked::Set(other)]
}

/// One operation of each kind.
fn operations() -> Vec<Asked> {
    let condition = Some(pb::Condition { kind: Some(pb::condition::Kind::IfPresent(true)) });
    let owner = || Bytes::from_static(b"owner");
    let get = keyed!(
        GetRequest,
        get_request { consistency: pb::Consistency::Bounded.into(), max_staleness: Some(ttl()) }
    );
    let delete = keyed!(
        DeleteRequest,
        delete_request { condition: condition, request_id: id(), return_old: true }
    );
    let expire = keyed!(
        ExpireRequest,
        expire_request { expiry: Some(pb::expire_request::Expiry::Ttl(ttl())), request_id: id() }
    );
    let add = keyed!(IncrementRequest, increment_request { delta: -5, request_id: id() });
    let add_float =
        keyed!(IncrementFloatRequest, increment_float_request { delta: "-1.5e3".into() });
    let append = keyed!(
        AppendRequest,
        append_request {
            value_form: Some(pb::append_request::ValueForm::Value("more".to_owned())),
        }
    );
    let set_range = keyed!(
        SetRangeRequest,
        set_range_request {
            offset: 3,
            value_form: Some(pb::set_range_request::ValueForm::ValueBytes(key())),
        }
    );
    let lock = keyed!(LockRequest, lock_request { owner: owner(), ttl: Some(ttl()) });
    let renew = keyed!(RenewRequest, renew_request { owner: owner(), token: 7, ttl: Some(ttl()) });
    let unlock = keyed!(UnlockRequest, unlock_request { owner: owner(), token: 7 });
    let lease = keyed!(
        GetOrLeaseRequest,
        get_or_lease_request { wait: Some(ttl()), stale_ok: true, beta: 1.5 }
    );
    let fill = keyed!(
        FillRequest,
        fill_request {
            value_form: Some(pb::fill_request::ValueForm::ValueBytes(key())),
            token: 7,
            soft_ttl: Some(ttl()),
        }
    );
    let others = [
        Asked::Get(get),
        Asked::Delete(delete),
        Asked::Expire(expire),
        Asked::Increment(add),
        Asked::IncrementFloat(add_float),
        Asked::Append(append),
        Asked::GetRange(keyed!(GetRangeRequest, get_range_request { start: -3, end: 9 })),
        Asked::SetRange(set_range),
        Asked::Inspect(keyed!(InspectRequest, inspect_request {})),
        Asked::Lock(lock),
        Asked::Renew(renew),
        Asked::Unlock(unlock),
        Asked::GetOrLease(lease),
        Asked::Fill(fill),
    ];
    sets().into_iter().chain(others).collect()
}

/// What passed the check keeps the limits; what did not is no better the next time.
fn judge(checked: Result<Checked, Error>, one_key: bool) -> bool {
    match checked {
        Ok((operation, id)) => {
            let key = operation.key();
            assert!(!one_key || key.is_some_and(|key| (1..=64).contains(&key.len())));
            if let Operation::Write(Command::Set(set) | Command::GetSet(set)) = &operation {
                assert!(set.value.data.len() <= 256);
            }
            assert!(id.is_none_or(|named| named.id.session != 0));
            true
        }
        Err(error) => {
            assert!(!error.retryable(), "bad input is not better the next time: {error}");
            false
        }
    }
}

/// Each operation alone, as a pipeline asks for it.
pub fn operations_alone() -> Target {
    let of = |operation| pb::PipelineRequest {
        id: 300,
        operation: Some(operation),
        timeout: Some(ttl()),
    };
    let sound = operations().into_iter().map(|operation| of(operation).encode_to_vec());
    let limits = limits();
    Target::new(sound, move |input| {
        let Ok(message) = pb::PipelineRequest::decode(input) else { return false };
        let Some(operation) = message.operation else { return false };
        judge(asked::read(&limits, operation).1, true)
    })
}

fn batched(asked: Asked) -> Option<pb::BatchOperation> {
    use pb::batch_operation::Operation as Wire;
    let operation = match asked {
        Asked::Set(set) => Wire::Set(pb::SetRequest { request_id: None, ..set }),
        Asked::Get(get) => {
            let consistency = pb::Consistency::default().into();
            Wire::Get(pb::GetRequest { consistency, max_staleness: None, ..get })
        }
        Asked::Delete(delete) => Wire::Delete(pb::DeleteRequest { request_id: None, ..delete }),
        Asked::Append(append) => Wire::Append(append),
        Asked::GetRange(get_range) => Wire::GetRange(get_range),
        Asked::Inspect(inspect) => Wire::Inspect(inspect),
        Asked::Lock(lock) => Wire::Lock(lock),
        _ => return None,
    };
    Some(pb::BatchOperation { operation: Some(operation) })
}

/// Requests of several keys, or of all; the first byte says which.
pub fn many() -> Target {
    let watch = pb::Watch {
        key_form: Some(pb::watch::KeyForm::KeyBytes(key())),
        version: 7,
        absent_since: 0,
    };
    let batch = pb::BatchRequest {
        operations: operations().into_iter().filter_map(batched).collect(),
        atomic: true,
        watches: vec![watch],
        request_id: id(),
        ..Default::default()
    };
    let keys = vec![pb::Key { key_form: Some(pb::key::KeyForm::KeyBytes(key())) }; 3];
    let get = pb::MultiGetRequest { keys, ..Default::default() };
    let sets = sets().map(|asked| match asked {
        Asked::Set(set) => pb::SetRequest { request_id: None, ..set },
        _ => unreachable!("sets"),
    });
    let set = pb::MultiSetRequest { entries: sets.to_vec(), ..Default::default() };
    let scan = pb::ScanRequest { cursor: 300, count: 10, ..Default::default() };
    let sound = [
        (0, batch.encode_to_vec()),
        (1, get.encode_to_vec()),
        (2, set.encode_to_vec()),
        (3, scan.encode_to_vec()),
        (4, pb::SizeRequest::default().encode_to_vec()),
    ];
    let sound = sound.map(|(kind, body)| [&[kind][..], &body].concat());
    let limits = limits();
    Target::new(sound, move |input| {
        let Some((kind, body)) = input.split_first() else { return false };
        let checked = match kind % 5 {
            0 => pb::BatchRequest::decode(body).map(|m| convert_many::batch(&limits, m)),
            1 => pb::MultiGetRequest::decode(body).map(|m| convert_many::multi_get(&limits, m)),
            2 => pb::MultiSetRequest::decode(body).map(|m| convert_many::multi_set(&limits, m)),
            3 => pb::ScanRequest::decode(body)
                .map(|m| convert_many::scan(m).map(|checked| (checked, Vec::new()))),
            _ => pb::SizeRequest::decode(body)
                .map(|m| convert_many::size(m).map(|checked| (checked, Vec::new()))),
        };
        let Ok(checked) = checked else { return false };
        judge(checked.map(|(checked, _)| checked), false)
    })
}
