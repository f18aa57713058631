//! sled 0.34.7 as the engine of the write-ahead log, with the `fdatasync` that it leaves out
//! (`sled_files`).

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;

use super::engine::{Change, Engine, Stored, Until, Visit};
use super::engine_wal::EngineWal;
use super::sled_files::SledFiles;
use super::store_record as record;
use super::wal::Error;
pub use super::wal::FlushMode;
use crate::types::LogKey;

/// sled's page cache: the logs are read once, at open. Its default is 1 GiB.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// Size of a segment of sled's file, its largest. A page (up to 16 values) that does not fit one goes
/// to a file of its own, and such files are removed only with the segment that points at them: with
/// the default of 512 KiB, 384 MiB appended with 64 MiB kept took 2.1 GiB of the device.
const SEGMENT_BYTES: usize = 16 * 1024 * 1024;
/// sled frees its lock on a thread of its own after `Db` is dropped: a reopen waits for that.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Write-ahead log of a node on sled.
pub type SledWal = EngineWal<Sled>;

/// One sled database. sled gains nothing from concurrent flushes.
#[derive(Debug)]
pub struct Sled {
    db: sled::Db,
    path: PathBuf,
    /// Used by the flusher alone.
    files: Mutex<SledFiles>,
}

/// Opens sled below `path`; a damaged file may make it panic.
pub(super) fn open_db(path: &Path) -> Result<sled::Db, Error> {
    let config = sled::Config::new()
        .path(path.join(Sled::NAME))
        .flush_every_ms(None)
        .segment_size(SEGMENT_BYTES)
        .cache_capacity(CACHE_BYTES);
    let mut tries = 0;
    loop {
        match config.open() {
            Err(sled::Error::Io(e)) if e.to_string().contains("could not acquire lock") => {
                tries += 1;
                if tries == LOCK_TRIES {
                    let text = format!("{}: in use by another process", path.display());
                    return Err(io::Error::new(io::ErrorKind::WouldBlock, text).into());
                }
                std::thread::sleep(LOCK_PAUSE);
            }
            opened => return opened.map_err(|e| sled_error(path, e)),
        }
    }
}

impl Sled {
    fn error(&self, error: sled::Error) -> Error {
        sled_error(&self.path, error)
    }

    fn damaged(&self, error: record::Error) -> Error {
        Error::DamagedStore { path: self.path.clone(), detail: error.to_string() }
    }

    fn add(&self, change: Change, batch: &mut sled::Batch) -> Result<(), Error> {
        match change {
            Change::Record { log, seq, value } => {
                batch.insert(&record::record_key(log, seq)[..], value);
            }
            Change::Cut { log, seqs, head } => {
                for seq in seqs {
                    batch.remove(&record::record_key(log, seq)[..]);
                }
                batch.insert(&record::log_key(log)[..], head);
            }
            Change::Remove { log } => {
                for key in self.db.scan_prefix(record::log_key(log)).keys() {
                    batch.remove(key.map_err(|e| self.error(e))?);
                }
            }
            Change::Manifest { batch: number, keep_from, value } => {
                batch.insert(&record::manifest_key(number)[..], value);
                // One is added each time, so one is over.
                if let Some(old) = keep_from.checked_sub(1) {
                    batch.remove(&record::manifest_key(old)[..]);
                }
            }
        }
        Ok(())
    }
}

impl Engine for Sled {
    const NAME: &'static str = "sled";
    type Sizes = ();

    fn open(path: &Path, (): &()) -> Result<Self, Error> {
        let db = open_db(path)?;
        let files = Mutex::new(SledFiles::open(&path.join(Self::NAME))?);
        Ok(Sled { db, path: path.to_owned(), files })
    }

    fn manifests(&self) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        let mut found = Vec::new();
        for pair in self.db.scan_prefix(record::MANIFEST_PREFIX) {
            let (key, value) = pair.map_err(|e| self.error(e))?;
            let batch = record::batch_of(&key).map_err(|e| self.damaged(e))?;
            found.push((batch, value.to_vec()));
        }
        Ok(found)
    }

    fn read(&self, log: LogKey, visit: Visit<'_>) -> Result<(), Error> {
        for pair in self.db.scan_prefix(record::log_key(log)) {
            let (key, value) = pair.map_err(|e| self.error(e))?;
            let seq =
                record::seq_of(&key).map_err(|e| Error::Damaged { log, detail: e.to_string() })?;
            visit(match seq {
                None => Stored::Head(&value),
                Some(seq) => Stored::Record(seq, &value),
            })?;
        }
        Ok(())
    }

    fn logs(&self) -> Result<BTreeSet<LogKey>, Error> {
        let mut found = BTreeSet::new();
        for key in self.db.iter().keys() {
            let key = key.map_err(|e| self.error(e))?;
            if !key.starts_with(&record::MANIFEST_PREFIX) {
                found.insert(record::log_of(&key).map_err(|e| self.damaged(e))?);
            }
        }
        Ok(found)
    }

    fn write(&self, changes: Vec<Change>, until: Until) -> Result<(), Error> {
        if !changes.is_empty() {
            let mut batch = sled::Batch::default();
            for change in changes {
                self.add(change, &mut batch)?;
            }
            self.db.apply_batch(batch).map_err(|e| self.error(e))?;
        }
        if until != Until::Buffer {
            // Hands its buffers to the kernel, which a killed process does not lose.
            self.db.flush().map_err(|e| self.error(e))?;
        }
        if until == Until::Device {
            self.files.lock().sync().map_err(unsynced)?;
        }
        Ok(())
    }
}

/// A sync that failed, whatever its reason: what was handed to the kernel before, and in `wal-async`
/// acknowledged, may be gone. A full disk says so here as well where blocks are chosen late, and is
/// not to be taken for one that refused a write.
fn unsynced(error: io::Error) -> io::Error {
    io::Error::other(format!("cannot sync: {error}"))
}

/// What sled's error means for the logs in `path`.
fn sled_error(path: &Path, error: sled::Error) -> Error {
    let text = format!("{}: {error}", path.display());
    match error {
        sled::Error::Io(e) => io::Error::new(e.kind(), text).into(),
        sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::Corruption { .. } => {
            Error::DamagedStore { path: path.to_owned(), detail: error.to_string() }
        }
    }
}
