//! Checks on input, shared by all doors. Every error names the field and its limit, and is
//! `Rejected`: nothing was done.

use std::time::Duration;

use bytes::Bytes;

use super::FrontLimits;
use crate::types::limits::PATTERN_BYTES_MAX;
use crate::types::{Error, Reason, RequestId};

/// The last millisecond of the year 9999, where calendars of other languages end.
pub const EXPIRE_AT_MS_MAX: u64 = 253_402_300_799_999;
/// Length of a session id.
pub const SESSION_BYTES: usize = 16;

/// The error for bad input.
pub fn invalid(field: &'static str, problem: impl Into<String>) -> Error {
    Reason::InvalidArgument { field, problem: problem.into() }.into()
}

/// A key: 1..=`key_bytes_max` bytes.
pub fn key(limits: &FrontLimits, key: Bytes) -> Result<Bytes, Error> {
    let max = limits.key_bytes_max;
    match key.len() {
        0 => Err(invalid("key", format!("is empty; 1 to {max} bytes are allowed"))),
        n if n > max => Err(invalid("key", format!("has {n} bytes; at most {max} are allowed"))),
        _ => Ok(key),
    }
}

/// Data of a value: at most `value_bytes_max` bytes, none is allowed.
pub fn value(limits: &FrontLimits, data: Bytes) -> Result<Bytes, Error> {
    let max = limits.value_bytes_max;
    let n = data.len();
    if n > max {
        return Err(invalid("value", format!("has {n} bytes; at most {max} are allowed")));
    }
    Ok(data)
}

/// A length of time that is not negative, from whole seconds and the nanoseconds beside them.
pub fn duration(field: &'static str, seconds: i64, nanos: i32) -> Result<Duration, Error> {
    if seconds < 0 || nanos < 0 {
        return Err(invalid(field, "is negative"));
    }
    if nanos > 999_999_999 {
        return Err(invalid(field, format!("nanos is {nanos}; at most 999999999 are allowed")));
    }
    Ok(Duration::new(seconds.unsigned_abs(), nanos.unsigned_abs()))
}

/// Milliseconds of `time`, rounded up so that what is not zero stays so.
pub fn millis_up(time: Duration) -> u64 {
    let ms = time.as_millis() + u128::from(!time.subsec_nanos().is_multiple_of(1_000_000));
    u64::try_from(ms).unwrap_or(u64::MAX)
}

/// A time to live in milliseconds: 1..=`ttl_ms_max`. Zero is refused, as Redis does: it would be
/// a delete in disguise, and a client that forgot a unit learns it at once.
pub fn ttl_ms(limits: &FrontLimits, ttl: Duration) -> Result<u64, Error> {
    let max = limits.ttl_ms_max;
    match millis_up(ttl) {
        0 => Err(invalid("ttl", format!("is zero; 1 to {max} ms are allowed"))),
        ms if ms > max => Err(invalid("ttl", format!("is {ms} ms; at most {max} are allowed"))),
        ms => Ok(ms),
    }
}

/// An absolute deadline: 1..=[`EXPIRE_AT_MS_MAX`]. One that has passed is allowed: only log time
/// can tell, and the value is then absent at once.
pub fn expire_at_ms(at_ms: u64) -> Result<u64, Error> {
    if (1..=EXPIRE_AT_MS_MAX).contains(&at_ms) {
        return Ok(at_ms);
    }
    Err(invalid("expire_at_ms", format!("is {at_ms}; 1 to {EXPIRE_AT_MS_MAX} are allowed")))
}

/// A glob pattern: at most [`PATTERN_BYTES_MAX`] bytes.
pub fn pattern(pattern: &Bytes) -> Result<(), Error> {
    match pattern.len() {
        0..=PATTERN_BYTES_MAX => Ok(()),
        n => {
            let problem = format!("has {n} bytes; at most {PATTERN_BYTES_MAX} are allowed");
            Err(invalid("pattern", problem))
        }
    }
}

/// A request id: a session of 16 bytes that are not all zero, and any sequence.
pub fn request_id(session: &[u8], sequence: u64) -> Result<RequestId, Error> {
    let bytes: [u8; SESSION_BYTES] = session.try_into().map_err(|_| {
        let n = session.len();
        invalid("request_id.session", format!("has {n} bytes; exactly {SESSION_BYTES} are allowed"))
    })?;
    match u128::from_be_bytes(bytes) {
        0 => Err(invalid("request_id.session", "is all zero; choose it at random")),
        session => Ok(RequestId { session, sequence }),
    }
}
