//! What the tests of the words share.

use bytes::Bytes;

use crate::codec::resp::value::RespValue;
use crate::front::FrontLimits;
use crate::front::resp::plan::{Context, Plan, plan};
use crate::service::{Operation, Response};
use crate::types::{
    Answer, Consistency, Error, Found, Freshness, Reply, Step, Value, ValueKind, Version,
};

/// What the clock shows in these tests.
pub const NOW_MS: u64 = 1_700_000_000_000;

/// Translates the words of a data command.
pub fn planned(words: &[&[u8]]) -> Result<Plan, RespValue> {
    let args: Vec<Bytes> = words.iter().map(|word| Bytes::copy_from_slice(word)).collect();
    let limits = FrontLimits::default();
    let consistency = Consistency::Linearizable;
    plan(&args, &Context { limits: &limits, now_ms: NOW_MS, consistency }).expect("a data command")
}

fn bytes<'a>(words: &[&'a str]) -> Vec<&'a [u8]> {
    words.iter().map(|word| word.as_bytes()).collect()
}

/// The same of text, and well formed.
pub fn plan_of(words: &[&str]) -> Plan {
    planned(&bytes(words)).unwrap_or_else(|error| panic!("{words:?}: {error:?}"))
}

/// The one step of a command.
pub fn step(words: &[&str]) -> Step {
    match plan_of(words) {
        Plan::Step { step, .. } => step,
        other => panic!("{words:?}: {other:?}"),
    }
}

/// The steps of a command.
pub fn steps(words: &[&str]) -> Vec<Step> {
    match plan_of(words) {
        Plan::Steps { steps, .. } => steps,
        other => panic!("{words:?}: {other:?}"),
    }
}

/// The operation of a command.
pub fn operation(words: &[&str]) -> Operation {
    match plan_of(words) {
        Plan::Operation { operation, .. } => operation,
        other => panic!("{words:?}: {other:?}"),
    }
}

/// The error of a command that is wrong.
pub fn error_of(words: &[&[u8]]) -> String {
    match planned(words) {
        Err(RespValue::Error(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// The same of text.
pub fn error(words: &[&str]) -> String {
    error_of(&bytes(words))
}

/// How a command shows this answer.
pub fn render(words: &[&str], result: Result<Response, Error>) -> RespValue {
    match plan_of(words) {
        Plan::Step { render, .. } | Plan::Operation { render, .. } => render(result),
        other => panic!("{words:?}: {other:?}"),
    }
}

/// How a command shows the reply of its write.
pub fn shown(words: &[&str], reply: Reply) -> RespValue {
    render(words, Ok(Response::Written(reply)))
}

/// How a command shows the answer of its read.
pub fn read(words: &[&str], answer: Answer) -> RespValue {
    render(words, Ok(Response::Read { answer, freshness: Freshness::default() }))
}

/// How a command of several steps shows their answers.
pub fn shown_all(words: &[&str], results: Vec<Result<Response, Error>>) -> RespValue {
    match plan_of(words) {
        Plan::Steps { render, .. } => render(&mut results.into_iter()),
        other => panic!("{words:?}: {other:?}"),
    }
}

/// A value at version 1.
pub fn found(text: &str) -> Found {
    let value = Value { data: Bytes::from(text.to_owned()), kind: ValueKind::Bytes };
    Found { value, version: Version(1), ttl_ms: None }
}
