//! The same through a plain client of Redis, which never tries again: what it was not told of is the
//! only thing it cannot know (INV-5).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use raftcache::types::task::spawn;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::counting::kill_leaders;
use crate::harness::{ProcessCluster, Shape};
use crate::leaders::client;
use crate::turn;

const COUNTERS: usize = 8;
const WRITERS: usize = 24;
const KILLS: usize = 3;
/// Longer than any answer takes, as a node answers at its deadline at the latest.
const PATIENCE: Duration = Duration::from_secs(8);

/// What the writers of one counter were told.
#[derive(Debug, Default)]
struct Told {
    acknowledged: AtomicU64,
    unknown: AtomicU64,
    refused: AtomicU64,
}

/// One command and the line it is answered; `None` if the connection broke, or nothing came.
async fn incr(socket: &mut BufReader<TcpStream>, key: &str) -> Option<String> {
    let command = format!("*2\r\n$4\r\nINCR\r\n${}\r\n{key}\r\n", key.len());
    let answer = async {
        socket.write_all(command.as_bytes()).await.ok()?;
        let mut line = String::new();
        let read = socket.read_line(&mut line).await.ok()?;
        (read > 0 && line.ends_with('\n')).then_some(line)
    };
    tokio::time::timeout(PATIENCE, answer).await.ok().flatten()
}

async fn count(addrs: Vec<String>, writer: usize, told: Arc<Vec<Told>>, stop: Arc<AtomicBool>) {
    let (key, told) = (format!("plain:{}", writer % COUNTERS), &told[writer % COUNTERS]);
    let mut turn = writer;
    let mut socket = None;
    while !stop.load(Ordering::Relaxed) {
        let Some(connection) = &mut socket else {
            turn += 1;
            match TcpStream::connect(&addrs[turn % addrs.len()]).await {
                Ok(connected) => socket = Some(BufReader::new(connected)),
                // Nobody is there: nothing was sent.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
            continue;
        };
        let answer = incr(connection, &key).await;
        let (count, lives) = match answer.as_deref() {
            Some(line) if line.starts_with(':') => (&told.acknowledged, true),
            Some(line) if line.starts_with("-UNKNOWN ") => (&told.unknown, true),
            Some(line) if line.starts_with('-') => (&told.refused, true),
            Some(line) => panic!("INCR was answered {line:?}"),
            None => (&told.unknown, false),
        };
        count.fetch_add(1, Ordering::Relaxed);
        if !lives {
            socket = None;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_retries_is_off_by_what_it_was_not_told() {
    let _turn = turn().await;
    let mut cluster = ProcessCluster::start(Shape::new("wal")).await;
    let smart = client(&cluster, Duration::from_secs(40)).await;
    let told: Arc<Vec<Told>> = Arc::new((0..COUNTERS).map(|_| Told::default()).collect());
    let stop = Arc::new(AtomicBool::new(false));
    let addrs: Vec<String> = cluster.members.iter().map(|member| member.resp.clone()).collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (told, stop) = (Arc::clone(&told), Arc::clone(&stop));
            spawn("plain counter", count(addrs.clone(), writer, told, stop))
        })
        .collect();
    let sum = |of: fn(&Told) -> &AtomicU64| -> u64 {
        told.iter().map(|told| of(told).load(Ordering::Relaxed)).sum()
    };
    kill_leaders(&mut cluster, KILLS, || sum(|told| &told.acknowledged)).await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap().expect("no writer panicked");
    }
    for (counter, told) in told.iter().enumerate() {
        let found = smart.get(format!("plain:{counter}")).await.unwrap().expect("it was counted");
        let text = String::from_utf8(found.value.into_bytes().to_vec()).unwrap();
        let (value, low) =
            (text.parse::<u64>().unwrap(), told.acknowledged.load(Ordering::Relaxed));
        let high = low + told.unknown.load(Ordering::Relaxed);
        println!("counter {counter}: {value} of {low}..={high}; {told:?}");
        assert!((low..=high).contains(&value), "counter {counter} is {value}, not {low}..={high}");
    }
    let (acknowledged, unknown) = (sum(|told| &told.acknowledged), sum(|told| &told.unknown));
    println!("{acknowledged} acknowledged, {unknown} unknown, {} refused", sum(|t| &t.refused));
    assert!(unknown > 0, "no kill was felt: is this test awake?");
}
