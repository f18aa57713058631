//! Loads and results for the tests of this module, and a lane that stalls.

use std::time::Duration;

use super::drive::{Answered, Call, Lane, Outcome, Single, drive};
use super::facts::{Copies, Durability, Facts};
use super::keys::Distribution;
use super::options::{Options, Sizes, System};
use super::report::{Run, Sample};
use super::shared::{Shared, Tally};
use super::workload::{Op, Workload};
use crate::types::clock::{Instant, now};

/// A small load.
pub fn options() -> Options {
    Options {
        targets: Vec::new(),
        reads: 0.5,
        callers: 4,
        connections: 1,
        keys: 100,
        distribution: Distribution::Uniform,
        sizes: Sizes { min: 8, max: 8 },
        rate: None,
        warmup: Duration::ZERO,
        duration: Duration::from_secs(10),
        seed: 1,
    }
}

/// A result with so many latencies of 1 to 100 ms.
pub fn run(target: &str, operations: u64) -> Run {
    let target: super::Target = target.parse().unwrap();
    let copies = match target.system {
        System::Redis => Copies::One,
        _ => Copies::MajorityOf(3),
    };
    let facts = Facts {
        version: "1.0".to_owned(),
        copies,
        durability: Durability::Memory,
        notes: Vec::new(),
    };
    let mut run = Run {
        target,
        facts,
        elapsed: Duration::from_secs(10),
        latencies: Tally::default().latencies,
        missed: 0,
        errors: 0,
        unsent: 0,
        example: None,
        samples: (1..=10)
            .map(|i| Sample { at_s: f64::from(i), rate: 100.0 + f64::from(i), errors: 0 })
            .collect(),
    };
    (0..operations).for_each(|i| run.latencies.record(1_000 + i % 100 * 1_000).unwrap());
    run
}

/// A system that answers after 1 ms, except while it stalls.
struct Stalls {
    from: Instant,
    until: Instant,
}

impl Call for Stalls {
    async fn call(&mut self, _: Op) -> Outcome {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if (self.from..self.until).contains(&now()) {
            tokio::time::sleep_until(self.until).await;
        }
        Outcome::Done
    }
}

/// One caller of a system that stalls for one second of ten.
async fn stalled(rate: Option<f64>) -> Tally {
    let options = Options { rate, ..options() };
    let shared = Shared::new(&options, Duration::from_secs(5));
    let from = now() + Duration::from_secs(4);
    let lane = Single::new(Stalls { from, until: from + Duration::from_secs(1) });
    let work = drive(lane, 1, Workload::new(&options, 0), &shared);
    let ends = async {
        tokio::time::sleep_until(shared.give_up_at).await;
        shared.stop();
    };
    tokio::join!(work, ends).0
}

/// The point of a rate: one second in ten without an answer is a tenth of all that users asked for,
/// and a closed loop sees one operation of it.
#[tokio::test(start_paused = true)]
async fn a_stall_shows_in_all_that_fell_due_meanwhile() {
    let paced = stalled(Some(100.0)).await;
    assert_eq!((paced.latencies.len(), paced.errors), (1_000, 0), "all that were due");
    let slow = paced.latencies.iter_recorded().filter(|v| v.value_iterated_to() > 100_000);
    let slow: u64 = slow.map(|v| v.count_since_last_iteration()).sum();
    assert!((80..=130).contains(&slow), "{slow} of 1000 waited for more than 100 ms");
    assert!(paced.latencies.value_at_quantile(0.95) > 300_000);

    let closed = stalled(None).await;
    assert!(closed.latencies.len() > 2_000);
    let slow = closed.latencies.iter_recorded().filter(|v| v.value_iterated_to() > 100_000);
    let slow: u64 = slow.map(|v| v.count_since_last_iteration()).sum();
    assert_eq!(slow, 1, "a closed loop asks no more while it waits");
}

/// A system that never answers from some time on.
struct Dies(Instant);

impl Lane for Dies {
    async fn start(&mut self, _: usize, _: Op) -> anyhow::Result<()> {
        Ok(())
    }

    async fn next(&mut self) -> anyhow::Result<Answered> {
        if now() >= self.0 {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok((0, Outcome::Done))
    }
}

/// What is never answered is no latency; it must be told all the same.
#[tokio::test(start_paused = true)]
async fn a_hang_at_the_end_of_a_closed_loop_is_told() {
    let options = options();
    let shared = Shared::new(&options, Duration::ZERO);
    let lane = Dies(now() + Duration::from_secs(1));
    let tally = drive(lane, 1, Workload::new(&options, 0), &shared).await;
    assert!(tally.latencies.len() > 400, "{}", tally.latencies.len());
    assert_eq!(tally.errors, 1);
    assert_eq!(tally.example.as_deref(), Some("no answer for 9.1 s at the end of the run"));
}

/// A connection that breaks, and whose server is away for a while. Every other read finds nothing.
struct Breaks {
    at: Instant,
    back: Instant,
    broken: bool,
    count: u64,
}

impl Lane for Breaks {
    async fn start(&mut self, _: usize, _: Op) -> anyhow::Result<()> {
        Ok(())
    }

    async fn next(&mut self) -> anyhow::Result<Answered> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.broken |= (self.at..self.back).contains(&now());
        anyhow::ensure!(!self.broken, "reset by its peer");
        self.count += 1;
        Ok((0, if self.count.is_multiple_of(2) { Outcome::Done } else { Outcome::Missed }))
    }

    async fn reopen(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(now() >= self.back, "refused");
        self.broken = false;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_a_failure_and_not_the_end() {
    let options = options();
    let shared = Shared::new(&options, Duration::ZERO);
    let (at, back) = (now() + Duration::from_secs(2), now() + Duration::from_secs(4));
    let lane = Breaks { at, back, broken: false, count: 0 };
    let ends = async {
        tokio::time::sleep_until(shared.give_up_at).await;
        shared.stop();
    };
    let work = drive(lane, 1, Workload::new(&options, 0), &shared);
    let (tally, ()) = tokio::join!(work, ends);
    assert_eq!((tally.errors, tally.example.as_deref()), (1, Some("reset by its peer")));
    // Timers take up to 2 ms; for two seconds of ten nobody was there.
    assert!((3_500..=8_000).contains(&tally.latencies.len()), "{}", tally.latencies.len());
    assert_eq!(tally.missed, tally.latencies.len().div_ceil(2));
}

#[tokio::test(start_paused = true)]
async fn what_was_due_and_never_answered_is_told() {
    let options = Options { rate: Some(100.0), ..options() };
    let shared = Shared::new(&options, Duration::from_secs(5));
    let lane = Dies(now() + Duration::from_secs(4));
    let tally = drive(lane, 1, Workload::new(&options, 0), &shared).await;
    let left = shared.pace.as_ref().unwrap().left();
    assert_eq!(tally.latencies.len() + tally.errors + left, 1_000);
    assert!((1..=2).contains(&tally.errors), "{}", tally.errors);
    assert!((590..=601).contains(&left), "{left} never sent");
}
