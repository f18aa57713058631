//! A disk that fails under each engine: real files, damaged between two runs.
//!
//! Whatever is done to them, a store that opens holds everything that was acknowledged, or says
//! that it is damaged; it does not panic, hang, leave a gap, or come up short and say nothing. And
//! damage of what was never acknowledged alone is no reason to refuse it.
//!
//! `RAFTCACHE_DISK_CASE=<engine>:<fault>:<number>` runs one case, as a failure prints it;
//! `RAFTCACHE_DISK_SEED=<number>` draws other histories and other damage.

mod faults;
mod history;
mod image;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tempfile::TempDir;

use self::faults::{Case, FAULTS, Fault, damage};
use self::history::{LogStates, Round};
use super::engine::Engine;
use super::engine_wal::EngineWal;
use super::flush_mark::FlushMark;
use super::raft_engine_wal::RaftEngine;
use super::sled_wal::Sled;
use super::wal::{Error, FlushMode, Wal, WalOp};
use super::wal_suite::{small, submit};
use crate::types::clock::now;
use crate::types::metrics::Metrics;
use crate::types::random::Random;

const HISTORIES: u64 = 6;
const ROUNDS: u64 = 12;
/// Longer than any case takes by far: then it hangs.
const CASE_TIME_MAX: Duration = Duration::from_secs(60);

fn seed() -> u64 {
    let given = std::env::var("RAFTCACHE_DISK_SEED").ok();
    given.map_or(1, |text| text.parse().expect("RAFTCACHE_DISK_SEED is a number"))
}

/// Whether a known fault is put into the engine, to see that the checker finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Weakness {
    None,
    /// The flush mark says nothing.
    MarkIgnored,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Verdict {
    /// Everything acknowledged is there.
    Recovered,
    /// It says that it is damaged.
    Refused(String),
    /// Anything else.
    Wrong(String),
}

struct Subject<E: Engine> {
    seed: u64,
    sizes: E::Sizes,
    histories: Vec<Vec<Round>>,
    dir: TempDir,
    weakness: Weakness,
}

