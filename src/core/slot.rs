//! Which slot a key belongs to, exactly as the Redis Cluster specification says: CRC16 (XMODEM) of
//! the key, or of its `{hash tag}`, modulo 16384.

use crate::types::{SLOTS, Slot};

const POLYNOMIAL: u16 = 0x1021;

const TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    let mut table = [0u16; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ POLYNOMIAL };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// CRC16/XMODEM: polynomial 0x1021, initial value 0, not reflected.
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) ^ u16::from(*byte))])
}

/// Slot of a key. Only what stands between the first `{` and the first `}` after it is hashed, if
/// that is not empty, so that a client can place keys together.
pub fn slot_of(key: &[u8]) -> Slot {
    Slot(crc16(hash_tag(key).unwrap_or(key)) % SLOTS)
}

fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|byte| *byte == b'{')?;
    let rest = &key[open + 1..];
    let close = rest.iter().position(|byte| *byte == b'}')?;
    (close > 0).then(|| &rest[..close])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of the Redis Cluster specification.
    #[test]
    fn crc16_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(crc16(b""), 0);
    }

    /// Known from `CLUSTER KEYSLOT` of Redis.
    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(slot_of(b"foo"), Slot(12182));
        assert_eq!(slot_of(b"bar"), Slot(5061));
        assert_eq!(slot_of(b"hello"), Slot(866));
        assert_eq!(slot_of(b"123456789"), Slot(0x31C3));
    }

    /// The hash tag examples of the Redis Cluster specification.
    #[test]
    fn hash_tags_place_keys_together() {
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"{user1000}.followers"));
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"user1000"));
        let whole = |key: &[u8]| Slot(crc16(key) % SLOTS);
        assert_eq!(slot_of(b"foo{}{bar}"), whole(b"foo{}{bar}"));
        assert_eq!(slot_of(b"foo{{bar}}zap"), whole(b"{bar"));
        assert_eq!(slot_of(b"foo{bar}{zap}"), whole(b"bar"));
        assert_eq!(slot_of(b"foo{bar"), whole(b"foo{bar"));
    }
}
