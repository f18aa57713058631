//! `PUT /cache/{key}`: what it says in its head and its body, and whether the key is new.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::asked::Asked;
use super::body::{is_json, media_type};
use super::cache::{answered, never, with_id};
use super::path::{self, Parameters};
use super::precondition::{self, etag};
use super::problem::Problem;
use super::value::{Text, given, of_base64, of_json};
use super::{Http, Shared, batch_operation, batch_results, seconds};
use crate::front::FrontLimits;
use crate::front::door::Kind;
use crate::front::validate::{self, invalid};
use crate::service::{self, Execute, Multi, Operation};
use crate::types::{
    Answer, Command, Condition, Error, Expiry, Query, Reply, Set, Step, Value, ValueKind, Version,
};

const TTL: &str = "ttl";

/// Longest part of a parser's message that is passed on: it may quote what was sent.
const PARSER_WORDS_MAX: usize = 200;

pub(super) async fn put<S: Execute>(State(http): Shared<S>, request: Request) -> Response {
    answered(http.put(request).await)
}

impl<S: Execute> Http<S> {
    async fn put(&self, request: Request) -> Result<Response, Problem> {
        let (parts, body) = request.into_parts();
        let asked = Asked::new(parts);
        let head = match PutHead::of(self.limits(), &asked) {
            Ok(head) => head,
            // Counted, and refused before the body is read.
            Err(error) => return Err(self.refused(&asked, Kind::Set, error).await),
        };
        let precondition::Asked::If(condition) = head.condition else { return Err(never()) };
        let bytes_max = match head.json {
            true => self.limits().message_bytes_max,
            false => self.limits().value_bytes_max,
        };
        let body = self.bodies.read(asked.headers(), body, bytes_max).await?;
        let operation = head.operation(self.limits(), condition, body);
        let checked = operation.and_then(|operation| with_id(&asked, operation));
        let response = self.run(&asked, Kind::Set, checked).await?;
        if let service::Response::Written(Reply::ConditionFailed { current }) = response {
            let absent = condition == Condition::IfAbsent;
            let what = if absent { "If-None-Match" } else { "If-Match" };
            return Err(Problem::condition(what, current));
        }
        let (version, created) = was_set(condition, response).map_err(|e| self.problem(&e))?;
        let status = if created { StatusCode::CREATED } else { StatusCode::OK };
        let body = axum::Json(json!({ "version": version, "created": created }));
        Ok((status, [(header::ETAG, etag(version))], body).into_response())
    }
}

/// What a PUT says before its body.
struct PutHead {
    key: Bytes,
    condition: precondition::Asked,
    json: bool,
    text: bool,
    expiry: Option<Expiry>,
}

impl PutHead {
    fn of(limits: &FrontLimits, asked: &Asked) -> Result<Self, Error> {
        let headers = asked.headers();
        let key = path::key(limits, asked.uri())?;
        let parameters = Parameters::of(asked.uri(), &[TTL])?;
        let in_query = parameters.text(TTL)?;
        let in_query = in_query.map(|text| seconds::expiry(limits, text)).transpose()?;
        let in_header = max_age(limits, headers)?;
        if in_query.is_some() && in_header.is_some() {
            return Err(invalid(TTL, "is given twice"));
        }
        let json = is_json(headers);
        let text = media_type(headers).is_some_and(|kind| {
            kind.len() > 5 && kind.as_bytes()[..5].eq_ignore_ascii_case(b"text/")
        });
        let condition = precondition::of_put(headers)?;
        Ok(PutHead { key, condition, json, text, expiry: in_query.or(in_header) })
    }

