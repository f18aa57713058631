//! The log engine of `wal` and `wal-async` durability, on sled 0.34.7.
//!
//! One `Db` for all groups, written and flushed by one thread (`flusher`), which also does the
//! `fdatasync` that sled leaves out (`sled_files`). Each log is a row of
//! records numbered without a gap (`sled_record`); sled was seen to lose values in the middle
//! after its newest file was damaged, so numbers, checksums and the order of entries are checked
//! at open, and what does not fit is `Error::Damaged`, never a shorter log.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use super::flush_mark::FlushMark;
pub use super::flusher::FlushMode;
use super::flusher::{Flusher, Item, Shared, sled_error};
use super::log_state::LogState;
use super::sled_files::SledFiles;
use super::sled_record as record;
use super::wal::{Done, Error, Recovered, Wal, WalOp};
use crate::types::LogKey;
use crate::types::metrics::Metrics;

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
pub struct SledWal {
    path: PathBuf,
    shared: Arc<Shared>,
    /// What the last batches say of how far each log goes; 0: removed.
    expected: Mutex<BTreeMap<LogKey, u64>>,
    /// `None` once closed. Held for moments, never across an await.
    running: Mutex<Option<Running>>,
}

/// The parts that end with `close`.
struct Running {
    db: sled::Db,
    flusher: JoinHandle<()>,
}

impl fmt::Debug for SledWal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledWal").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Runs `f`; sled asserts on some kinds of damage, which must not take the node down.
fn guarded<T>(path: &Path, f: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    std::panic::catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|_| {
        let detail = "sled panicked while reading".to_owned();
        Err(Error::DamagedStore { path: path.to_owned(), detail })
    })
}

