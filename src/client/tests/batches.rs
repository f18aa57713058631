//! Several operations as one request.

use std::time::Duration;

use super::fakes::{Act, Nodes};
use crate::client::{
    Batch, Client, Consistency, Done, Door, Ends, ExpireOptions, GetOptions, Options, Transacted,
    Value, Watch,
};
use crate::core::slot::slot_of;
use crate::types::{Outcome, Reason};

const MINUTE: Duration = Duration::from_secs(60);

/// The `i`-th key of a shard, where even slots are of shard 0.
fn key(shard: u16, i: usize) -> String {
    let mut of_shard =
        (0..).map(|n| format!("k{n}")).filter(|k| slot_of(k.as_bytes()).0 % 2 == shard);
    of_shard.nth(i).expect("half of all keys")
}

async fn two_shards() -> Nodes {
    let nodes = Nodes::start().await;
    nodes.publish_two_shards(1);
    nodes
}

#[tokio::test]
async fn each_shard_has_its_part_and_answers_come_in_order() {
    for door in [Door::Pipeline, Door::Unary] {
        let nodes = two_shards().await;
        let client = Client::connect(Options { door, ..nodes.options() }).await.unwrap();
        let keys: Vec<String> = (0..20).map(|i| key(i % 2, usize::from(i) / 2)).collect();
        let sets = keys.iter().map(|key| (key, key.as_str()));
        for written in client.multi_set(sets).await {
            assert!(written.unwrap().applied);
        }
        assert_eq!(nodes.served(), [1, 1, 0], "one call for each leader: {door:?}");
        assert_eq!(nodes.world.applied(), 2);
        let reads = client.multi_get(keys.iter().map(String::as_str).chain(["absent"])).await;
        let found: Vec<_> =
            reads.into_iter().map(|read| read.unwrap().map(|found| found.value)).collect();
        let mut expected: Vec<_> = keys.iter().map(|key| Some(Value::from(key.as_str()))).collect();
        expected.push(None);
        assert_eq!(found, expected);
        assert_eq!(nodes.served(), [2, 2, 0], "{door:?}");
        let stale = GetOptions { consistency: Consistency::Stale };
        for _ in 0..3 {
            for read in client.multi_get_with(&keys, stale).await {
                assert!(read.unwrap().found.is_some());
            }
        }
        assert!(nodes.served()[2] > 0, "any replica will do: {:?}", nodes.served());
        assert!(client.batch(&Batch::new()).await.is_empty());
    }
}

