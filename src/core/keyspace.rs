//! The cache entries of a group: a slab of entries in chunks, and an index from key to slab id.
//!
//! Slab ids are local to a replica: nothing that is replicated depends on them. The index hashes by
//! the 4-byte key hash that touches carry, so a touch finds its keys by one probe.
//!
//! A second index has the keys in an order that is the same on every replica: by slot, then by the
//! highest bits of the hash. Scans walk it, and slots find their keys (docs/adr/0010).

use std::collections::BTreeSet;

use bytes::Bytes;
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub use super::shape::{Refill, Shape};
use super::slot::slot_of;
use crate::types::{Slot, ValueKind};

/// Place of a cache entry in this replica's slab.
pub type EntryId = u32;

/// Deadline of an entry that never ends.
pub const NEVER: u64 = u64::MAX;

/// Bytes of key and value above which the work of changing an entry is counted.
pub const LARGE_BYTES: usize = 16 * 1024;

/// Logical bytes every entry costs besides its key and value.
pub const ENTRY_OVERHEAD_BYTES: u64 = 64;

/// Slots in one chunk of the slab: growing never moves entries.
const CHUNK: usize = 4096;

/// Tables of the index. One that grows moves all it holds: many small ones grow one at a time, so
/// that no single insert takes milliseconds.
const TABLES: usize = 64;

/// A cache entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Key and value, copied out of the batch into one allocation of their own.
    pub data: Bytes,
    /// When it ends, log time in milliseconds; `NEVER` if it does not.
    pub deadline_ms: u64,
    /// Version of the last write.
    pub version: u64,
    hash: u32,
    key_len: u16,
    /// How the value was given.
    pub kind: ValueKind,
    shape: Shape,
}

impl Entry {
    /// What it is.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether it is a lock.
    pub fn is_lock(&self) -> bool {
        self.shape == Shape::Lock
    }

    /// The hash of its key.
    pub fn hash(&self) -> u32 {
        self.hash
    }

    /// The same bytes in another shape; what is filled ends with a `Refill`.
    pub fn shaped(self, shape: Shape) -> Self {
        Entry { shape, ..self }
    }

    /// What belongs to its fill, if it was filled.
    pub fn refill(&self) -> Option<Refill> {
        let end = self.value_end();
        if self.shape == Shape::Filled { Refill::from_bytes(&self.data[end..]) } else { None }
    }

    fn value_end(&self) -> usize {
        match self.shape {
            Shape::Plain | Shape::Lock => self.data.len(),
            Shape::Filled => self.data.len() - Refill::BYTES,
        }
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.data[..usize::from(self.key_len)]
    }

    /// The value: a cheap handle on the entry's allocation, which lives as long as the handle.
    pub fn value(&self) -> Bytes {
        self.data.slice(usize::from(self.key_len)..self.value_end())
    }

    /// The value, to look at.
    pub fn value_bytes(&self) -> &[u8] {
        &self.data[usize::from(self.key_len)..self.value_end()]
    }

    /// Length of the value.
    pub fn value_len(&self) -> usize {
        self.value_end() - usize::from(self.key_len)
    }

    /// Logical bytes it counts for.
    pub fn bytes(&self) -> u64 {
        logical_bytes(self.data.len())
    }

    /// Whether it is alive at this log time (INV-4: at its deadline it is gone).
    pub fn is_alive(&self, log_time_ms: u64) -> bool {
        self.deadline_ms > log_time_ms
    }
}

/// What an entry is made of.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The key, at most `u16::MAX` bytes.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// How it was given.
    pub kind: ValueKind,
    /// When it ends, log time in milliseconds.
    pub deadline_ms: u64,
    /// Version of the write.
    pub version: u64,
}

/// Logical bytes of an entry whose key and value have `data_len` bytes together. The same on every
/// replica, whatever its allocator does.
pub fn logical_bytes(data_len: usize) -> u64 {
    ENTRY_OVERHEAD_BYTES + (data_len as u64).next_multiple_of(16)
}

/// Bits of a position below the slot.
const POSITION_HASH_BITS: u32 = 18;

/// First position of a slot. Those of the next one follow its last.
pub fn slot_position(slot: Slot) -> u32 {
    u32::from(slot.0) << POSITION_HASH_BITS
}

