//! Builds a machine from the chunks of a snapshot, and believes none of them: order, checksums,
//! counts, bytes and at last the digest must be what the header said.

use bytes::Bytes;

use super::eviction::{Eviction, Lru};
use super::keyspace::{EntryId, Keyspace, Shape};
use super::machine::{Machine, MachineConfig, Parts};
use super::removals::Removals;
use super::retry_memory::RetryMemory;
use super::snapshot_record::{Chunk, EntryRecord, Header, Record, get_record};
use super::watcher::SharedWatcher;
use crate::types::limits::KEY_BYTES_MAX;
use crate::types::wire::Error;

/// Collects the chunks of one snapshot, in order.
#[derive(Debug, Default)]
pub struct MachineRestorer {
    sequence: u32,
    state: Option<Partial>,
    complete: bool,
    /// Of the machine whose place the restored one takes.
    watcher: Option<SharedWatcher>,
    /// Of that machine as well: every replica of a generation is told the same.
    versions_from: u64,
}

#[derive(Debug)]
struct Partial {
    header: Header,
    tag: u64,
    keyspace: Keyspace,
    /// Mark and id of each entry, in the order of the walk.
    marks: Vec<(u64, EntryId)>,
    retries: RetryMemory,
    removals: Removals,
}

impl MachineRestorer {
    /// A collector that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A collector for a machine that is watched so and gives versions above this one.
    pub fn in_place_of(watcher: Option<SharedWatcher>, versions_from: u64) -> Self {
        MachineRestorer { watcher, versions_from, ..Self::default() }
    }

    /// Adds the next chunk.
    ///
    /// # Errors
    /// If it is damaged, out of place, or of another snapshot. The restorer is of no use then.
    pub fn push(&mut self, chunk: Bytes) -> Result<(), Error> {
        let Chunk { tag, sequence, last, mut records } = Chunk::open(chunk)?;
        if self.complete || sequence != self.sequence {
            return Err(Error::Malformed { what: "snapshot chunk order" });
        }
        self.sequence += 1;
        let state = match &mut self.state {
            Some(state) => state,
            none => none.insert(Partial::new(Header::decode(&mut records)?, tag)),
        };
        if tag != state.tag {
            return Err(Error::Malformed { what: "snapshot tag" });
        }
        while !records.is_empty() {
            state.add(get_record(&mut records)?)?;
        }
        self.complete = last;
        Ok(())
    }

    /// Checks completeness and gives the machine.
    ///
    /// # Errors
    /// If chunks are missing, or what they held is not what the header said.
    pub fn finish(self) -> Result<Machine, Error> {
        match self.state {
            Some(state) if self.complete => state.finish(self.watcher, self.versions_from),
            _ => Err(Error::Short { what: "snapshot" }),
        }
    }
}

impl Partial {
    fn new(header: Header, tag: u64) -> Self {
        Partial {
            keyspace: Keyspace::new(header.hash_seed),
            retries: RetryMemory::of_ages(header.hash_seed, header.ages),
            removals: Removals::new(),
            marks: Vec::new(),
            header,
            tag,
        }
    }

    fn add(&mut self, record: Record) -> Result<(), Error> {
        match record {
            Record::Entry(entry) => self.add_entry(&entry),
            Record::Session(asker, id, session) => match self.retries.import(asker, id, session) {
                true => Ok(()),
                false => Err(Error::Malformed { what: "snapshot session" }),
            },
            Record::Removals(removals) => {
                self.removals = removals;
                Ok(())
            }
        }
    }

    fn add_entry(&mut self, record: &EntryRecord) -> Result<(), Error> {
        let parts = record.parts();
        let malformed = Err(Error::Malformed { what: "snapshot entry" });
        let hash = self.keyspace.hash_of(parts.key);
        if parts.key.len() > KEY_BYTES_MAX || self.keyspace.find(hash, parts.key).is_some() {
            return malformed;
        }
        let refill = record.refill.map(|refill| refill.to_bytes());
        let entry = self.keyspace.make_joined(parts, &[refill.as_ref().map_or(&[], |r| &r[..])]);
        let entry = entry.shaped(record.shape);
        if self.keyspace.bytes() + entry.bytes() > self.header.bytes {
            return malformed;
        }
        let id = self.keyspace.insert(entry);
        if record.shape != Shape::Lock {
            self.marks.push((record.mark, id));
        }
        Ok(())
    }

    fn finish(
        mut self,
        watcher: Option<SharedWatcher>,
        versions_from: u64,
    ) -> Result<Machine, Error> {
        let header = &self.header;
        self.marks.sort_unstable();
        let distinct = self.marks.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let in_range = self.marks.first().is_none_or(|(mark, _)| *mark > 0)
            && self.marks.last().is_none_or(|(mark, _)| *mark <= header.tick);
        let counted = self.keyspace.len() as u64 == header.keys
            && self.keyspace.bytes() == header.bytes
            && self.retries.len() as u64 == header.sessions;
        if !(distinct && in_range && counted) {
            return Err(Error::Malformed { what: "snapshot totals" });
        }
        let mut order = Lru::at_tick(header.tick);
        for (mark, id) in &self.marks {
            order.import(*id, *mark);
        }
        let config = MachineConfig {
            bytes_max: header.bytes_max,
            hash_seed: header.hash_seed,
            owned: self.header.owned.clone(),
            versions_from,
        };
        let (time_ms, digest) = (header.log_time_ms, header.digest);
        let parts = Parts {
            keyspace: self.keyspace,
            order,
            retries: self.retries,
            removals: self.removals,
        };
        let mut machine = Machine::assemble(config, time_ms, parts)?;
        if let Some(watcher) = watcher {
            watcher.all_changed();
            machine.watch(watcher);
        }
        if machine.digest() != digest {
            return Err(Error::Malformed { what: "snapshot digest" });
        }
        Ok(machine)
    }
}
