//! The rules of log time in a simulation: nodes whose walls are wrong, whose clocks run at another
//! rate, leap or stand still; slow links, stalls, restarts, elections. A seed replays a run.
//!
//! `cargo test --lib log_time::tests -- --nocapture` prints the figures.

mod checks;
mod present;
mod state;
mod world;

use checks::{Clients, EARLY, LATE, LOCK_LOST, Promises, Worst};
use world::{Life, Rule, World};

use super::{MS, SECOND};

const HOUR_US: f64 = 3_600e6;
const SECONDS: u64 = 1_800;
const SEEDS: u64 = 2;

const ALL: Promises = Promises { not_early: true, not_late: true, wall: true, within_ms: 500 };
/// Locks, order and remaining times alone.
const LOCKS: Promises = Promises { not_early: false, not_late: false, wall: false, within_ms: 500 };

/// What a scenario does at each whole second.
type Faults = fn(&mut World, &mut Clients);

fn run(rule: Rule, nodes: usize, seed: u64, within_ms: u64, faults: Faults) -> Worst {
    let mut world = World::new(rule, nodes, seed);
    let mut clients = Clients::new(within_ms);
    while world.second() < SECONDS {
        world.step();
        if world.true_us.is_multiple_of(SECOND) {
            faults(&mut world, &mut clients);
        }
        clients.step(&mut world);
    }
    clients.conclude(&world)
}

/// All seeds of a scenario, with three and with five nodes.
fn worst(rule: Rule, within_ms: u64, faults: Faults) -> Worst {
    let mut worst = Worst::default();
    for nodes in [3, 5] {
        for seed in 1..=SEEDS {
            worst = worst.with(run(rule, nodes, seed, within_ms, faults));
        }
    }
    worst
}

/// The rules keep the promises, and the run had something to keep.
fn keeps(name: &str, promises: Promises, faults: Faults) -> Worst {
    let worst = worst(Rule::Majority, promises.within_ms, faults);
    println!("{name}: {worst:?}");
    let broken = worst.broken(promises);
    assert!(broken.is_empty(), "{name}: {broken:?}: {worst:?}");
    assert!(worst.keys_ended > 100 && worst.locks_passed_on > 10, "{name}: {worst:?}");
    worst
}

/// The rule of before breaks this one.
fn broke(name: &str, promises: Promises, what: &[&str], faults: Faults) {
    let worst = run(Rule::LeadersWall, 3, 1, promises.within_ms, faults);
    println!("{name}, by the leader's wall: {worst:?}");
    let broken = worst.broken(promises);
    assert!(what.iter().all(|what| broken.contains(what)), "{name}: {broken:?}: {worst:?}");
}

fn at(world: &World, node: u64) -> usize {
    usize::try_from(node).expect("small") % world.nodes.len()
}

/// Once in about so many seconds.
fn now_and_then(world: &mut World, seconds: u64) -> bool {
    world.random.below(seconds) == 0
}

/// Leaderships move about.
fn elections(world: &mut World, seconds: u64) {
    if now_and_then(world, seconds) {
        let next = world.random.below(5);
        world.elect(at(world, next));
    }
}

/// One node at a time stops and starts, after a second or a minute.
fn restarts(world: &mut World, seconds: u64) {
    let down = world.nodes.iter().position(|node| node.life == Life::Down);
    if let Some(down) = down {
        if now_and_then(world, 20) {
            world.nodes[down].life = Life::Up;
            world.nodes[down].start();
        }
    } else if now_and_then(world, seconds) {
        let node = world.random.below(5);
        let node = at(world, node);
        world.nodes[node].life = Life::Down;
    }
}

/// Within what clocks may be off, one way and the other.
fn ordinary(world: &mut World) {
    if world.second() == 1 {
        for (number, node) in world.nodes.iter_mut().enumerate() {
            let sign = if number % 2 == 0 { 1.0 } else { -1.0 };
            node.rate = 1.0 + sign * 0.0009;
            node.wall_us += sign * 100_000.0;
        }
    }
}

