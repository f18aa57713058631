//! Little-endian and varint primitives shared by the log record, the snapshot and the peer frames.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Input that cannot be decoded: from disk or a peer, so never a panic.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Fewer bytes than a field needs.
    #[error("{what}: input ends early")]
    Short {
        /// Field that was read.
        what: &'static str,
    },
    /// A tag nobody wrote.
    #[error("{what}: unknown tag {tag}")]
    Tag {
        /// Field that was read.
        what: &'static str,
        /// Its value.
        tag: u64,
    },
    /// A number out of range, or bytes left over.
    #[error("{what}: malformed")]
    Malformed {
        /// Field that was read.
        what: &'static str,
    },
}

/// Appends `value` as LEB128.
pub fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value as u8) | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Appends length and bytes.
pub fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// Reads one byte.
pub fn get_u8(input: &mut Bytes, what: &'static str) -> Result<u8, Error> {
    if input.has_remaining() { Ok(input.get_u8()) } else { Err(Error::Short { what }) }
}

/// Reads a little-endian `u32`.
pub fn get_u32(input: &mut Bytes, what: &'static str) -> Result<u32, Error> {
    if input.remaining() >= 4 { Ok(input.get_u32_le()) } else { Err(Error::Short { what }) }
}

/// Reads a little-endian `u64`.
pub fn get_u64(input: &mut Bytes, what: &'static str) -> Result<u64, Error> {
    if input.remaining() >= 8 { Ok(input.get_u64_le()) } else { Err(Error::Short { what }) }
}

/// Reads a LEB128 number of at most 64 bits.
pub fn get_varint(input: &mut Bytes, what: &'static str) -> Result<u64, Error> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = get_u8(input, what)?;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return Err(Error::Malformed { what });
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Error::Malformed { what })
}

/// Reads length and bytes, without copying. The result keeps the input's buffer alive.
pub fn get_bytes(input: &mut Bytes, what: &'static str) -> Result<Bytes, Error> {
    let len = usize::try_from(get_varint(input, what)?).map_err(|_| Error::Malformed { what })?;
    if input.remaining() < len {
        return Err(Error::Short { what });
    }
    Ok(input.split_to(len))
}

/// Fails unless everything was read.
pub fn finish(input: &Bytes, what: &'static str) -> Result<(), Error> {
    if input.is_empty() { Ok(()) } else { Err(Error::Malformed { what }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varint_round_trips(value in any::<u64>()) {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            let mut input = out.freeze();
            prop_assert_eq!(get_varint(&mut input, "v"), Ok(value));
            prop_assert!(input.is_empty());
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut input = Bytes::from(bytes);
            while !input.is_empty() {
                if get_bytes(&mut input, "b").is_err() { break; }
            }
        }
    }

    #[test]
    fn varint_of_more_than_64_bits_is_refused() {
        let mut input = Bytes::from_static(&[0xff; 10]);
        assert_eq!(get_varint(&mut input, "v"), Err(Error::Malformed { what: "v" }));
    }
}
