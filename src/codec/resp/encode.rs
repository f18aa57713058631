//! Replies -> bytes, in either version of the protocol. Long strings are handed on as they are; the
//! rest is gathered.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::value::RespValue;

/// A string of at least so many bytes is not copied.
const SHARED_BYTES_MIN: usize = 2 * 1024;
/// Room that is kept for the next answers when all were taken, bytes.
const TAIL_BYTES_KEPT: usize = 64 * 1024;
/// Most pieces of one vectored write.
pub const SLICES_MAX: usize = 64;

/// Version of the protocol that a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    /// What a connection begins with.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

impl Protocol {
    /// Its number.
    pub fn number(self) -> i64 {
        match self {
            Protocol::Resp2 => 2,
            Protocol::Resp3 => 3,
        }
    }
}

/// Encoded replies that wait to be written.
#[derive(Debug, Default)]
pub struct Output {
    /// In order. None is empty.
    pieces: VecDeque<Bytes>,
    /// Behind them.
    tail: BytesMut,
    /// Invariant: the bytes of `pieces` and `tail`.
    bytes: usize,
}

impl Output {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Puts a reply behind those that wait.
    pub fn put(&mut self, value: RespValue, protocol: Protocol) {
        let before = self.tail.len();
        let shared_before = self.bytes - before;
        let mut shared = 0;
        self.encode(value, protocol == Protocol::Resp3, &mut shared);
        // What stood in the tail before, and what `encode` moved from there, is counted once.
        let gathered: usize = self.tail.len();
        self.bytes = shared_before + shared + gathered;
    }

    /// Puts what waits in `other` behind what waits here.
    pub fn append(&mut self, mut other: Output) {
        self.cut();
        self.pieces.append(&mut other.pieces);
        self.tail = other.tail;
        self.bytes += other.bytes;
    }

