//! Which cache entry goes when there is no room. The order is replicated state: it changes only
//! inside apply, and every replica chooses the same victim (INV-3).

use std::hash::{BuildHasher, Hasher};

use lru::LruCache;

use super::digest::mix;
use super::keyspace::EntryId;

/// An eviction policy over slab ids. Marks are what a policy remembers of an entry; the ids differ
/// between replicas, the marks and what they decide do not.
pub trait Eviction {
    /// Takes in a new entry and gives its mark.
    fn insert(&mut self, id: EntryId) -> u64;
    /// The entry was read (a logged touch) or overwritten. Gives its mark before and after.
    fn touch(&mut self, id: EntryId) -> (u64, u64);
    /// Whether a read of the entry is worth a logged touch.
    fn wants_touch(&self, id: EntryId) -> bool;
    /// Forgets an entry and gives its mark.
    fn remove(&mut self, id: EntryId) -> u64;
    /// The entry to go next, `None` if there is none. Bounded work.
    fn victim(&self) -> Option<EntryId>;
    /// The entry's mark, for the snapshot and the digest.
    fn export(&self, id: EntryId) -> u64;
    /// Takes in an entry of a snapshot; called in ascending order of marks.
    fn import(&mut self, id: EntryId, mark: u64);
}

/// Least recently used. The mark is the policy's tick at the entry's last promotion, so the order
/// of marks is the order of recency.
pub struct Lru {
    marks: LruCache<EntryId, u64, IdHashing>,
    /// Insertions and promotions so far.
    tick: u64,
}

impl Lru {
    /// An empty order.
    pub fn new() -> Self {
        Lru::at_tick(0)
    }

    /// An empty order that goes on counting from `tick`.
    pub fn at_tick(tick: u64) -> Self {
        Lru { marks: LruCache::unbounded_with_hasher(IdHashing), tick }
    }

    /// Insertions and promotions so far.
    pub fn tick(&self) -> u64 {
        self.tick
    }

    /// Entries, most recent first.
    pub fn by_recency(&self) -> impl Iterator<Item = (EntryId, u64)> {
        self.marks.iter().map(|(id, mark)| (*id, *mark))
    }
}

impl Default for Lru {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Lru {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lru({} entries at tick {})", self.marks.len(), self.tick)
    }
}

impl Eviction for Lru {
    fn insert(&mut self, id: EntryId) -> u64 {
        self.tick += 1;
        let old = self.marks.put(id, self.tick);
        assert!(old.is_none(), "an entry is taken in once");
        self.tick
    }

    fn touch(&mut self, id: EntryId) -> (u64, u64) {
        self.tick += 1;
        let mark = self.marks.get_mut(&id).expect("every entry has a mark");
        (std::mem::replace(mark, self.tick), self.tick)
    }

    /// Only if its last promotion is older than a quarter of the capacity's worth of promotions:
    /// an entry that recent is far from the cold end.
    fn wants_touch(&self, id: EntryId) -> bool {
        self.tick - self.export(id) > self.marks.len() as u64 / 4
    }

    fn remove(&mut self, id: EntryId) -> u64 {
        self.marks.pop(&id).expect("every entry has a mark")
    }

    fn victim(&self) -> Option<EntryId> {
        self.marks.peek_lru().map(|(id, _)| *id)
    }

    fn export(&self, id: EntryId) -> u64 {
        *self.marks.peek(&id).expect("every entry has a mark")
    }

    fn import(&mut self, id: EntryId, mark: u64) {
        assert!(mark <= self.tick, "marks are ticks of the past");
        let newest = self.marks.peek_mru().map_or(0, |(_, mark)| *mark);
        assert!(mark > newest, "entries are imported in the order of their marks");
        self.marks.put(id, mark);
    }
}

/// Hashes slab ids: they are small and ours, so one multiplication is enough.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHashing;

impl BuildHasher for IdHashing {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher(0)
    }
}

/// See `IdHashing`.
#[derive(Clone, Copy, Debug)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| mix(hash ^ u64::from(*byte)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coldest_first(order: &Lru) -> Vec<EntryId> {
        let mut ids: Vec<_> = order.by_recency().map(|(id, _)| id).collect();
        ids.reverse();
        ids
    }

    #[test]
    fn the_victim_is_the_least_recently_inserted_or_touched() {
        let mut order = Lru::new();
        assert_eq!(order.victim(), None);
        for id in [5, 3, 9] {
            order.insert(id);
        }
        assert_eq!(order.touch(5), (1, 4));
        assert_eq!(coldest_first(&order), [3, 9, 5]);
        assert_eq!(order.victim(), Some(3));
        assert_eq!(order.remove(3), 2);
        assert_eq!(order.victim(), Some(9));
    }

    #[test]
    fn a_touch_is_wanted_after_a_quarter_of_the_capacity() {
        let mut order = Lru::new();
        (0..100).for_each(|id| {
            order.insert(id);
        });
        assert!(order.wants_touch(0));
        assert!(order.wants_touch(73), "26 promotions old");
        assert!(!order.wants_touch(74));
        order.touch(0);
        assert!(!order.wants_touch(0));
        assert!(order.wants_touch(74));
    }

    #[test]
    fn an_export_imported_goes_on_alike() {
        let mut order = Lru::new();
        for id in [5, 3, 9, 4] {
            order.insert(id);
        }
        order.touch(3);
        let mut copy = Lru::at_tick(order.tick());
        for id in coldest_first(&order) {
            copy.import(id, order.export(id));
        }
        for order in [&mut order, &mut copy] {
            order.touch(9);
            order.insert(7);
        }
        assert!(order.by_recency().eq(copy.by_recency()));
    }
}
