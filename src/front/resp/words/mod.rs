//! The data commands of Redis, one or a small family a file.

use bytes::Bytes;

use super::plan::{Context, Plan};
use crate::codec::resp::value::RespValue;

/// Translates a command whose arity is right.
pub type Translation = fn(&[Bytes], &Context<'_>) -> Result<Plan, RespValue>;

/// How the data command of this name (in lower case) is translated.
pub fn translation(_name: &str) -> Option<Translation> {
    None
}
