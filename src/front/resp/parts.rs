//! How the steps of commands are cut into requests of several.
//!
//! A request takes so many steps and bytes. Steps of one shard with a write among them are one entry
//! of the log, whose answers are bounded (`TRANSACTION_REPLY_BYTES_MAX`); a step whose value goes past
//! the bound is not done and can be done again by itself. It cannot if a later step of the same request
//! has touched its key: the answer would be of another time. So a request ends before a step that
//! touches the key of one that may not fit, by how long values of this connection have been so far.

use std::collections::{HashMap, HashSet, VecDeque};
use std::vec;

use bytes::Bytes;

use super::options::RespLimits;
use super::pending::Pending;
use crate::types::Step;
use crate::types::limits::{TRANSACTION_REPLY_BYTES_MAX, VALUE_BYTES_MAX};

/// Steps of commands that are not in a request yet.
pub(super) struct Steps {
    steps: vec::IntoIter<Step>,
    /// How many of them belong to each command. Invariant: none is 0; their sum is that of the steps.
    commands: VecDeque<usize>,
    /// Some steps of the first command are done.
    begun: bool,
}

/// What one request takes of them.
pub(super) struct Part {
    pub(super) steps: Vec<Step>,
    /// It goes on with a command that an earlier part began, and holds nothing else.
    pub(super) continues: bool,
}

impl Steps {
    /// Of commands that will be shown so.
    pub(super) fn new<'a>(steps: Vec<Step>, pending: impl Iterator<Item = &'a Pending>) -> Self {
        let commands: VecDeque<usize> =
            pending.map(Pending::steps).filter(|count| *count > 0).collect();
        assert_eq!(commands.iter().sum::<usize>(), steps.len(), "each step belongs to a command");
        Steps { steps: steps.into_iter(), commands, begun: false }
    }

    /// As many steps as one request takes, at least one; `None` if none are left. A command that fits into
    /// a request is never parted: its steps on one shard are one entry of the log. A part that goes on
    /// with a command takes of this alone, because only this one has waited for its beginning.
    pub(super) fn next_part(&mut self, limits: &RespLimits, lengths: &Lengths) -> Option<Part> {
        let continues = self.begun;
        let (mut part, mut bytes, mut doubts) = (Vec::new(), 0, Doubts::new(lengths));
        while part.len() < limits.operations_max {
            let within = |steps: &[Step]| {
                let more: usize = steps.iter().map(Step::payload_bytes).sum();
                part.len() + steps.len() <= limits.operations_max
                    && bytes + more <= limits.operations_bytes_max
                    && steps.iter().all(|step| doubts.allow(step))
            };
            // All of a command that begins, or the next step of one that is too long for any request.
            let command = self.commands.front().copied().unwrap_or(0);
            let together = if self.begun { 1 } else { command };
            if !part.is_empty() && !within(&self.steps.as_slice()[..together]) {
                break;
            }
            let Some(step) = self.steps.next() else { break };
            bytes += step.payload_bytes();
            doubts.add(&step);
            part.push(step);
            if self.ends_command() && continues {
                break;
            }
        }
        (!part.is_empty()).then_some(Part { steps: part, continues })
    }

    /// Counts a step of the first command. True if it was its last.
    fn ends_command(&mut self) -> bool {
        let left = self.commands.front_mut().expect("each step belongs to a command");
        *left -= 1;
        self.begun = *left > 0;
        if !self.begun {
            self.commands.pop_front();
        }
        !self.begun
    }
}

/// Steps of a part whose values may not fit into its answers.
struct Doubts {
    value_bytes: usize,
    /// Of the values shown so far, as long as they are expected.
    bytes: usize,
    /// Their keys, and whether such a step writes its key.
    keys: HashMap<Bytes, bool>,
}

impl Doubts {
    fn new(lengths: &Lengths) -> Self {
        Doubts { value_bytes: lengths.expected(), bytes: 0, keys: HashMap::new() }
    }

