//! When a key ends, as words say it.

use bytes::Bytes;

use super::parse::{is, whole};
use crate::codec::resp::value::RespValue;
use crate::front::resp::fault::fault;
use crate::front::resp::plan::Context;
use crate::front::validate;
use crate::types::Expiry;

/// How a time is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Seconds; milliseconds otherwise.
    pub seconds: bool,
    /// From now on; since the Unix epoch otherwise.
    pub relative: bool,
}

impl Unit {
    /// Of the options `EX`, `PX`, `EXAT` and `PXAT`.
    pub fn of_option(arg: &[u8]) -> Option<Unit> {
        let unit = |seconds, relative| Some(Unit { seconds, relative });
        match arg {
            arg if is(arg, "ex") => unit(true, true),
            arg if is(arg, "px") => unit(false, true),
            arg if is(arg, "exat") => unit(true, false),
            arg if is(arg, "pxat") => unit(false, false),
            _ => None,
        }
    }

    /// A time to live of `SET` and `GETEX`: it has to be positive and to fit 64 bits as a deadline
    /// (`getExpireMillisecondsOrReply` of Redis).
    ///
    /// # Errors
    /// That it is no number, or no time for command `name`; past `limits.ttl_ms_max`, that.
    pub fn positive(
        self,
        arg: &Bytes,
        name: &str,
        context: &Context<'_>,
    ) -> Result<Expiry, RespValue> {
        let time = whole(arg)?;
        if time <= 0 {
            return Err(invalid(name));
        }
        self.of_number(time, name, context)
    }

    /// A time to live of `EXPIRE` and its kin, where one that is over deletes the key.
    ///
    /// # Errors
    /// That it does not fit 64 bits as a deadline; past `limits.ttl_ms_max`, that.
    pub fn of_number(
        self,
        time: i64,
        name: &str,
        context: &Context<'_>,
    ) -> Result<Expiry, RespValue> {
        let base_ms = if self.relative { i64::try_from(context.now_ms).unwrap_or(0) } else { 0 };
        let time_ms = if self.seconds { time.checked_mul(1_000) } else { Some(time) };
        let time_ms = time_ms.ok_or_else(|| invalid(name))?;
        if time_ms.checked_add(base_ms).is_none() && time_ms > 0 {
            return Err(invalid(name));
        }
        // What is over in any case is over at the beginning of time.
        let Ok(ms) = u64::try_from(time_ms) else { return Ok(Expiry::AtMs(0)) };
        if !self.relative {
            return Ok(Expiry::AtMs(ms));
        }
        let ms_max = context.limits.ttl_ms_max;
        if ms > ms_max {
            let problem = format!("is {ms} ms; at most {ms_max} are allowed");
            return Err(fault(&validate::invalid("ttl", problem)));
        }
        Ok(Expiry::AfterMs(ms))
    }
}

fn invalid(name: &str) -> RespValue {
    RespValue::error(format!("ERR invalid expire time in '{name}' command"))
}