fn healthy(world: &mut World, _: &mut Clients) {
    ordinary(world);
    elections(world, 40);
    restarts(world, 100);
}

#[test]
fn leaders_change_and_nodes_restart() {
    let worst = keeps("leaders change, nodes restart", ALL, healthy);
    assert!(worst.elections > 100, "{worst:?}");
}

/// A minority comes back with its wall an hour fast, and leads.
fn an_hour_fast(world: &mut World, _: &mut Clients) {
    ordinary(world);
    if world.second() == 200 {
        for node in 0..(world.nodes.len() - 1) / 2 {
            world.nodes[node].start();
            world.nodes[node].wall_us += HOUR_US;
        }
    }
    if world.second() >= 206 && world.second().is_multiple_of(100) {
        world.elect(0);
    }
    elections(world, 150);
}

#[test]
fn restarted_an_hour_fast_and_leading() {
    keeps("an hour fast, and leads", ALL, an_hour_fast);
    broke("an hour fast, and leads", ALL, &[EARLY, LOCK_LOST], an_hour_fast);
}

fn double_rate(world: &mut World, _: &mut Clients) {
    (world.nodes[0].rate, world.nodes[0].wall_rate) = (2.0, None);
    if world.second() % 200 == 50 {
        world.elect(0);
    }
    elections(world, 150);
}

fn half_rate(world: &mut World, clients: &mut Clients) {
    double_rate(world, clients);
    world.nodes[0].rate = 0.5;
}

#[test]
fn one_leads_at_double_and_at_half_rate() {
    keeps("rate 2 leads", ALL, double_rate);
    keeps("rate 0.5 leads", ALL, half_rate);
    broke("rate 2 leads", ALL, &[EARLY], double_rate);
    broke("rate 0.5 leads", ALL, &[LATE], half_rate);
}

/// The leader's wall leaps by an hour to and fro.
fn leaps(world: &mut World, _: &mut Clients) {
    ordinary(world);
    if world.leader.is_some_and(|leader| leader != 0) {
        world.elect(0);
    }
    if world.second() % 300 == 100 {
        let forth = world.second() % 600 == 100;
        world.nodes[0].wall_us += if forth { HOUR_US } else { -HOUR_US };
    }
    if world.second() % 300 == 250 {
        world.elect(1);
    }
}

#[test]
fn the_leaders_wall_leaps_by_an_hour() {
    keeps("a leap while leading", ALL, leaps);
    broke("a leap while leading", ALL, &[EARLY], leaps);
}

/// A minute in which a node and its clocks stand still; then its wall is set.
fn pauses(world: &mut World, _: &mut Clients) {
    ordinary(world);
    let (round, node) = (world.second() % 150, world.second() / 150);
    let node = if node.is_multiple_of(2) { world.leader.unwrap_or(0) } else { at(world, node) };
    if round == 20 {
        world.nodes[node].life = Life::Paused;
    }
    if round == 80 {
        for node in world.nodes.iter_mut().filter(|node| node.life == Life::Paused) {
            node.life = Life::Up;
        }
    }
    if round == 85 {
        let resumed = world.nodes.iter().map(|node| node.wall_us).fold(f64::MIN, f64::max);
        let late = world.nodes.iter().position(|node| node.wall_us < resumed - 10e6);
        if let Some(late) = late {
            world.elect(late);
        }
    }
    if round == 120 {
        let right = (world::BEGIN_US + world.true_us) as f64;
        world.nodes.iter_mut().for_each(|node| node.wall_us = right);
    }
}

#[test]
fn a_node_stands_still_unseen_for_a_minute() {
    keeps("unseen pauses of 60 s", ALL, pauses);
}

fn slow(world: &mut World, clients: &mut Clients) {
    world.delay_us = (200 * MS, 450 * MS);
    healthy(world, clients);
}