/// In memory where there is such a directory: a sync costs nothing there.
fn directory() -> TempDir {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() {
        tempfile::tempdir_in(shared).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

impl<E: Engine> Subject<E> {
    fn new(sizes: E::Sizes, weakness: Weakness) -> Self {
        let (dir, base) = (directory(), seed());
        let write = |seed: u64| {
            let path = dir.path().join(format!("history-{seed}"));
            history::write::<E>(&path, &sizes, base * HISTORIES + seed, ROUNDS)
        };
        let histories = (0..HISTORIES).map(write).collect();
        Subject { seed: base, sizes, histories, dir, weakness }
    }

    /// One case, the same each time for the same number.
    fn run(&self, fault: Fault, number: u64) -> (Verdict, bool) {
        let mut random = Random::new((self.seed << 40) ^ number ^ ((fault as u64) << 32));
        let rounds = match fault {
            // One history, so that its last batch is gone through byte by byte.
            Fault::Cut => &self.histories[(number / 200 % HISTORIES) as usize],
            _ => &self.histories[(number % HISTORIES) as usize],
        };
        let (round, case) = damage(fault, number, rounds, &mut random);
        let path = self.dir.path().join(format!("{fault:?}-{number}"));
        let innocent = case.innocent;
        let thorough = number.is_multiple_of(3);
        (self.judge(&path, case, &round.logs, thorough), innocent)
    }

    /// Opens the damaged store, in a bounded time.
    fn judge(&self, path: &Path, case: Case, logs: &[LogStates], thorough: bool) -> Verdict {
        case.image.put_down(path);
        if self.weakness == Weakness::MarkIgnored {
            std::fs::remove_file(path.join("flushed")).unwrap();
            FlushMark::open(&path.join("flushed"), true).unwrap();
        }
        let allowed: Vec<LogStates> = logs
            .iter()
            .map(|log| {
                let states =
                    if case.innocent { &log.states } else { &log.states[log.states.len() - 1..] };
                LogStates { log: log.log, states: states.to_vec() }
            })
            .collect();
        let (sender, receiver) = mpsc::channel();
        let (place, sizes) = (path.to_owned(), self.sizes.clone());
        let looker = std::thread::spawn(move || {
            let verdict = look::<E>(&place, &sizes, &allowed, thorough);
            // The receiver is gone if this came too late.
            let _ = sender.send(verdict);
        });
        let verdict = receiver.recv_timeout(CASE_TIME_MAX);
        match verdict {
            Ok(verdict) => {
                looker.join().expect("it has answered");
                if !matches!(verdict, Verdict::Wrong(_)) {
                    // sled's own threads may still be at it.
                    let _ = std::fs::remove_dir_all(path);
                }
                verdict
            }
            Err(mpsc::RecvTimeoutError::Timeout) => Verdict::Wrong("it hangs".to_owned()),
            Err(mpsc::RecvTimeoutError::Disconnected) => Verdict::Wrong("it panicked".to_owned()),
        }
    }
}

fn refused(error: Error) -> Verdict {
    if error.is_damage() {
        Verdict::Refused(error.to_string())
    } else {
        Verdict::Wrong(format!("not called damage: {error}"))
    }
}

fn look<E: Engine>(
    path: &Path,
    sizes: &E::Sizes,
    allowed: &[LogStates],
    thorough: bool,
) -> Verdict {
    let open = || EngineWal::<E>::open_with(path, Metrics::new(), FlushMode::Always, sizes);
    let wal = match open() {
        Ok(wal) => wal,
        Err(error) => return refused(error),
    };
    let mut found = BTreeMap::new();
    let mut refusal = None;
    for LogStates { log, states } in allowed {
        match wal.open(*log) {
            Ok(recovered) if states.contains(&recovered) => drop(found.insert(*log, recovered)),
            Ok(recovered) => {
                let (got, records) = (recovered.records.len(), recovered.records.last());
                let expected = states.last().map(|s| (s.records.len(), s.fresh));
                let text = format!(
                    "{log}: {got} entries up to {:?}, fresh {}; expected (entries, fresh) {expected:?}",
                    records.map(|r| r.index),
                    recovered.fresh
                );
                return Verdict::Wrong(text);
            }
            Err(error) => match refused(error) {
                wrong @ Verdict::Wrong(_) => return wrong,
                verdict => refusal = Some(verdict),
            },
        }
    }
    let keys = match wal.keys() {
        Ok(keys) => keys,
        Err(error) => return refused(error),
    };
    if let Some(refusal) = refusal {
        return refusal;
    }
    let present: Vec<_> = found.iter().filter(|(_, r)| !r.fresh).map(|(log, _)| *log).collect();
    if keys != present {
        return Verdict::Wrong(format!("lists {keys:?}, but {present:?} hold something"));
    }
    // Every third: it takes as long as the rest.
    if !thorough {
        return Verdict::Recovered;
    }
    goes_on::<E>(wal, open, &allowed[0], &found)
}

/// What came up can be written, and is still there after the next start.
fn goes_on<E: Engine>(
    wal: Arc<EngineWal<E>>,
    open: impl Fn() -> Result<Arc<EngineWal<E>>, Error>,
    first: &LogStates,
    found: &BTreeMap<crate::types::LogKey, super::wal::Recovered>,
) -> Verdict {
    let vote = Bytes::from_static(b"goes on");
    let answer = submit(wal.as_ref(), first.log, WalOp::Vote(vote.clone())).blocking_recv();
    if let Err(error) = answer.expect("each change is answered") {
        return Verdict::Wrong(format!("cannot be written: {error}"));
    }
    if let Err(error) = wal.close() {
        return Verdict::Wrong(format!("cannot be closed: {error}"));
    }
    drop(wal);
    let again = match open() {
        Ok(again) => again,
        Err(error) => return Verdict::Wrong(format!("does not open again: {error}")),
    };
    for (log, before) in found {
        let mut before = before.clone();
        if *log == first.log {
            before.vote = Some(vote.clone());
            before.fresh = false;
        }
        match again.open(*log) {
            Ok(after) if after == before => {}
            Ok(_) => return Verdict::Wrong(format!("{log} is another after the next start")),
            Err(error) => return Verdict::Wrong(format!("{log} after the next start: {error}")),
        }
    }
    Verdict::Recovered
}

#[derive(Default, Debug)]
struct Count {
    recovered: u64,
    refused: u64,
    needless: u64,
    wrong: Vec<String>,
    /// A reason of a refusal without need.
    example: Option<String>,
}

/// Runs the cases of `faults`, on all cores.
fn run_all<E: Engine>(subject: &Subject<E>, faults: &[(Fault, u64)]) -> BTreeMap<Fault, Count> {
    let only = std::env::var("RAFTCACHE_DISK_CASE").ok();
    let cases: Vec<(Fault, u64)> = faults
        .iter()
        .flat_map(|(fault, count)| (0..*count).map(|number| (*fault, number)))
        .filter(|(fault, number)| {
            only.as_ref().is_none_or(|only| *only == format!("{}:{fault:?}:{number}", E::NAME))
        })
        .collect();
    let counts = Mutex::new(BTreeMap::<Fault, Count>::new());
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(2, |n| n.get().min(8));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((fault, number)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (verdict, innocent) = subject.run(*fault, *number);
                    let mut counts = counts.lock();
                    let count = counts.entry(*fault).or_default();
                    match verdict {
                        Verdict::Recovered => count.recovered += 1,
                        Verdict::Refused(reason) => {
                            count.refused += 1;
                            if innocent {
                                count.needless += 1;
                                count.example = Some(format!("{number}: {reason}"));
                            }
                        }
                        Verdict::Wrong(what) => count.wrong.push(format!(
                            "{what}\n  RAFTCACHE_DISK_SEED={} RAFTCACHE_DISK_CASE={}:{fault:?}:{number} \
                             cargo test --lib storage::disk_faults -- --nocapture",
                            subject.seed,
                            E::NAME
                        )),
                    }
                }
            });
        }
    });
    counts.into_inner()
}

