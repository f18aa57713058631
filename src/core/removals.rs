//! When keys were last removed, roughly: what a fill, or a watch, must know of a key that is not there.
//!
//! A fill may store its value only if nothing happened to the key since the fill was let through
//! (docs/adr/0013). A key that is there says so by its version; one that is not has none. So the
//! latest removal is kept here for each of a fixed number of buckets of the key hash: a fixed number
//! of bytes, the same on every replica. Keys that share a bucket refuse each other's fills at times,
//! which costs a fill and never a wrong value. In the same way a transaction that watches an absent key
//! is aborted if a key of its bucket was removed since (`Watch::since`).

use super::digest::mix;

/// Buckets, 8 bytes each. What counts against a fill or a watch is only what was removed since the key
/// was seen absent: a few milliseconds of a fill on its way through the log, and the length of a
/// transaction.
pub const BUCKETS: usize = 16 * 1024;

/// The latest removal of each bucket, as a version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Removals {
    /// Version of the last removal; 0 for none.
    buckets: Box<[u64; BUCKETS]>,
    /// Version of the last flush, which removed every key.
    floor: u64,
    /// Invariant: the wrapping sum of `of_bucket` over all buckets and the floor.
    digest: u64,
}

/// 0 for 0: what never happened leaves the digest as it was before there were removals.
fn of_bucket(bucket: u64, version: u64) -> u64 {
    if version == 0 { 0 } else { mix(mix(bucket + 1).wrapping_add(version)) }
}

impl Removals {
    /// None yet.
    pub fn new() -> Self {
        Removals { buckets: Box::new([0; BUCKETS]), floor: 0, digest: 0 }
    }

    /// A key of this hash was removed by the write with this version, or was written by it and is
    /// gone since.
    pub fn note(&mut self, hash: u32, version: u64) {
        let bucket = hash as usize % BUCKETS;
        self.set(bucket, version);
    }

    fn set(&mut self, bucket: usize, version: u64) {
        let old = self.buckets[bucket];
        if version > old {
            self.buckets[bucket] = version;
            let bucket = bucket as u64;
            let change = of_bucket(bucket, version).wrapping_sub(of_bucket(bucket, old));
            self.digest = self.digest.wrapping_add(change);
        }
    }

    /// Every key was removed by the write with this version.
    pub fn note_all(&mut self, version: u64) {
        let (at, new) = (BUCKETS as u64, version.max(self.floor));
        let change = of_bucket(at, new).wrapping_sub(of_bucket(at, self.floor));
        self.digest = self.digest.wrapping_add(change);
        self.floor = new;
    }

    /// The latest removal of a key of this hash, or later; 0 for never.
    pub fn last(&self, hash: u32) -> u64 {
        self.buckets[hash as usize % BUCKETS].max(self.floor)
    }

    /// Order-independent hash; 0 while nothing was removed.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// What was removed, as number and version; the number of the flush is `BUCKETS`.
    pub fn export(&self) -> Vec<(u32, u64)> {
        let all = self.buckets.iter().chain([&self.floor]).zip(0..);
        all.filter(|(version, _)| **version != 0).map(|(version, at)| (at, *version)).collect()
    }

    /// Takes in what `export` gave; false if there is no such number.
    pub fn import(&mut self, at: u32, version: u64) -> bool {
        match usize::try_from(at) {
            Ok(BUCKETS) => self.note_all(version),
            Ok(bucket) if bucket < BUCKETS => self.set(bucket, version),
            _ => return false,
        }
        true
    }

    /// Most elements that `export` gives.
    pub const EXPORTED_MAX: usize = BUCKETS + 1;
}

impl Default for Removals {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_removal_counts_and_others_of_the_bucket_too() {
        let mut removals = Removals::new();
        assert_eq!((removals.last(5), removals.digest()), (0, 0));
        removals.note(5, 30);
        removals.note(5, 20);
        assert_eq!(removals.last(5), 30);
        assert_eq!(removals.last(5 + BUCKETS as u32), 30);
        assert_eq!(removals.last(6), 0);
        removals.note_all(40);
        assert_eq!((removals.last(5), removals.last(6)), (40, 40));
    }

    #[test]
    fn an_import_of_an_export_is_equal() {
        let mut removals = Removals::new();
        (0..5_000u32).for_each(|n| removals.note(n.wrapping_mul(2_654_435_761), u64::from(n)));
        removals.note_all(77);
        let mut copy = Removals::new();
        let exported = removals.export();
        assert!(exported.len() <= Removals::EXPORTED_MAX);
        assert!(exported.iter().rev().all(|(at, version)| copy.import(*at, *version)));
        assert_eq!(copy, removals);
        assert!(!copy.import(BUCKETS as u32 + 1, 1));
    }
}
