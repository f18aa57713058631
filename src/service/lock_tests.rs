//! Locks, fills and those who wait for them, over a fake shard and a fake network, under virtual time.

use std::time::Duration;

use bytes::Bytes;

use super::fake::*;
use super::*;
use crate::types::clock::now;
use crate::types::limits::*;
use crate::types::task::spawn;
use crate::types::*;

fn request(operation: Operation, ms: u64) -> Request {
    let deadline = now() + Duration::from_millis(ms);
    Request { operation, request_id: None, arrived: now(), deadline, trace: 0 }
}

fn ask(wait_ms: u64) -> GetOrLease {
    GetOrLease { key: Bytes::from_static(b"k"), wait_ms, stale_ok: false, beta_milli: 1_000 }
}

fn lock(owner: &str, ttl_ms: u64) -> Lock {
    let owner = Bytes::from(owner.to_owned());
    Lock { key: Bytes::from_static(b"k"), owner, ttl_ms, locks_max: u32::MAX }
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_fill_goes_on_at_the_next_leader_and_holds_nobody_up() {
    let cluster = Cluster::new(3, &[1, 2, 3], Some(1));
    let node = cluster.node(2);
    let waiting = spawn("waiting", async move {
        node.execute(request(Operation::GetOrLease(ask(5_000)), 10_000)).await
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.node(2).execute(set("a", 100)).await.unwrap();
    let leased = Leased::Fill { token: 7, token_ms: 1, found: None };
    cluster.shard.state.lock().leased.push_back(leased.clone());
    cluster.lead(Some(3));
    let answer = waiting.await.unwrap().expect("it does not panic").unwrap();
    assert_eq!(answer, Response::Leased(Box::new(leased)));
    let asked = cluster.shard.state.lock().leases_at.clone();
    let nodes: Vec<u64> = asked.iter().map(|(node, _)| node.0).collect();
    assert_eq!(nodes, [1, 3]);
    assert_eq!(asked[0].1.wait_ms, 5_000);
    assert!((3_900..=4_000).contains(&asked[1].1.wait_ms), "{}", asked[1].1.wait_ms);
}

/// INV-5: a read changes nothing, whatever breaks.
#[tokio::test(start_paused = true)]
async fn a_lease_whose_answer_is_lost_is_asked_for_again() {
    let cluster = Cluster::new(3, &[1, 2, 3], Some(1));
    cluster.cut(1, Cut::LoseAnswer);
    cluster.shard.state.lock().leased.extend([Leased::Busy, Leased::Busy]);
    let answer = cluster.node(2).execute(request(Operation::GetOrLease(ask(0)), 1_000)).await;
    assert_eq!(answer, Ok(Response::Leased(Box::new(Leased::Busy))));
    assert_eq!(cluster.frames().iter().filter(|node| **node == 1).count(), 2);
    cluster.lead(None);
    let failed = cluster.node(2).execute(request(Operation::GetOrLease(ask(0)), 300)).await;
    assert_eq!(failed.expect_err("nobody leads").outcome(), Outcome::Rejected);
}

/// INV-8: what waits at other nodes holds frames of the connection that groups need as well.
#[tokio::test(start_paused = true)]
async fn only_so_many_wait_at_other_nodes() {
    let mut options = Options::default();
    options.forward.waiting_max = 2;
    let cluster = Cluster::with_options(3, &[1, 2, 3], Some(1), &options);
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let node = cluster.node(2);
            spawn("waiting", async move {
                node.execute(request(Operation::GetOrLease(ask(5_000)), 500)).await
            })
        })
        .collect();
    let mut refused = Vec::new();
    for waiter in waiting {
        if let Err(error) = waiter.await.unwrap().expect("it does not panic") {
            refused.push(error.reason);
        }
    }
    assert_eq!(refused, [Reason::ResourceExhausted { what: WHAT_FORWARD_WAITING, limit: 2 }]);
    // Their places are free again.
    cluster.shard.state.lock().leased.push_back(Leased::Busy);
    let answer = cluster.node(2).execute(request(Operation::GetOrLease(ask(0)), 500)).await;
    assert!(answer.is_ok(), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_locks_goes_into_the_log() {
    let mut options = Options::default();
    options.limits.locks_max = 3;
    let cluster = Cluster::with_options(1, &[1], Some(1), &options);
    let command = Command::Lock(lock("o", 100));
    cluster.node(1).execute(request(Operation::Write(command), 100)).await.unwrap();
    let proposed = cluster.shard.state.lock().proposed[0].1.command.clone();
    assert_eq!(proposed, Command::Lock(Lock { locks_max: 3, ..lock("o", 100) }));

    cluster.fault(Fault::Refuse(Refusal::Locks { limit: 3 }));
    let command = Command::Lock(lock("o", 100));
    let refused = cluster.node(1).execute(request(Operation::Write(command), 100)).await;
    let reason = refused.expect_err("there are too many").reason;
    assert_eq!(reason, Reason::ResourceExhausted { what: WHAT_LOCKS, limit: 3 });
    let counted = cluster.metrics[&NodeId(1)].refused.with_label_values(&["locks_of_the_shard"]);
    assert_eq!(counted.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_out_of_bounds_is_refused_by_name() {
    let cluster = Cluster::new(1, &[1], Some(1));
    let (key, token) = (Bytes::from_static(b"k"), Version(1));
    let owner = || Bytes::from_static(b"o");
    let value = || Value { data: Bytes::from_static(b"v"), kind: ValueKind::Text };
    let fill = || Fill {
        key: key.clone(),
        value: value(),
        soft_ms: None,
        expiry: Expiry::Never,
        cost_ms: 0,
        token: 1,
        since: None,
    };
    let renew = |token, ttl_ms| Renew { key: key.clone(), owner: owner(), token, ttl_ms };
    let write = Operation::Write;
    let multi = Multi { steps: vec![Step::Write(Command::Fill(fill()))], ..Multi::default() };
    let cases = [
        ("owner", write(Command::Lock(lock("", 1)))),
        ("owner", write(Command::Lock(lock(&"o".repeat(LOCK_OWNER_BYTES_MAX + 1), 1)))),
        ("ttl", write(Command::Lock(lock("o", 0)))),
        ("ttl", write(Command::Lock(lock("o", LOCK_TTL_MS_MAX + 1)))),
        ("ttl", write(Command::Renew(renew(token, 0)))),
        ("token", write(Command::Renew(renew(Version(0), 1)))),
        (
            "token",
            write(Command::Unlock(Unlock { key: key.clone(), owner: owner(), token: Version(0) })),
        ),
        ("token", write(Command::Fill(Fill { token: 0, ..fill() }))),
        ("soft_ttl", write(Command::Fill(Fill { soft_ms: Some(0), ..fill() }))),
        ("expiry", write(Command::Fill(Fill { expiry: Expiry::Keep, ..fill() }))),
        ("wait", Operation::GetOrLease(ask(LEASE_WAIT_MS_MAX + 1))),
        (
            "beta",
            Operation::GetOrLease(GetOrLease { beta_milli: LEASE_BETA_MILLI_MAX + 1, ..ask(0) }),
        ),
        ("operations", Operation::Multi(multi)),
    ];
    for (name, operation) in cases {
        let what = format!("{operation:?}");
        let error = cluster.node(1).execute(request(operation, 100)).await.expect_err(&what);
        let Reason::InvalidArgument { field, .. } = error.reason else { panic!("{what}: {error}") };
        assert_eq!(field, name, "{what}");
    }
    assert_eq!(cluster.applied(), 0);
}
