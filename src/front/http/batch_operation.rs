//! One operation of a batch: JSON to a step.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::put::one_value;
use super::seconds;
use super::value::{Text, given, of_base64};
use crate::front::FrontLimits;
use crate::front::validate::{self, invalid};
use crate::types::limits::FLOAT_BYTES_MAX;
use crate::types::{
    Append, Command, Condition, Delete, Error, Expire, ExpireCondition, Expiry, Increment,
    IncrementFloat, Query, Reason, Set, Step, Value, ValueKind, Version,
};

/// What an operation of a batch does; also tells how its answer is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verb {
    Set,
    GetSet,
    Get,
    Exists,
    Delete,
    GetDelete,
    Increment,
    Append,
    Expire,
    Persist,
}

/// One operation as it is sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sent<'a> {
    op: Verb,
    #[serde(borrow, default)]
    key: Option<Text<'a>>,
    #[serde(borrow, default)]
    key_base64: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "given")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value_base64: Option<Text<'a>>,
    #[serde(borrow, default)]
    ttl: Option<&'a RawValue>,
    #[serde(borrow, default)]
    by: Option<&'a RawValue>,
    #[serde(default)]
    if_absent: bool,
    #[serde(default)]
    if_present: bool,
    #[serde(default)]
    if_version: Option<u64>,
}

/// Which members beside the key an operation may have.
struct Allowed {
    value: bool,
    ttl: bool,
    by: bool,
    /// By presence, and by version.
    conditions: (bool, bool),
}

impl Verb {
    fn allowed(self) -> Allowed {
        let none = Allowed { value: false, ttl: false, by: false, conditions: (false, false) };
        match self {
            Verb::Set | Verb::GetSet => {
                Allowed { value: true, ttl: true, conditions: (true, true), ..none }
            }
            Verb::Delete | Verb::GetDelete => Allowed { conditions: (false, true), ..none },
            Verb::Increment => Allowed { by: true, ..none },
            Verb::Append => Allowed { value: true, ..none },
            Verb::Expire => Allowed { ttl: true, ..none },
            Verb::Get | Verb::Exists | Verb::Persist => none,
        }
    }
}

impl Sent<'_> {
    /// The step, and what it does.
    ///
    /// # Errors
    /// If a member is missing, malformed, out of place or past a limit.
    pub(super) fn step(&self, limits: &FrontLimits) -> Result<(Verb, Step), Error> {
        self.check_members()?;
        let key = key_of(limits, self.key.as_ref(), self.key_base64.as_ref())?;
        let condition = self.condition()?;
        let command = match self.op {
            Verb::Get => return Ok((self.op, Step::Read(Query::Get { key }))),
            Verb::Exists => return Ok((self.op, Step::Read(Query::Inspect { key }))),
            Verb::Set => Command::Set(self.set(limits, key, condition)?),
            Verb::GetSet => Command::GetSet(self.set(limits, key, condition)?),
            Verb::Delete => Command::Delete(Delete { key, condition }),
            Verb::GetDelete => Command::GetDelete(Delete { key, condition }),
            Verb::Increment => increment_by(key, self.by)?,
            Verb::Append => Command::Append(Append { key, value: self.text(limits)? }),
            Verb::Expire => {
                let ttl = self.ttl.ok_or_else(|| invalid("ttl", "is missing"))?;
                expire(key, expiry_of(limits, ttl)?)
            }
            Verb::Persist => expire(key, Expiry::Never),
        };
        Ok((self.op, Step::Write(command)))
    }

    fn check_members(&self) -> Result<(), Error> {
        let allowed = self.op.allowed();
        let (by_presence, by_version) = allowed.conditions;
        let members = [
            ("value", self.value.is_some() || self.value_base64.is_some(), allowed.value),
            ("ttl", self.ttl.is_some(), allowed.ttl),
            ("by", self.by.is_some(), allowed.by),
            ("if_absent", self.if_absent, by_presence),
            ("if_present", self.if_present, by_presence),
            ("if_version", self.if_version.is_some(), by_version),
        ];
        match members.iter().find(|(_, given, allowed)| *given && !allowed) {
            Some((name, ..)) => Err(invalid(name, "is not allowed for this operation")),
            None => Ok(()),
        }
    }

    fn condition(&self) -> Result<Condition, Error> {
        match (self.if_absent, self.if_present, self.if_version) {
            (false, false, None) => Ok(Condition::Always),
            (true, false, None) => Ok(Condition::IfAbsent),
            (false, true, None) => Ok(Condition::IfPresent),
            (false, false, Some(0)) => Err(invalid("if_version", "is 0; versions start at 1")),
            (false, false, Some(version)) => Ok(Condition::IfVersion(Version(version))),
            _ => Err(invalid("if_version", "only one condition is allowed")),
        }
    }

    fn set(&self, limits: &FrontLimits, key: Bytes, condition: Condition) -> Result<Set, Error> {
        let Value { data, kind } = one_value(self.value, self.value_base64.as_ref())?;
        let value = Value { data: validate::value(limits, data)?, kind };
        let expiry = self.ttl.map_or(Ok(Expiry::Never), |ttl| expiry_of(limits, ttl))?;
        Ok(Set { key, value, expiry, condition })
    }

    /// A string as its text, whatever it reads as.
    fn text(&self, limits: &FrontLimits) -> Result<Value, Error> {
        let Some(json) = self.value else { return one_value(None, self.value_base64.as_ref()) };
        if self.value_base64.is_some() {
            return one_value(self.value, self.value_base64.as_ref());
        }
        let text: String = serde_json::from_str(json.get())
            .map_err(|_| invalid("value", "is not a string, the only thing to append"))?;
        Ok(Value { data: validate::value(limits, text.into())?, kind: ValueKind::Text })
    }
}