    fn operation(
        self,
        limits: &FrontLimits,
        condition: Condition,
        body: Bytes,
    ) -> Result<Operation, Error> {
        let (value, expiry) = match self.json {
            true => json_value(limits, &body)?,
            false => {
                let text = self.text && std::str::from_utf8(&body).is_ok();
                let kind = if text { ValueKind::Text } else { ValueKind::Bytes };
                (Value { data: body, kind }, None)
            }
        };
        if expiry.is_some() && self.expiry.is_some() {
            return Err(invalid(TTL, "is given twice"));
        }
        let value = Value { data: validate::value(limits, value.data)?, kind: value.kind };
        let expiry = expiry.or(self.expiry).unwrap_or(Expiry::Never);
        let set = Command::Set(Set { key: self.key.clone(), value, expiry, condition });
        if condition != Condition::Always {
            return Ok(Operation::Write(set));
        }
        // HTTP must say whether there was a key before; only where the write is applied is that known.
        let look = Step::Read(Query::Inspect { key: self.key });
        let steps = vec![look, Step::Write(set)];
        Ok(Operation::Multi(Multi { steps, atomic: true, ..Multi::default() }))
    }
}

/// `max-age` of `Cache-Control` (RFC 9111, section 5.2). Browsers send `max-age=0` with what must not be
/// answered from a cache: that says nothing of a time to live.
fn max_age(limits: &FrontLimits, headers: &HeaderMap) -> Result<Option<Expiry>, Error> {
    let values = headers.get_all(header::CACHE_CONTROL).iter();
    let directives = values.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    let mut ages = directives.filter_map(|directive| {
        let (name, age) = directive.split_once('=')?;
        name.trim().eq_ignore_ascii_case("max-age").then(|| age.trim().trim_matches('"'))
    });
    let age = ages.next().map(|age| {
        let digits = !age.is_empty() && age.bytes().all(|byte| byte.is_ascii_digit());
        let bad = || invalid("cache-control", "max-age is not a whole number of seconds");
        match age.bytes().all(|byte| byte == b'0') {
            _ if !digits => Err(bad()),
            true => Ok(None),
            false => seconds::expiry(limits, age).map(Some),
        }
    });
    age.transpose().map(Option::flatten)
}

/// The body of a PUT that is JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutBody<'a> {
    #[serde(borrow, default, deserialize_with = "given")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value_base64: Option<Text<'a>>,
    #[serde(borrow, default)]
    ttl: Option<&'a RawValue>,
}

fn json_value(limits: &FrontLimits, body: &[u8]) -> Result<(Value, Option<Expiry>), Error> {
    let body: PutBody<'_> = parsed(body)?;
    let value = one_value(body.value, body.value_base64.as_ref())?;
    let expiry = body.ttl.map(|ttl| batch_operation::expiry_of(limits, ttl)).transpose()?;
    Ok((value, expiry))
}

/// `value` or `value_base64`, exactly one.
pub(super) fn one_value(
    value: Option<&RawValue>,
    base64: Option<&Text<'_>>,
) -> Result<Value, Error> {
    match (value, base64) {
        (Some(json), None) => of_json(json),
        (None, Some(text)) => {
            let data = of_base64("value_base64", &text.0)?;
            Ok(Value { data, kind: ValueKind::Bytes })
        }
        (None, None) => Err(invalid("value", "neither value nor value_base64 is given")),
        (Some(_), Some(_)) => Err(invalid("value", "is given twice, as value and value_base64")),
    }
}

/// A body that must be JSON of one shape.
pub(super) fn parsed<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Error> {
    // An array would be taken as the members in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(invalid("body", "is not a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| {
        let text = error.to_string();
        let words: String = text.chars().take(PARSER_WORDS_MAX).collect();
        invalid("body", format!("is not the JSON that is expected here: {words}"))
    })
}

/// Version, and whether the key is new.
fn was_set(condition: Condition, response: service::Response) -> Result<(Version, bool), Error> {
    use service::Response as R;
    match response {
        R::Written(Reply::Set { version }) => Ok((version, condition == Condition::IfAbsent)),
        R::Multi(mut results) if results.len() == 2 => {
            match (results.remove(0)?, results.remove(0)?) {
                (
                    R::Read { answer: Answer::Meta(before), .. },
                    R::Written(Reply::Set { version }),
                ) => Ok((version, before.is_none())),
                (_, other) => Err(batch_results::mismatch(&other)),
            }
        }
        other => Err(batch_results::mismatch(&other)),
    }
}
