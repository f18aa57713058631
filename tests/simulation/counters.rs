//! Increments by one, and reads of the counters: each increment that was answered happened once, each
//! whose outcome is unknown at most once (INV-6), and all in an order that everybody saw (INV-1).

use std::collections::BTreeMap;

use crate::book::Span;

/// What somebody saw of a counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// The sum after an increment.
    Added(i64),
    /// The sum; 0 if the key was absent.
    Read(i64),
    /// An increment whose outcome is unknown.
    Unknown,
}

/// What was done to the counters of a run.
#[derive(Default)]
pub struct Counters {
    keys: BTreeMap<String, Vec<(Span, Seen)>>,
}

impl Counters {
    pub fn push(&mut self, key: &str, span: Span, seen: Seen) {
        self.keys.entry(key.to_owned()).or_default().push((span, seen));
    }

    pub fn len(&self) -> usize {
        self.keys.values().map(Vec::len).sum()
    }

    pub fn check(&self) -> Vec<String> {
        let check = |(key, events): (&String, &Vec<(Span, Seen)>)| {
            let problem = counted(events).and_then(|()| ordered(events));
            problem.err().map(|problem| format!("INV-6: counter {key}: {problem}"))
        };
        self.keys.iter().filter_map(check).collect()
    }
}

/// No sum is less than what was surely added before, or more than what may have been added by then.
fn counted(events: &[(Span, Seen)]) -> Result<(), String> {
    for (span, seen) in events {
        let (Seen::Added(sum) | Seen::Read(sum)) = *seen else { continue };
        let count = |of: &dyn Fn(&(Span, Seen)) -> bool| {
            i64::try_from(events.iter().filter(|event| of(event)).count()).unwrap_or(i64::MAX)
        };
        let surely = count(&|(other, seen)| {
            matches!(seen, Seen::Added(_))
                && other.returned <= span.returned
                && (other.returned < span.call || other.call == span.call)
        });
        let may =
            count(&|(other, seen)| !matches!(seen, Seen::Read(_)) && other.call < span.returned);
        if sum < surely || sum > may {
            return Err(format!(
                "{seen:?} at {} ms, after {surely} increments that surely happened and {may} that \
                 may have happened",
                span.returned_ms
            ));
        }
    }
    Ok(())
}

/// What was answered before a call is not undone by it, and no two increments give one sum.
fn ordered(events: &[(Span, Seen)]) -> Result<(), String> {
    let mut by_call: Vec<_> = events.iter().filter(|(_, seen)| *seen != Seen::Unknown).collect();
    let mut by_return = by_call.clone();
    by_call.sort_by_key(|(span, _)| span.call);
    by_return.sort_by_key(|(span, _)| span.returned);
    let mut answered = by_return.into_iter().peekable();
    let (mut most, mut sums) = (0, BTreeMap::new());
    for (span, seen) in by_call {
        while let Some((_, Seen::Added(sum) | Seen::Read(sum))) =
            answered.next_if(|(other, _)| other.returned < span.call)
        {
            most = most.max(*sum);
        }
        let fits = match *seen {
            Seen::Added(sum) => {
                if let Some(other) = sums.insert(sum, span.call_ms) {
                    return Err(format!(
                        "two increments gave {sum}, called at {other} ms and {} ms",
                        span.call_ms
                    ));
                }
                sum > most
            }
            Seen::Read(sum) => sum >= most,
            Seen::Unknown => true,
        };
        if !fits {
            return Err(format!("{seen:?}, called at {} ms after {most}", span.call_ms));
        }
    }
    Ok(())
}
