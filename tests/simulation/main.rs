//! Whole nodes in one thread under virtual time, with faults from a seed; what clients saw is checked
//! against the promises (INV-1 to INV-7). See docs/testing.md.
//!
//! `SEED=123 cargo test --test simulation replay -- --nocapture` replays one seed; with `RUST_LOG`
//! set it also shows what the nodes logged. `BUG=EchoLife` puts a bug of `mutants.rs` back.

#![recursion_limit = "256"]
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod book;
mod bounded;
mod choose;
mod client;
mod cluster;
mod counters;
mod disks;
mod fills;
mod history;
mod intent;
mod lifetimes;
mod locks;
mod model;
mod mutants;
mod nemesis;
mod plan;
mod record;
mod run;
mod trace;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use mutants::{Bug, MUTANTS};
use plan::Plan;
use raftcache::types::probe::Probe;
use run::{Outcome, run};

const SEEDS: u64 = 120;

/// States that only a fault reaches which waits for the countermeasure of a bug.
const REACHED_BY: [(Probe, Bug); 1] = [(Probe::SessionForgotten, Bug::RetryBeforeExpiry)];

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn failure(outcome: &Outcome) -> String {
    format!(
        "seed {seed} violates:\n{}\nreplay: SEED={seed} cargo test --test simulation replay -- --nocapture",
        outcome.violations.join("\n"),
        seed = outcome.seed
    )
}

/// Runs seeds in two threads side by side and calls `done` for each, until it says no.
fn run_all(first: u64, count: u64, run: impl Fn(u64) -> bool + Sync) {
    let next = AtomicU64::new(first);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= first + count || !run(seed) {
                        return;
                    }
                }
            });
        }
    });
}

/// Runs a seed twice: both runs must be one and the same.
fn run_twice(seed: u64) -> Outcome {
    let mut outcome = run(Plan::new(seed, Bug::None), true);
    let other = run(Plan::new(seed, Bug::None), true);
    if outcome.trace != other.trace {
        let at = outcome.lines.iter().zip(&other.lines).position(|(a, b)| a != b);
        let at = at.unwrap_or(outcome.lines.len().min(other.lines.len()));
        let line = |lines: &[String]| lines.get(at).cloned().unwrap_or_default();
        outcome.violations.push(format!(
            "two runs differ at line {at}:\n{}\n{}",
            line(&outcome.lines),
            line(&other.lines)
        ));
    }
    outcome.lines.clear();
    outcome
}

fn print(outcomes: &[Outcome], seconds: f64) {
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    println!(
        "{} seeds, each twice, in {seconds:.1} s: {} virtual s, {} operations checked ({} ok, {} unknown, {} rejected, {} tried again, {} sent again late), {} faults, {} elections",
        outcomes.len(),
        sum(|o| o.virtual_ms) / 1000,
        sum(|o| o.checked as u64),
        sum(|o| o.counts.ok),
        sum(|o| o.counts.unknown),
        sum(|o| o.counts.rejected),
        sum(|o| o.counts.retries),
        sum(|o| o.counts.late_retries),
        sum(|o| o.faults),
        sum(|o| o.elections),
    );
}

/// What a run of many seeds must have met.
fn check_reached(outcomes: &[Outcome]) {
    let mut missing = Vec::new();
    for probe in Probe::ALL {
        let times: u64 = outcomes.iter().filter_map(|o| o.reached.get(&probe)).sum();
        println!("{times:>8} {probe:?}");
        let late = REACHED_BY.iter().find(|(other, _)| *other == probe);
        if times == 0 && late.is_none_or(|(_, bug)| Bug::None.looks_for(*bug)) {
            missing.push(format!("{probe:?}"));
        }
    }
    type Count = fn(&Outcome) -> u64;
    let counts: [(&str, Count); 4] = [
        ("bounded reads with an age", |o| o.counts.bounded),
        ("locks whose time was over", |o| o.counts.locks_ended),
        ("callers told that another one fills", |o| o.counts.busy),
        ("writes sent again late", |o| o.counts.late_retries),
    ];
    for (name, of) in counts {
        let times: u64 = outcomes.iter().map(of).sum();
        println!("{times:>8} {name}");
        if times == 0 {
            missing.push(name.to_owned());
        }
    }
    assert!(missing.is_empty(), "never reached: {missing:?}");
}

