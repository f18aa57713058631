//! How a client behaves.

use std::time::Duration;

use crate::types::limits;

/// A table is never left unasked for longer.
const REFRESH_EVERY_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Over which calls of a node operations travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    /// One `Pipeline` stream a connection, shared by all callers: two to four times the operations
    /// of unary calls, as neither side pays for a stream of HTTP/2 an operation.
    Pipeline,
    /// One unary call an operation, as any gRPC client does it.
    Unary,
}

/// Settings of a [`Client`](super::Client). `Options::new` gives those that fit most.
#[derive(Clone, Debug)]
pub struct Options {
    /// gRPC addresses, `host:port`, of some nodes; one that answers is enough.
    pub seeds: Vec<String>,
    /// How long an operation may take, attempts and pauses together.
    pub deadline: Duration,
    /// How long one attempt may take before another node is asked: a node that stands still must
    /// not cost the whole deadline.
    pub attempt: Duration,
    /// Attempts of one operation, at least 1.
    pub attempts_max: u32,
    /// First pause before another attempt; it doubles, and half of each is drawn at random.
    pub pause_min: Duration,
    /// Longest pause that the client takes by itself; a node may ask for a longer one.
    pub pause_max: Duration,
    /// Connections to each node, 1 to 64.
    pub connections: usize,
    /// Operations in flight on one connection, and as many more may wait for their turn. Beside them
    /// as many reads that wait at the node for another caller's fill.
    pub in_flight_max: usize,
    /// Ask a second node for a read that has no answer after this long, and take what comes first;
    /// never, if none. Writes are never asked for twice at once.
    pub hedge_after: Option<Duration>,
    /// How often the routing table is fetched without a reason to: leaders move without a new epoch.
    pub refresh_every: Duration,
    /// Failures of connections in a row after which a node is left alone for a while.
    pub breaker_failures: u32,
    /// How long it is left alone the first time; it doubles, up to sixteen times this.
    pub breaker_open: Duration,
    /// Over which calls.
    pub door: Door,
}

impl Options {
    /// The settings that fit most, over these seeds.
    pub fn new(seeds: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Options {
            seeds: seeds.into_iter().map(Into::into).collect(),
            deadline: Duration::from_millis(limits::DEADLINE_MS_DEFAULT),
            attempt: Duration::from_secs(1),
            attempts_max: 64,
            pause_min: Duration::from_millis(4),
            pause_max: Duration::from_millis(250),
            connections: 2,
            in_flight_max: limits::PIPELINE_IN_FLIGHT_MAX / 2,
            hedge_after: None,
            refresh_every: Duration::from_secs(5),
            breaker_failures: 3,
            breaker_open: Duration::from_millis(250),
            door: Door::Pipeline,
        }
    }

    /// Names the setting that makes no sense.
    pub(super) fn check(&self) -> Result<(), String> {
        let longest = Duration::from_millis(limits::DEADLINE_MS_MAX);
        if self.seeds.is_empty() {
            return Err("seeds: at least one address".to_owned());
        }
        for (name, time) in [
            ("deadline", self.deadline),
            ("attempt", self.attempt),
            ("pause_min", self.pause_min),
            ("pause_max", self.pause_max),
            ("breaker_open", self.breaker_open),
        ] {
            if time.is_zero() || time > longest {
                return Err(format!("{name}: more than 0 and at most {longest:?}"));
            }
        }
        if self.refresh_every.is_zero() || self.refresh_every > REFRESH_EVERY_MAX {
            return Err(format!("refresh_every: more than 0 and at most {REFRESH_EVERY_MAX:?}"));
        }
        for (name, number, most) in [
            ("attempts_max", self.attempts_max as usize, 10_000),
            ("breaker_failures", self.breaker_failures as usize, 10_000),
            ("connections", self.connections, 64),
            ("in_flight_max", self.in_flight_max, limits::PIPELINE_IN_FLIGHT_MAX),
        ] {
            if !(1..=most).contains(&number) {
                return Err(format!("{name}: {number} is not within 1..={most}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_named() {
        let good = Options::new(["127.0.0.1:8080"]);
        assert_eq!(good.check(), Ok(()));
        let none: [&str; 0] = [];
        assert!(Options::new(none).check().unwrap_err().starts_with("seeds"));
        let bad = Options { deadline: Duration::from_secs(61), ..good.clone() };
        assert!(bad.check().unwrap_err().starts_with("deadline"));
        let bad = Options { pause_min: Duration::ZERO, ..good.clone() };
        assert!(bad.check().unwrap_err().starts_with("pause_min"));
        let bad = Options { connections: 65, ..good.clone() };
        assert_eq!(bad.check().unwrap_err(), "connections: 65 is not within 1..=64");
        let bad = Options { refresh_every: Duration::MAX, ..good.clone() };
        assert!(bad.check().unwrap_err().starts_with("refresh_every"));
        let bad = Options { attempts_max: 0, ..good };
        assert!(bad.check().unwrap_err().starts_with("attempts_max"));
    }
}
