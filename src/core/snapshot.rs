//! A point-in-time walk over the machine while later entries are applied.
//!
//! The walk goes over the slab in chunks. Whatever changes in a place it has not come to yet is
//! first saved as a pre-image (a pointer to the old value, not a copy): Dragonfly's way. A bitmap
//! remembers which places are dealt with, so each entry of the snapshot's point is given exactly
//! once, and there are never more pre-images than entries at that point (INV-8).

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::eviction::{Eviction, Lru};
use super::keyspace::{Entry, EntryId, Keyspace};
use super::removals::Removals;
use super::session::Session;
use super::snapshot_record::{ChunkWriter, Header};
use crate::types::Asker;

/// Places looked at in one chunk: bounds the time of a chunk when the slab has many holes.
const PLACES_PER_CHUNK_MAX: u32 = 64 * 1024;

/// What a walk goes over.
#[derive(Debug)]
pub struct Source {
    /// The entries.
    pub keyspace: Keyspace,
    /// Their order.
    pub order: Lru,
}

/// A walk under way.
#[derive(Debug)]
pub struct Walk {
    header: Header,
    tag: u64,
    sequence: u32,
    /// Places at the snapshot's point are below.
    end: EntryId,
    /// Places below were walked.
    next: EntryId,
    /// One bit a place: saved as a pre-image, or empty at the snapshot's point and used since.
    settled: Vec<u64>,
    preimages: VecDeque<(Entry, u64)>,
    sessions: VecDeque<(Asker, u128, Arc<Session>)>,
    /// Taken when they are written.
    removals: Option<Removals>,
    finished: bool,
    /// What the machine held at the first flush since the snapshot's point; from there on nothing
    /// changes in it.
    flushed: Option<Source>,
}

impl Walk {
    /// Begins a walk of the present state.
    pub fn new(
        header: Header,
        keyspace: &Keyspace,
        sessions: Vec<(Asker, u128, Arc<Session>)>,
        removals: Removals,
    ) -> Self {
        let end = keyspace.ids_end();
        Walk {
            tag: header.tag(),
            header,
            sequence: 0,
            end,
            next: 0,
            settled: vec![0; (end as usize).div_ceil(64)],
            preimages: VecDeque::new(),
            sessions: sessions.into(),
            removals: Some(removals),
            finished: false,
            flushed: None,
        }
    }

    /// The machine begins again empty: the walk goes on in what it held. Gives back what the walk
    /// has no need of.
    pub fn flushed(&mut self, source: Source) -> Option<Source> {
        if self.finished || self.flushed.is_some() {
            return Some(source);
        }
        self.flushed = Some(source);
        None
    }

    /// What was flushed under the walk, at its end.
    pub fn into_source(self) -> Option<Source> {
        self.flushed
    }

    /// Called before the entry at a place changes, goes, or comes (`None`).
    pub fn before_change(&mut self, id: EntryId, entry: Option<&Entry>, order: &impl Eviction) {
        // What comes after a flush is none of the snapshot's.
        if self.flushed.is_some() || id >= self.end || id < self.next || self.is_settled(id) {
            return;
        }
        self.settled[id as usize / 64] |= 1 << (id % 64);
        if let Some(entry) = entry {
            self.preimages.push_back((entry.clone(), mark(entry, id, order)));
        }
    }

    fn is_settled(&self, id: EntryId) -> bool {
        self.settled[id as usize / 64] & (1 << (id % 64)) != 0
    }

    /// Pre-images waiting to be written.
    pub fn preimages(&self) -> usize {
        self.preimages.len()
    }

    /// Writes the next chunk of about `bytes_max` bytes, `None` when all has been given.
    pub fn chunk(&mut self, keyspace: &Keyspace, order: &Lru, bytes_max: usize) -> Option<Bytes> {
        if self.finished {
            return None;
        }
        let flushed = self.flushed.take();
        let (keyspace, order) =
            flushed.as_ref().map_or((keyspace, order), |source| (&source.keyspace, &source.order));
        let mut out = ChunkWriter::new(self.tag, self.sequence, &self.header);
        self.sequence += 1;
        let bytes_max = bytes_max.max(1);
        if let Some(removals) = self.removals.take() {
            out.removals(&removals);
        }
        // Pre-images first, so that they free their memory soon.
        while out.records_bytes() < bytes_max {
            let Some((entry, mark)) = self.preimages.pop_front() else { break };
            out.entry(&entry, mark);
        }
        let places_end = self.end.min(self.next.saturating_add(PLACES_PER_CHUNK_MAX));
        while out.records_bytes() < bytes_max && self.next < places_end {
            if !self.is_settled(self.next)
                && let Some(entry) = keyspace.peek(self.next)
            {
                out.entry(entry, mark(entry, self.next, order));
            }
            self.next += 1;
        }
        let entries_done = self.next == self.end && self.preimages.is_empty();
        while entries_done && out.records_bytes() < bytes_max {
            let Some((asker, id, session)) = self.sessions.pop_front() else { break };
            out.session(asker, id, &session);
        }
        self.finished = entries_done && self.sessions.is_empty();
        self.flushed = flushed;
        Some(out.seal(self.finished))
    }
}

/// An entry's place in the eviction order; locks have none.
fn mark(entry: &Entry, id: EntryId, order: &impl Eviction) -> u64 {
    if entry.is_lock() { 0 } else { order.export(id) }
}
