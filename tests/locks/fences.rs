//! The pause that breaks a lock without fencing (Kleppmann, "How to do distributed locking", 2016).

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use raftcache::front::pb;

use crate::client::{Client, client};
use crate::harness::{ProcessCluster, Shape};
use crate::process::until;
use crate::store::{Store, Writer};
use crate::turn;

const LOCK: &str = "{job}lock";
const DATA: &str = "{job}data";
const TTL_MS: u64 = 5_000;
/// Where a holder finds the cluster and the stores; without it, it is no holder.
const HOLDER: &str = "RAFTCACHE_TEST_HOLDER";

fn lock(owner: &str) -> pb::LockRequest {
    let nanos = i32::try_from(TTL_MS % 1_000 * 1_000_000).unwrap();
    pb::LockRequest {
        key_form: Some(pb::lock_request::KeyForm::Key(LOCK.to_owned())),
        owner: owner.as_bytes().to_vec().into(),
        ttl: Some(pb::Ttl { seconds: (TTL_MS / 1_000) as i64, nanos }),
        request_id: None,
    }
}

/// Writes to the cluster only if the lock is held under this token when the write is applied.
async fn fenced(client: &mut Client, token: u64, value: &str) -> bool {
    let set = pb::SetRequest {
        key_form: Some(pb::set_request::KeyForm::Key(DATA.to_owned())),
        value_form: Some(pb::set_request::ValueForm::Value(value.to_owned())),
        ..pb::SetRequest::default()
    };
    let watch = pb::Watch {
        key_form: Some(pb::watch::KeyForm::Key(LOCK.to_owned())),
        version: token,
        absent_since: 0,
    };
    let set = pb::BatchOperation { operation: Some(pb::batch_operation::Operation::Set(set)) };
    let batch = pb::BatchRequest {
        operations: vec![set],
        atomic: true,
        watches: vec![watch],
        ..pb::BatchRequest::default()
    };
    !client.batch(batch).await.unwrap().into_inner().aborted
}

/// The holder's process: takes the lock, says its token, and writes under it until a store refuses.
/// It does what a careful client does, and still writes after its lock has ended: it stood still, and
/// cannot know.
#[tokio::test]
#[ignore = "a part of `an_old_holder_that_wakes_up_is_refused_by_who_checks`"]
async fn holder() {
    let Ok(told) = std::env::var(HOLDER) else { return };
    let told: Vec<&str> = told.split(' ').collect();
    let mut cluster = client(told[0]);
    let held = cluster.lock(lock("old")).await.unwrap().into_inner();
    assert!(held.held, "{held:?}");
    assert!(fenced(&mut cluster, held.token, "old").await, "the lock is held");
    let (mut checked, mut unchecked) = (Writer::connect(told[1]), Writer::connect(told[2]));
    println!("token {}", held.token);
    for _ in 0..2_000 {
        // In this order: wherever it stands still, one write to the store that does not check is late.
        let taken = checked.write(held.token);
        unchecked.write(held.token);
        if !taken {
            let late = fenced(&mut cluster, held.token, "old, late").await;
            println!("refused, and in the cluster {}", if late { "taken" } else { "aborted" });
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("never refused");
}

struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn signal(child: &Child, signal: &str) {
    let pid = child.id().to_string();
    let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", signal, &pid]).status();
    assert!(sent.unwrap().success());
}

/// Done-when 4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_holder_that_wakes_up_is_refused_by_who_checks() {
    let _turn = turn().await;
    let cluster = ProcessCluster::start(Shape::new("memory")).await;
    let (checked, unchecked) = (Store::open(true), Store::open(false));
    let told = format!("{} {} {}", cluster.members[0].grpc, checked.addr, unchecked.addr);
    let holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "fences::holder", "--ignored", "--nocapture"])
        .env(HOLDER, told)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut holder = Holder(holder);
    let mut lines = BufReader::new(holder.0.stdout.take().unwrap()).lines();
    let mut line = |begins: &str| loop {
        let line = lines.next().expect("the holder says more").unwrap();
        // The harness may have begun the line with the name of the test.
        if let Some((_, rest)) = line.split_once(begins) {
            return rest.to_owned();
        }
    };
    let old: u64 = line("token ").parse().unwrap();
    until("a write of the holder", Duration::from_secs(10), async || {
        (!checked.taken.lock().unwrap().is_empty()).then_some(())
    })
    .await;
    signal(&holder.0, "STOP");

    // Another one, through another node, gets it when it has ended, and not before.
    let mut second = client(&cluster.members[1].grpc);
    let seen = second.lock(lock("new")).await.unwrap().into_inner();
    assert!(!seen.held && seen.token == old, "{seen:?}");
    let new = until("the end of the lock", Duration::from_secs(30), async || {
        let seen = second.lock(lock("new")).await.unwrap().into_inner();
        seen.held.then_some(seen.token)
    })
    .await;
    assert!(new > old, "tokens grow");
    let mut writers = [&checked, &unchecked].map(|store| Writer::connect(&store.addr.to_string()));
    assert!(writers.iter_mut().all(|writer| writer.write(new)));
    assert!(fenced(&mut second, new, "new").await);

    signal(&holder.0, "CONT");
    assert_eq!(line("refused, and in the cluster "), "aborted");
    let taken = checked.taken.lock().unwrap().clone();
    assert!(taken.is_sorted(), "the store that checks: {taken:?}");
    assert!(checked.refused.lock().unwrap().iter().all(|token| *token == old));
    let taken = unchecked.taken.lock().unwrap().clone();
    assert!(!taken.is_sorted(), "the pause breaks the lock for the store that does not check");
}
