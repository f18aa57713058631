//! What can be done to one key and to all, over both doors, and each write once.

use std::time::Duration;

use bytes::Bytes;

use super::fakes::{Act, Nodes};
use crate::client::{
    Batch, Client, Consistency, DeleteOptions, Door, Ends, ExpireOptions, FillOptions, GetOptions,
    LeaseOptions, Leased, Only, Options, ScanOptions, SetOptions, Value, When,
};
use crate::types::Outcome;

const MINUTE: Duration = Duration::from_secs(60);

async fn both_doors(test: impl AsyncFn(Client, &Nodes)) {
    for door in [Door::Pipeline, Door::Unary] {
        let nodes = Nodes::start().await;
        let client = Client::connect(Options { door, ..nodes.options() }).await.unwrap();
        test(client.clone(), &nodes).await;
        assert_eq!(client.stats().retries, 0, "{door:?}");
    }
}

#[tokio::test]
async fn values_and_parts_of_them() {
    both_doors(async |client, _| {
        assert_eq!(client.append("k", "ab").await.unwrap().length, 2);
        let grown = client.append("k", "cd").await.unwrap();
        let found = client.get_range("k", -3, -2).await.unwrap().unwrap();
        assert_eq!((found.value, found.version), (Value::from("bc"), grown.version));
        assert_eq!(client.set_range("k", 3, "XYZ").await.unwrap().length, 6);
        let stale = GetOptions { consistency: Consistency::Stale };
        let read = client.get_range_with("k", 0, 99, stale).await.unwrap();
        assert_eq!((read.found.unwrap().value, read.term), (Value::from("abcXYZ"), 1));
        assert_eq!(client.get_range("absent", 0, 1).await.unwrap(), None);

        let swapped = client.get_and_set("k", "new", SetOptions::default()).await.unwrap();
        assert!(swapped.written.applied);
        assert_eq!(swapped.old.unwrap().value, Value::from("abcXYZ"));
        let only = SetOptions { only: Only::IfAbsent, ..SetOptions::default() };
        let kept = client.get_and_set("k", "newer", only).await.unwrap();
        assert!(!kept.written.applied);
        assert_eq!(kept.old.unwrap().value, Value::from("new"), "what it is");
        assert_eq!(client.get_and_set("l", "1", only).await.unwrap().old, None);

        let version = swapped.written.version;
        assert!(!client.compare_and_delete("k", version + 1).await.unwrap().applied);
        assert!(client.compare_and_delete("k", version).await.unwrap().applied);
        let taken = client.get_and_delete("l", DeleteOptions::default()).await.unwrap();
        assert_eq!((taken.deleted.applied, taken.old.unwrap().value), (true, Value::from("1")));
        let none = client.get_and_delete("l", DeleteOptions::default()).await.unwrap();
        assert_eq!((none.deleted.found, none.old), (false, None));

        assert_eq!(client.increment("n", 5).await.unwrap().value, 5);
        assert_eq!(client.increment_float("n", "-1.5").await.unwrap().value, "3.5");
        let error = client.increment("n", 1).await.unwrap_err();
        assert_eq!((error.outcome, error.reason.as_str()), (Outcome::Rejected, "not_integer"));
        let error = client.increment_float("n", "1,5").await.unwrap_err();
        assert_eq!((error.outcome, error.reason.as_str()), (Outcome::Rejected, "not_float"));
    })
    .await;
}

