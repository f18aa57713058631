//! Order-independent hashes of the replicated state (INV-3): each part is a wrapping sum of one
//! well-mixed number an element, so that it is kept in step as elements come and go.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::keyspace::{Entry, Shape};
use crate::types::ValueKind;

/// A bijection in which every bit of the input moves about half the bits of the output
/// (finalizer of SplitMix64, Steele, Lea and Flood 2014).
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Folds numbers into one; their order matters.
pub fn fold(values: &[u64]) -> u64 {
    values.iter().fold(0x9e37_79b9_7f4a_7c15, |hash, value| mix(hash ^ mix(*value)))
}

/// Of a cache entry: key, value, kind, shape, deadline and version.
pub fn of_entry(entry: &Entry, seed: u64) -> u64 {
    let of_shape = match entry.shape() {
        Shape::Plain => 0,
        Shape::Lock => 1 << 32,
        Shape::Filled => 2 << 32,
    };
    let shape = of_shape | (entry.key().len() as u64) << 8 | u64::from(kind_tag(entry.kind));
    let data = xxh3_64_with_seed(&entry.data, seed);
    fold(&[data, shape, entry.deadline_ms, entry.version])
}

/// Of a cache entry's place in the eviction order. The version names the entry within the group.
pub fn of_mark(version: u64, mark: u64) -> u64 {
    mix(mix(version).wrapping_add(mark))
}

/// Tag of a kind of value, in the digest and in the snapshot; append only.
pub fn kind_tag(kind: ValueKind) -> u8 {
    match kind {
        ValueKind::Bytes => 0,
        ValueKind::Text => 1,
    }
}

/// The kind with this tag.
pub fn kind_of_tag(tag: u8) -> Option<ValueKind> {
    match tag {
        0 => Some(ValueKind::Bytes),
        1 => Some(ValueKind::Text),
        _ => None,
    }
}
