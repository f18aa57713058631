//! The bytes of a snapshot. A chunk is
//!
//! ```text
//! magic u32 | format u8 | tag u64 | sequence u32 | last u8 | records | crc32c u32
//! ```
//!
//! little-endian. The tag is the hash of the header, the same in all chunks of one snapshot; the
//! sequence counts from 0; so a missing, swapped or foreign chunk is seen. The records of chunk 0
//! begin with the header. Append only.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

use super::digest::{kind_of_tag, kind_tag};
use super::keyspace::{Entry, Parts, Refill, Shape};
use super::removals::Removals;
use super::retry_memory::Ages;
use super::session::Session;
use super::session_record::{get_session, put_session};
use super::slot_set::SlotSet;
use crate::types::Asker;
use crate::types::wire::{
    Error, get_bytes, get_u8, get_u32, get_u64, get_varint, put_bytes, put_varint,
};

const MAGIC: u32 = u32::from_le_bytes(*b"RCSN");
const FORMAT: u8 = 2;
const FRAME_BYTES: usize = 4 + 1 + 8 + 4 + 1;
const CRC_BYTES: usize = 4;

const RECORD_ENTRY: u8 = 1;
const RECORD_SESSION: u8 = 2;
/// A lock: an entry without a mark.
const RECORD_LOCK: u8 = 3;
/// An entry that was filled: one, and what belongs to the fill.
const RECORD_FILLED: u8 = 4;
const RECORD_REMOVALS: u8 = 5;

/// What a snapshot says of the whole machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Log time, milliseconds.
    pub log_time_ms: u64,
    /// Limit of logical bytes.
    pub bytes_max: u64,
    /// Seed of the key hash.
    pub hash_seed: u64,
    /// Ticks of the eviction order.
    pub tick: u64,
    /// Cache entries.
    pub keys: u64,
    /// Logical bytes of them.
    pub bytes: u64,
    /// Sessions.
    pub sessions: u64,
    /// Age of the group, and what was forgotten of sessions.
    pub ages: Ages,
    /// Digest of the machine.
    pub digest: u64,
    /// Slots owned.
    pub owned: SlotSet,
}

impl Header {
    fn encode(&self, out: &mut BytesMut) {
        for value in [
            self.log_time_ms,
            self.bytes_max,
            self.hash_seed,
            self.tick,
            self.keys,
            self.bytes,
            self.sessions,
            self.ages.age_ms,
            self.ages.nodes_forgotten_ms,
            self.ages.callers_forgotten_ms,
            self.digest,
        ] {
            out.put_u64_le(value);
        }
        out.put_slice(&self.owned.to_bytes());
    }

    /// Reads a header off the front of chunk 0's records.
    pub fn decode(input: &mut Bytes) -> Result<Self, Error> {
        let what = "snapshot header";
        let mut header = Header {
            log_time_ms: get_u64(input, what)?,
            bytes_max: get_u64(input, what)?,
            hash_seed: get_u64(input, what)?,
            tick: get_u64(input, what)?,
            keys: get_u64(input, what)?,
            bytes: get_u64(input, what)?,
            sessions: get_u64(input, what)?,
            ages: Ages {
                age_ms: get_u64(input, what)?,
                nodes_forgotten_ms: get_u64(input, what)?,
                callers_forgotten_ms: get_u64(input, what)?,
            },
            digest: get_u64(input, what)?,
            owned: SlotSet::empty(),
        };
        if input.remaining() < SlotSet::ENCODED_BYTES {
            return Err(Error::Short { what });
        }
        header.owned = SlotSet::from_bytes(&input.split_to(SlotSet::ENCODED_BYTES))?;
        Ok(header)
    }

    /// Names the snapshot: the hash of its header.
    pub fn tag(&self) -> u64 {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        xxh3_64(&out)
    }
}

/// A chunk being written.
#[derive(Debug)]
pub struct ChunkWriter {
    out: BytesMut,
    /// Where the records begin, after frame and header.
    records_at: usize,
}

impl ChunkWriter {
    /// Begins chunk `sequence` of the snapshot `tag`; chunk 0 takes the header.
    pub fn new(tag: u64, sequence: u32, header: &Header) -> Self {
        let mut out = BytesMut::with_capacity(4096);
        out.put_u32_le(MAGIC);
        out.put_u8(FORMAT);
        out.put_u64_le(tag);
        out.put_u32_le(sequence);
        out.put_u8(0);
        if sequence == 0 {
            header.encode(&mut out);
        }
        ChunkWriter { records_at: out.len(), out }
    }

    /// Bytes of records so far. Frame and header do not count: a chunk of any size makes progress.
    pub fn records_bytes(&self) -> usize {
        self.out.len() - self.records_at
    }

    /// Appends a cache entry and its mark in the eviction order (0 for a lock, which has none).
    pub fn entry(&mut self, entry: &Entry, mark: u64) {
        let out = &mut self.out;
        out.put_u8(match entry.shape() {
            Shape::Plain => RECORD_ENTRY,
            Shape::Lock => RECORD_LOCK,
            Shape::Filled => RECORD_FILLED,
        });
        out.put_u8(kind_tag(entry.kind));
        // Deadlines are milliseconds since 1970 or never (all ones): fixed width is shorter.
        out.put_u64_le(entry.deadline_ms);
        put_varint(out, entry.version);
        put_varint(out, mark);
        put_bytes(out, entry.key());
        put_bytes(out, entry.value_bytes());
        if let Some(refill) = entry.refill() {
            out.put_slice(&refill.to_bytes());
        }
    }