/// `key` or `key_base64`, exactly one.
pub(super) fn key_of(
    limits: &FrontLimits,
    key: Option<&Text<'_>>,
    base64: Option<&Text<'_>>,
) -> Result<Bytes, Error> {
    let key = match (key, base64) {
        (Some(text), None) => Bytes::copy_from_slice(text.0.as_bytes()),
        (None, Some(text)) => of_base64("key_base64", &text.0)?,
        (None, None) => return Err(invalid("key", "neither key nor key_base64 is given")),
        (Some(_), Some(_)) => return Err(invalid("key", "is given twice, as key and key_base64")),
    };
    validate::key(limits, key)
}

fn expire(key: Bytes, expiry: Expiry) -> Command {
    Command::Expire(Expire { key, expiry, condition: ExpireCondition::Always })
}

/// A number of seconds, or `"keep"`.
pub(super) fn expiry_of(limits: &FrontLimits, json: &RawValue) -> Result<Expiry, Error> {
    match json.get() {
        "\"keep\"" => seconds::expiry(limits, "keep"),
        text if text.starts_with('"') => Err(invalid("ttl", "is neither a number nor \"keep\"")),
        text => seconds::expiry(limits, text),
    }
}

/// A whole number is added as one; one with a point or an exponent as a decimal number.
pub(super) fn increment_by(key: Bytes, by: Option<&RawValue>) -> Result<Command, Error> {
    let text = by.map_or("1", RawValue::get);
    if let Ok(delta) = text.parse::<i64>() {
        return Ok(Command::Increment(Increment { key, delta }));
    }
    if !text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return Err(invalid("by", "is not a number"));
    }
    if text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) {
        return Err(invalid("by", "does not fit 64 bits"));
    }
    if text.len() > FLOAT_BYTES_MAX {
        let problem = format!("has {} digits; at most {FLOAT_BYTES_MAX} are allowed", text.len());
        return Err(invalid("by", problem));
    }
    let delta = Bytes::copy_from_slice(text.as_bytes());
    Ok(Command::IncrementFloat(IncrementFloat { key, delta }))
}

/// The same error as one of the operation at `at`.
pub(super) fn of_operation(at: usize, error: Error) -> Error {
    match error.reason {
        Reason::InvalidArgument { field, problem } => {
            invalid("operations", format!("[{at}].{field} {problem}"))
        }
        reason => reason.into(),
    }
}