#[tokio::test]
async fn everything_may_be_in_it() {
    let nodes = Nodes::start().await;
    let client = nodes.client().await;
    let mut batch = Batch::new();
    batch
        .set("k", "ab")
        .append("k", "cd")
        .set_range("k", 0, "X")
        .get_range("k", 0, 1)
        .inspect("k")
        .expire("k", Ends::After(MINUTE), ExpireOptions::default())
        .touch("k")
        .persist("k")
        .increment("n", 2)
        .increment_float("n", "0.5")
        .lock("l", "me", MINUTE)
        .get("k")
        .increment("k", 1)
        .delete("k");
    let done = client.batch(&batch).await;
    assert_eq!(done.len(), batch.len());
    let done: Vec<_> = done.into_iter().map(|done| done.map_err(|error| error.reason)).collect();
    assert!(matches!(&done[0], Ok(Done::Set(written)) if written.applied));
    assert!(matches!(&done[1], Ok(Done::Length(length)) if length.length == 4));
    assert!(matches!(&done[2], Ok(Done::Length(length)) if length.length == 4));
    let text = |done: &Result<Done, String>| match done {
        Ok(Done::Get(read)) => read.found.as_ref().unwrap().value.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(text(&done[3]), Value::from("Xb"));
    assert!(matches!(&done[4], Ok(Done::Inspect(seen)) if seen.found.unwrap().value_length == 4));
    assert!(matches!(&done[5], Ok(Done::Expire(expired)) if expired.ends_at_ms.is_some()));
    assert!(matches!(&done[6], Ok(Done::Expire(expired)) if expired.applied));
    assert!(matches!(&done[7], Ok(Done::Expire(expired)) if expired.ends_at_ms.is_none()));
    assert!(matches!(&done[8], Ok(Done::Increment(counted)) if counted.value == 2));
    assert!(matches!(&done[9], Ok(Done::IncrementFloat(summed)) if summed.value == "2.5"));
    let Ok(Done::Lock(locked)) = &done[10] else { panic!("{:?}", done[10]) };
    assert_eq!(text(&done[11]), Value::from("Xbcd"));
    assert_eq!(done[12], Err("not_integer".to_owned()), "one that failed stops no other");
    assert!(matches!(&done[13], Ok(Done::Delete(deleted)) if deleted.applied));

    let token = locked.token().unwrap();
    let mut batch = Batch::new();
    batch.renew("l", "me", token, MINUTE).unlock("l", "me", token);
    let done = client.batch(&batch).await;
    assert!(matches!(&done[0], Ok(Done::Lock(locked)) if locked.token() == Some(token)));
    assert!(matches!(&done[1], Ok(Done::Unlock(freed)) if freed.unlocked));
}

#[tokio::test]
async fn a_part_that_fails_says_nothing_of_the_others() {
    let nodes = two_shards().await;
    let options = Options { attempts_max: 2, ..nodes.options() };
    let client = Client::connect(options).await.unwrap();
    let mut batch = Batch::new();
    batch.increment(key(0, 0), 1).increment(key(1, 0), 1).get(key(1, 1)).get(key(0, 1));
    let outcomes = async || -> Vec<Result<(), Outcome>> {
        let done = client.batch(&batch).await;
        done.into_iter().map(|done| done.map(drop).map_err(|error| error.outcome)).collect()
    };
    let too_large = Act::Refuse(Reason::TooLarge { bytes: 2, bytes_max: 1 }.into());
    nodes.script(2, vec![too_large.clone()]);
    let (rejected, unknown) = (Err(Outcome::Rejected), Err(Outcome::Unknown));
    assert_eq!(outcomes().await, [Ok(()), rejected, rejected, Ok(())]);
    nodes.script(2, vec![Act::DoAndLose, too_large]);
    assert_eq!(outcomes().await, [Ok(()), unknown, rejected, Ok(())], "a read changes nothing");

    // Both answers get lost, and both parts are tried again: each is applied once.
    nodes.script(1, vec![Act::DoAndLose]);
    nodes.script(2, vec![Act::DoAndLose]);
    let done = client.batch(&batch).await;
    let value = |at: usize| match &done[at] {
        Ok(Done::Increment(counted)) => counted.value,
        other => panic!("{other:?}"),
    };
    assert_eq!((value(0), value(1)), (3, 2));
}

/// The client holds a table in which all keys are of one shard, and the nodes know better.
#[tokio::test]
async fn a_part_that_is_none_any_more_is_split_by_the_node() {
    let nodes = Nodes::start().await;
    let client = nodes.client().await;
    nodes.publish_two_shards(2);
    nodes.script(1, vec![Act::DoAndLose]);
    let mut batch = Batch::new();
    batch.increment(key(0, 0), 1).increment(key(1, 0), 1);
    for done in client.batch(&batch).await {
        assert!(matches!(done, Ok(Done::Increment(counted)) if counted.value == 1));
    }
}

#[tokio::test]
async fn a_transaction_is_done_or_not() {
    let nodes = two_shards().await;
    let client = nodes.client().await;
    let version = client.set("{t}a", "1").await.unwrap().version;
    let mut batch = Batch::new();
    batch.increment("{t}a", 1).set("{t}b", "x").increment("{t}b", 1);
    let stranger = Watch::new("{t}a", version + 1);
    let aborted = client.atomic(&batch, &[Watch::new("{t}b", 0), stranger]).await.unwrap();
    assert_eq!(aborted, Transacted::Aborted { watch: 1, version });
    assert_eq!(client.get("{t}b").await.unwrap(), None);

    let leader = usize::from(slot_of(b"{t}").0 % 2) + 1;
    nodes.script(leader, vec![Act::DoAndLose, Act::DoAndLose]);
    let done = client.atomic(&batch, &[Watch::new("{t}a", version)]).await.unwrap();
    let Transacted::Done(done) = done else { panic!("{done:?}") };
    assert!(matches!(&done[0], Ok(Done::Increment(counted)) if counted.value == 2));
    assert!(matches!(&done[1], Ok(Done::Set(written)) if written.applied));
    assert!(matches!(&done[2], Err(error) if error.reason == "not_integer"));

    // A watch on a lock under its token is a fence.
    let token = client.lock("{t}lock", "me", MINUTE).await.unwrap().token().unwrap();
    let mut write = Batch::new();
    write.set("{t}data", "mine");
    let fence = [Watch::new("{t}lock", token)];
    assert!(matches!(client.atomic(&write, &fence).await, Ok(Transacted::Done(_))));
    assert!(client.unlock("{t}lock", "me", token).await.unwrap().unlocked);
    let late = client.atomic(&write, &fence).await.unwrap();
    assert_eq!(late, Transacted::Aborted { watch: 0, version: 0 });

    // A key that was read as absent, came and went.
    let absent = client.get_with("{t}gone", GetOptions::default()).await.unwrap();
    let since = [Watch::absent_since("{t}gone", absent.state_version)];
    assert!(matches!(client.atomic(&write, &since).await, Ok(Transacted::Done(_))));
    client.set("{t}gone", "v").await.unwrap();
    client.delete("{t}gone").await.unwrap();
    let late = client.atomic(&write, &since).await.unwrap();
    assert_eq!(late, Transacted::Aborted { watch: 0, version: 0 });
    let now = [Watch::new("{t}gone", 0)];
    assert!(matches!(client.atomic(&write, &now).await, Ok(Transacted::Done(_))));

    let mut apart = Batch::new();
    apart.set(key(0, 0), "v").set(key(1, 0), "v");
    let error = client.atomic(&apart, &[]).await.unwrap_err();
    assert_eq!((error.outcome, error.reason.as_str()), (Outcome::Rejected, "cross_shard"));
    assert_eq!(client.atomic(&Batch::new(), &[]).await, Ok(Transacted::Done(Vec::new())));
}

/// What a shard refuses within a transaction it refuses again under the same request id, and the rest was
/// done: to ask again would hide that (INV-5).
#[tokio::test]
async fn what_a_transaction_refuses_for_want_of_room_is_told_at_once() {
    let nodes = two_shards().await;
    let client = nodes.client().await;
    let name = |i: usize| format!("{{t}}{i:0>4000}");
    // A quarter of the shard's 16 MiB is for locks.
    for part in 0..3 {
        let mut locks = Batch::new();
        for i in part * 340..(part + 1) * 340 {
            locks.lock(name(i), "me", MINUTE);
        }
        for done in client.batch(&locks).await {
            assert!(matches!(done, Ok(Done::Lock(_))), "{done:?}");
        }
    }
    let before = client.stats().retries;
    let mut batch = Batch::new();
    batch.set("{t}data", "v");
    for i in 1_020..1_040 {
        batch.lock(name(i), "me", MINUTE);
    }
    let Ok(Transacted::Done(done)) = client.atomic(&batch, &[]).await else { panic!("it is done") };
    assert!(matches!(&done[0], Ok(Done::Set(written)) if written.applied));
    let error = done.last().unwrap().as_ref().unwrap_err();
    assert_eq!((error.outcome, error.reason.as_str()), (Outcome::Rejected, "resource_exhausted"));
    assert_eq!(client.stats().retries, before);
    assert_eq!(client.get("{t}data").await.unwrap().unwrap().value, Value::from("v"));
}
