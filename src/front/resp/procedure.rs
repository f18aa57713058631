//! Commands that take several operations one after the other.

use bytes::Bytes;

use crate::codec::resp::value::RespValue;
use crate::front::door::{Call, Door};
use crate::service::Execute;
use crate::types::Consistency;

/// Several operations one after the other. Other callers may come in between.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Procedure {
    /// `KEYS`: every key that matches.
    Keys {
        /// Glob pattern.
        pattern: Bytes,
        /// How fresh.
        consistency: Consistency,
    },
}

impl Procedure {
    /// Runs it to its end or to the deadline of the call.
    pub async fn run<S: Execute>(self, door: &Door<S>, call: Call<'_>) -> RespValue {
        let _ = (door, call, self);
        RespValue::Null
    }
}
