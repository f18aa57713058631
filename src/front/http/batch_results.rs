//! Answers of the service as JSON: those of a batch, one for each operation, and those of an increment.

use serde::Serialize;
use serde_json::value::RawValue;

use super::batch_operation::Verb;
use super::problem::Problem;
use super::value::Entry;
use crate::core::table::RoutingTable;
use crate::service::Response;
use crate::types::{Answer, Error, Found, Reason, Reply, Version};

/// An answer that does not belong to its question: a fault of this node.
pub(super) fn mismatch(response: &Response) -> Error {
    let detail: String =
        format!("answer of another operation: {response:?}").chars().take(200).collect();
    Reason::Internal { detail }.into()
}

/// The answer to a batch.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    /// One for each operation, in order.
    results: Vec<Box<RawValue>>,
}

/// One result: what is there of it. A failed one is a `Problem` instead; both have a status.
#[derive(Debug, Default, Serialize)]
struct Done<'a> {
    status: u16,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    entry: Option<Entry<'a>>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    sum: Option<Sum>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at_ms: Option<u64>,
    /// What a key was before: `null` if it was absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<Option<Entry<'a>>>,
}

/// The results of a batch.
pub(super) fn results(
    all: impl Iterator<Item = (Verb, Result<Response, Error>)>,
    table: &RoutingTable,
) -> Results {
    let results = all.map(|(verb, result)| match result {
        Ok(response) => done(verb, &response).unwrap_or_else(|problem| json(&problem)),
        Err(error) => json(&Problem::of(&error, table)),
    });
    Results { results: results.collect() }
}

fn json(of: &impl Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(of).expect("strings, numbers and JSON are JSON")
}

fn done(verb: Verb, response: &Response) -> Result<Box<RawValue>, Problem> {
    let ok = Done { status: 200, ..Done::default() };
    let done = match response {
        Response::Read { answer, .. } => match answer {
            Answer::Value(Some(found)) => Done { entry: Some(Entry::of(found)), ..ok },
            Answer::Meta(Some(meta)) => Done {
                version: Some(meta.version),
                value_bytes: Some(meta.value_bytes),
                expires_at_ms: meta.deadline_ms,
                ..ok
            },
            Answer::Value(None) | Answer::Meta(None) => return Err(Problem::absent()),
            Answer::Keys(_) | Answer::Size(_) | Answer::WrongKind => return Err(odd(response)),
        },
        Response::Written(reply) => written(verb, reply, ok).ok_or_else(|| failed(response))?,
        Response::Multi(_) | Response::Scanned { .. } | Response::Size(_) | Response::Leased(_) => {
            return Err(odd(response));
        }
    };
    Ok(json(&done))
}

fn written<'a>(verb: Verb, reply: &'a Reply, ok: Done<'a>) -> Option<Done<'a>> {
    let entry = |found: &'a Found| Some(Entry::of(found));
    Some(match reply {
        Reply::Set { version } | Reply::Deleted { version } => {
            Done { version: Some(*version), ..ok }
        }
        Reply::Expires { version, deadline_ms } => {
            Done { version: Some(*version), expires_at_ms: *deadline_ms, ..ok }
        }
        Reply::Length { version, value_bytes } => {
            Done { version: Some(*version), value_bytes: Some(*value_bytes), ..ok }
        }
        Reply::Integer { .. } | Reply::Float { .. } => Done { sum: sum_of(reply), ..ok },
        Reply::Swapped { version, old } => {
            Done { version: Some(*version), old: Some(old.as_deref().and_then(entry)), ..ok }
        }
        Reply::Taken(found) if verb == Verb::GetDelete => Done { old: Some(entry(found)), ..ok },
        _ => return None,
    })
}

/// A write that changed nothing.
fn failed(response: &Response) -> Problem {
    match response {
        Response::Written(Reply::NotFound) => Problem::absent(),
        Response::Written(Reply::ConditionFailed { current }) => {
            Problem::condition("the condition", *current)
        }
        Response::Written(Reply::NotSwapped { current }) => {
            Problem::condition("the condition", current.as_ref().map(|found| found.version))
        }
        other => odd(other),
    }
}

fn odd(response: &Response) -> Problem {
    Problem::of(&mismatch(response), &RoutingTable::default())
}

/// What an increment made.
#[derive(Debug, Serialize)]
pub(super) struct Sum {
    value: Box<RawValue>,
    pub(super) version: Version,
}

/// The answer to an increment.
///
/// # Errors
/// If it is one to something else.
pub(super) fn sum(response: Response) -> Result<Sum, Error> {
    let found = match &response {
        Response::Written(reply) => sum_of(reply),
        _ => None,
    };
    found.ok_or_else(|| mismatch(&response))
}

fn sum_of(reply: &Reply) -> Option<Sum> {
    match reply {
        Reply::Integer { version, value } => Some(Sum { value: json(value), version: *version }),
        Reply::Float { version, text } => {
            // As the value has it: all its digits.
            let number = RawValue::from_string(text.clone().into_string());
            let value = number.unwrap_or_else(|_| json(text));
            Some(Sum { value, version: *version })
        }
        _ => None,
    }
}
