//! Every proposer gets an answer, and the answer is honest (INV-5).

use std::time::Duration;

use futures_util::future::join_all;

use crate::raft::countermeasure::{Countermeasure, take_out};
use crate::raft::settings::RaftSettings;
use crate::raft::testkit::{Cluster, Options, get, put, set, soon};
use crate::types::clock::now;
use crate::types::{Command, Consistency, Error, Expiry, Outcome, Reason, Reply, Write};

type Ended = (String, Result<Vec<Reply>, Error>);

/// Starts a write that must end by its deadline, or soon after.
async fn write(cluster: &Cluster, key: String, after: Duration, patience: Duration) -> Ended {
    tokio::time::sleep(after).await;
    let group = cluster.groups.values().find(|g| g.replica().is_leader()).cloned();
    let Some(group) = group else {
        return (key, Err(Reason::NotReady.into()));
    };
    let writes = vec![set(&key, "1", Expiry::Never)];
    let deadline = now() + patience;
    let ended =
        tokio::time::timeout(patience + Duration::from_millis(50), group.write(writes, deadline))
            .await;
    let seed = cluster.options.seed;
    (key.clone(), ended.unwrap_or_else(|_| panic!("the write of {key} never ended (seed {seed})")))
}

/// What is acknowledged is there, what is rejected is not.
async fn check(cluster: &Cluster, ended: &[Ended]) {
    let seed = cluster.options.seed;
    let (_, group) = cluster.leader(&[]).await;
    for (key, result) in ended {
        let read = get(&group, key, Consistency::Linearizable).await.unwrap();
        match result {
            Ok(_) => assert!(read.is_some(), "INV-2: {key} was acknowledged (seed {seed})"),
            Err(error) if error.outcome() == Outcome::Rejected => {
                assert!(read.is_none(), "INV-5: {key}: {error}, yet applied (seed {seed})");
            }
            Err(_) => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_entry_is_answered() {
    // `initialize` inside: a membership entry, and the new leader's blank one.
    let cluster = Cluster::with(Options::default()).await;
    let (_, group) = cluster.leader(&[]).await;
    put(&group, "k", "1").await.unwrap();
    for command in [Command::Tick, Command::SetLimit { bytes_max: 2 << 20 }] {
        let write = Write { request_id: None, command };
        let replies = group.write(vec![write], soon()).await.unwrap();
        assert_eq!(replies, [Reply::Done]);
    }
    let replies = group.write(Vec::new(), now() + Duration::from_secs(1)).await;
    assert_eq!(replies, Ok(Vec::new()), "no writes, no replies");
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_not_answered_is_applied_and_not_known() {
    let cluster = Cluster::with(Options::default()).await;
    let (_, group) = cluster.leader(&[]).await;
    put(&group, "k", "1").await.unwrap();
    let out = take_out(Countermeasure::ApplyAnswer);
    let error = put(&group, "k", "2").await.expect_err("nobody answered it");
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    drop(out);
    let read = get(&group, "k", Consistency::Linearizable).await.unwrap();
    assert_eq!(read, Some("2".into()), "it was applied all the same");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_races_with_the_end_of_a_leadership_has_an_honest_outcome() {
    let (mut ok, mut rejected, mut unknown) = (0, 0, 0);
    for seed in 1..=50u64 {
        let cluster = Cluster::with(Options { seed, ..Options::default() }).await;
        let delay = Duration::from_millis(1)..Duration::from_millis(8);
        cluster.network.set_delay(delay);
        let (leader, _) = cluster.leader(&[]).await;
        let writes = (0..24u64).map(|i| {
            let after = Duration::from_millis((i * 7 + seed) % 60);
            write(&cluster, format!("key-{i}"), after, Duration::from_secs(4))
        });
        let cut = async {
            tokio::time::sleep(Duration::from_millis(5 + seed % 40)).await;
            cluster.isolate(leader);
            tokio::time::sleep(Duration::from_millis(500 * (seed % 6))).await;
            cluster.network.heal();
        };
        let (ended, ()) = futures_util::join!(join_all(writes), cut);
        cluster.wait_equal().await;
        check(&cluster, &ended).await;
        for (_, result) in &ended {
            match result {
                Ok(_) => ok += 1,
                Err(error) if error.outcome() == Outcome::Rejected => rejected += 1,
                Err(_) => unknown += 1,
            }
        }
    }
    println!("{ok} acknowledged, {rejected} rejected, {unknown} unknown");
    assert!(ok > 0 && unknown > 0, "the cut met writes in flight");
}

/// Writes whose deadlines end around their proposal, on a slow network.
async fn deadlines(seed: u64) -> (Cluster, Vec<Ended>) {
    let settings = RaftSettings { batches_in_flight: 1, ..RaftSettings::default() };
    let cluster = Cluster::with(Options { seed, settings, ..Options::default() }).await;
    let delay = Duration::from_millis(1)..Duration::from_millis(5);
    cluster.network.set_delay(delay);
    cluster.leader(&[]).await;
    let writes = (0..60u64).map(|i| {
        let start = Duration::from_micros((i * 997 + seed * 131) % 20_000);
        let patience = Duration::from_micros((i * 541 + seed * 17) % 12_000);
        write(&cluster, format!("key-{i}"), start, patience)
    });
    let ended = join_all(writes).await;
    cluster.wait_equal().await;
    (cluster, ended)
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_before_or_after_the_proposal_and_never_wrong() {
    let (mut before, mut after, mut ok) = (0, 0, 0);
    for seed in 1..=20u64 {
        let (cluster, ended) = deadlines(seed).await;
        check(&cluster, &ended).await;
        for (key, result) in &ended {
            match result {
                Ok(_) => ok += 1,
                Err(Error { reason: Reason::DeadlineBeforePropose, .. }) => before += 1,
                Err(Error { reason: Reason::DeadlineAfterPropose, .. }) => after += 1,
                Err(error) => panic!("{key}: {error} (seed {seed})"),
            }
        }
    }
    println!("{ok} acknowledged, {before} not proposed in time, {after} proposed and not known");
    assert!(ok > 0 && before > 0 && after > 0, "{ok} {before} {after}: all of them are met");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_after_the_proposal_called_rejected_would_be_a_lie() {
    let _out = take_out(Countermeasure::UnknownAfterPropose);
    let mut lies = 0;
    for seed in 1..=3u64 {
        let (cluster, ended) = deadlines(seed).await;
        let (_, group) = cluster.leader(&[]).await;
        for (key, result) in &ended {
            let rejected = matches!(result, Err(error) if error.outcome() == Outcome::Rejected);
            let read = get(&group, key, Consistency::Linearizable).await.unwrap();
            lies += usize::from(rejected && read.is_some());
        }
    }
    assert!(lies > 0, "no write was applied after its caller was told that it was not");
}