#[test]
fn links_are_slow() {
    keeps("slow links", Promises { within_ms: 1_250, ..ALL }, slow);
}

/// Nothing arrives for up to a minute, and then all of it.
fn stalls(world: &mut World, clients: &mut Clients) {
    healthy(world, clients);
    if now_and_then(world, 90) {
        let long = [1, 5, 60][world.random.below(3) as usize];
        world.stalled_until_us = world.true_us + long * SECOND;
    }
}

#[test]
fn connections_stall_and_deliver_late() {
    keeps("stalls", ALL, stalls);
}

/// All nodes stop, for up to two minutes.
fn full_restarts(world: &mut World, _: &mut Clients) {
    ordinary(world);
    elections(world, 100);
    let round = world.second() % 300;
    if round == 100 {
        world.nodes.iter_mut().for_each(|node| node.life = Life::Down);
    }
    if round == 110 + world.second() / 300 * 20 {
        for node in &mut world.nodes {
            node.life = Life::Up;
            node.start();
        }
    }
}

#[test]
fn all_nodes_restart_with_their_walls_right() {
    keeps("full restarts", ALL, full_restarts);
}

/// All walls at once, an hour forth and an hour back, and leaderships move.
fn all_leap(world: &mut World, clients: &mut Clients) {
    ordinary(world);
    elections(world, 60);
    // What a client calls the wall is not what it was when the key was set.
    clients.wall_stands = false;
    if world.second() % 400 == 200 {
        let forth = world.second() % 800 == 200;
        let leap_us = if forth { HOUR_US } else { -HOUR_US };
        world.nodes.iter_mut().for_each(|node| node.wall_us += leap_us);
    }
}

#[test]
fn all_walls_leap() {
    let promises = Promises { wall: false, ..ALL };
    keeps("all walls leap", promises, all_leap);
    broke("all walls leap", promises, &[LOCK_LOST], all_leap);
}

/// No wall is set until the tenth minute; everything restarts in the meantime.
fn never_set(world: &mut World, clients: &mut Clients) {
    clients.wall_stands = world.second() > 700;
    if world.second() == 1 {
        world.nodes.iter_mut().for_each(|node| node.wall_us = 10e6);
    }
    if world.second() == 600 {
        let right = (world::BEGIN_US + world.true_us) as f64;
        world.nodes.iter_mut().for_each(|node| node.wall_us = right);
    }
    if world.second() < 600 {
        full_restarts(world, clients);
    }
    elections(world, 100);
}

#[test]
fn all_walls_are_at_1970_and_then_set() {
    let promises = Promises { not_late: false, ..ALL };
    let worst = keeps("all at 1970, then set", promises, never_set);
    assert!(worst.late_ms < 200_000, "what was not counted: {worst:?}");
    broke("all at 1970, then set", promises, &[LOCK_LOST], never_set);
}

/// Everything restarts, and a majority of the walls is an hour fast by then.
fn wrong_majority(world: &mut World, clients: &mut Clients) {
    full_restarts(world, clients);
    clients.wall_stands = false;
    if world.second() % 600 == 105 {
        world.nodes.iter_mut().for_each(|node| node.wall_us += HOUR_US);
    }
}

#[test]
fn locks_survive_a_restart_with_a_wrong_majority_of_walls() {
    let worst = keeps("full restarts, walls wrong", LOCKS, wrong_majority);
    assert!(worst.early_ms > 1_000_000, "what stays impossible is seen: {worst:?}");
    broke("full restarts, walls wrong", LOCKS, &[LOCK_LOST], wrong_majority);
}

/// The nodes sleep and know it: their boot clocks run on.
fn suspends(world: &mut World, clients: &mut Clients) {
    healthy(world, clients);
    if world.second() % 200 == 90 {
        world.stalled_until_us = world.true_us + 60 * SECOND;
    }
}

#[test]
fn nodes_sleep_and_count_it() {
    keeps("seen suspends", ALL, suspends);
}