/// Opens sled below `path`; a damaged file may make it panic (see `guarded`).
pub(super) fn open_db(path: &Path) -> Result<sled::Db, Error> {
    // sled reports a path that cannot be made in ways that do not name it: make it ourselves.
    std::fs::create_dir_all(path)
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    let config = sled::Config::new()
        .path(path.join("sled"))
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

/// Reads the manifests: how far each log must go at least, and the number of the next batch.
fn read_manifests(path: &Path, db: &sled::Db) -> Result<(BTreeMap<LogKey, u64>, u64), Error> {
    let damaged = |detail: String| Error::DamagedStore { path: path.to_owned(), detail };
    let mut expected = BTreeMap::new();
    let mut next_batch = None;
    for pair in db.scan_prefix(record::MANIFEST_PREFIX) {
        let (k, v) = pair.map_err(|e| sled_error(path, e))?;
        let batch = record::batch_of(&k).map_err(|e| damaged(format!("manifest key: {e}")))?;
        let manifest = record::decode_manifest(&k, &v)
            .map_err(|e| damaged(format!("manifest {batch}: {e}")))?;
        if next_batch.is_some_and(|next| next != batch) {
            return Err(damaged(format!("manifest {batch} follows a missing one")));
        }
        next_batch = Some(batch + 1);
        expected.extend(manifest);
    }
    Ok((expected, next_batch.unwrap_or(1)))
}

/// Reads the flush mark: a store that ends before it lost what was acknowledged.
fn open_mark(path: &Path, next_batch: u64) -> Result<FlushMark, Error> {
    let damaged = |detail: String| Error::DamagedStore { path: path.to_owned(), detail };
    let mark = FlushMark::open(&path.join("flushed")).map_err(|e| match e.kind() {
        io::ErrorKind::InvalidData => damaged(e.to_string()),
        kind => io::Error::new(kind, format!("{}: {e}", path.display())).into(),
    })?;
    if mark.batch() >= next_batch {
        let (flushed, found) = (mark.batch(), next_batch - 1);
        return Err(damaged(format!("ends at batch {found}, but batch {flushed} was flushed")));
    }
    Ok(mark)
}

impl SledWal {
    /// Opens or creates the store in the directory `path` and starts its flusher thread.
    ///
    /// # Errors
    /// `Io` naming the path if it is in use by another process or cannot be read or written;
    /// `DamagedStore` if it is damaged (see `quarantine`). Blocks on the device.
    pub fn open(path: &Path, metrics: Arc<Metrics>, mode: FlushMode) -> Result<Arc<Self>, Error> {
        let (db, expected, next_batch, files, mark) = guarded(path, || {
            let db = open_db(path)?;
            let (expected, next_batch) = read_manifests(path, &db)?;
            let mark = open_mark(path, next_batch)?;
            let files = SledFiles::open(&path.join("sled"))?;
            Ok((db, expected, next_batch, files, mark))
        })?;
        let shared = Arc::new(Shared::new(metrics));
        let flusher = Flusher {
            shared: Arc::clone(&shared),
            db: db.clone(),
            path: path.to_owned(),
            mode,
            files,
            mark,
            next_batch,
            dirty: false,
            flush_by: None,
        };
        let flusher =
            std::thread::Builder::new().name("wal-flusher".to_owned()).spawn(|| flusher.run())?;
        Ok(Arc::new(SledWal {
            path: path.to_owned(),
            shared,
            expected: Mutex::new(expected),
            running: Mutex::new(Some(Running { db, flusher })),
        }))
    }

    fn db(&self) -> Result<sled::Db, Error> {
        self.running.lock().as_ref().map(|r| r.db.clone()).ok_or(Error::Closed)
    }

    fn read_log(&self, db: &sled::Db, key: LogKey) -> Result<(LogState, Recovered), Error> {
        let pairs = db
            .scan_prefix(record::log_key(key))
            .map(|pair| pair.map_err(|e| sled_error(&self.path, e)));
        let mut pairs = pairs.peekable();
        let fresh = pairs.peek().is_none();
        let (state, image) = LogState::replay(key, pairs)?;
        let expected = self.expected.lock().get(&key).copied().unwrap_or(0);
        if state.last_seq() < expected {
            let detail = format!("ends at record {}, not at {expected}", state.last_seq());
            return Err(Error::Damaged { log: key, detail });
        }
        Ok((state, Recovered { fresh, ..image.into_recovered() }))
    }
}

impl Wal for SledWal {
    fn open(&self, key: LogKey) -> Result<Recovered, Error> {
        let db = self.db()?;
        let (state, recovered) = guarded(&self.path, || self.read_log(&db, key))?;
        let mut logs = self.shared.logs.lock();
        if logs.contains_key(&key) {
            let detail = format!("{key} was opened before by this process");
            return Err(std::io::Error::new(std::io::ErrorKind::AlreadyExists, detail).into());
        }
        logs.insert(key, state);
        Ok(recovered)
    }

    fn submit(&self, key: LogKey, op: WalOp, done: Done) {
        self.shared.push(Item::Change { key, op, done });
    }

    /// Blocks on the device, behind what is queued.
    fn remove(&self, key: LogKey) -> Result<(), Error> {
        let (sender, receiver) = mpsc::sync_channel(1);
        // The receiver waits below, so the send cannot fail while anyone cares for it.
        let done: Done = Box::new(move |result| drop(sender.send(result)));
        self.shared.push(Item::Remove { key, done });
        receiver.recv().map_err(|_| Error::Closed)??;
        self.expected.lock().remove(&key);
        Ok(())
    }

    fn keys(&self) -> Result<Vec<LogKey>, Error> {
        let db = self.db()?;
        guarded(&self.path, || {
            let mut found = BTreeSet::new();
            for key in db.iter().keys() {
                let key = key.map_err(|e| sled_error(&self.path, e))?;
                if !key.starts_with(&record::MANIFEST_PREFIX) {
                    found.insert(record::log_of(&key).map_err(|e| Error::DamagedStore {
                        path: self.path.clone(),
                        detail: e.to_string(),
                    })?);
                }
            }
            // A log that vanished is still a log: opening it says that it is damaged.
            let expected = self.expected.lock();
            found.extend(expected.iter().filter(|(_, seq)| **seq > 0).map(|(key, _)| *key));
            Ok(found.into_iter().collect())
        })
    }

    /// Blocks on the device. Safe to call again.
    fn close(&self) -> Result<(), Error> {
        let Some(running) = self.running.lock().take() else { return self.shared.check() };
        self.shared.begin_close();
        let joined = running.flusher.join();
        if joined.is_err() {
            let detail = "the flusher panicked".to_owned();
            return Err(Error::DamagedStore { path: self.path.clone(), detail });
        }
        self.shared.check()
    }
}

impl Drop for SledWal {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, path = %self.path.display(), "write-ahead log closed badly");
        }
    }
}

/// Moves a damaged directory aside, to `<path>.damaged-<n>` with the first free number, and gives
/// the new name. Nothing is deleted: the operator may look at it.
pub fn quarantine(path: &Path) -> io::Result<PathBuf> {
    for number in 1u32.. {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{number}"));
        let aside = PathBuf::from(name);
        if !aside.try_exists()? {
            std::fs::rename(path, &aside)?;
            if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                std::fs::File::open(parent)?.sync_all()?;
            }
            return Ok(aside);
        }
    }
    Err(io::Error::other("no free name for a damaged directory"))
}