/// Last position of a slot.
pub fn slot_position_last(slot: Slot) -> u32 {
    slot_position(slot) | ((1 << POSITION_HASH_BITS) - 1)
}

/// Slot of a position.
pub fn slot_of_position(position: u32) -> Slot {
    Slot((position >> POSITION_HASH_BITS) as u16)
}

/// Position in the higher half, slab id in the lower: only the higher half is the same on every
/// replica, so what shares it is always given together.
fn placed(entry: &Entry, id: EntryId) -> u64 {
    let position = slot_position(slot_of(entry.key())) | (entry.hash >> (32 - POSITION_HASH_BITS));
    u64::from(position) << 32 | u64::from(id)
}

/// The cache entries of a group.
#[derive(Debug)]
pub struct Keyspace {
    seed: u64,
    chunks: Vec<Vec<Option<Entry>>>,
    free: Vec<EntryId>,
    /// By the highest bits of the key hash.
    index: [HashTable<EntryId>; TABLES],
    /// Invariant: `placed` of every entry.
    places: BTreeSet<u64>,
    len: usize,
    /// Invariant: the sum of `Entry::bytes` over all entries.
    bytes: u64,
    /// Invariant: how many entries are locks, and the sum of their bytes.
    locks: (usize, u64),
    /// Invariant: how many entries have more than `LARGE_BYTES` of key and value.
    large: usize,
}

/// Spreads a 4-byte key hash over the 64 bits the index uses (it takes the highest 7 and the lowest).
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn table(hash: u32) -> usize {
    hash as usize >> (32 - TABLES.ilog2())
}

fn slot(chunks: &[Vec<Option<Entry>>], id: EntryId) -> Option<&Entry> {
    chunks.get(id as usize / CHUNK)?.get(id as usize % CHUNK)?.as_ref()
}

impl Keyspace {
    /// An empty keyspace whose key hash has this seed.
    pub fn new(seed: u64) -> Self {
        Keyspace {
            seed,
            chunks: Vec::new(),
            free: Vec::new(),
            index: std::array::from_fn(|_| HashTable::new()),
            places: BTreeSet::new(),
            len: 0,
            bytes: 0,
            locks: (0, 0),
            large: 0,
        }
    }

    /// Seed of the key hash.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Entries held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Logical bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Locks held, and their logical bytes.
    pub fn locks(&self) -> (usize, u64) {
        self.locks
    }

    /// Entries of more than `LARGE_BYTES`.
    pub fn large(&self) -> usize {
        self.large
    }

    fn count(&mut self, entry: &Entry, comes: bool) {
        let (one, bytes) = (usize::from(entry.is_lock()), entry.bytes());
        let large = usize::from(entry.data.len() > LARGE_BYTES);
        let (locks, lock_bytes) = self.locks;
        if comes {
            self.locks = (locks + one, lock_bytes + bytes * one as u64);
            self.large += large;
        } else {
            self.locks = (locks - one, lock_bytes - bytes * one as u64);
            self.large -= large;
        }
    }

    /// The 4-byte seeded hash of a key, as touches carry it.
    pub fn hash_of(&self, key: &[u8]) -> u32 {
        xxh3_64_with_seed(key, self.seed) as u32
    }

    /// Finds a key, whose hash must be `hash_of(key)`.
    pub fn find(&self, hash: u32, key: &[u8]) -> Option<EntryId> {
        let same = |id: &EntryId| self.peek(*id).is_some_and(|e| e.hash == hash && e.key() == key);
        self.index[table(hash)].find(spread(hash), same).copied()
    }

    /// Collects the entries whose key has this hash, oldest version first: the index's own order
    /// is not the same on every replica.
    pub fn find_hash(&self, hash: u32, found: &mut Vec<EntryId>) {
        found.clear();
        let has = |id: &EntryId| self.get(*id).hash == hash;
        found.extend(self.index[table(hash)].iter_hash(spread(hash)).copied().filter(has));
        if found.len() > 1 {
            found.sort_unstable_by_key(|id| self.get(*id).version);
        }
    }

    /// The entry at an id that is known to be held.
    pub fn get(&self, id: EntryId) -> &Entry {
        self.peek(id).expect("ids of held entries only")
    }

    /// The entry at an id, if any.
    pub fn peek(&self, id: EntryId) -> Option<&Entry> {
        slot(&self.chunks, id)
    }

