//! How well few logged touches stand in for an order that sees every read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::digest::mix;
use super::keyspace::logical_bytes;
use super::machine::{Lookup, Machine};
use super::machine_tests::{apply, config, set};
use crate::types::limits::{TOUCHES_BYTES_PERCENT_MAX, TOUCHES_PENDING_MAX, TOUCHES_PER_WRITE_MAX};
use crate::types::{Batch, Condition, Expiry};

const KEYS: u64 = 20_000;
const CAPACITY: usize = 2_000;
const READS: u64 = 200_000;
const WRITES_PER_BATCH: usize = 16;
/// A write as it stands in the log: about 16 bytes of key, 64 of value and 15 of frame.
const WRITE_BYTES: usize = 95;
const VALUE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Exact least recently used, by number of entries: every read counts.
#[derive(Default)]
struct ExactLru {
    at: BTreeMap<u64, u64>,
    order: BTreeSet<(u64, u64)>,
    tick: u64,
}

impl ExactLru {
    /// Reads a key, and inserts it if it is not there; true if it was.
    fn read(&mut self, key: u64) -> bool {
        self.tick += 1;
        let old = self.at.insert(key, self.tick);
        if let Some(old) = old {
            self.order.remove(&(old, key));
        }
        self.order.insert((self.tick, key));
        if self.at.len() > CAPACITY {
            let (_, coldest) = self.order.pop_first().expect("it holds more than none");
            self.at.remove(&coldest);
        }
        old.is_some()
    }
}

/// A leader as far as touches go: it collects hints and attaches them under the caps.
struct Leader {
    machine: Machine,
    pending: VecDeque<u32>,
    missed: Vec<u64>,
    index: u64,
    hits: u64,
    touches: usize,
    writes: usize,
}

fn name(key: u64) -> String {
    format!("key-{key:012}")
}

impl Leader {
    fn read(&mut self, key: u64) {
        let name = name(key);
        if let Lookup::Found(_) = self.machine.get(name.as_bytes(), 0) {
            self.hits += 1;
            if let Some(hash) = self.machine.wants_touch(name.as_bytes())
                && self.pending.len() < TOUCHES_PENDING_MAX
                && !self.pending.contains(&hash)
            {
                self.pending.push_back(hash);
            }
        } else if self.missed.contains(&key) {
            // The write is under way; a cache that wrote at once would have hit.
            self.hits += 1;
        } else {
            self.missed.push(key);
            if self.missed.len() == WRITES_PER_BATCH {
                self.propose();
            }
        }
    }

    fn propose(&mut self) {
        let writes: Vec<_> = std::mem::take(&mut self.missed)
            .into_iter()
            .map(|key| set(&name(key), VALUE, Expiry::Never, Condition::Always))
            .collect();
        let by_bytes = writes.len() * WRITE_BYTES * TOUCHES_BYTES_PERCENT_MAX / 100 / 4;
        let count = self.pending.len().min(TOUCHES_PER_WRITE_MAX * writes.len()).min(by_bytes);
        let touches: Vec<u32> = self.pending.drain(..count).collect();
        self.index += 1;
        self.touches += touches.len();
        self.writes += writes.len();
        apply(&mut self.machine, self.index, &Batch { stamp_ms: 0, touches, writes });
    }
}

/// Keys by Zipf's law with exponent 1, drawn by inversion from a mixed counter.
fn zipf_trace() -> impl Iterator<Item = u64> {
    let mut sum = 0.0;
    let cumulative: Vec<f64> = (1..=KEYS)
        .map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        })
        .collect();
    (0..READS).map(move |n| {
        let uniform = (mix(n + 1) >> 11) as f64 / (1u64 << 53) as f64 * sum;
        cumulative.partition_point(|c| *c < uniform) as u64
    })
}

/// The caps of the design (2 touches a write, 4 % of the batch's bytes) cost less than one point of
/// hit ratio, and what is read often survives.
#[test]
fn touches_under_their_caps_come_close_to_exact_lru() {
    let limit = CAPACITY as u64 * logical_bytes(name(0).len() + VALUE.len());
    let mut leader = Leader {
        machine: Machine::new(config(limit)),
        pending: VecDeque::new(),
        missed: Vec::new(),
        index: 0,
        hits: 0,
        touches: 0,
        writes: 0,
    };
    let (mut exact, mut exact_hits) = (ExactLru::default(), 0u64);
    for key in zipf_trace() {
        leader.read(key);
        exact_hits += u64::from(exact.read(key));
    }
    let ratio = leader.hits as f64 / READS as f64;
    let exact_ratio = exact_hits as f64 / READS as f64;
    println!(
        "hit ratio {ratio:.4}, exact LRU {exact_ratio:.4}; {:.3} touches a write, {:.2} % of the \
         log's bytes",
        leader.touches as f64 / leader.writes as f64,
        400.0 * leader.touches as f64 / (leader.writes * WRITE_BYTES + 4 * leader.touches) as f64,
    );
    assert!(exact_ratio > 0.5 && exact_ratio < 0.95, "the trace must put the order to work");
    assert!(ratio > exact_ratio - 0.01, "{ratio:.4} against {exact_ratio:.4}");
    for key in 0..50 {
        let found = leader.machine.get(name(key).as_bytes(), 0);
        assert!(matches!(found, Lookup::Found(_)), "hot key {key} was evicted");
    }
    assert!(leader.machine.stats().evictions > 0);
}
