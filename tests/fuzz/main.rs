//! Parsers under random input: nothing that comes from a socket or a disk makes the program panic, and
//! what is understood is understood the same way again.
//!
//! Inputs are valid encodings with bytes flipped, cut, repeated, spliced and replaced by numbers that
//! tend to hurt; what still decodes joins the corpus. `RAFTCACHE_FUZZ_S` is how long each target runs, 2
//! seconds unless set. A finding prints its seed and the command that plays it again. `make fuzz` gives
//! the same targets to libFuzzer (`tests/fuzz/guided`), which also goes by what code an input reaches.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use raftcache::types::clock::now;
use raftcache::types::random::Random;

use crate::targets::Target;

/// Inputs kept because they decoded.
const CORPUS_MAX: usize = 512;
/// Longest input, bytes.
const INPUT_MAX: usize = 64 * 1024;
/// Bytes that parsers of all kinds trip over.
const EDGES: [&[u8]; 12] = [
    &[0],
    &[0xff],
    &[0x7f],
    &[0x80],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0, 0, 0, 0, 0, 0, 0, 0],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    b"\r\n",
    b"%00",
    b"[[[[[[[[",
    b"18446744073709551616",
];

fn budget() -> Duration {
    let seconds = std::env::var("RAFTCACHE_FUZZ_S").ok().map(|s| s.parse().expect("seconds"));
    Duration::from_secs_f64(seconds.unwrap_or(2.0))
}

/// Feeds a target until the time is over. What it understood is kept.
fn fuzz(name: &str, Target { sound: corpus, mut take }: Target) {
    assert!(!corpus.is_empty(), "{name}: a corpus");
    for sound in &corpus {
        assert!(take(sound), "{name}: what is sound is understood: {}", hex(sound));
    }
    let replay = std::env::var("RAFTCACHE_FUZZ_SEED").ok().map(|s| s.parse().expect("a seed"));
    let seed = replay.unwrap_or_else(rand::random::<u64>);
    println!("{name}: seed {seed}");
    let mut random = Random::new(seed);
    let (mut corpus, sound) = (corpus.clone(), corpus.len());
    let (started, mut runs, mut understood) = (now(), 0_u64, 0_u64);
    while now() - started < budget() {
        let input = mutated(&mut random, &corpus);
        let result = catch_unwind(AssertUnwindSafe(|| take(&input)));
        let Ok(good) = result else {
            panic!(
                "{name}: panicked after {runs} inputs; input {}\nagain: RAFTCACHE_FUZZ_SEED={seed} \
                 RAFTCACHE_FUZZ_S={} cargo test --test fuzz {name}",
                hex(&input),
                budget().as_secs() + 1
            );
        };
        runs += 1;
        if good {
            understood += 1;
            if corpus.len() < sound + CORPUS_MAX {
                corpus.push(input);
            } else {
                let at = sound + below(&mut random, CORPUS_MAX);
                corpus[at] = input;
            }
        }
    }
    println!("{name}: {runs} inputs, {understood} understood");
    assert!(runs > 0);
}

fn below(random: &mut Random, end: usize) -> usize {
    usize::try_from(random.bits() % (end.max(1) as u64)).unwrap()
}

/// Some input of the corpus, changed in one to eight places; now and then noise.
fn mutated(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    if below(random, 50) == 0 {
        let length = below(random, 64);
        return (0..length).map(|_| random.bits() as u8).collect();
    }
    let mut input = corpus[below(random, corpus.len())].clone();
    for _ in 0..=below(random, 8) {
        change(random, corpus, &mut input);
    }
    input.truncate(INPUT_MAX);
    input
}

fn change(random: &mut Random, corpus: &[Vec<u8>], input: &mut Vec<u8>) {
    let at = below(random, input.len() + 1);
    let end = at + below(random, (input.len() - at).min(32) + 1);
    let edge = EDGES[below(random, EDGES.len())];
    match below(random, 8) {
        0 if at < input.len() => input[at] ^= 1 << below(random, 8),
        1 if at < input.len() => input[at] = random.bits() as u8,
        2 => drop(input.drain(at..end)),
        3 => drop(input.splice(at..at, edge.iter().copied())),
        4 => drop(input.splice(at..end, edge.iter().copied())),
        5 => {
            let copy = input[at..end].to_vec();
            let times = 1 + below(random, 64);
            drop(input.splice(at..at, copy.repeat(times)));
        }
        6 => {
            let other = &corpus[below(random, corpus.len())];
            let from = below(random, other.len() + 1);
            let to = from + below(random, other.len() - from + 1);
            drop(input.splice(at..end, other[from..to].iter().copied()));
        }
        _ => input.truncate(at),
    }
}

fn hex(bytes: &[u8]) -> String {
    let shown: String = bytes.iter().take(2_048).map(|byte| format!("{byte:02x}")).collect();
    format!("{shown} ({} bytes)", bytes.len())
}

/// The tests are tested: a parser that panics is found, and its seed told.
#[test]
#[should_panic(expected = "again: RAFTCACHE_FUZZ_SEED=")]
fn a_panic_is_found() {
    let take = Box::new(|input: &[u8]| {
        assert!(input.iter().filter(|byte| **byte == b'[').count() < 8, "too deep for me");
        true
    });
    fuzz("weak", Target { sound: vec![b"{\"a\":1}".to_vec()], take });
}

macro_rules! tests {
    ($($name:ident)+) => {
        $(
            #[test]
            fn $name() {
                let name = stringify!($name);
                fuzz(name, targets::of_name(name).expect("a target of that name"));
            }
        )+

        #[test]
        fn every_target_runs() {
            assert_eq!(targets::NAMES, [$(stringify!($name)),+]);
        }
    };
}

tests! {
    resp_requests resp_commands http_requests json_values grpc_operations grpc_many log_records
    applied_batches snapshots store_records forward_frames remembered_replies cluster_records
    raft_frames globs decimals
}
