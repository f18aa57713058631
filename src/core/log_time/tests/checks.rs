//! Clients of the model, and what they hold against it.

use super::state::{Ends, Op};
use super::world::{BEGIN_US, World};
use crate::core::log_time::{MS, SECOND};

pub const EARLY: &str = "a time to live ended early";
pub const LATE: &str = "a time to live ended late";
pub const LOCK_LOST: &str = "a lock went to a second owner early";

const LOCKS: usize = 12;
/// Ticks for reads that wait share one in this time.
const TICK_US: u64 = 50 * MS;

/// What a scenario promises.
#[derive(Clone, Copy, Debug)]
pub struct Promises {
    /// Times to live end no earlier than they should.
    pub not_early: bool,
    /// Nor later.
    pub not_late: bool,
    /// Wall times are those of a majority.
    pub wall: bool,
    /// Beside 0.2 %, milliseconds.
    pub within_ms: u64,
}

/// How far the worst was off, milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Worst {
    pub early_ms: u64,
    pub late_ms: u64,
    pub wall_ms: u64,
    /// How much a remaining time rose.
    pub rose_ms: u64,
    pub locks_given_away: u64,
    pub backwards: u64,
    pub keys_ended: u64,
    pub locks_passed_on: u64,
    pub refused: u64,
    pub elections: u64,
}

impl Worst {
    pub fn with(self, other: Worst) -> Worst {
        Worst {
            early_ms: self.early_ms.max(other.early_ms),
            late_ms: self.late_ms.max(other.late_ms),
            wall_ms: self.wall_ms.max(other.wall_ms),
            rose_ms: self.rose_ms.max(other.rose_ms),
            locks_given_away: self.locks_given_away + other.locks_given_away,
            backwards: self.backwards + other.backwards,
            keys_ended: self.keys_ended + other.keys_ended,
            locks_passed_on: self.locks_passed_on + other.locks_passed_on,
            refused: self.refused + other.refused,
            elections: self.elections + other.elections,
        }
    }

    /// Which promises it broke.
    pub fn broken(&self, promises: Promises) -> Vec<&'static str> {
        let within = promises.within_ms;
        let all = [
            (promises.not_early && self.early_ms > within, EARLY),
            (promises.not_late && self.late_ms > within, LATE),
            (promises.wall && self.wall_ms > within + 500, "a wall time was not the majority's"),
            (self.rose_ms > 0, "a remaining time rose"),
            (self.locks_given_away > 0, LOCK_LOST),
            (self.backwards > 0, "log time went back"),
        ];
        all.into_iter().filter(|(broken, _)| *broken).map(|(_, what)| what).collect()
    }
}

/// The clients.
#[derive(Debug)]
pub struct Clients {
    pub worst: Worst,
    within_ms: u64,
    ticked_us: u64,
    written_us: u64,
    /// Since when there is a leader that commits: what was due before is not late.
    served_us: u64,
    /// Added to true time gives the majority's wall, microseconds.
    pub wall_ahead_us: i64,
    /// Whether the majority's wall is known and stands; else no wall time is asked for.
    pub wall_stands: bool,
}

impl Clients {
    pub fn new(within_ms: u64) -> Self {
        Clients {
            worst: Worst::default(),
            within_ms,
            ticked_us: 0,
            written_us: 0,
            served_us: 0,
            wall_ahead_us: 0,
            wall_stands: true,
        }
    }

    /// Once a step.
    pub fn step(&mut self, world: &mut World) {
        if world.must_open() && world.in_flight() == 0 {
            world.propose(Op::Tick);
        }
        self.look(world);
        // A few writes a second, spread.
        if world.true_us.is_multiple_of(500 * MS) {
            let op = self.choose(world);
            if world.propose(op) {
                self.written_us = world.true_us;
            }
        }
        if world.true_us.saturating_sub(self.written_us) > 10 * SECOND && world.propose(Op::Tick) {
            self.written_us = world.true_us;
        }
    }

