//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a write that is sent again under the
//! same key is applied once and gets the first answer (INV-6).
//!
//! The request id is made of the key and of the operation itself, so a key that is used for another
//! operation by mistake is another request: nothing is dropped in silence and answered as done. Two
//! requests meet only if 128 bits of their hashes do.
//!
//! `Idempotency-Age` says how long ago the request was first sent, so that a node that may have forgotten
//! the answer does not take a retry for a new request, nor a new request for a retry.
//!
//! Each is a session of one operation: numbers of a common session would have to come in order
//! (`core::sessions` forgets the lowest), and keys have none.

use axum::http::HeaderMap;
use xxhash_rust::xxh3::Xxh3;

use super::seconds;
use crate::codec::log_record::encode_writes;
use crate::front::validate::{invalid, millis_up};
use crate::service::{Multi, Operation};
use crate::types::limits::IDEMPOTENCY_KEY_BYTES_MAX;
use crate::types::{Command, Error, Named, RequestId, Sent, Transaction, Write};

/// Name of the header, as errors give it.
const HEADER: &str = "idempotency-key";
/// How long ago the request was first sent under its key, seconds with fractions; 0 if never before.
const AGE: &str = "idempotency-age";
/// What is hashed first: no other use of the hash can give the same sessions.
const DOMAIN: &[u8] = b"raftcache http idempotency-key 1";
/// The one number of each session.
const SEQUENCE: u64 = 1;

/// The request id of an operation that passed the checks; `None` if the caller sent no key, or nothing
/// is written.
///
/// # Errors
/// If the key is empty, too long, or given twice, or its age is no number of seconds.
pub(super) fn request_id(
    headers: &HeaderMap,
    operation: &Operation,
) -> Result<Option<Named>, Error> {
    let mut given = headers.get_all(HEADER).iter();
    let Some(key) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(invalid(HEADER, "is given twice"));
    }
    let key = key.as_bytes();
    // The draft has a string in quotes; many clients send it bare.
    let key = key.strip_prefix(b"\"").and_then(|key| key.strip_suffix(b"\"")).unwrap_or(key);
    if !(1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) {
        let problem =
            format!("has {} bytes; 1 to {IDEMPOTENCY_KEY_BYTES_MAX} are allowed", key.len());
        return Err(invalid(HEADER, problem));
    }
    let sent = sent(headers)?;
    Ok(written(operation).map(|(tag, command)| Named { id: id(key, tag, command), sent }))
}

fn sent(headers: &HeaderMap) -> Result<Sent, Error> {
    let mut given = headers.get_all(AGE).iter();
    let Some(age) = given.next() else { return Ok(Sent::Unsaid) };
    if given.next().is_some() {
        return Err(invalid(AGE, "is given twice"));
    }
    let text = age.to_str().map_err(|_| invalid(AGE, "is not ASCII"))?;
    let age = seconds::duration(AGE, text.trim())?;
    Ok(if age.is_zero() { Sent::First } else { Sent::Before { ms: millis_up(age) } })
}

/// What an operation writes, and how.
fn written(operation: &Operation) -> Option<(u8, Command)> {
    match operation {
        Operation::Write(command) => Some((0, command.clone())),
        Operation::Multi(Multi { steps, atomic, watches, .. }) => {
            let (steps, watches) = (steps.clone(), watches.clone());
            Some((1 + u8::from(*atomic), Command::Transaction(Transaction { watches, steps })))
        }
        Operation::Flush => Some((0, Command::Flush)),
        Operation::Read { .. }
        | Operation::Scan(_)
        | Operation::Size { .. }
        | Operation::GetOrLease(_) => None,
    }
}

/// The operation as the log has it: that encoding is the same in every version of this program.
fn id(key: &[u8], tag: u8, command: Command) -> RequestId {
    let mut hash = Xxh3::new();
    hash.update(DOMAIN);
    hash.update(&(key.len() as u64).to_le_bytes());
    hash.update(key);
    hash.update(&[tag]);
    hash.update(&encode_writes(&[Write { request_id: None, command }]));
    // All zero is no session.
    RequestId { session: hash.digest128().max(1), sequence: SEQUENCE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Condition, Expiry, Increment, Set, Value, ValueKind};
    use bytes::Bytes;

    fn increment(key: &'static str, delta: i64) -> Operation {
        let key = Bytes::from_static(key.as_bytes());
        Operation::Write(Command::Increment(Increment { key, delta }))
    }

    fn of(keys: &[&str], operation: &Operation) -> Result<Option<RequestId>, Error> {
        let mut headers = HeaderMap::new();
        for key in keys {
            headers.append(HEADER, key.parse().unwrap());
        }
        Ok(request_id(&headers, operation)?.map(|named| named.id))
    }

    #[test]
    fn an_age_says_whether_it_was_sent_before() {
        let of = |ages: &[&'static str]| {
            let mut headers = HeaderMap::new();
            headers.append(HEADER, "a".parse().unwrap());
            for age in ages {
                headers.append(AGE, age.parse().unwrap());
            }
            request_id(&headers, &increment("k", 1)).map(|named| named.unwrap().sent)
        };
        assert_eq!(of(&[]).unwrap(), Sent::Unsaid);
        assert_eq!(of(&["0"]).unwrap(), Sent::First);
        assert_eq!(of(&["1.5"]).unwrap(), Sent::Before { ms: 1_500 });
        assert_eq!(of(&["0.0001"]).unwrap(), Sent::Before { ms: 1 });
        for bad in [&["soon"][..], &["-1"], &["1", "1"], &[""]] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_same_request_has_the_same_id_and_no_other_has() {
        let same = of(&["a"], &increment("k", 1)).unwrap().unwrap();
        assert_eq!(of(&["\"a\""], &increment("k", 1)).unwrap(), Some(same), "quoted or not");
        let others = [
            of(&["b"], &increment("k", 1)),
            of(&["a"], &increment("l", 1)),
            of(&["a"], &increment("k", 2)),
            of(&["a"], &Operation::Flush),
        ];
        for other in others {
            assert_ne!(other.unwrap().unwrap().session, same.session);
        }
        assert_eq!(of(&[], &increment("k", 1)).unwrap(), None);
    }

    /// A retry may meet a node of another version.
    #[test]
    fn the_id_stays_as_it_is() {
        let set = Set {
            key: Bytes::from_static(b"user:1"),
            value: Value { data: Bytes::from_static(b"Ada"), kind: ValueKind::Text },
            expiry: Expiry::AfterMs(1_500),
            condition: Condition::Always,
        };
        let id = of(&["8e03978e"], &Operation::Write(Command::Set(set))).unwrap().unwrap();
        assert_eq!(id.sequence, 1);
        assert_eq!(format!("{:032x}", id.session), "68b911cd489924ecbc7d215955ae0b90");
    }

    #[test]
    fn keys_have_bounds() {
        let long = "x".repeat(IDEMPOTENCY_KEY_BYTES_MAX);
        assert!(of(&[&long], &increment("k", 1)).is_ok());
        let longer = format!("{long}x");
        for bad in [&[""][..], &["\"\""], &[&longer], &["a", "a"]] {
            assert!(of(bad, &increment("k", 1)).is_err(), "{bad:?}");
        }
    }
}
