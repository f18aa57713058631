//! Bytes of a client -> requests, piece by piece, as they arrive.
//!
//! A request is an array of bulk strings or a line of words
//! (<https://redis.io/docs/latest/develop/reference/protocol-spec/>, "Sending commands"). It never
//! nests. Every number of the client is held against its limit before anything follows from it; what
//! has been read once is not read again when more arrives.

use bytes::{Buf, Bytes, BytesMut};

use super::line;
use crate::types::limits;

/// What one request may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestLimits {
    /// Arguments, the name of the command among them.
    pub arguments_max: usize,
    /// Bytes of one argument.
    pub bulk_bytes_max: usize,
    /// Bytes of all arguments.
    pub request_bytes_max: usize,
    /// Bytes of a line.
    pub inline_bytes_max: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        RequestLimits {
            arguments_max: limits::RESP_ARGUMENTS_MAX,
            bulk_bytes_max: limits::RESP_BULK_BYTES_MAX,
            request_bytes_max: limits::RESP_REQUEST_BYTES_MAX,
            inline_bytes_max: limits::RESP_INLINE_BYTES_MAX,
        }
    }
}

/// The client does not speak the protocol, or is past a limit. Nothing that follows can be told
/// apart, so the connection ends. The texts are those of Redis 7.0 (`networking.c`), but for
/// `RequestTooLong`, which Redis does not bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProtocolError {
    /// How many arguments follow is no number, or too many.
    #[error("invalid multibulk length")]
    ArgumentCount,
    /// How long an argument is is no number, or too long.
    #[error("invalid bulk length")]
    ArgumentLength,
    /// The line that says how many arguments follow is too long.
    #[error("too big mbulk count string")]
    CountLine,
    /// The line that says how long an argument is is too long.
    #[error("too big bulk count string")]
    LengthLine,
    /// An argument begins with another byte.
    #[error("expected '$', got '{}'", char::from(*.0))]
    NotBulk(u8),
    /// A line of words is too long.
    #[error("too big inline request")]
    LineTooLong,
    /// A quote is not closed.
    #[error("unbalanced quotes in request")]
    Quotes,
    /// The arguments together are too long.
    #[error("the arguments take more than {bytes_max} bytes (limits.resp_request_bytes_max)")]
    RequestTooLong {
        /// The limit.
        bytes_max: usize,
    },
}

impl ProtocolError {
    /// The error reply.
    pub fn reply(&self) -> String {
        format!("ERR Protocol error: {self}")
    }
}

/// Takes requests out of what was read.
#[derive(Debug)]
pub struct Parser {
    limits: RequestLimits,
    /// Arguments that the request under way still lacks; 0 between requests.
    missing: usize,
    /// Length of the next argument, once that was read.
    length: Option<usize>,
    /// Those it has. Invariant: empty if nothing is missing.
    arguments: Vec<Bytes>,
    /// Their bytes and `length`. Invariant: at most `request_bytes_max`.
    bytes: usize,
    /// Bytes at the beginning of the input that have no line break.
    searched: usize,
}

/// What parsing one piece came to.
enum Piece<T> {
    Whole(T),
    /// More must be read.
    Half,
}

impl Parser {
    /// A parser at the beginning of a connection.
    pub fn new(limits: RequestLimits) -> Self {
        let arguments = Vec::new();
        Parser { limits, missing: 0, length: None, arguments, bytes: 0, searched: 0 }
    }

    /// Bytes that the request under way holds beside the input.
    pub fn held_bytes(&self) -> usize {
        // What an argument is announced to take is not held: what was read of it is in the input.
        let announced = self.length.unwrap_or(0);
        self.bytes - announced + self.arguments.len() * size_of::<Bytes>()
    }

    /// Whether no array of arguments is under way.
    pub fn is_between(&self) -> bool {
        self.missing == 0
    }

