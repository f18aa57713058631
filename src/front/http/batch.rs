//! `POST /cache/batch`: several operations as one request.

use std::fmt;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::asked::{Asked, consistency_of};
use super::batch_operation::{Sent, Verb, key_of, of_operation};
use super::batch_results::results;
use super::body::is_json;
use super::cache::{answered, not_json, with_id};
use super::path::Parameters;
use super::problem::Problem;
use super::put::parsed;
use super::value::Text;
use super::{Http, Shared};
use crate::front::FrontLimits;
use crate::front::convert::Checked;
use crate::front::door::Kind;
use crate::front::validate::invalid;
use crate::service::{self, Execute, Multi, Operation};
use crate::types::limits::TRANSACTION_OPERATIONS_MAX;
use crate::types::{Consistency, Error, Reply, Version, Watch};

pub(super) async fn batch<S: Execute>(State(http): Shared<S>, request: Request) -> Response {
    answered(http.batch(request).await)
}

impl<S: Execute> Http<S> {
    async fn batch(&self, request: Request) -> Result<Response, Problem> {
        let (parts, body) = request.into_parts();
        let asked = Asked::new(parts);
        if let Err(error) = Parameters::of(asked.uri(), &[]) {
            return Err(self.refused(&asked, Kind::Multi, error).await);
        }
        if !is_json(asked.headers()) {
            return Err(not_json());
        }
        let body = self.bodies.read(asked.headers(), body, self.limits().message_bytes_max).await?;
        let mut verbs = Vec::new();
        let checked = operation(self.limits(), &asked, &body, &mut verbs);
        drop(body);
        let kind = checked.as_ref().map_or(Kind::Multi, |(operation, _)| Kind::of(operation));
        match self.run(&asked, kind, checked).await? {
            service::Response::Multi(all) if all.len() == verbs.len() => {
                let table = self.door.table();
                let all = verbs.into_iter().zip(all);
                Ok(axum::Json(results(all, &table)).into_response())
            }
            service::Response::Written(Reply::Aborted { watch, current }) => {
                Err(Problem::condition(&format!("watches[{watch}]"), current))
            }
            other => Err(self.problem(&super::batch_results::mismatch(&other))),
        }
    }
}

/// A batch as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    operations: Bounded<Sent<'a>>,
    #[serde(default)]
    atomic: bool,
    #[serde(borrow, default)]
    watches: Bounded<SentWatch<'a>>,
    #[serde(borrow, default)]
    consistency: Option<Text<'a>>,
    #[serde(borrow, default)]
    max_staleness: Option<&'a serde_json::value::RawValue>,
}

/// A key that must be as it was.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SentWatch<'a> {
    #[serde(borrow, default)]
    key: Option<Text<'a>>,
    #[serde(borrow, default)]
    key_base64: Option<Text<'a>>,
    /// `null`: the key must be absent.
    version: Option<u64>,
    /// Only with `null`: since the state of this version.
    #[serde(default)]
    absent_since: Option<u64>,
}

fn operation(
    limits: &FrontLimits,
    asked: &Asked,
    body: &[u8],
    verbs: &mut Vec<Verb>,
) -> Result<Checked, Error> {
    let body: Body<'_> = parsed(body)?;
    let mut steps = Vec::with_capacity(body.operations.0.len());
    for (at, sent) in body.operations.0.iter().enumerate() {
        let (verb, step) = sent.step(limits).map_err(|error| of_operation(at, error))?;
        verbs.push(verb);
        steps.push(step);
    }
    if steps.is_empty() {
        return Err(invalid("operations", "is empty"));
    }
    if !body.atomic && !body.watches.0.is_empty() {
        return Err(invalid("watches", "are only allowed with atomic"));
    }
    let watches = body.watches.0.iter().map(|watch| {
        let key = key_of(limits, watch.key.as_ref(), watch.key_base64.as_ref())?;
        match (watch.version, watch.absent_since) {
            (version, None) => Ok(Watch::of(key, version.map(Version))),
            (None, Some(since)) => Ok(Watch::absent_since(key, Version(since))),
            _ => Err(invalid("watches.absent_since", "is only allowed with the version null")),
        }
    });
    let watches = watches.collect::<Result<Vec<Watch>, Error>>()?;
    let wanted = body.consistency.as_ref().map(|text| text.0.as_ref());
    let consistency = consistency_of(wanted, body.max_staleness.map(|raw| raw.get()))?;
    if body.atomic && consistency != Consistency::Linearizable {
        return Err(invalid("consistency", "is always linearizable for an atomic batch"));
    }
    let multi = Multi { steps, atomic: body.atomic, watches, consistency };
    with_id(asked, Operation::Multi(multi))
}

/// An array of at most as many elements as a request of several operations may ever have; the next is
/// refused before it is read. What is configured is checked later, by the service.
struct Bounded<T>(Vec<T>);

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Bounded(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Bounded<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Elements<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
            type Value = Bounded<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an array of at most {TRANSACTION_OPERATIONS_MAX} objects")
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut elements: A,
            ) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(element) = elements.next_element()? {
                    if all.len() == TRANSACTION_OPERATIONS_MAX {
                        return Err(serde::de::Error::invalid_length(all.len() + 1, &self));
                    }
                    all.push(element);
                }
                Ok(Bounded(all))
            }
        }
        input.deserialize_seq(Elements(std::marker::PhantomData))
    }
}
