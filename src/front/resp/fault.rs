//! Errors of the service as Redis says them.

use crate::codec::resp::value::RespValue;
use crate::types::Error;

/// The error reply for a failed operation: the code word a client of Redis knows, then why.
pub fn fault(error: &Error) -> RespValue {
    RespValue::error(format!("ERR {error}"))
}