    /// The beginning of what waits, for one vectored write. Returns how many pieces there are.
    pub fn slices<'a>(&'a self, into: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let all = self.pieces.iter().map(|piece| &piece[..]).chain(tail);
        let mut count = 0;
        for (slot, piece) in into.iter_mut().zip(all) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// Forgets the first `written` bytes.
    pub fn advance(&mut self, mut written: usize) {
        self.bytes = self.bytes.saturating_sub(written);
        while let Some(first) = self.pieces.front_mut() {
            if written < first.len() {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.pieces.pop_front();
        }
        self.tail.advance(written.min(self.tail.len()));
        if self.tail.is_empty() {
            // A connection that was answered much once does not keep the room for ever.
            if self.tail.capacity() > TAIL_BYTES_KEPT {
                self.tail = BytesMut::new();
            }
            self.tail.clear();
        }
    }

    /// Makes a piece of the tail; returns its bytes.
    fn cut(&mut self) -> usize {
        let piece = self.tail.split().freeze();
        let bytes = piece.len();
        if bytes > 0 {
            self.pieces.push_back(piece);
        }
        bytes
    }

    /// `shared` grows by what leaves the tail or never enters it.
    fn encode(&mut self, value: RespValue, resp3: bool, shared: &mut usize) {
        match value {
            RespValue::Simple(text) => self.line(b'+', text.as_bytes()),
            RespValue::Error(text) => self.line(b'-', text.as_bytes()),
            RespValue::Integer(number) => self.number(b':', number),
            RespValue::Bulk(data) => self.bulk(data, shared),
            RespValue::Null if resp3 => self.tail.put_slice(b"_\r\n"),
            RespValue::NullArray if resp3 => self.tail.put_slice(b"_\r\n"),
            RespValue::Null => self.tail.put_slice(b"$-1\r\n"),
            RespValue::NullArray => self.tail.put_slice(b"*-1\r\n"),
            RespValue::Double(number) if resp3 => self.line(b',', double(number).as_bytes()),
            RespValue::Double(number) => self.bulk(Bytes::from(double(number)), shared),
            RespValue::Bool(truth) if resp3 => {
                self.tail.put_slice(if truth { b"#t\r\n" } else { b"#f\r\n" });
            }
            RespValue::Bool(truth) => self.number(b':', i64::from(truth)),
            RespValue::Array(items) => self.items(b'*', items, resp3, shared),
            RespValue::Set(items) => {
                self.items(if resp3 { b'~' } else { b'*' }, items, resp3, shared);
            }
            RespValue::Push(items) => {
                self.items(if resp3 { b'>' } else { b'*' }, items, resp3, shared);
            }
            RespValue::Map(pairs) => {
                let count = if resp3 { pairs.len() } else { pairs.len() * 2 };
                self.count(if resp3 { b'%' } else { b'*' }, count);
                for (key, value) in pairs {
                    self.encode(key, resp3, shared);
                    self.encode(value, resp3, shared);
                }
            }
            RespValue::Verbatim(text) if resp3 => {
                self.count(b'=', text.len() + 4);
                self.tail.put_slice(b"txt:");
                self.tail.put_slice(text.as_bytes());
                self.tail.put_slice(b"\r\n");
            }
            RespValue::Verbatim(text) => self.bulk(Bytes::from(text), shared),
        }
    }

    fn items(&mut self, kind: u8, items: Vec<RespValue>, resp3: bool, shared: &mut usize) {
        self.count(kind, items.len());
        for item in items {
            self.encode(item, resp3, shared);
        }
    }

    fn bulk(&mut self, data: Bytes, shared: &mut usize) {
        self.count(b'$', data.len());
        if data.len() < SHARED_BYTES_MIN {
            self.tail.put_slice(&data);
        } else {
            *shared += self.cut() + data.len();
            self.pieces.push_back(data);
        }
        self.tail.put_slice(b"\r\n");
    }

    fn count(&mut self, kind: u8, count: usize) {
        self.number(kind, i64::try_from(count).unwrap_or(i64::MAX));
    }

    fn number(&mut self, kind: u8, number: i64) {
        // The longest number has 20 characters.
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        let mut rest = number.unsigned_abs();
        loop {
            at -= 1;
            // One digit.
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.tail.put_u8(kind);
        if number < 0 {
            self.tail.put_u8(b'-');
        }
        self.tail.put_slice(&digits[at..]);
        self.tail.put_slice(b"\r\n");
    }

    /// A text of one line: what would break it becomes a space, as in Redis.
    fn line(&mut self, kind: u8, text: &[u8]) {
        self.tail.put_u8(kind);
        let begin = self.tail.len();
        self.tail.put_slice(text);
        for byte in &mut self.tail[begin..] {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        self.tail.put_slice(b"\r\n");
    }
}

/// As RESP3 writes a number.
fn double(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    number.to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redis_protocol::resp2::decode::decode as decode2;
    use redis_protocol::resp2::types::OwnedFrame as Frame2;
    use redis_protocol::resp3::decode::complete::decode as decode3;

    use super::*;

    fn written(mut output: Output) -> Vec<u8> {
        let mut all = Vec::new();
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = output.slices(&mut slices);
            // As a socket would take it: a part.
            let bytes: Vec<u8> = slices[..count].iter().flat_map(|s| s.iter().copied()).collect();
            let taken = bytes.len().div_ceil(2);
            all.extend_from_slice(&bytes[..taken]);
            output.advance(taken);
        }
        all
    }

    fn encoded(value: RespValue, protocol: Protocol) -> Vec<u8> {
        let mut output = Output::default();
        output.put(value, protocol);
        let bytes = output.len();
        let written = written(output);
        assert_eq!(written.len(), bytes);
        written
    }

    fn both(value: RespValue) -> (String, String) {
        let text = |protocol| String::from_utf8(encoded(value.clone(), protocol)).unwrap();
        (text(Protocol::Resp2), text(Protocol::Resp3))
    }

    #[test]
    fn each_kind_in_both_versions() {
        let same = |value, text: &str| assert_eq!(both(value), (text.to_owned(), text.to_owned()));
        same(RespValue::OK, "+OK\r\n");
        same(RespValue::error("ERR a\r\nb"), "-ERR a  b\r\n");
        same(RespValue::Integer(i64::MIN), ":-9223372036854775808\r\n");
        same(RespValue::Integer(0), ":0\r\n");
        same(RespValue::text("a\r\nb"), "$4\r\na\r\nb\r\n");
        same(RespValue::Array(vec![RespValue::OK, RespValue::Integer(7)]), "*2\r\n+OK\r\n:7\r\n");
        let differ = |value, two: &str, three: &str| {
            assert_eq!(both(value), (two.to_owned(), three.to_owned()));
        };
        differ(RespValue::Null, "$-1\r\n", "_\r\n");
        differ(RespValue::NullArray, "*-1\r\n", "_\r\n");
        differ(RespValue::Bool(true), ":1\r\n", "#t\r\n");
        differ(RespValue::Double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n");
        differ(RespValue::Double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n");
        let pair = || vec![(RespValue::text("k"), RespValue::Null)];
        differ(RespValue::Map(pair()), "*2\r\n$1\r\nk\r\n$-1\r\n", "%1\r\n$1\r\nk\r\n_\r\n");
        differ(RespValue::Set(vec![RespValue::OK]), "*1\r\n+OK\r\n", "~1\r\n+OK\r\n");
        differ(RespValue::Push(vec![RespValue::OK]), "*1\r\n+OK\r\n", ">1\r\n+OK\r\n");
        differ(RespValue::Verbatim("ab".to_owned()), "$2\r\nab\r\n", "=6\r\ntxt:ab\r\n");
    }

    #[test]
    fn a_long_string_is_not_copied() {
        let data = Bytes::from(vec![b'x'; SHARED_BYTES_MIN]);
        let mut output = Output::default();
        output.put(RespValue::OK, Protocol::Resp2);
        output.put(RespValue::Bulk(data.clone()), Protocol::Resp2);
        output.put(RespValue::OK, Protocol::Resp2);
        assert_eq!(output.pieces[1].as_ptr(), data.as_ptr());
        let mut expected = b"+OK\r\n$2048\r\n".to_vec();
        expected.extend_from_slice(&data);
        expected.extend_from_slice(b"\r\n+OK\r\n");
        assert_eq!(output.len(), expected.len());
        let mut other = Output::default();
        other.put(RespValue::Bulk(data), Protocol::Resp2);
        let before = expected.len();
        expected.extend_from_within(5..before - 5);
        output.append(other);
        output.put(RespValue::OK, Protocol::Resp2);
        expected.extend_from_slice(b"+OK\r\n");
        assert_eq!(output.len(), expected.len());
        assert_eq!(written(output), expected);
    }

    fn values() -> impl Strategy<Value = RespValue> {
        let leaf = prop_oneof![
            Just(RespValue::OK),
            "[A-Z]{1,8} [a-z ]{0,20}".prop_map(RespValue::Error),
            any::<i64>().prop_map(RespValue::Integer),
            proptest::collection::vec(any::<u8>(), 0..4_000)
                .prop_map(|b| RespValue::Bulk(b.into())),
            Just(RespValue::Null),
            Just(RespValue::NullArray),
            any::<bool>().prop_map(RespValue::Bool),
            (-1e15f64..1e15).prop_map(RespValue::Double),
            "[a-z]{0,20}".prop_map(RespValue::Verbatim),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(RespValue::Array),
                proptest::collection::vec(("[a-z]{1,8}".prop_map(RespValue::text), inner), 0..3)
                    .prop_map(RespValue::Map),
            ]
        })
    }

    proptest! {
        /// Another's decoder takes what is encoded as one whole value, in both versions.
        #[test]
        fn another_decoder_reads_it(value in values()) {
            let two = encoded(value.clone(), Protocol::Resp2);
            let (frame, used) = decode2(&two).unwrap().unwrap();
            prop_assert_eq!(used, two.len());
            if let RespValue::Bulk(data) = &value {
                prop_assert_eq!(frame, Frame2::BulkString(data.to_vec()));
            }
            let three = encoded(value, Protocol::Resp3);
            let (_, used) = decode3(&three).unwrap().unwrap();
            prop_assert_eq!(used, three.len());
        }
    }
}
