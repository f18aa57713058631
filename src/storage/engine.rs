//! What a storage engine does for the write-ahead log; `sled_wal` and `raft_engine_wal` do it.
//!
//! The same numbered, sealed records (`store_record`), heads and manifests lie in every engine, so
//! that planning (`flusher`, `log_state`), replay and the checks at open (`engine_wal`) are shared.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use super::wal::Error;
use crate::types::LogKey;

/// One change of what an engine holds. Those of a batch are done in order, all or none.
#[derive(Debug)]
pub enum Change {
    /// A new record. Numbers of one log follow each other without a gap.
    Record {
        /// Whose.
        log: LogKey,
        /// Number of the record.
        seq: u64,
        /// Sealed bytes.
        value: Vec<u8>,
    },
    /// The oldest records go; the head that stands for them replaces the one before.
    Cut {
        /// Whose.
        log: LogKey,
        /// Numbers of the records that go.
        seqs: Range<u64>,
        /// Sealed bytes of the head.
        head: Vec<u8>,
    },
    /// Everything of a log goes.
    Remove {
        /// Which.
        log: LogKey,
    },
    /// What the batch itself wrote.
    Manifest {
        /// Number of the batch.
        batch: u64,
        /// Manifests of batches before this one go.
        keep_from: u64,
        /// Sealed bytes.
        value: Vec<u8>,
    },
}

/// How far a batch must get before it is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// The engine knows it.
    Buffer,
    /// A killed process does not lose it.
    Kernel,
    /// A power loss does not lose it, nor anything written before it.
    Device,
}

/// A part of a log, as `Engine::read` shows it.
#[derive(Debug)]
pub enum Stored<'a> {
    /// The head: comes first if there is one.
    Head(&'a [u8]),
    /// A record and its number; they come in ascending order.
    Record(u64, &'a [u8]),
}

/// Takes the parts of a log.
pub type Visit<'a> = &'a mut (dyn FnMut(Stored<'_>) -> Result<(), Error> + Send);

/// A storage engine. It may panic on damage: all calls but the drop of a clone are guarded.
pub trait Engine: Send + Sync + Sized + 'static {
    /// What `wal.engine` calls it, and the subdirectory that it keeps its files in.
    const NAME: &'static str;
    /// Sizes of its files.
    type Sizes: Default + Clone + Send + Sync + 'static;

    /// Opens or creates the store in the subdirectory `NAME` of `path`, which exists. Returns when
    /// the names of its files survive a power loss.
    fn open(path: &Path, sizes: &Self::Sizes) -> Result<Self, Error>;

    /// All manifests by the number of their batch, ascending.
    fn manifests(&self) -> Result<Vec<(u64, Vec<u8>)>, Error>;

    /// Told once after `open` which logs the manifests know, with the number of each one's last
    /// record (0: removed), so that it can check what it keeps about them.
    fn expect(&self, logs: &BTreeMap<LogKey, u64>) -> Result<(), Error> {
        let _ = logs;
        Ok(())
    }

    /// Shows a whole log; nothing if there is none.
    fn read(&self, log: LogKey, visit: Visit<'_>) -> Result<(), Error>;

    /// All logs that are there.
    fn logs(&self) -> Result<BTreeSet<LogKey>, Error>;

    /// Writes a batch, which may be empty. After an error the store is not written again.
    fn write(&self, changes: Vec<Change>, until: Until) -> Result<(), Error>;

    /// Gives back what is no longer needed; called between batches, nobody waits for it.
    fn tidy(&self) -> Result<(), Error> {
        Ok(())
    }
}
