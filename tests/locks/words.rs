//! Every rpc against one real node: what goes in comes out, alone, in a pipeline and in a batch.

#![allow(clippy::needless_update, reason = "some messages have only a key")]

use raftcache::front::pb;
use raftcache::front::pb::batch_operation::Operation as Part;
use raftcache::front::pb::batch_result::Result as Done;
use raftcache::front::pb::pipeline_request::Operation as Asked;
use raftcache::front::pb::pipeline_response::Result as Answered;
use tonic::Code;

use crate::client::{Client, client};
use crate::harness::{ProcessCluster, Shape};
use crate::turn;

macro_rules! message {
    ($message:ident, $module:ident, $key:expr $(, $field:ident: $value:expr)* $(,)?) => {
        pb::$message {
            key_form: Some(pb::$module::KeyForm::Key($key.to_owned())),
            $($field: $value,)*
            ..pb::$message::default()
        }
    };
}

fn set(key: &str, value: &str) -> pb::SetRequest {
    let value_form = Some(pb::set_request::ValueForm::Value(value.to_owned()));
    message!(SetRequest, set_request, key, value_form: value_form)
}

fn get(key: &str) -> pb::GetRequest {
    message!(GetRequest, get_request, key)
}

fn text(entry: Option<pb::Entry>) -> Option<String> {
    match entry?.value_form? {
        pb::entry::ValueForm::Value(text) => Some(text),
        pb::entry::ValueForm::ValueBytes(_) => None,
    }
}

fn read(reply: pb::GetResponse) -> Option<String> {
    match reply.value_form? {
        pb::get_response::ValueForm::Value(text) => Some(text),
        pb::get_response::ValueForm::ValueBytes(_) => None,
    }
}

fn seconds(seconds: i64) -> Option<pb::Ttl> {
    Some(pb::Ttl { seconds, nanos: 0 })
}

async fn values(client: &mut Client) {
    let first = client.set(set("k", "ab")).await.unwrap().into_inner();
    let old = pb::SetRequest { return_old: true, ..set("k", "abc") };
    let swapped = client.set(old).await.unwrap().into_inner();
    assert_eq!(swapped.old.as_ref().map(|old| old.version), Some(first.version));
    assert_eq!(text(swapped.old).as_deref(), Some("ab"));
    let value_form = Some(pb::append_request::ValueForm::Value("de".to_owned()));
    let append = message!(AppendRequest, append_request, "k", value_form: value_form);
    assert_eq!(client.append(append).await.unwrap().into_inner().length, 5);
    let range = message!(GetRangeRequest, get_range_request, "k", start: -2, end: -1);
    assert_eq!(read(client.get_range(range).await.unwrap().into_inner()).as_deref(), Some("de"));
    let value_form = Some(pb::set_range_request::ValueForm::Value("X".to_owned()));
    let range =
        message!(SetRangeRequest, set_range_request, "k", value_form: value_form, offset: 1);
    assert_eq!(client.set_range(range).await.unwrap().into_inner().length, 5);
    let seen = client.inspect(message!(InspectRequest, inspect_request, "k")).await.unwrap();
    let seen = seen.into_inner();
    assert!(seen.found && seen.text && seen.value_length == 5 && seen.ttl.is_none(), "{seen:?}");

    let expiry = Some(pb::expire_request::Expiry::Ttl(pb::Ttl { seconds: 60, nanos: 0 }));
    let expire = message!(ExpireRequest, expire_request, "k", expiry: expiry, return_value: true);
    let got = client.expire(expire).await.unwrap().into_inner();
    assert!(got.applied && text(got.value.clone()).as_deref() == Some("aXcde"), "{got:?}");
    let persist = Some(pb::expire_request::Expiry::Persist(true));
    let persist = message!(ExpireRequest, expire_request, "k", expiry: persist);
    let kept = client.expire(persist).await.unwrap().into_inner();
    assert!(kept.applied && kept.expire_at_ms == 0, "{kept:?}");
    let gone = message!(DeleteRequest, delete_request, "k", return_old: true);
    let gone = client.delete(gone).await.unwrap().into_inner();
    assert!(gone.applied && text(gone.old).as_deref() == Some("aXcde"));

    let add = |delta| message!(IncrementRequest, increment_request, "n", delta: delta);
    assert_eq!(client.increment(add(5)).await.unwrap().into_inner().value, 5);
    assert_eq!(client.increment(add(-7)).await.unwrap().into_inner().value, -2);
    let delta = "0.25".to_owned();
    let add = message!(IncrementFloatRequest, increment_float_request, "n", delta: delta);
    assert_eq!(client.increment_float(add).await.unwrap().into_inner().value, "-1.75");
    let add = message!(IncrementRequest, increment_request, "n", delta: 1);
    assert_eq!(client.increment(add).await.unwrap_err().code(), Code::FailedPrecondition);
}

