//! Rounds of `kill -9` at random moments, of one, two or all nodes, under one load that runs
//! through all of them and checks every key.
//!
//! `SEED=123 ROUNDS=50 cargo test --test cluster rounds -- --nocapture` runs the schedule of a seed
//! again, with as many rounds as one likes. What is killed when is the schedule's; what the nodes
//! are doing at that moment is the machine's.

use std::fmt;
use std::time::Duration;

use raftcache::types::clock::now;
use raftcache::types::random::Random;

use crate::harness::{ProcessCluster, Shape};
use crate::load::{BRIEF, Load, patience};
use crate::turn;

/// Random rounds, if `ROUNDS` does not say otherwise.
const ROUNDS: u64 = 20;
/// Every shard takes writes again within this of the kill of a node, if the others were ready, and what
/// `patience` adds.
const WRITABLE: Duration = Duration::from_secs(3);
/// The same from the last start, if too few were left to go on.
const BACK: Duration = Duration::from_secs(15);
const KEYS: usize = 96;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Kill,
    Launch,
}

/// What happens in a round, and when, counted from its begin.
#[derive(Debug)]
struct Round {
    steps: Vec<(Duration, usize, Step)>,
    /// The next round waits until every node is ready again.
    settles: bool,
}

/// A whole number below `limit`.
fn below(random: &mut Random, limit: u64) -> usize {
    usize::try_from(random.bits() % limit).unwrap()
}

fn within_ms(random: &mut Random, limit_ms: u64) -> Duration {
    random.duration(&(Duration::ZERO..Duration::from_millis(limit_ms)))
}

/// Nothing as often as one time in `chance`, else up to `limit_ms`.
fn pause(random: &mut Random, chance: u64, limit_ms: u64) -> Duration {
    if below(random, chance) == 0 { Duration::ZERO } else { within_ms(random, limit_ms) }
}

impl Round {
    /// Kills these nodes at once and starts them again at once.
    fn of(victims: &[usize]) -> Round {
        let mut round = Round { steps: Vec::new(), settles: true };
        victims.iter().for_each(|at| round.steps.push((Duration::ZERO, *at, Step::Kill)));
        victims.iter().for_each(|at| round.steps.push((Duration::ZERO, *at, Step::Launch)));
        round
    }

    fn random(random: &mut Random, nodes: usize) -> Round {
        // One node in every second round, two or all of them in every fourth.
        let count = [1, 1, 2, 3][below(random, 4)];
        let mut left: Vec<usize> = (0..nodes).collect();
        let mut steps = Vec::new();
        let mut at = within_ms(random, 800);
        for _ in 0..count {
            let victim = left.swap_remove(below(random, left.len() as u64));
            steps.push((at, victim, Step::Kill));
            let mut back = at + pause(random, 3, 1_500);
            steps.push((back, victim, Step::Launch));
            if below(random, 4) == 0 {
                // Once more while it opens its logs or catches up.
                back += within_ms(random, 1_500);
                steps.push((back, victim, Step::Kill));
                steps.push((back, victim, Step::Launch));
            }
            at += pause(random, 2, 400);
        }
        // A stable sort: the steps of one node keep their order.
        steps.sort_by_key(|(at, ..)| *at);
        Round { steps, settles: below(random, 4) != 0 }
    }

    /// The node that is killed, if it is one alone.
    fn lone(&self) -> Option<usize> {
        let first = self.steps[0].1;
        self.steps.iter().all(|(_, at, _)| *at == first).then_some(first)
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (when, at, step) in &self.steps {
            let sign = if *step == Step::Kill { '-' } else { '+' };
            write!(f, "{sign}{}@{} ", at + 1, when.as_millis())?;
        }
        Ok(())
    }
}

/// Slowest times to writable, and how often a node was killed.
#[derive(Debug, Default)]
struct Slowest {
    lone: Duration,
    more: Duration,
    kills: usize,
    /// Longest gap of a key before any kill.
    calm: Duration,
}

impl Slowest {
    /// Runs a round. `steady` says that every node was ready when it began.
    async fn run(
        &mut self,
        cluster: &mut ProcessCluster,
        load: &Load,
        round: &Round,
        steady: bool,
    ) {
        // With one node killed the other two go on; else time counts once the last is back.
        let lone = steady && round.lone().is_some();
        let marked = if lone { 0 } else { round.steps.len() - 1 };
        let began = now();
        for (i, (when, at, step)) in round.steps.iter().enumerate() {
            tokio::time::sleep_until(began + *when).await;
            if i == marked {
                load.mark();
            }
            if *step == Step::Launch {
                cluster.launch(*at);
                continue;
            }
            assert_eq!(cluster.process(*at).ended(), None, "node {} ended by itself", at + 1);
            cluster.kill(*at);
            self.kills += 1;
        }
        let shards = load.writable_again().await;
        let (shard, took) = shards.into_iter().max_by_key(|(_, first)| *first).unwrap();
        let (since, limit, slowest) = if lone {
            ("the kill", WRITABLE, &mut self.lone)
        } else {
            ("the last start", BACK, &mut self.more)
        };
        *slowest = took.max(*slowest);
        let limit = patience(limit, self.calm);
        println!("{round}: slowest {shard}, writable {took:?} after {since}");
        assert!(took < limit, "{shard} was not writable within {limit:?} of {since}: {took:?}");
    }
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rounds_of_kills_lose_nothing() {
    let _turn = turn().await;
    let seed = env("SEED").unwrap_or_else(|| rand::random::<u32>().into());
    let rounds = env("ROUNDS").unwrap_or(ROUNDS);
    println!("replay: SEED={seed} ROUNDS={rounds} cargo test --test cluster rounds -- --nocapture");
    let shape = Shape::new("wal");
    let mut cluster = ProcessCluster::start(shape).await;
    let load = Load::start(&cluster, "rounds", KEYS, (shape.shards, BRIEF)).await;
    let mut slowest = Slowest { calm: load.calm(10).await, ..Slowest::default() };
    load.mark();
    let (mut random, began) = (Random::new(seed), now());
    // Each in turn and all at once, so that these are there whatever the seed.
    let fixed = [&[0][..], &[1], &[2], &[0, 1, 2]].map(Round::of);
    let drawn = (0..rounds).map(|_| Round::random(&mut random, shape.nodes));
    let mut steady = true;
    for round in fixed.into_iter().chain(drawn) {
        slowest.run(&mut cluster, &load, &round, steady).await;
        if round.settles {
            cluster.all_ready().await;
        }
        steady = round.settles;
    }
    cluster.all_ready().await;
    let took = now() - began;
    load.acknowledged(3).await;
    let mut seen = load.finish(&cluster).await;
    println!(
        "{} rounds, {} kills in {took:?}: {} writes, {} reads; slowest to writable: {:?} after the \
         kill of one node, {:?} after the last start of more",
        rounds + 4,
        slowest.kills,
        seen.writes,
        seen.reads,
        slowest.lone,
        slowest.more
    );
    cluster.converged().await;

    // Everything acknowledged is on the disks, also when nobody writes while they come back.
    (0..shape.nodes).for_each(|at| cluster.kill(at));
    (0..shape.nodes).for_each(|at| cluster.launch(at));
    cluster.all_ready().await;
    seen.check(&cluster).await;
    cluster.converged().await;
}