#[tokio::test]
async fn ends_of_keys() {
    both_doors(async |client, _| {
        assert_eq!(client.inspect("k").await.unwrap(), None);
        assert!(!client.expire("k", Ends::After(MINUTE)).await.unwrap().found);
        let version = client.set("k", "value").await.unwrap().version;
        let about = client.inspect("k").await.unwrap().unwrap();
        assert_eq!((about.version, about.value_length, about.text), (version, 5, true));
        assert_eq!((about.ttl, about.ends_at_ms), (None, None));

        let ends = client.expire("k", Ends::After(MINUTE)).await.unwrap();
        assert!(ends.applied && !ends.deleted);
        let at = ends.ends_at_ms.expect("a minute from now");
        let about = client.inspect_with("k", GetOptions::default()).await.unwrap().found.unwrap();
        assert_eq!(about.ends_at_ms, Some(at));
        assert!(about.ttl.is_some_and(|ttl| ttl <= MINUTE && ttl > MINUTE / 2), "{about:?}");
        let later = ExpireOptions { when: When::IfLater, return_value: true };
        let refused = client.expire_with("k", Ends::AtMs(at - 1), later).await.unwrap();
        assert!(refused.found && !refused.applied && refused.value.is_none());
        let taken = client.expire_with("k", Ends::AtMs(at + 1_000), later).await.unwrap();
        assert_eq!(taken.value.unwrap().value, Value::from("value"));
        for (when, applied) in [(When::IfNone, false), (When::IfSome, true)] {
            let options = ExpireOptions { when, return_value: false };
            let expired = client.expire_with("k", Ends::AtMs(at), options).await.unwrap();
            assert_eq!(expired.applied, applied, "{when:?}");
        }
        assert!(client.touch("k").await.unwrap().applied);
        assert_eq!(client.inspect("k").await.unwrap().unwrap().ends_at_ms, Some(at));
        let kept = client.persist("k").await.unwrap();
        assert_eq!((kept.applied, kept.ends_at_ms), (true, None));
        let only = ExpireOptions { when: When::IfSomeAndEarlier, return_value: false };
        assert!(!client.expire_with("k", Ends::AtMs(1), only).await.unwrap().applied);
        let only = ExpireOptions { when: When::IfEarlier, return_value: false };
        let gone = client.expire_with("k", Ends::AtMs(1), only).await.unwrap();
        assert!(gone.applied && gone.deleted);
        assert_eq!(client.get("k").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn all_keys() {
    both_doors(async |client, nodes| {
        nodes.publish_two_shards(2);
        for i in 0..50 {
            client.set(format!("a{i:02}"), "v").await.unwrap();
            client.set(format!("b{i:02}"), "v").await.unwrap();
        }
        assert_eq!(client.size(Consistency::Linearizable).await.unwrap(), 100);
        let options = ScanOptions { count: 7, ..ScanOptions::default() };
        let mut scan = client.scan(options.clone());
        let (mut pages, mut found) = (0, Vec::new());
        while let Some(page) = scan.page().await.unwrap() {
            pages += 1;
            found.extend(page);
        }
        assert!(scan.page().await.unwrap().is_none(), "it stays at the end");
        found.sort();
        let all: Vec<Bytes> = ["a", "b"]
            .iter()
            .flat_map(|s| (0..50).map(move |i| format!("{s}{i:02}").into()))
            .collect();
        assert!(found == all && pages > 5, "{pages} pages, {found:?}");
        let pattern = Some(Bytes::from_static(b"a0?"));
        let some = client.scan(ScanOptions { pattern, ..options }).all().await.unwrap();
        assert_eq!(some.len(), 10);
        client.flush().await.unwrap();
        assert_eq!(client.size(Consistency::Stale).await.unwrap(), 0);
    })
    .await;
}

/// Each write that there is comes in three times, as its answers get lost, and is applied once.
#[tokio::test]
async fn every_write_is_applied_once() {
    let nodes = Nodes::start().await;
    let client = nodes.client().await;
    let lose_twice = || nodes.script(1, vec![Act::DoAndLose, Act::DoAndLose]);
    client.set("n", "1").await.unwrap();

    lose_twice();
    assert_eq!(client.append("n", "0").await.unwrap().length, 2);
    lose_twice();
    assert_eq!(client.increment("n", 1).await.unwrap().value, 11);
    lose_twice();
    assert_eq!(client.increment_float("n", "0.5").await.unwrap().value, "11.5");
    lose_twice();
    assert!(client.set_range("n", 0, "2").await.unwrap().version > 0);
    lose_twice();
    let swapped = client.get_and_set("n", "new", SetOptions::default()).await.unwrap();
    assert_eq!(swapped.old.unwrap().value, Value::from("21.5"), "not what it has become");
    lose_twice();
    assert!(client.compare_and_set("n", swapped.written.version, "x").await.unwrap().applied);
    lose_twice();
    let only = ExpireOptions { when: When::IfNone, return_value: false };
    assert!(client.expire_with("n", Ends::After(MINUTE), only).await.unwrap().applied);
    lose_twice();
    let taken = client.get_and_delete("n", DeleteOptions::default()).await.unwrap();
    assert_eq!(taken.old.unwrap().value, Value::from("x"), "it was there");
    lose_twice();
    let token = client.lock("l", "me", MINUTE).await.unwrap().token().unwrap();
    lose_twice();
    assert_eq!(client.renew("l", "me", token, MINUTE).await.unwrap().token(), Some(token));
    lose_twice();
    assert!(client.unlock("l", "me", token).await.unwrap().unlocked, "it was held");
    let leased = client.get_or_lease("f", LeaseOptions::default()).await.unwrap();
    let Leased::Fill { token, .. } = leased else { panic!("{leased:?}") };
    lose_twice();
    assert!(client.fill("f", token, "v", FillOptions::default()).await.unwrap().applied);
    assert_eq!(client.stats().retries, 2 * 12);

    // Any node takes a flush, and hands it to both shards.
    (1..=3).for_each(|id| nodes.script(id, vec![Act::DoAndLose]));
    client.flush().await.unwrap();
    assert!(client.stats().retries > 2 * 12);
    assert_eq!(nodes.world.applied(), 1 + 12 + 2);
    assert_eq!(client.size(Consistency::Linearizable).await.unwrap(), 0);
}

/// A message that is too long for a node would end the stream that others share.
#[tokio::test]
async fn a_request_that_is_too_long_is_refused_before_it_is_sent() {
    both_doors(async |client, nodes| {
        let long = vec![b'v'; 5 << 20];
        let error = client.set("k", long.clone()).await.unwrap_err();
        assert_eq!((error.outcome, error.reason.as_str()), (Outcome::Rejected, "too_large"));
        let mut batch = Batch::new();
        let half = || long[..3 << 20].to_vec();
        batch.set("a", half()).set("a", half());
        for result in client.batch(&batch).await {
            let error = result.unwrap_err();
            assert_eq!((error.outcome, error.reason.as_str()), (Outcome::Rejected, "too_large"));
        }
        assert_eq!(nodes.served(), [0; 3], "nothing was sent");
        client.set("k", "v").await.unwrap();
    })
    .await;
}
