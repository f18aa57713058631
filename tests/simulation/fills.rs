//! Fills: a token is given to one caller at a time, and a fill is never stored over what came after
//! its token.

use std::collections::BTreeMap;

use crate::book::Span;
use crate::history::{Event, History};
use crate::model::{Step, Wrote};

/// Who led the key's group with the highest term, as the nodes believed: term and node.
pub type Leading = Option<(u64, u64)>;

/// A token that was given.
#[derive(Clone, Copy, Debug)]
struct Token {
    token: u64,
    token_ms: u64,
    span: Span,
    /// At the call and at the return.
    leading: (Leading, Leading),
}

/// A fill that was stored.
#[derive(Clone, Copy, Debug)]
struct Stored {
    token: u64,
    span: Span,
}

/// The tokens and fills of a run, by key.
#[derive(Default)]
pub struct Fills {
    tokens: BTreeMap<String, Vec<Token>>,
    stored: BTreeMap<String, Vec<Stored>>,
}

impl Fills {
    pub fn given(
        &mut self,
        key: &str,
        (token, token_ms): (u64, u64),
        span: Span,
        leading: (Leading, Leading),
    ) {
        let token = Token { token, token_ms, span, leading };
        self.tokens.entry(key.to_owned()).or_default().push(token);
    }

    pub fn stored(&mut self, key: &str, token: u64, span: Span) {
        self.stored.entry(key.to_owned()).or_default().push(Stored { token, span });
    }

    pub fn check(&self, history: &History) -> Vec<String> {
        let mut violations = Vec::new();
        for (key, tokens) in &self.tokens {
            let events = history.events(key);
            let stored = self.stored.get(key).map_or(&[][..], Vec::as_slice);
            violations.extend(one_at_a_time(key, tokens, events));
            violations.extend(stored.iter().filter_map(|fill| fresh(key, fill, tokens, events)));
            for (i, fill) in stored.iter().enumerate() {
                if let Some(other) = stored[..i].iter().find(|other| other.token == fill.token) {
                    violations.push(format!("fill of {key}: one token for {other:?}, {fill:?}"));
                }
            }
        }
        violations
    }
}

/// Whether it ends the tokens of its key. A delete does so even if there is nothing to delete: its
/// caller says that what is known elsewhere has changed.
fn ends_tokens(event: &Event) -> bool {
    match event.step {
        Step::Get(_) => false,
        Step::Delete { wrote: Wrote::NotFound, .. } => true,
        Step::Set { .. } | Step::Delete { .. } => !event.step.is_read(),
    }
}

/// Writes of a key that may have happened between two positions.
fn written(events: &[Event], from: i64, to: i64) -> bool {
    let within = |event: &&Event| event.span.call < to && event.span.returned > from;
    events.iter().filter(within).any(ends_tokens)
}

/// No second token is given while the first is good. Tokens are the leader's: only where one leader
/// was known all the time.
fn one_at_a_time(key: &str, tokens: &[Token], events: &[Event]) -> Option<String> {
    tokens.iter().enumerate().find_map(|(i, second)| {
        let first = tokens[..i].iter().find(|first| {
            let leader = first.leading.0;
            let one_leader = leader.is_some()
                && [first.leading.1, second.leading.0, second.leading.1] == [leader; 3];
            one_leader
                && first.span.returned < second.span.call
                && second.span.returned_ms < first.span.call_ms + first.token_ms
                && !written(events, first.span.call, second.span.returned)
        })?;
        Some(format!("fill of {key}: two tokens at a time, {first:?} and {second:?}"))
    })
}

/// Nothing was written between the token and the fill.
fn fresh(key: &str, fill: &Stored, tokens: &[Token], events: &[Event]) -> Option<String> {
    let token = tokens.iter().find(|token| token.token == fill.token)?;
    let between = events.iter().find(|event| {
        event.span.call > token.span.returned
            && event.span.returned < fill.span.call
            && ends_tokens(event)
    })?;
    Some(format!("stale fill of {key}: {between:?} came between {token:?} and {fill:?}"))
}
