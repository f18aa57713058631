//! Errors of the service as a client of Redis is told them: a code word, then the text.
//!
//! Where Redis has words for it they are Redis's. Otherwise the code word says what a client may do, and
//! `UNKNOWN` that the command may have taken effect (INV-5): under any other it surely has not. See
//! `docs/resp.md`.

use crate::codec::resp::value::RespValue;
use crate::types::{Error, Outcome, Reason};

/// The error reply for a failed operation.
pub fn fault(error: &Error) -> RespValue {
    let reason = &error.reason;
    match error.outcome() {
        Outcome::Unknown => return RespValue::error(format!("UNKNOWN {}", one_line(reason))),
        Outcome::Rejected => {}
    }
    let word = match reason {
        Reason::NotInteger => return RespValue::error(NOT_INTEGER),
        Reason::Overflow => {
            return RespValue::error("ERR increment or decrement would overflow");
        }
        Reason::NotFloat => return RespValue::error("ERR value is not a valid float"),
        Reason::NotFinite => {
            return RespValue::error("ERR increment would produce NaN or Infinity");
        }
        Reason::WrongKind => {
            let text = "WRONGTYPE Operation against a key holding the wrong kind of value";
            return RespValue::error(text);
        }
        Reason::CrossShard { .. } => {
            return RespValue::error("CROSSSLOT Keys in request don't hash to the same slot");
        }
        Reason::NotLeader { .. }
        | Reason::NoLeader { .. }
        | Reason::NoQuorum { .. }
        | Reason::NotReady => "CLUSTERDOWN",
        Reason::NotOwner { .. }
        | Reason::ResourceExhausted { .. }
        | Reason::Stopping
        | Reason::DeadlineBeforePropose
        | Reason::ReadFailed { .. }
        | Reason::TooStale { .. } => "TRYAGAIN",
        Reason::StorageFailed { .. } => "MISCONF",
        Reason::InvalidArgument { .. }
        | Reason::TooLarge { .. }
        | Reason::ReplyTooLarge { .. }
        | Reason::DeadlineAfterPropose
        | Reason::Lost { .. }
        | Reason::SessionExpired
        | Reason::OutdatedToken
        | Reason::Internal { .. } => "ERR",
    };
    RespValue::error(format!("{word} {}", one_line(reason)))
}

/// Redis's text for a word, or a value, that is no whole number of 64 bits.
pub const NOT_INTEGER: &str = "ERR value is not an integer or out of range";

/// The error reply for a command of which a part failed so, while `done` others of its parts took
/// effect: what surely has not taken effect as a part has done so as a whole (INV-5).
pub fn partly(error: &Error, done: usize) -> RespValue {
    if done == 0 {
        return fault(error);
    }
    RespValue::error(format!(
        "UNKNOWN {done} of the keys were changed; {}",
        one_line(&error.reason)
    ))
}

fn one_line(reason: &Reason) -> String {
    reason.to_string().replace(['\r', '\n'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// INV-5: the code word is `UNKNOWN` exactly if the outcome is.
    #[test]
    fn the_code_word_tells_the_outcome() {
        let reasons = [
            Reason::Stopping,
            Reason::NotReady,
            Reason::DeadlineBeforePropose,
            Reason::DeadlineAfterPropose,
            Reason::SessionExpired,
            Reason::NotInteger,
            Reason::CrossShard { shards: 2 },
            Reason::Lost { detail: "a\r\nb".to_owned() },
            Reason::StorageFailed { detail: "full".to_owned() },
            Reason::Internal { detail: String::new() },
        ];
        for reason in reasons {
            let error = Error::from(reason);
            let RespValue::Error(text) = fault(&error) else { panic!("an error") };
            let unknown = error.outcome() == Outcome::Unknown;
            assert_eq!(text.starts_with("UNKNOWN "), unknown, "{text}");
            assert!(!text.contains(['\r', '\n']), "{text}");
        }
    }

    #[test]
    fn a_part_that_took_effect_makes_the_whole_unknown() {
        let error = Error::from(Reason::Stopping);
        assert_eq!(partly(&error, 0), RespValue::error("TRYAGAIN the node is stopping"));
        let text = "UNKNOWN 2 of the keys were changed; the node is stopping";
        assert_eq!(partly(&error, 2), RespValue::error(text));
    }
}