    /// First id that was never used: every entry's id is below.
    pub fn ids_end(&self) -> EntryId {
        match self.chunks.last() {
            Some(last) => ((self.chunks.len() - 1) * CHUNK + last.len()) as EntryId,
            None => 0,
        }
    }

    /// The id that the next `insert` will use.
    pub fn next_id(&self) -> EntryId {
        self.free.last().copied().unwrap_or_else(|| self.ids_end())
    }

    /// Entries at positions from `first` to `last`, in their order. What shares a position comes in
    /// an order of this replica's own.
    pub fn walk(&self, first: u32, last: u32) -> impl Iterator<Item = (u32, &Entry)> {
        let range = u64::from(first) << 32..=u64::from(last) << 32 | u64::from(u32::MAX);
        // An empty range must not panic.
        let range = if first <= last { Some(self.places.range(range)) } else { None };
        range.into_iter().flatten().map(|place| ((place >> 32) as u32, self.get(*place as EntryId)))
    }

    /// Copies key and value into an entry that does not keep the batch's buffer alive.
    pub fn make(&self, parts: Parts<'_>) -> Entry {
        self.make_joined(parts, &[])
    }

    /// The same entry with another deadline and version. Key and value are shared.
    pub fn redated(&self, id: EntryId, deadline_ms: u64, version: u64) -> Entry {
        Entry { deadline_ms, version, ..self.get(id).clone() }
    }

    /// Copies the key, the value and what follows it into an entry.
    pub fn make_joined(&self, parts: Parts<'_>, rest: &[&[u8]]) -> Entry {
        let key_len = u16::try_from(parts.key.len()).expect("key length was checked at the door");
        let rest_len: usize = rest.iter().map(|piece| piece.len()).sum();
        let mut data = Vec::with_capacity(parts.key.len() + parts.value.len() + rest_len);
        data.extend_from_slice(parts.key);
        data.extend_from_slice(parts.value);
        rest.iter().for_each(|piece| data.extend_from_slice(piece));
        Entry {
            data: data.into(),
            deadline_ms: parts.deadline_ms,
            version: parts.version,
            hash: self.hash_of(parts.key),
            key_len,
            kind: parts.kind,
            shape: Shape::Plain,
        }
    }

    /// Adds an entry whose key is not held.
    pub fn insert(&mut self, entry: Entry) -> EntryId {
        debug_assert!(self.find(entry.hash, entry.key()).is_none(), "key is held already");
        self.bytes += entry.bytes();
        self.len += 1;
        self.count(&entry, true);
        let hash = entry.hash;
        self.places.insert(placed(&entry, self.next_id()));
        let id = match self.free.pop() {
            Some(id) => {
                self.chunks[id as usize / CHUNK][id as usize % CHUNK] = Some(entry);
                id
            }
            None => self.append(entry),
        };
        let chunks = &self.chunks;
        let rehash = |id: &EntryId| spread(slot(chunks, *id).expect("indexed ids are held").hash);
        self.index[table(hash)].insert_unique(spread(hash), id, rehash);
        id
    }

    fn append(&mut self, entry: Entry) -> EntryId {
        let id = self.ids_end();
        assert!(id < EntryId::MAX, "the byte limit keeps entries below 2^32");
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks.last_mut().expect("pushed above").push(Some(entry));
        id
    }

    /// Puts another entry of the same key in an entry's place and gives the old one.
    pub fn replace(&mut self, id: EntryId, entry: Entry) -> Entry {
        let added = entry.bytes();
        self.count(&entry, true);
        let place = self.chunks[id as usize / CHUNK][id as usize % CHUNK].as_mut();
        let old = std::mem::replace(place.expect("ids of held entries only"), entry);
        self.bytes = self.bytes - old.bytes() + added;
        self.count(&old, false);
        old
    }

    /// Takes an entry out.
    pub fn remove(&mut self, id: EntryId) -> Entry {
        let place = &mut self.chunks[id as usize / CHUNK][id as usize % CHUNK];
        let old = place.take().expect("ids of held entries only");
        self.index[table(old.hash)]
            .find_entry(spread(old.hash), |other| *other == id)
            .expect("held entries are indexed")
            .remove();
        let indexed = self.places.remove(&placed(&old, id));
        debug_assert!(indexed, "held entries have a place");
        self.free.push(id);
        self.len -= 1;
        self.bytes -= old.bytes();
        self.count(&old, false);
        old
    }
}
