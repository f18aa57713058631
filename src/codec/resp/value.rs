//! What a client of the Redis protocol is answered, before it is bytes.

use bytes::Bytes;

/// A reply of the Redis protocol, before it is known which version its client speaks
/// (<https://redis.io/docs/latest/develop/reference/protocol-spec/>). What RESP2 lacks is flattened
/// when it is encoded, as Redis does: a map is an array of keys and values, a set an array, a truth
/// an integer, a double a bulk string.
#[derive(Clone, PartialEq, Debug)]
pub enum RespValue {
    /// A short text without line breaks: `+OK`.
    Simple(&'static str),
    /// A failure: its code word and its text, `ERR syntax error`, without the `-` and without line
    /// breaks.
    Error(String),
    /// A whole number.
    Integer(i64),
    /// Bytes.
    Bulk(Bytes),
    /// Nothing: `_` in RESP3, the null bulk string `$-1` in RESP2.
    Null,
    /// Nothing where an array stands otherwise (`EXEC` that was aborted): `_` in RESP3, `*-1` in RESP2.
    NullArray,
    /// A floating-point number.
    Double(f64),
    /// A truth: `#t` in RESP3, `:1` in RESP2.
    Bool(bool),
    /// Several, in order.
    Array(Vec<RespValue>),
    /// Keys and what belongs to them.
    Map(Vec<(RespValue, RespValue)>),
    /// Several without an order.
    Set(Vec<RespValue>),
    /// What was not asked for; an array in RESP2.
    Push(Vec<RespValue>),
    /// Text for people (`=txt:` in RESP3, a bulk string in RESP2).
    Verbatim(String),
}

impl RespValue {
    /// `+OK`.
    pub const OK: RespValue = RespValue::Simple("OK");

    /// An error with this text, code word included.
    pub fn error(text: impl Into<String>) -> Self {
        RespValue::Error(text.into())
    }

    /// A bulk string of a text.
    pub fn text(text: impl Into<String>) -> Self {
        RespValue::Bulk(Bytes::from(text.into()))
    }
}