    fn choose(&mut self, world: &mut World) -> Op {
        let number = usize::try_from(world.random.below(LOCKS as u64)).expect("small");
        let ttl_s = [4, 30, 120, 600, 1_800];
        match world.random.below(10) {
            0 | 1 => Op::Set { ttl_ms: 1_000 * ttl_s[world.random.below(5) as usize] },
            2 if self.wall_stands => {
                let now_us = (BEGIN_US + world.true_us).cast_signed() + self.wall_ahead_us;
                Op::SetAt { wall_ms: now_us / 1_000 + 60_000 }
            }
            2 | 3 => Op::Tick,
            _ => Op::Lock { number, ttl_ms: [600_000, 30_000][number % 2] },
        }
    }

    fn look(&mut self, world: &mut World) {
        let (log_time_ms, true_us) = (world.state.log_time_ms, world.true_us);
        let reading = world.read();
        if reading.is_none() || world.stuck() {
            self.served_us = true_us;
        }
        let Some(reading) = reading else { return };
        let served_ms = (true_us - self.served_us) / MS;
        let shown_at_ms = match world.rule {
            super::world::Rule::Majority => log_time_ms,
            super::world::Rule::LeadersWall => reading.now_ms.max(log_time_ms),
        };
        let mut wait = false;
        let wall_us = (BEGIN_US + true_us).cast_signed() + self.wall_ahead_us;
        let wall_stands = self.wall_stands;
        let worst = &mut self.worst;
        world.state.keys.retain_mut(|key| {
            let ended = key.deadline_ms <= log_time_ms;
            // How far beyond its end it is, negative before.
            let over_ms = match key.ends {
                Ends::After(ttl_ms) => {
                    let since_us = true_us - if ended { key.asked_us } else { key.set_us };
                    let since_ms = since_us.cast_signed() / 1_000;
                    let over_ms = since_ms - ttl_ms.cast_signed();
                    over_ms.signum() * (over_ms.abs() - ttl_ms.cast_signed() / 500).max(0)
                }
                Ends::AtWall(wall_ms) => wall_us / 1_000 - wall_ms,
            };
            // A read that begins now waits for a tick where the clock has passed the deadline.
            let alive = key.deadline_ms > log_time_ms.max(reading.now_ms);
            let wrong = ended && over_ms < 0 || alive && over_ms > 0;
            let off_ms = over_ms.unsigned_abs().min(if ended { u64::MAX } else { served_ms });
            match key.ends {
                Ends::After(_) if wrong && ended => worst.early_ms = worst.early_ms.max(off_ms),
                Ends::After(_) if wrong => worst.late_ms = worst.late_ms.max(off_ms),
                Ends::AtWall(_) if wrong && wall_stands => {
                    worst.wall_ms = worst.wall_ms.max(off_ms)
                }
                _ => {}
            }
            worst.keys_ended += u64::from(ended);
            // A read: it waits for a tick where log time is behind.
            wait |=
                !ended && (key.deadline_ms <= reading.now_ms || reading.now_ms > log_time_ms + 250);
            if !ended && !wait {
                let shown_ms = key.deadline_ms.saturating_sub(shown_at_ms);
                let last_ms = key.shown_ms.replace(shown_ms).unwrap_or(shown_ms);
                worst.rose_ms = worst.rose_ms.max(shown_ms.saturating_sub(last_ms));
            }
            !ended
        });
        if wait && true_us >= self.ticked_us + TICK_US && world.in_flight() == 0 {
            self.ticked_us = true_us;
            world.propose(Op::Tick);
        }
    }

    /// What came of it.
    pub fn conclude(mut self, world: &World) -> Worst {
        let early =
            |(after_ms, ttl_ms): &&(u64, u64)| after_ms + self.within_ms < ttl_ms - ttl_ms / 500;
        let changes = &world.state.changes_of_owner;
        self.worst.locks_given_away = changes.iter().filter(early).count() as u64;
        self.worst.locks_passed_on = changes.len() as u64;
        self.worst.backwards = world.state.backwards;
        self.worst.refused = world.state.refused;
        self.worst.elections = world.elections;
        self.worst
    }
}
