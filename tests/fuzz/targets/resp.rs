//! The parser of RESP: the same requests, and the same error, however the bytes were cut on their way.

use bytes::{Bytes, BytesMut};
use raftcache::codec::resp::parse::{Parser, ProtocolError, RequestLimits};

use super::Target;

const LIMITS: RequestLimits = RequestLimits {
    arguments_max: 64,
    bulk_bytes_max: 4_096,
    request_bytes_max: 8_192,
    inline_bytes_max: 1_024,
};

type Parsed = (Vec<Vec<Bytes>>, Option<ProtocolError>);

/// Feeds the input in pieces of at most `step` bytes.
fn parse(input: &[u8], step: usize) -> Parsed {
    let (mut parser, mut held, mut requests) = (Parser::new(LIMITS), BytesMut::new(), Vec::new());
    for piece in input.chunks(step) {
        held.extend_from_slice(piece);
        loop {
            match parser.next(&mut held) {
                Ok(Some(request)) => {
                    assert!(
                        !request.is_empty() && request.len() <= LIMITS.arguments_max.max(1_024)
                    );
                    let bytes: usize = request.iter().map(Bytes::len).sum();
                    assert!(bytes <= LIMITS.request_bytes_max.max(LIMITS.inline_bytes_max));
                    requests.push(request);
                }
                Ok(None) => break,
                Err(error) => return (requests, Some(error)),
            }
        }
        let slots = LIMITS.arguments_max * size_of::<Bytes>();
        assert!(parser.held_bytes() <= LIMITS.request_bytes_max + slots, "{}", parser.held_bytes());
    }
    (requests, None)
}

pub fn requests() -> Target {
    let sound = [
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n",
        "*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n",
        "SET key \"a \\x00\\n\" 'single \\' quote'\r\nPING\r\n\r\n",
        "*-1\r\n*0\r\nget k\n",
        "*2\r\n$4\r\nECHO\r\n$10\r\n0123456789\r\n*1\r\n$3\r\nfoo",
    ];
    Target::new(sound, |input| {
        let whole = parse(input, input.len().max(1));
        for step in [1, 3, 17] {
            let (requests, error) = parse(input, step);
            assert_eq!(requests, whole.0, "in pieces of {step}");
            assert_eq!(error.is_some(), whole.1.is_some(), "{error:?} {:?}", whole.1);
        }
        whole.1.is_none()
    })
}