fn survives<E: Engine>(sizes: E::Sizes) {
    let started = now();
    let subject = Subject::<E>::new(sizes, Weakness::None);
    let counts = run_all(&subject, &FAULTS);
    let (mut total, mut wrong) = (0, Vec::new());
    for (fault, count) in &counts {
        println!(
            "{}, {fault:?}: {} recovered, {} refused, of these {} without need{}",
            E::NAME,
            count.recovered,
            count.refused,
            count.needless,
            count.example.as_ref().map_or(String::new(), |e| format!(" (such as {e})")),
        );
        total += count.recovered + count.refused + count.wrong.len() as u64;
        wrong.extend(count.wrong.iter().cloned());
    }
    println!("{}: {total} cases in {:?}, {} wrong", E::NAME, now() - started, wrong.len());
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert!(total >= 1_000 || std::env::var_os("RAFTCACHE_DISK_CASE").is_some());
}

#[test]
fn sled_survives_a_disk_that_fails() {
    survives::<Sled>(());
}

#[test]
fn raft_engine_survives_a_disk_that_fails() {
    survives::<RaftEngine>(small());
}

/// The histories of raft-engine go through what it does with old files.
#[test]
fn old_files_of_raft_engine_are_written_anew_and_given_back() {
    let subject = Subject::<RaftEngine>::new(small(), Weakness::None);
    let images = subject.histories.iter().flatten().map(|round| &round.after);
    let (mut anew, mut given_back) = (0, 0);
    for image in images {
        let named = |end: &str| {
            image
                .files
                .iter()
                .filter(|(p, _)| p.to_string_lossy().ends_with(end))
                .collect::<Vec<_>>()
        };
        // A file of nothing but its header has 69 bytes.
        anew += usize::from(named(".rewrite").iter().any(|(_, file)| file.data.len() > 100));
        given_back += usize::from(!named("0000000000000001.raftlog").iter().any(|_| true));
    }
    println!("{anew} images hold rewritten records, from {given_back} the first file is gone");
    assert!(anew > 20 && given_back > 20);
}

/// The check can fail: with the flush mark ignored, a store whose tail is gone comes up short.
fn a_weak_engine_is_found<E: Engine>(sizes: E::Sizes) {
    let subject = Subject::<E>::new(sizes, Weakness::MarkIgnored);
    let counts = run_all(&subject, &[(Fault::Cut, 60)]);
    let wrong: usize = counts.values().map(|count| count.wrong.len()).sum();
    println!("{} without its flush mark: {wrong} of 60 cuts come up short", E::NAME);
    assert!(wrong > 0, "{counts:?}");
}

#[test]
fn without_the_flush_mark_a_cut_tail_of_sled_is_silent_and_found_here() {
    a_weak_engine_is_found::<Sled>(());
}

#[test]
fn without_the_flush_mark_a_cut_tail_of_raft_engine_is_silent_and_found_here() {
    a_weak_engine_is_found::<RaftEngine>(small());
}

/// A directory stays with the engine that made it.
#[test]
fn another_engine_is_refused_and_named() {
    fn refused<A: Engine, B: Engine>(path: &Path) {
        let mode = FlushMode::Always;
        EngineWal::<A>::open(path, Metrics::new(), mode).unwrap().close().unwrap();
        let error = EngineWal::<B>::open(path, Metrics::new(), mode).unwrap_err();
        assert!(matches!(error, Error::OtherEngine { .. }) && !error.is_damage());
        let text = error.to_string();
        for part in [A::NAME, B::NAME, "wal.engine", path.to_str().unwrap()] {
            assert!(text.contains(part), "{text}");
        }
        EngineWal::<A>::open(path, Metrics::new(), mode).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    refused::<Sled, RaftEngine>(&dir.path().join("a"));
    refused::<RaftEngine, Sled>(&dir.path().join("b"));
}
