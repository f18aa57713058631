//! The write-ahead log of a node: one for all groups, so that one flush serves them all.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::types::LogKey;

/// Why a log could not be written or read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The device refused.
    #[error("write-ahead log: {0}")]
    Io(Arc<std::io::Error>),
    /// A record fails its checksum, is out of place, or is missing: the log must be quarantined and
    /// the replica rejoin under a new id. Never an empty log under an old one.
    #[error("write-ahead log of {log} is damaged: {detail}")]
    Damaged {
        /// Which log.
        log: LogKey,
        /// What was found.
        detail: String,
    },
    /// The whole store is damaged: every log in it must be quarantined, as for `Damaged`.
    #[error("write-ahead log in {path} is damaged: {detail}")]
    DamagedStore {
        /// Directory of the store.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Another engine wrote the directory. Not damage: the operator chose the wrong one.
    #[error(
        "write-ahead log in {path} was written by engine {found}, not by {asked}: set wal.engine to \
         {found}, or give the node an empty node.data_dir"
    )]
    OtherEngine {
        /// Directory of the store.
        path: PathBuf,
        /// Engine that wrote it.
        found: &'static str,
        /// Engine that was to open it.
        asked: &'static str,
    },
    /// The change does not fit the log it is for, or that log was not opened as it must be: a fault of
    /// its caller. Nothing was written, and the other logs go on.
    #[error("write-ahead log refused: {detail}")]
    Refused {
        /// What is wrong with it.
        detail: String,
    },
    /// The write-ahead log has been closed.
    #[error("write-ahead log is closed")]
    Closed,
}

impl Error {
    /// True if what is on disk cannot be trusted: quarantine it and rejoin under new replica ids.
    pub fn is_damage(&self) -> bool {
        match self {
            Error::Damaged { .. } | Error::DamagedStore { .. } => true,
            Error::Io(_) | Error::OtherEngine { .. } | Error::Refused { .. } | Error::Closed => {
                false
            }
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Error::Io(Arc::new(error))
    }
}

/// One Raft entry as bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogRecord {
    /// Term of the entry's leader.
    pub term: u64,
    /// Index of the entry.
    pub index: u64,
    /// The encoded entry.
    pub payload: Bytes,
}

/// One change of one log. Changes of one log take effect in the order submitted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WalOp {
    /// Append entries; the first continues the log without a gap.
    Append(Vec<LogRecord>),
    /// Remove entries after `index` (exclusive); `None` removes all.
    TruncateAfter(Option<u64>),
    /// Remove entries up to and including `index`; `marker` is the encoded log id, given back at open.
    Purge {
        /// Last index removed.
        index: u64,
        /// Encoded log id of it.
        marker: Bytes,
    },
    /// Replace the vote.
    Vote(Bytes),
    /// Replace the committed log id; need not be flushed on its own.
    Committed(Bytes),
}

/// When a change is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlushMode {
    /// After the flush that made it durable (`wal`).
    Always,
    /// After it was handed to the kernel, so that a killed process keeps it; the flush to the
    /// device follows within this time (`wal-async`).
    Every(Duration),
}

/// Called once, when the operation and everything submitted before it for that log is durable
/// (as the engine defines it), or when it failed. May be called from any thread.
pub type Done = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// What a log held when it was opened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// True if nothing was ever written under this key.
    pub fresh: bool,
    /// Last vote.
    pub vote: Option<Bytes>,
    /// Last committed marker.
    pub committed: Option<Bytes>,
    /// Last purge: index and marker.
    pub purged: Option<(u64, Bytes)>,
    /// Entries after the purge, contiguous.
    pub records: Vec<LogRecord>,
}

/// A write-ahead log engine. One per node; cheap to share.
pub trait Wal: Send + Sync + Debug + 'static {
    /// Reads the whole log of `key`. Called once per key and process, before any `submit`.
    fn open(&self, key: LogKey) -> Result<Recovered, Error>;

    /// Queues a change. Never blocks on the device; `done` is called after the flush (group commit
    /// over all logs of the node). After an error every later submit of that log fails too.
    fn submit(&self, key: LogKey, op: WalOp, done: Done);

    /// Forgets a log whose replica was removed.
    fn remove(&self, key: LogKey) -> Result<(), Error>;

    /// All logs present.
    fn keys(&self) -> Result<Vec<LogKey>, Error>;

    /// Flushes what is queued and stops. Later submits fail with `Error::Closed`.
    fn close(&self) -> Result<(), Error>;
}