#[test]
fn seeds() {
    #[expect(clippy::disallowed_methods, reason = "what is measured is the machine's own time")]
    let start = std::time::Instant::now();
    let outcomes = Mutex::new(Vec::new());
    let (first, count) = (env("FIRST").unwrap_or(1), env("SEEDS").unwrap_or(SEEDS));
    run_all(first, count, |seed| {
        let outcome = run_twice(seed);
        outcomes.lock().unwrap().push(outcome);
        true
    });
    let outcomes = outcomes.into_inner().unwrap();
    print(&outcomes, start.elapsed().as_secs_f64());
    let failures: Vec<String> =
        outcomes.iter().filter(|o| !o.violations.is_empty()).map(failure).collect();
    assert!(failures.is_empty(), "{} seeds fail:\n{}", failures.len(), failures.join("\n\n"));
    for outcome in &outcomes {
        assert!(outcome.faults > 0 && outcome.elections > 0, "nothing happened: {outcome:?}");
        assert!(outcome.checked > 50, "hardly anything was checked: {outcome:?}");
    }
    if count >= SEEDS {
        check_reached(&outcomes);
    }
}

/// `SEED=123 cargo test --test simulation replay -- --nocapture`
#[test]
fn replay() {
    let Some(seed) = env("SEED") else { return };
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).init();
    }
    let name = std::env::var("BUG").unwrap_or_default();
    let bugs = MUTANTS.iter().map(|mutant| mutant.bug);
    let bug = bugs.into_iter().find(|bug| format!("{bug:?}") == name).unwrap_or(Bug::None);
    assert!(name.is_empty() || bug != Bug::None, "no bug is called {name}");
    let outcome = run(Plan::new(seed, bug), true);
    for line in &outcome.lines {
        println!("{line}");
    }
    assert!(outcome.violations.is_empty(), "{}", failure(&outcome));
}

/// With `bug` in the product, the world or the client, some seed of the first few must fail. A bug that
/// the product has still is not put back: it is there.
fn finds(bug: Bug) {
    let mutant = bug.mutant().expect("each has its row");
    if !mutant.countermeasures.is_empty() && !cfg!(debug_assertions) {
        println!("skipped: only builds with debug assertions can take {bug:?} out");
        return;
    }
    #[expect(clippy::disallowed_methods, reason = "what is measured is the machine's own time")]
    let start = std::time::Instant::now();
    let seen = Mutex::new(None);
    run_all(1, mutant.seeds, |seed| {
        let outcome = run(Plan::new(seed, bug), false);
        let wanted = |text: &&String| mutant.wanted.iter().any(|part| text.contains(part));
        let found = outcome.violations.iter().find(wanted).cloned();
        let go_on = found.is_none();
        if let Some(text) = found {
            *seen.lock().unwrap() = Some((outcome.seed, text));
        }
        go_on
    });
    let seen = seen.into_inner().unwrap();
    let (seed, text) = seen.unwrap_or_else(|| {
        panic!("{bug:?} stays unseen for {} seeds", mutant.seeds);
    });
    let seconds = start.elapsed().as_secs_f64();
    println!("{bug:?} is seen with seed {seed} after {seconds:.1} s: {text}");
    println!("replay: BUG={bug:?} SEED={seed} cargo test --test simulation replay -- --nocapture");
}

#[test]
fn checker_sees_a_skipped_fsync() {
    finds(Bug::SkipFsync);
}

#[test]
fn checker_sees_a_blank_restart() {
    finds(Bug::BlankRestart);
}

#[test]
fn checker_sees_reads_without_a_barrier() {
    finds(Bug::StaleReads);
}

#[test]
fn checker_sees_a_reused_request_id() {
    finds(Bug::ReusedRequestId);
}

#[test]
fn checker_sees_a_write_that_was_called_rejected() {
    finds(Bug::UnknownAsRejected);
}

#[test]
fn finds_a_clock_of_an_earlier_life() {
    finds(Bug::EchoLife);
}

#[test]
fn finds_a_retry_that_comes_after_its_session() {
    finds(Bug::RetryBeforeExpiry);
}

#[test]
fn finds_a_lost_replica_that_never_ran() {
    finds(Bug::LostReplicaIds);
}

#[test]
fn finds_a_log_that_is_too_short() {
    finds(Bug::ShortLog);
}

#[test]
fn finds_a_leader_whose_clock_is_wrong() {
    finds(Bug::MajorityClock);
}

#[test]
fn each_mutant_is_documented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/testing.md");
    let text = std::fs::read_to_string(path).unwrap();
    for mutant in &MUTANTS {
        let row = format!("| `{:?}` |", mutant.bug);
        assert_eq!(text.matches(&row).count(), 1, "rows {row} of docs/testing.md");
    }
}
