//! The differences that `docs/resp.md` names. Each function refers to the row that does.

use crate::client::Words;
use crate::reply::Reply;

/// Digits before the point that a number has here at most.
const DIGITS_MAX: usize = 309;

/// A difference: what it is called in the document, and whether it is this one.
pub struct Exemption {
    /// A text that stands in `docs/resp.md`.
    pub row: &'static str,
    matches: fn(&Words, &Reply, &Reply) -> bool,
}

/// All of them.
pub const EXEMPTIONS: [Exemption; 9] = [
    Exemption { row: "times pass between two servers", matches: times_pass },
    Exemption { row: "The order of the keys is another", matches: order_of_keys },
    Exemption { row: "any key", matches: random_key },
    Exemption { row: "Cursors are other numbers", matches: cursor },
    Exemption { row: "told from the bytes of the value", matches: encoding_by_bytes },
    Exemption { row: "always 1", matches: refcount },
    Exemption { row: "an error where the key is there", matches: idle_time },
    Exemption { row: "logical bytes", matches: memory_usage },
    Exemption { row: "bytes that are not UTF-8", matches: error_bytes },
];

/// The document's name of this difference, if it has one.
pub fn named(command: &Words, ours: &Reply, theirs: &Reply) -> Option<&'static str> {
    let named = EXEMPTIONS.iter().find(|named| (named.matches)(command, ours, theirs));
    named.map(|named| named.row)
}

fn is(command: &Words, name: &str) -> bool {
    command[0].eq_ignore_ascii_case(name.as_bytes())
}

fn is_sub(command: &Words, name: &str, sub: &str) -> bool {
    is(command, name) && command.get(1).is_some_and(|w| w.eq_ignore_ascii_case(sub.as_bytes()))
}

/// Both servers were asked, but not in the same millisecond.
fn times_pass(command: &Words, ours: &Reply, theirs: &Reply) -> bool {
    let tolerance = match () {
        () if is(command, "ttl") || is(command, "expiretime") => 5,
        () if is(command, "pttl") || is(command, "pexpiretime") => 5_000,
        () => return false,
    };
    let (Some(ours), Some(theirs)) = (ours.integer(), theirs.integer()) else { return false };
    ours > 0 && theirs > 0 && (ours - theirs).abs() <= tolerance
}

fn order_of_keys(command: &Words, ours: &Reply, theirs: &Reply) -> bool {
    let (Some(ours), Some(theirs)) = (ours.array(), theirs.array()) else { return false };
    let sorted = |keys: &[Reply]| {
        let mut keys = keys.to_vec();
        keys.sort();
        keys
    };
    is(command, "keys") && sorted(ours) == sorted(theirs)
}

/// Both have keys: those are compared by `KEYS` and `SCAN`.
fn random_key(command: &Words, ours: &Reply, theirs: &Reply) -> bool {
    is(command, "randomkey") && ours.bulk().is_some() && theirs.bulk().is_some()
}

/// A walk from its beginning is compared as a whole; one from the middle shows what it likes.
fn cursor(command: &Words, ours: &Reply, theirs: &Reply) -> bool {
    let part = |reply: &Reply| {
        matches!(reply.array(), Some([Reply::Bulk(Some(_)), Reply::Array(Some(_))]))
    };
    is(command, "scan") && command.get(1).is_some_and(|at| at != b"0") && part(ours) && part(theirs)
}

/// Redis tells how the value came to be: what was appended to is `raw`, a sum of `INCRBYFLOAT` never
/// `int`.
fn encoding_by_bytes(command: &Words, ours: &Reply, theirs: &Reply) -> bool {
    let (Some(ours), Some(theirs)) = (ours.bulk(), theirs.bulk()) else { return false };
    let longer = matches!((ours, theirs), (b"int" | b"embstr", b"raw") | (b"int", b"embstr"));
    is_sub(command, "object", "encoding") && longer
}

/// Redis shares the numbers up to 9,999, and lends a value to an answer that is being written.
fn refcount(command: &Words, ours: &Reply, theirs: &Reply) -> bool {
    let counted = theirs.integer().is_some_and(|count| count > 1);
    is_sub(command, "object", "refcount") && ours.integer() == Some(1) && counted
}

fn idle_time(command: &Words, ours: &Reply, theirs: &Reply) -> bool {
    let not_kept = ours.error().is_some_and(|text| text.starts_with("ERR OBJECT IDLETIME is not"));
    is_sub(command, "object", "idletime") && not_kept && theirs.integer().is_some()
}

fn memory_usage(command: &Words, ours: &Reply, theirs: &Reply) -> bool {
    let both = ours.integer().is_some() && theirs.integer().is_some();
    is_sub(command, "memory", "usage") && both
}

/// An error repeats a word of the command.
fn error_bytes(_: &Words, ours: &Reply, theirs: &Reply) -> bool {
    match (ours, theirs) {
        (Reply::Error(ours), Reply::Error(theirs)) => {
            std::str::from_utf8(theirs).is_err()
                && **ours == *String::from_utf8_lossy(theirs).as_bytes()
        }
        _ => false,
    }
}

/// "Exact sums": `INCRBYFLOAT` of Redis adds in the `long double` of its machine. Both answers are the
/// same number but for its last digits, or theirs has more digits than ours may; the caller puts theirs
/// in the place of ours.
pub fn float_sum(command: &Words, ours: &Reply, theirs: &Reply) -> bool {
    let text = |reply: &Reply| reply.bulk().and_then(|data| String::from_utf8(data.to_vec()).ok());
    let Some(theirs) = text(theirs).filter(|_| is(command, "incrbyfloat")) else { return false };
    if ours.error() == Some("ERR value is not a valid float") {
        return theirs.len() > DIGITS_MAX;
    }
    let Some(ours) = text(ours).and_then(|text| text.parse::<f64>().ok()) else { return false };
    theirs.parse::<f64>().is_ok_and(|theirs| (ours - theirs).abs() <= 1e-12 * ours.abs().max(1e-3))
}
