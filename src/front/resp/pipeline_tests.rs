//! What commands that come together ask of the service.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::testkit::{ask, door, session};
use crate::front::FrontLimits;
use crate::service::{Operation, Request};
use crate::types::clock::now;
use crate::types::{Consistency, Step};

fn freshness(request: &Request) -> Consistency {
    match &request.operation {
        Operation::Read { consistency, .. } => *consistency,
        Operation::Multi(multi) => multi.consistency,
        other => panic!("{other:?} reads nothing"),
    }
}

fn keys(request: &Request) -> usize {
    match &request.operation {
        Operation::Multi(multi) => multi.steps.len(),
        _ => 1,
    }
}

#[tokio::test]
async fn a_write_command_that_only_reads_is_never_stale() {
    let resp = door(FrontLimits::default());
    let mut session = session(&resp);
    let stale = Consistency::Bounded { staleness_ms_max: 5_000 };
    let writes = ["GETEX k", "SETRANGE k 3 ", "GETEX k EX 0"];
    for line in writes {
        ask(&resp, &mut session, &["READONLY", line]).await;
        let seen = resp.door.service.seen.lock().pop().expect("it was asked");
        assert_eq!(freshness(&seen), Consistency::Linearizable, "{line}");
    }
    for line in ["GET k", "STRLEN k", "MGET k l", "OBJECT ENCODING k"] {
        ask(&resp, &mut session, &[line]).await;
        let seen = resp.door.service.seen.lock().pop().expect("it was asked");
        assert_eq!(freshness(&seen), stale, "{line}");
    }
    // Side by side each keeps its own, and what is alike stays together.
    resp.door.service.seen.lock().clear();
    ask(&resp, &mut session, &["GET a", "SET b 1", "GET c", "GETEX k", "SET d 1", "GET e"]).await;
    let seen = std::mem::take(&mut *resp.door.service.seen.lock());
    let parts: Vec<_> = seen.iter().map(|part| (keys(part), freshness(part))).collect();
    assert_eq!(parts, [(3, stale), (2, Consistency::Linearizable), (1, stale)]);
}

fn line(name: &str, keys: usize) -> String {
    (0..keys).fold(name.to_owned(), |line, key| format!("{line} k{key}"))
}

#[tokio::test(start_paused = true)]
async fn a_command_of_many_parts_has_one_deadline() {
    let resp = door(FrontLimits::default());
    let mut session = session(&resp);
    let service = &resp.door.service;
    service.takes_ms.store(1_000, Ordering::Relaxed);
    let began = now();
    let (mget, del) = (line("MGET", 3_000), line("DEL", 1_500));
    ask(&resp, &mut session, &["GET a", &mget, &del, "GET b"]).await;
    let seen = std::mem::take(&mut *service.seen.lock());
    let parts: Vec<(usize, u64)> = seen
        .iter()
        .map(|part| (keys(part), u64::try_from((part.deadline - began).as_millis()).unwrap()))
        .collect();
    let waits = 4_980;
    // What fits into no request has parts of its own.
    let mget = [(1_024, waits + 1_000), (1_024, waits + 1_000), (952, waits + 1_000)];
    let del = [(1_024, waits + 4_000), (476, waits + 4_000)];
    let all = [&[(1, waits)], &mget[..], &del[..], &[(1, waits + 6_000)]];
    assert_eq!(parts, all.concat());
}

#[tokio::test(start_paused = true)]
async fn past_its_deadline_nothing_more_of_a_command_is_done() {
    let resp = door(FrontLimits::default());
    let mut session = session(&resp);
    resp.door.service.takes_ms.store(2_000, Ordering::Relaxed);
    let began = now();
    let answer = ask(&resp, &mut session, &[&line("DEL", 20_000), "ECHO b"]).await;
    assert!(now() - began < Duration::from_millis(5_100), "{:?}", now() - began);
    assert!(answer.starts_with("-UNKNOWN ") && answer.ends_with("$1\r\nb\r\n"), "{answer}");
    let seen = std::mem::take(&mut *resp.door.service.seen.lock());
    assert_eq!(seen.len(), 3, "the third was under way when the time was over");
    let answer = ask(&resp, &mut session, &[&line("EXISTS", 20_000)]).await;
    assert!(answer.starts_with("-UNKNOWN ") || answer.starts_with("-TRYAGAIN "), "{answer}");
}

/// What a long walk waits for is itself, which must not look like a node that keeps it waiting.
#[tokio::test(start_paused = true)]
async fn each_scan_of_keys_has_come_in_when_the_last_one_ended() {
    let resp = door(FrontLimits::default());
    let mut session = session(&resp);
    let service = &resp.door.service;
    service.takes_ms.store(1_000, Ordering::Relaxed);
    service.scans.lock().extend([(7, vec!["a".into()]), (8, vec!["b".into()])]);
    let began = now();
    assert_eq!(ask(&resp, &mut session, &["KEYS *"]).await, "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    let seen = service.seen.lock();
    let waited: Vec<u64> = seen.iter().map(|scan| (scan.arrived - began).as_secs()).collect();
    assert_eq!(waited, [0, 1, 2]);
    assert!(seen.iter().all(|scan| scan.deadline == seen[0].deadline));
}

fn shown_then_written(pairs: usize) -> Vec<String> {
    (0..pairs).flat_map(|key| [format!("GET k{key}"), format!("SET k{key} v")]).collect()
}

/// How many steps each request takes.
async fn batches(lines: &[String], rounds: usize) -> Vec<usize> {
    let resp = door(FrontLimits::default());
    let mut session = session(&resp);
    for _ in 0..rounds {
        resp.door.service.seen.lock().clear();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        ask(&resp, &mut session, &lines).await;
    }
    let seen = resp.door.service.seen.lock();
    seen.iter().map(keys).collect()
}

/// A value that does not fit among the answers of a part can only be read again if nothing of the part
/// has written it since.
#[tokio::test]
async fn values_of_unknown_length_are_not_read_before_a_write_of_them_in_one_part() {
    let lines = shown_then_written(16);
    // Two that are as long as can be fit, and the third is read again.
    assert_eq!(batches(&lines, 1).await, [5, 18, 9], "as the lengths become known");
    assert_eq!(batches(&lines, 2).await, [32], "then all go together");
    let lines = shown_then_written(512);
    assert_eq!(batches(&lines, 6).await, [1_024]);
    // What nothing writes afterwards is together from the beginning.
    let mut lines = Vec::new();
    lines.extend((0..50).flat_map(|key| [format!("SET k{key} v"), format!("GET k{key}")]));
    assert_eq!(batches(&lines, 1).await, [100]);
}

#[tokio::test]
async fn reads_alone_are_never_parted_for_their_lengths() {
    let lines: Vec<String> = (0..500).map(|key| format!("GET k{}", key % 7)).collect();
    let resp = door(FrontLimits::default());
    let mut session = session(&resp);
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    ask(&resp, &mut session, &lines).await;
    let seen = resp.door.service.seen.lock();
    assert!(seen.iter().all(|part| match &part.operation {
        Operation::Multi(multi) => multi.steps.iter().all(|step| matches!(step, Step::Read(_))),
        _ => false,
    }));
}