    /// Whether a step may follow in the same part: it does not touch a key in doubt, or both only read.
    fn allow(&self, step: &Step) -> bool {
        let writes = matches!(step, Step::Write(_));
        let among = |key: &Bytes| self.keys.get(key).is_some_and(|written| *written || writes);
        self.keys.is_empty() || !step.key().into_iter().chain(step.target()).any(among)
    }

    fn add(&mut self, step: &Step) {
        let Some(key) = step.shown_key() else { return };
        self.bytes = self.bytes.saturating_add(self.value_bytes);
        if self.bytes > TRANSACTION_REPLY_BYTES_MAX {
            *self.keys.entry(key.clone()).or_default() |= matches!(step, Step::Write(_));
        }
    }
}

/// How long the values are that a connection is shown, as far as those so far tell.
#[derive(Debug)]
pub(super) struct Lengths {
    /// What a value is taken for beside those that were seen: at first as long as one may be.
    guess: usize,
    /// The longest of the last values.
    longest: usize,
    /// After so many more values it is forgotten.
    left: usize,
}

/// With values of this length a part is never cut short for them.
const GUESS_BYTES_MIN: usize = 2 * 1024;
/// Values after which a long one is forgotten.
const REMEMBERED: usize = 4 * 1024;

impl Lengths {
    pub(super) fn new() -> Self {
        Lengths { guess: VALUE_BYTES_MAX, longest: 0, left: 0 }
    }

    fn expected(&self) -> usize {
        self.guess.max(self.longest)
    }

    /// So many values were shown, the longest of them of so many bytes.
    pub(super) fn saw(&mut self, values: usize, longest: usize) {
        if values == 0 {
            return;
        }
        self.guess = (self.guess / 4).max(GUESS_BYTES_MIN);
        if longest >= self.longest || values >= self.left {
            (self.longest, self.left) = (longest, REMEMBERED);
        } else {
            self.left -= values;
        }
    }
}

/// Steps among writes that answer a value, and whose key no later step touches but to read its value as
/// well: those that did not fit are done by themselves.
pub(super) fn repeatable(part: &[Step]) -> Vec<(usize, Step)> {
    if part.len() < 2 || part.iter().all(|step| matches!(step, Step::Read(_))) {
        return Vec::new();
    }
    let (mut written, mut looked_at, mut found) = (HashSet::new(), HashSet::new(), Vec::new());
    for (at, step) in part.iter().enumerate().rev() {
        let Some(key) = step.key().map(|key| &key[..]) else { continue };
        let (writes, shows) = (matches!(step, Step::Write(_)), step.shown_key().is_some());
        if shows && !written.contains(key) && !(writes && looked_at.contains(key)) {
            found.push((at, step.clone()));
        }
        if writes {
            written.insert(key);
            written.extend(step.target().map(|target| &target[..]));
        } else {
            looked_at.insert(key);
        }
    }
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Query;

    fn reads(count: usize) -> Vec<Step> {
        let key = |at: usize| Bytes::from(format!("key{at}"));
        (0..count).map(|at| Step::Read(Query::Get { key: key(at) })).collect()
    }

    fn parts(commands: &[usize], operations_max: usize) -> Vec<(usize, bool)> {
        let steps = reads(commands.iter().sum());
        let commands = commands.iter().copied().collect();
        let mut steps = Steps { steps: steps.into_iter(), commands, begun: false };
        let limits = RespLimits { operations_max, ..RespLimits::default() };
        let mut parts = Vec::new();
        while let Some(part) = steps.next_part(&limits, &Lengths::new()) {
            parts.push((part.steps.len(), part.continues));
        }
        parts
    }

    /// The keys of one shard that an `MSET` sets are set at one moment, whatever stands before it.
    #[test]
    fn a_command_that_fits_is_never_parted() {
        assert_eq!(parts(&[1; 10], 4), [(4, false), (4, false), (2, false)]);
        assert_eq!(parts(&[3, 3, 1, 2], 4), [(3, false), (4, false), (2, false)]);
        assert_eq!(parts(&[1, 4], 4), [(1, false), (4, false)]);
        // One that fits into no request begins one of its own.
        assert_eq!(
            parts(&[2, 9, 1], 4),
            [(2, false), (4, false), (4, true), (1, true), (1, false)]
        );
    }
}
