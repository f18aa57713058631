//! Locks and fills.

use std::time::Duration;

use super::fakes::{Act, Nodes};
use crate::client::{
    Client, Door, Ends, FillOptions, LeaseOptions, Leased, Locked, Options, Unlocked, Value,
};
use crate::types::clock::now;
use crate::types::{Error, Outcome, Reason};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_lock_has_one_holder_and_a_token_that_grows() {
    let nodes = Nodes::start().await;
    let client = nodes.client().await;
    let held = client.lock("l", "a", MINUTE).await.unwrap();
    let Locked::Held { token, ends_at_ms } = held else { panic!("{held:?}") };
    assert!(token > 0 && ends_at_ms > 0);
    assert_eq!(client.lock("l", "a", MINUTE).await.unwrap().token(), Some(token), "the same again");
    let other = client.lock("l", "b", MINUTE).await.unwrap();
    let Locked::ByOther { token: theirs, left: Some(left) } = other else { panic!("{other:?}") };
    assert!(theirs == token && left <= MINUTE && left > MINUTE / 2, "{other:?}");
    assert_eq!(other.token(), None);
    let renewed = client.renew("l", "b", token, MINUTE).await.unwrap();
    assert_eq!(renewed, Locked::ByOther { token, left: None });
    assert_eq!(client.renew("l", "a", token, MINUTE).await.unwrap().token(), Some(token));
    let not = Unlocked { unlocked: false, by_other: Some(token) };
    assert_eq!(client.unlock("l", "b", token).await.unwrap(), not);
    let freed = Unlocked { unlocked: true, by_other: None };
    assert_eq!(client.unlock("l", "a", token).await.unwrap(), freed);
    assert_eq!(client.renew("l", "a", token, MINUTE).await.unwrap(), Locked::Free);
    assert!(client.lock("l", "b", MINUTE).await.unwrap().token().unwrap() > token);
    let error = client.get("l").await.unwrap_err();
    assert_eq!((error.outcome, error.reason.as_str()), (Outcome::Rejected, "wrong_kind"));
}

async fn fill_token(client: &Client, key: &str) -> u64 {
    match client.get_or_lease(key, LeaseOptions::default()).await.unwrap() {
        Leased::Fill { token, good_for, found: None } if !good_for.is_zero() => token,
        other => panic!("{other:?}"),
    }
}

fn waiting(wait: Duration) -> LeaseOptions {
    LeaseOptions { wait, ..LeaseOptions::default() }
}

/// The wait is longer than an attempt may take, and as many wait as a connection has places.
#[tokio::test]
async fn who_waits_for_a_fill_is_not_taken_for_lost_and_holds_nobody_up() {
    let nodes = Nodes::start().await;
    let options = Options { connections: 1, in_flight_max: 4, ..nodes.options() };
    let client = Client::connect(options).await.unwrap();
    let token = fill_token(&client, "k").await;
    let wait = waiting(Duration::from_secs(50));
    let waiters = futures_util::future::join_all((0..4).map(|_| client.get_or_lease("k", wait)));
    let filler = async {
        let deadline = now() + Duration::from_secs(30);
        while nodes.world.waits().len() < 5 {
            assert!(now() < deadline, "not all of them wait");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        client.set("other", "v").await.expect("the stream is free");
        tokio::time::sleep(nodes.options().attempt * 2).await;
        let options = FillOptions { ends: Some(Ends::After(MINUTE)), ..FillOptions::default() };
        client.fill("k", token, "filled", options).await.unwrap()
    };
    let (hits, filled) = futures_util::future::join(waiters, filler).await;
    assert!(filled.applied);
    for hit in hits {
        match hit.unwrap() {
            Leased::Hit(found) => assert_eq!(found.value, Value::from("filled")),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(client.stats().retries, 0);
    let error = client.fill("k", token, "late", FillOptions::default()).await.unwrap_err();
    assert_eq!((error.outcome, error.reason.as_str()), (Outcome::Rejected, "outdated_token"));
}

/// More would wait for a turn on the connection, where their nodes seem silent.
#[tokio::test]
async fn no_more_wait_on_a_connection_than_it_has_places() {
    for door in [Door::Pipeline, Door::Unary] {
        let nodes = Nodes::start().await;
        let options = Options { connections: 1, in_flight_max: 4, door, ..nodes.options() };
        let client = Client::connect(options).await.unwrap();
        fill_token(&client, "k").await;
        let wait = waiting(Duration::from_secs(2));
        let callers = (0..8).map(|_| client.get_or_lease("k", wait));
        for busy in futures_util::future::join_all(callers).await {
            assert_eq!(busy.unwrap(), Leased::Busy);
        }
        assert_eq!(nodes.world.waits().iter().filter(|wait| **wait > 1_000).count(), 4, "{door:?}");
        assert!(client.stats().retries >= 4, "the others came again");
        let hasty =
            Options { connections: 1, in_flight_max: 1, attempts_max: 1, door, ..nodes.options() };
        let client = Client::connect(hasty).await.unwrap();
        let two = [client.get_or_lease("k", wait), client.get_or_lease("k", wait)];
        let [first, second] = futures_util::future::join_all(two).await.try_into().unwrap();
        assert_eq!(first.unwrap(), Leased::Busy);
        let error = second.unwrap_err();
        assert_eq!(error.reason, "too_many_in_flight");
        assert_eq!(error.outcome, Outcome::Rejected);
    }
}

#[tokio::test]
async fn a_wait_ends_with_its_time_and_with_the_deadline() {
    let nodes = Nodes::start().await;
    let client = nodes.client().await;
    fill_token(&client, "k").await;
    assert_eq!(client.get_or_lease("k", LeaseOptions::default()).await.unwrap(), Leased::Busy);
    let started = now();
    let wait = Duration::from_millis(1_200);
    assert_eq!(client.get_or_lease("k", waiting(wait)).await.unwrap(), Leased::Busy);
    assert!(now() - started >= wait);
    // The deadline is less than the wait: a plain answer all the same.
    let hasty = client.within(Duration::from_millis(2_400));
    assert_eq!(hasty.get_or_lease("k", waiting(MINUTE)).await.unwrap(), Leased::Busy);

    // A second attempt waits for what is left.
    let after = Duration::from_millis(900);
    let full = Error::from(Reason::ResourceExhausted { what: "x", limit: 1 });
    nodes.script(1, vec![Act::Refuse(full.retry_after(after))]);
    let started = now();
    let wait = Duration::from_millis(2_100);
    assert_eq!(client.get_or_lease("k", waiting(wait)).await.unwrap(), Leased::Busy);
    assert!(now() - started < wait + after, "{:?}", now() - started);
    let waits = nodes.world.waits();
    assert_eq!((waits.len(), &waits[..2]), (5, &[0, 0][..]), "{waits:?}");
    // The lower bounds leave most of a second for a slow machine.
    assert!((400..=1_200).contains(&waits[2]), "{waits:?}");
    assert!((1_200..=2_100).contains(&waits[3]), "an eighth less than the deadline: {waits:?}");
    assert!((300..=1_200).contains(&waits[4]), "what the first attempt left: {waits:?}");
}