    /// Appends when keys were last removed.
    pub fn removals(&mut self, removals: &Removals) {
        let out = &mut self.out;
        out.put_u8(RECORD_REMOVALS);
        let removed = removals.export();
        put_varint(out, removed.len() as u64);
        for (at, version) in removed {
            put_varint(out, at.into());
            put_varint(out, version);
        }
    }

    /// Appends a session.
    pub fn session(&mut self, asker: Asker, id: u128, session: &Session) {
        self.out.put_u8(RECORD_SESSION);
        put_session(&mut self.out, asker, id, session);
    }

    /// Ends the chunk.
    pub fn seal(mut self, last: bool) -> Bytes {
        self.out[FRAME_BYTES - 1] = u8::from(last);
        let crc = crc32c::crc32c(&self.out);
        self.out.put_u32_le(crc);
        self.out.freeze()
    }
}

/// A chunk whose frame and checksum are sound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// Which snapshot it belongs to.
    pub tag: u64,
    /// Its place.
    pub sequence: u32,
    /// Whether it ends the snapshot.
    pub last: bool,
    /// The records, in chunk 0 after the header.
    pub records: Bytes,
}

impl Chunk {
    /// Checks the frame and the checksum.
    ///
    /// # Errors
    /// If the chunk was truncated or altered, or is no chunk.
    pub fn open(mut chunk: Bytes) -> Result<Self, Error> {
        if chunk.len() < FRAME_BYTES + CRC_BYTES {
            return Err(Error::Short { what: "snapshot chunk" });
        }
        let mut crc = chunk.split_off(chunk.len() - CRC_BYTES);
        if crc.get_u32_le() != crc32c::crc32c(&chunk) {
            return Err(Error::Malformed { what: "snapshot chunk checksum" });
        }
        if get_u32(&mut chunk, "snapshot magic")? != MAGIC {
            return Err(Error::Malformed { what: "snapshot magic" });
        }
        let format = get_u8(&mut chunk, "snapshot format")?;
        if format != FORMAT {
            return Err(Error::Tag { what: "snapshot format", tag: u64::from(format) });
        }
        Ok(Chunk {
            tag: get_u64(&mut chunk, "snapshot tag")?,
            sequence: get_u32(&mut chunk, "snapshot sequence")?,
            last: get_u8(&mut chunk, "snapshot last mark")? != 0,
            records: chunk,
        })
    }
}

/// One record of a snapshot.
#[derive(Debug)]
pub enum Record {
    /// A cache entry.
    Entry(EntryRecord),
    /// A session.
    Session(Asker, u128, Session),
    /// When keys were last removed.
    Removals(Removals),
}

/// A cache entry; key and value are slices of the chunk.
#[derive(Debug)]
pub struct EntryRecord {
    key: Bytes,
    value: Bytes,
    kind: crate::types::ValueKind,
    deadline_ms: u64,
    version: u64,
    /// Mark in the eviction order; 0 for a lock.
    pub mark: u64,
    /// What it is.
    pub shape: Shape,
    /// What belongs to its fill, if it was filled.
    pub refill: Option<Refill>,
}

impl EntryRecord {
    /// What the entry is made of.
    pub fn parts(&self) -> Parts<'_> {
        Parts {
            key: &self.key,
            value: &self.value,
            kind: self.kind,
            deadline_ms: self.deadline_ms,
            version: self.version,
        }
    }
}

/// Reads the next record.
///
/// # Errors
/// If the bytes are none.
pub fn get_record(input: &mut Bytes) -> Result<Record, Error> {
    match get_u8(input, "snapshot record")? {
        RECORD_ENTRY => get_entry(input, Shape::Plain).map(Record::Entry),
        RECORD_LOCK => get_entry(input, Shape::Lock).map(Record::Entry),
        RECORD_FILLED => {
            let mut entry = get_entry(input, Shape::Filled)?;
            if input.remaining() < Refill::BYTES {
                return Err(Error::Short { what: "refill" });
            }
            entry.refill = Refill::from_bytes(&input.split_to(Refill::BYTES));
            Ok(Record::Entry(entry))
        }
        RECORD_REMOVALS => get_removals(input).map(Record::Removals),
        RECORD_SESSION => {
            get_session(input).map(|(asker, id, session)| Record::Session(asker, id, session))
        }
        tag => Err(Error::Tag { what: "snapshot record", tag: u64::from(tag) }),
    }
}

fn get_removals(input: &mut Bytes) -> Result<Removals, Error> {
    let what = "removals";
    let mut removals = Removals::new();
    let count = get_varint(input, what)?;
    if count > Removals::EXPORTED_MAX as u64 {
        return Err(Error::Malformed { what });
    }
    for _ in 0..count {
        let at = u32::try_from(get_varint(input, what)?).map_err(|_| Error::Malformed { what })?;
        if !removals.import(at, get_varint(input, what)?) {
            return Err(Error::Malformed { what });
        }
    }
    Ok(removals)
}

fn get_entry(input: &mut Bytes, shape: Shape) -> Result<EntryRecord, Error> {
    let tag = get_u8(input, "value kind")?;
    let kind = kind_of_tag(tag).ok_or(Error::Tag { what: "value kind", tag: u64::from(tag) })?;
    Ok(EntryRecord {
        kind,
        deadline_ms: get_u64(input, "deadline")?,
        version: get_varint(input, "version")?,
        mark: get_varint(input, "eviction mark")?,
        key: get_bytes(input, "key")?,
        value: get_bytes(input, "value")?,
        shape,
        refill: None,
    })
}