async fn many(client: &mut Client) {
    let part = |operation| pb::BatchOperation { operation: Some(operation) };
    let increment = message!(IncrementRequest, increment_request, "{b}n", delta: 1);
    let parts = vec![
        part(Part::Set(set("{b}s", "text"))),
        part(Part::Increment(increment.clone())),
        part(Part::Increment(message!(IncrementRequest, increment_request, "{b}s", delta: 1))),
        part(Part::Get(get("{b}s"))),
    ];
    for atomic in [false, true] {
        let batch =
            pb::BatchRequest { operations: parts.clone(), atomic, ..pb::BatchRequest::default() };
        let reply = client.batch(batch).await.unwrap().into_inner();
        let results: Vec<Done> = reply.results.into_iter().filter_map(|r| r.result).collect();
        assert!(matches!(&results[0], Done::Set(set) if set.applied), "{results:?}");
        assert!(matches!(&results[1], Done::Increment(_)), "{results:?}");
        let Done::Failure(failure) = &results[2] else { panic!("{results:?}") };
        assert_eq!(failure.detail.as_ref().unwrap().reason, "not_integer");
        let Done::Get(got) = &results[3] else { panic!("{results:?}") };
        assert_eq!(read(got.clone()).as_deref(), Some("text"));
    }
    let watch = message!(Watch, watch, "{b}s", version: 1);
    let watched = pb::BatchRequest {
        operations: parts.clone(),
        atomic: true,
        watches: vec![watch.clone()],
        ..pb::BatchRequest::default()
    };
    let aborted = client.batch(watched).await.unwrap().into_inner();
    assert!(aborted.aborted && aborted.current_version > 1, "{aborted:?}");
    let id = pb::RequestId { session: vec![1; 16].into(), sequence: 1, sent: None };
    let named = pb::SetRequest { request_id: Some(id), ..set("{b}s", "x") };
    let batch = pb::BatchRequest {
        operations: vec![part(Part::Set(named))],
        ..pb::BatchRequest::default()
    };
    let refused = client.batch(batch).await.unwrap_err();
    assert!(refused.message().starts_with("request_id:"), "{refused}");

    let entries = (0..20).map(|n| set(&format!("m{n}"), &n.to_string())).collect();
    let put = pb::MultiSetRequest { entries, ..pb::MultiSetRequest::default() };
    assert_eq!(client.multi_set(put).await.unwrap().into_inner().results.len(), 20);
    let keys = (0..21).map(|n| message!(Key, key, format!("m{n}"))).collect();
    let got = pb::MultiGetRequest { keys, ..pb::MultiGetRequest::default() };
    let got = client.multi_get(got).await.unwrap().into_inner().results;
    let got: Vec<Option<String>> = got
        .into_iter()
        .map(|result| match result.result.unwrap() {
            Done::Get(got) => read(got),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((got[7].as_deref(), got[20].as_deref()), (Some("7"), None));

    let (mut cursor, mut found) = (0, Vec::new());
    loop {
        let pattern_form = Some(pb::scan_request::PatternForm::Pattern("m*".to_owned()));
        let scan = pb::ScanRequest { cursor, pattern_form, ..pb::ScanRequest::default() };
        let reply = client.scan(scan).await.unwrap().into_inner();
        found.extend(reply.keys);
        cursor = reply.cursor;
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(found.len(), 20);
}

async fn locks(client: &mut Client) {
    let owner = bytes::Bytes::from_static(b"me");
    let lock = message!(LockRequest, lock_request, "l", owner: owner.clone(), ttl: seconds(60));
    let held = client.lock(lock.clone()).await.unwrap().into_inner();
    assert!(held.held && held.token > 0 && held.expire_at_ms > 0, "{held:?}");
    let other = pb::LockRequest { owner: "you".into(), ..lock.clone() };
    let refused = client.lock(other).await.unwrap().into_inner();
    assert!(!refused.held && refused.token == held.token, "{refused:?}");
    assert!(refused.held_by_other_for.is_some());
    let wrong = client.get(get("l")).await.unwrap_err();
    assert_eq!(wrong.metadata().get("raftcache-reason").unwrap(), "wrong_kind");
    let token = held.token;
    let renew = message!(
        RenewRequest, renew_request, "l", owner: owner.clone(), token: token, ttl: seconds(90)
    );
    assert_eq!(client.renew(renew).await.unwrap().into_inner().token, held.token);
    let unlock =
        |token| message!(UnlockRequest, unlock_request, "l", owner: owner.clone(), token: token);
    let kept = client.unlock(unlock(1)).await.unwrap().into_inner();
    assert!(!kept.unlocked && kept.current_token == held.token, "{kept:?}");
    assert!(client.unlock(unlock(held.token)).await.unwrap().into_inner().unlocked);
    for bad in [
        pb::LockRequest { owner: bytes::Bytes::new(), ..lock.clone() },
        pb::LockRequest { ttl: None, ..lock.clone() },
        pb::LockRequest { ttl: seconds(90_000), ..lock },
    ] {
        assert_eq!(client.lock(bad).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

async fn pipeline(client: &mut Client) {
    let owner = bytes::Bytes::from_static(b"me");
    let lock = message!(LockRequest, lock_request, "pl", owner: owner, ttl: seconds(60));
    let beta = f32::NAN;
    let asked = [
        Asked::Increment(message!(IncrementRequest, increment_request, "pn", delta: 3)),
        Asked::Inspect(message!(InspectRequest, inspect_request, "absent")),
        Asked::Lock(lock),
        Asked::GetOrLease(message!(GetOrLeaseRequest, get_or_lease_request, "missing")),
        Asked::GetOrLease(message!(GetOrLeaseRequest, get_or_lease_request, "missing", beta: beta)),
    ];
    let requests = asked.into_iter().zip(0..).map(|(operation, id)| pb::PipelineRequest {
        id,
        operation: Some(operation),
        timeout: None,
    });
    let requests: Vec<_> = requests.collect();
    let stream = client.pipeline(tokio_stream::iter(requests)).await.unwrap();
    let mut stream = stream.into_inner();
    let mut answers = std::collections::BTreeMap::new();
    while let Some(reply) = stream.message().await.unwrap() {
        assert!(reply.routing_epoch > 0);
        answers.insert(reply.id, reply.result.unwrap());
    }
    assert!(matches!(&answers[&0], Answered::Increment(sum) if sum.value == 3), "{answers:?}");
    assert!(matches!(&answers[&1], Answered::Inspect(seen) if !seen.found), "{answers:?}");
    assert!(matches!(&answers[&2], Answered::Lock(lock) if lock.held), "{answers:?}");
    let Answered::GetOrLease(leased) = &answers[&3] else { panic!("{answers:?}") };
    assert!(leased.token > 0 && leased.token_ttl.is_some(), "{leased:?}");
    let Answered::Failure(failure) = &answers[&4] else { panic!("{answers:?}") };
    assert_eq!(failure.detail.as_ref().unwrap().field, "beta");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rpc_does_what_it_says() {
    let _turn = turn().await;
    let shape = Shape { nodes: 1, shards: 4, ..Shape::new("memory") };
    let cluster = ProcessCluster::start(shape).await;
    let mut client = client(&cluster.members[0].grpc);
    values(&mut client).await;
    many(&mut client).await;
    locks(&mut client).await;
    pipeline(&mut client).await;
    let size = async |client: &mut Client| {
        client.size(pb::SizeRequest::default()).await.unwrap().into_inner().keys
    };
    assert!(size(&mut client).await > 20);
    client.flush(pb::FlushRequest::default()).await.unwrap();
    assert_eq!(size(&mut client).await, 0);
}
