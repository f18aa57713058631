//! The same random commands to a real redis-server and to our door: every reply is the same, byte for
//! byte, but for what `docs/resp.md` names.
//!
//! `RAFTCACHE_DIFFERENTIAL` says how many commands (20,000 without it), `RAFTCACHE_SEED` repeats a run.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod client;
mod commands;
mod exempt;
mod generate;
#[path = "../support/one_shard.rs"]
mod ours;
mod pair;
#[path = "../support/ports.rs"]
mod ports;
mod redis;
mod reply;

use client::Words;
use generate::Generator;
use pair::{Difference, Pair, typed};
use raftcache::front::resp::table::COMMANDS;
use redis::Redis;

const COMMANDS_DEFAULT: usize = 20_000;
/// Commands from one empty keyspace to the next: what led to a difference is among so many.
const ROUND: usize = 400;
/// Tries to leave a command out of what led to a difference.
const SHRINK_TRIES_MAX: usize = 2_000;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// The commands of a round.
fn round(seed: u64) -> Vec<Words> {
    let mut generator = Generator::new(seed);
    let mut commands = Vec::new();
    while commands.len() < ROUND {
        commands.extend(generator.next());
    }
    commands
}

/// The place of the first difference.
async fn first_difference(pair: &mut Pair, commands: &[Words]) -> Option<(usize, Difference)> {
    pair.reset().await;
    for (at, command) in commands.iter().enumerate() {
        if let Err(difference) = pair.run(command).await {
            return Some((at, difference));
        }
    }
    None
}

/// Leaves out what is not needed for a difference.
async fn shrunk(pair: &mut Pair, commands: &[Words]) -> (Vec<Words>, Option<Difference>) {
    let (mut commands, mut last) = (commands.to_vec(), None);
    let mut at = 0;
    for _ in 0..SHRINK_TRIES_MAX {
        if at >= commands.len() {
            break;
        }
        let mut fewer = commands.clone();
        fewer.remove(at);
        match first_difference(pair, &fewer).await {
            Some((end, difference)) => {
                fewer.truncate(end + 1);
                (commands, last) = (fewer, Some(difference));
            }
            None => at += 1,
        }
    }
    (commands, last)
}

async fn report(pair: &mut Pair, seed: u64, commands: &[Words], first: Difference) -> ! {
    let (commands, last) = shrunk(pair, commands).await;
    let Difference { command, ours, theirs } = last.unwrap_or(first);
    let lines: Vec<String> = commands.iter().map(typed).collect();
    panic!(
        "RAFTCACHE_SEED={seed}\n{}\n\n{}\n  ours:  {ours:?}\n  Redis: {theirs:?}\n",
        lines.join("\n"),
        typed(&command)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_commands_are_answered_as_redis_does() {
    let Some(redis) = Redis::start().await else { return };
    let ours = ours::serve().await;
    let mut pair = Pair::connect(ours.port, redis.port).await;
    let repeated = variable("RAFTCACHE_SEED");
    let first_seed = repeated.unwrap_or_else(rand::random);
    let count = variable("RAFTCACHE_DIFFERENTIAL").map_or(COMMANDS_DEFAULT, |n| n as usize);
    println!("RAFTCACHE_SEED={first_seed}, {count} commands");
    let (mut seed, mut sent) = (first_seed, 0);
    while sent < count {
        let commands = round(seed);
        if let Some((at, difference)) = first_difference(&mut pair, &commands).await {
            report(&mut pair, seed, &commands[..=at], difference).await;
        }
        sent += commands.len();
        seed = seed.wrapping_add(1);
    }
    println!("{sent} commands, {} answers differed as docs/resp.md says", pair.named);
}

/// What random commands leave out because the servers would go apart: it differs as the document says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_out_differs_as_the_document_says() {
    let Some(redis) = Redis::start().await else { return };
    let ours = ours::serve().await;
    let mut pair = Pair::connect(ours.port, redis.port).await;
    let long = "v".repeat((1 << 20) + 1);
    let (long_key, long_value) = (format!("SET {} v", &long[..5_000]), format!("SET k {long}"));
    let cases = [
        ("SET  v", "ERR key: is empty; 1 to 4096 bytes are allowed"),
        (long_key.as_str(), "ERR key: has 5000 bytes; at most 4096 are allowed"),
        (long_value.as_str(), "ERR value: has 1048577 bytes; at most 1048576 are allowed"),
        ("SETRANGE k 1048576 v", "ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
        ("SET k v EX 315360001", "ERR ttl: is 315360001000 ms; at most 315360000000 are allowed"),
        ("INCRBYFLOAT hex 0x10", "ERR value is not a valid float"),
    ];
    for (command, expected) in cases {
        let command = client::words(command);
        let theirs = pair.theirs.ask(&command).await;
        assert!(theirs.error().is_none(), "{}: Redis: {theirs:?}", typed(&command));
        let found = pair.ours.ask(&command).await;
        assert_eq!(found.error(), Some(expected), "{}", typed(&command));
    }
}

fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/resp.md");
    std::fs::read_to_string(path).expect("docs/resp.md")
}

/// The first cells of the document's tables.
fn rows(document: &str) -> Vec<String> {
    let first = |line: &str| line.strip_prefix("| ")?.split(" |").next().map(str::to_owned);
    document.lines().filter_map(first).collect()
}

#[test]
fn every_command_has_its_row() {
    let rows = rows(&document());
    let has = |name: &str| {
        let mark = format!("`{}`", name.to_uppercase());
        rows.iter().any(|row| row.contains(&mark))
    };
    let missing: Vec<&str> =
        COMMANDS.iter().map(|command| command.name).filter(|name| !has(name)).collect();
    assert!(missing.is_empty(), "docs/resp.md has no row for {missing:?}");
}

#[test]
fn every_exemption_is_named() {
    let document = document();
    for exemption in exempt::EXEMPTIONS {
        assert!(document.contains(exemption.row), "docs/resp.md says nothing of {}", exemption.row);
    }
}