    /// Takes the next whole request out of `input`; `None` if more must be read first. No request is
    /// empty. The arguments share the memory of the input.
    ///
    /// # Errors
    /// If it is none; then nothing more may be asked.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        loop {
            if self.missing > 0 {
                return self.next_arguments(input);
            }
            match input.first() {
                None => return Ok(None),
                Some(b'*') => match self.begin(input)? {
                    Piece::Whole(()) => {}
                    Piece::Half => return Ok(None),
                },
                Some(_) => match self.next_line(input)? {
                    Piece::Whole(words) if words.is_empty() => {}
                    Piece::Whole(words) => return Ok(Some(words)),
                    Piece::Half => return Ok(None),
                },
            }
        }
    }

    /// Reads how many arguments follow. None, or fewer, is an empty request, which Redis skips.
    fn begin(&mut self, input: &mut BytesMut) -> Result<Piece<()>, ProtocolError> {
        let Some(line) = self.take_number(input, ProtocolError::CountLine)? else {
            return Ok(Piece::Half);
        };
        let count = line.ok_or(ProtocolError::ArgumentCount)?;
        if count > 0 {
            let count = usize::try_from(count).map_err(|_| ProtocolError::ArgumentCount)?;
            if count > self.limits.arguments_max {
                return Err(ProtocolError::ArgumentCount);
            }
            self.missing = count;
        }
        Ok(Piece::Whole(()))
    }

    fn next_arguments(
        &mut self,
        input: &mut BytesMut,
    ) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        while self.missing > 0 {
            let length = match self.length {
                Some(length) => length,
                None => match self.next_length(input)? {
                    Piece::Whole(length) => length,
                    Piece::Half => return Ok(None),
                },
            };
            // The line break behind it is not looked at, as in Redis.
            if input.len() < length + 2 {
                return Ok(None);
            }
            self.arguments.push(input.split_to(length).freeze());
            input.advance(2);
            self.length = None;
            self.missing -= 1;
        }
        self.bytes = 0;
        Ok(Some(std::mem::take(&mut self.arguments)))
    }

    /// Reads how long the next argument is.
    fn next_length(&mut self, input: &mut BytesMut) -> Result<Piece<usize>, ProtocolError> {
        match input.first() {
            None => return Ok(Piece::Half),
            Some(b'$') => {}
            Some(other) => {
                // Redis reads the whole line before it looks at its first byte.
                return match find(input, b'\r', &mut self.searched) {
                    Some(_) => Err(ProtocolError::NotBulk(*other)),
                    None if input.len() > self.limits.inline_bytes_max => {
                        Err(ProtocolError::LengthLine)
                    }
                    None => Ok(Piece::Half),
                };
            }
        }
        let Some(line) = self.take_number(input, ProtocolError::LengthLine)? else {
            return Ok(Piece::Half);
        };
        let length = line.and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| *length <= self.limits.bulk_bytes_max);
        let length = length.ok_or(ProtocolError::ArgumentLength)?;
        let bytes_max = self.limits.request_bytes_max;
        self.bytes = self.bytes.saturating_add(length);
        if self.bytes > bytes_max {
            return Err(ProtocolError::RequestTooLong { bytes_max });
        }
        self.length = Some(length);
        Ok(Piece::Whole(length))
    }

    /// Takes a line off the input and reads the number behind its first byte: `None` before the line
    /// is whole, `Some(None)` if it is no number. A line that is longer than `too_long` allows fails.
    fn take_number(
        &mut self,
        input: &mut BytesMut,
        too_long: ProtocolError,
    ) -> Result<Option<Option<i64>>, ProtocolError> {
        let found = find(input, b'\r', &mut self.searched);
        let Some(end) = found.filter(|end| input.len() >= end + 2) else {
            return match input.len() > self.limits.inline_bytes_max {
                true => Err(too_long),
                false => Ok(None),
            };
        };
        let digits = input.get(1..end).unwrap_or_default();
        let number = number(digits);
        input.advance(end + 2);
        self.searched = 0;
        Ok(Some(number))
    }

    fn next_line(&mut self, input: &mut BytesMut) -> Result<Piece<Vec<Bytes>>, ProtocolError> {
        let Some(end) = find(input, b'\n', &mut self.searched) else {
            return match input.len() > self.limits.inline_bytes_max {
                true => Err(ProtocolError::LineTooLong),
                false => Ok(Piece::Half),
            };
        };
        if end > self.limits.inline_bytes_max {
            return Err(ProtocolError::LineTooLong);
        }
        let line = input.split_to(end);
        input.advance(1);
        self.searched = 0;
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        let words = line::split(line).ok_or(ProtocolError::Quotes)?;
        match words.len() > self.limits.arguments_max {
            true => Err(ProtocolError::ArgumentCount),
            false => Ok(Piece::Whole(words)),
        }
    }
}

/// Where `byte` stands in `input`; the first `searched` bytes are known not to be it.
fn find(input: &[u8], byte: u8, searched: &mut usize) -> Option<usize> {
    let begin = (*searched).min(input.len());
    let found = input[begin..].iter().position(|b| *b == byte).map(|at| begin + at);
    *searched = found.unwrap_or(input.len());
    found
}

/// A whole number as Redis reads it (`string2ll`): no plus, no leading zeros, no spaces.
fn number(digits: &[u8]) -> Option<i64> {
    let unsigned = digits.strip_prefix(b"-").unwrap_or(digits);
    match unsigned {
        [b'0'] => return (digits.len() == 1).then_some(0),
        [b'1'..=b'9', ..] if unsigned.len() <= 19 => {}
        _ => return None,
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
