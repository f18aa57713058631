//! The gRPC door: what a message may hold once it is decoded.

use prost::Message;
use raftcache::front::{FrontLimits, convert, pb};
use raftcache::service::Operation;
use raftcache::types::{Command, Error};

use crate::fuzz;

/// Decodes, checks, and holds what passed the check to the limits.
fn target<M: Message + Default>(
    name: &str,
    corpus: Vec<M>,
    check: impl Fn(&FrontLimits, M) -> Result<convert::Checked, Error>,
) {
    let limits = FrontLimits { key_bytes_max: 64, value_bytes_max: 256, ..FrontLimits::default() };
    let corpus = corpus.iter().map(Message::encode_to_vec).collect();
    fuzz(name, corpus, |input| {
        let Ok(message) = M::decode(input) else { return false };
        match check(&limits, message) {
            Ok((operation, id)) => {
                let key = operation.key().expect("each is about one key");
                assert!((1..=64).contains(&key.len()));
                if let Operation::Write(Command::Set(set)) = &operation {
                    assert!(set.value.data.len() <= 256);
                }
                assert!(id.is_none_or(|id| id.session != 0));
                true
            }
            Err(error) => {
                assert!(!error.retryable(), "bad input is not better the next time: {error}");
                false
            }
        }
    });
}

fn key() -> bytes::Bytes {
    bytes::Bytes::from_static(b"key\xff")
}

#[test]
fn sets() {
    use pb::set_request::{Expiry, KeyForm, ValueForm};
    let condition = |kind| Some(pb::Condition { kind: Some(kind) });
    let full = pb::SetRequest {
        key_form: Some(KeyForm::KeyBytes(key())),
        value_form: Some(ValueForm::Value("value".to_owned())),
        expiry: Some(Expiry::Ttl(pb::Ttl { seconds: 3, nanos: 500_000_000 })),
        condition: condition(pb::condition::Kind::IfVersion(7)),
        request_id: Some(pb::RequestId { session: vec![1; 16].into(), sequence: 9 }),
        return_old: true,
    };
    let other = pb::SetRequest {
        key_form: Some(KeyForm::Key("key".to_owned())),
        value_form: Some(ValueForm::ValueBytes(key())),
        expiry: Some(Expiry::ExpireAtMs(1_700_000_000_000)),
        condition: condition(pb::condition::Kind::IfAbsent(true)),
        request_id: None,
        return_old: false,
    };
    target("sets", vec![full, other], convert::set);
}

#[test]
fn gets() {
    let get = pb::GetRequest {
        key_form: Some(pb::get_request::KeyForm::KeyBytes(key())),
        consistency: pb::Consistency::Bounded.into(),
        max_staleness: Some(pb::Ttl { seconds: 1, nanos: 1 }),
    };
    target("gets", vec![get], convert::get);
}

#[test]
fn deletes() {
    let kind = Some(pb::condition::Kind::IfPresent(true));
    let delete = pb::DeleteRequest {
        key_form: Some(pb::delete_request::KeyForm::KeyBytes(key())),
        condition: Some(pb::Condition { kind }),
        request_id: Some(pb::RequestId { session: vec![1; 16].into(), sequence: 9 }),
        return_old: true,
    };
    target("deletes", vec![delete], convert::delete);
}
