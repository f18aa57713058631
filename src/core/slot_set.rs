//! A set of slots: one bit for each of the 16384.

use std::fmt;

use crate::types::wire::Error;
use crate::types::{SLOTS, Slot};

const WORDS: usize = SLOTS as usize / 64;

/// A set of slots. 2 KiB on the heap.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotSet {
    /// Bit `s % 64` of word `s / 64` stands for slot `s`.
    words: Box<[u64; WORDS]>,
}

impl SlotSet {
    /// Bytes of the encoded form.
    pub const ENCODED_BYTES: usize = WORDS * 8;

    /// No slot.
    pub fn empty() -> Self {
        SlotSet { words: Box::new([0; WORDS]) }
    }

    /// Every slot.
    pub fn all() -> Self {
        SlotSet { words: Box::new([u64::MAX; WORDS]) }
    }

    /// Whether `slot` is in the set; never for a number that is no slot.
    pub fn contains(&self, slot: Slot) -> bool {
        self.words
            .get(usize::from(slot.0 / 64))
            .is_some_and(|word| word & (1 << (slot.0 % 64)) != 0)
    }

    /// Adds a slot.
    ///
    /// # Panics
    /// If `slot` is not below `SLOTS`.
    pub fn insert(&mut self, slot: Slot) {
        self.words[usize::from(slot.0 / 64)] |= 1 << (slot.0 % 64);
    }

    /// Takes a slot out.
    ///
    /// # Panics
    /// If `slot` is not below `SLOTS`.
    pub fn remove(&mut self, slot: Slot) {
        self.words[usize::from(slot.0 / 64)] &= !(1 << (slot.0 % 64));
    }

    /// Number of slots in the set.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no slot is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The bits, slot 0 in the lowest bit of the first byte.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Reads what `to_bytes` wrote.
    ///
    /// # Errors
    /// If the length is not `ENCODED_BYTES`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() != Self::ENCODED_BYTES {
            return Err(Error::Malformed { what: "slot set" });
        }
        let mut set = SlotSet::empty();
        for (word, bytes) in set.words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = bytes.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte));
        }
        Ok(set)
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotSet({} slots)", self.len())
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        let mut set = SlotSet::empty();
        slots.into_iter().for_each(|slot| set.insert(slot));
        set
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn holds_what_was_inserted(slots in proptest::collection::btree_set(0..SLOTS, 0..64)) {
            let set: SlotSet = slots.iter().map(|s| Slot(*s)).collect();
            for slot in 0..SLOTS {
                prop_assert_eq!(set.contains(Slot(slot)), slots.contains(&slot));
            }
            prop_assert_eq!(set.len(), slots.len());
            prop_assert_eq!(SlotSet::from_bytes(&set.to_bytes()), Ok(set));
        }
    }

    #[test]
    fn all_and_empty_and_no_slot() {
        assert_eq!(SlotSet::all().len(), usize::from(SLOTS));
        assert!(SlotSet::empty().is_empty());
        assert!(!SlotSet::all().contains(Slot(SLOTS)));
        let mut set = SlotSet::all();
        set.remove(Slot(7));
        assert!(!set.contains(Slot(7)) && set.contains(Slot(8)));
    }

    #[test]
    fn another_length_is_refused() {
        assert!(SlotSet::from_bytes(&[0; 2047]).is_err());
        assert!(SlotSet::from_bytes(&[0; 2049]).is_err());
    }
}
