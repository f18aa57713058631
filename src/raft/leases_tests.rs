use super::*;

const KEY: Bytes = Bytes::from_static(b"k");

fn limits() -> LeaseLimits {
    let token = Duration::from_secs(10);
    LeaseLimits { token, tokens_max: 3, keys_bytes_max: 64, waiters_key_max: 2, waiters_max: 3 }
}

fn token(leases: &Leases, key: &Bytes, term: u64, random: u64) -> Option<u64> {
    match leases.enter((1, key), term, || random).expect("there is room") {
        Entered::Token(token) => Some(token),
        Entered::Taken(_) => None,
    }
}

#[tokio::test(start_paused = true)]
async fn one_token_a_key_until_it_changes() {
    let leases = Leases::new(limits());
    assert_eq!(token(&leases, &KEY, 1, 7), Some(7));
    assert_eq!(token(&leases, &KEY, 1, 8), None);
    // Another key of the same hash has its own, and is told of the other's changes.
    let other = Bytes::from_static(b"other");
    assert_eq!(token(&leases, &other, 1, 9), Some(9));
    assert!(leases.is_good((1, b"k"), 1, 7));
    assert!(!leases.is_good((1, b"k"), 1, 9), "the token of another key");
    leases.changed(2);
    assert!(leases.is_good((1, b"k"), 1, 7), "a key of another hash");
    leases.changed(1);
    assert!(!leases.is_good((1, b"k"), 1, 7) && !leases.is_good((1, b"other"), 1, 9));
    assert_eq!(token(&leases, &KEY, 1, 10), Some(10));
}

#[tokio::test(start_paused = true)]
async fn a_token_ends_with_its_time_and_its_term() {
    let leases = Leases::new(limits());
    assert_eq!(token(&leases, &KEY, 1, 7), Some(7));
    tokio::time::advance(Duration::from_millis(9_999)).await;
    assert!(leases.is_good((1, b"k"), 1, 7));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(!leases.is_good((1, b"k"), 1, 7));
    assert_eq!(token(&leases, &KEY, 1, 8), Some(8));
    assert!(!leases.is_good((1, b"k"), 2, 8), "another term knows no token");
    assert_eq!(token(&leases, &KEY, 2, 9), Some(9));
    leases.all_changed();
    assert!(!leases.is_good((1, b"k"), 2, 9));
}

#[tokio::test(start_paused = true)]
async fn waiters_hear_of_a_change_a_term_and_the_end_of_a_token() {
    let leases = Leases::new(limits());
    assert_eq!(token(&leases, &KEY, 1, 7), Some(7));
    let mut waiter = leases.wait(1, &KEY).expect("there is room");
    leases.changed(1);
    waiter.changed().await;
    drop(waiter);
    assert_eq!(token(&leases, &KEY, 1, 8), Some(8));
    let mut waiter = leases.wait(1, &KEY).expect("there is room");
    assert_eq!(token(&leases, &KEY, 2, 9), Some(9));
    waiter.changed().await;
    drop(waiter);
    let mut waiter = leases.wait(1, &KEY).expect("there is room");
    tokio::time::advance(Duration::from_secs(11)).await;
    // Whoever comes next finds that the token has ended.
    assert_eq!(token(&leases, &KEY, 2, 10), Some(10));
    waiter.changed().await;
}

/// INV-8.
#[tokio::test(start_paused = true)]
async fn tokens_and_waiters_are_bounded_and_given_back() {
    let leases = Leases::new(limits());
    let keys = ["a", "b", "c", "d"].map(Bytes::from);
    for (key, random) in keys.iter().zip(1..4) {
        assert_eq!(token(&leases, key, 1, random), Some(random));
    }
    let what = |error: Error| match error.reason {
        Reason::ResourceExhausted { what, .. } => what,
        other => panic!("{other}"),
    };
    let full = leases.enter((1, &keys[3]), 1, || 9).expect_err("three are out");
    assert_eq!(what(full), WHAT_LEASE_TOKENS);
    let first = [leases.wait(1, &keys[0]), leases.wait(1, &keys[0])].map(Result::unwrap);
    let full = leases.wait(1, &keys[0]).expect_err("two wait for the key");
    assert_eq!(what(full), WHAT_LEASE_WAITERS_KEY);
    let second = leases.wait(2, &keys[1]).expect("there is room");
    let full = leases.wait(3, &keys[2]).expect_err("three wait");
    assert_eq!(what(full), WHAT_LEASE_WAITERS);
    assert_eq!(leases.waiting(), 3);
    drop((first, second));
    assert_eq!(leases.waiting(), 0);
    leases.changed(1);
    assert_eq!(leases.held.load(Ordering::SeqCst), 0, "nothing is kept");
    assert!(leases.state.lock().ends.is_empty());
    assert_eq!(token(&leases, &keys[3], 1, 9), Some(9));
}

#[tokio::test(start_paused = true)]
async fn keys_are_bounded_by_their_bytes() {
    let leases = Leases::new(limits());
    let long = Bytes::from(vec![b'x'; 64]);
    assert_eq!(token(&leases, &long, 1, 7), Some(7));
    let refused = leases.enter((2, &KEY), 1, || 8).unwrap_err();
    let Reason::ResourceExhausted { what, limit } = refused.reason else { panic!("{refused:?}") };
    assert_eq!((what, limit), (WHAT_LEASE_KEYS_BYTES, 64));
    leases.changed(1);
    assert_eq!(token(&leases, &KEY, 1, 9), Some(9), "the long key is forgotten");
}
