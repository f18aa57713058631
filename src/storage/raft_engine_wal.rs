//! raft-engine 0.4.2 (of TiKV) as the engine of the write-ahead log.
//!
//! A log is a "region" of raft-engine and its records are the region's "entries", numbered as the
//! records are; the head is a value of the region. One more region holds the manifests and the
//! directory of the logs. A batch is one of raft-engine's: all or none.
//!
//! What raft-engine does that must be known here (read in its sources, 0.4.2):
//! - It starts with the newest file cut off where a batch is broken, and drops every file before a
//!   missing one, and says so in its log alone. The flush mark, the numbers of the records and the
//!   manifests tell (`engine_wal`). Its strict mode, `AbsoluteConsistency`, cannot be used: it
//!   refuses the zeros that allocating ahead leaves behind the last batch of a killed process.
//! - `Engine::sync` writes an empty batch, which returns before it syncs: `write` here never
//!   relies on it.
//! - The last block a thread has read is cached under file number, offset and length, whichever
//!   store they are of: each store is read and written on threads of its own.
//! - It believes some bytes without a checksum, and a wrong one can end the process
//!   (`raft_engine_files`).
//! - A failed sync panics: the flusher takes that as the end of the store.
//! - The record of a deletion may be dropped before the last copy of what it deletes, so old
//!   records may come back after a restart: those below the head are passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use protobuf::well_known_types::BytesValue;
use raft_engine::{Command, Config, LogBatch, MessageExt, ReadableSize, RecoveryMode};

use super::engine::{Change, Engine, Stored, Until, Visit};
use super::engine_wal::EngineWal;
use super::raft_engine_directory::{self as directory, Directory, META};
use super::raft_engine_files as files;
use super::store_record as record;
use super::wal::Error;
use crate::types::LogKey;

/// Key of a log's head.
const HEAD: &[u8] = b"head";
/// Key of a value that is written for the sake of the sync.
const SYNCED: &[u8] = b"synced";
/// Records read at a time.
const READ_RECORDS: u64 = 64;

/// Write-ahead log of a node on raft-engine.
pub type RaftEngineWal = EngineWal<RaftEngine>;

/// Sizes of raft-engine's files, bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// A file that has reached it is closed and the next begun.
    pub file_bytes: u64,
    /// Above it files are given back: what is still needed of the oldest is written anew.
    pub purge_bytes: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes { file_bytes: 16 << 20, purge_bytes: 128 << 20 }
    }
}

/// A record as raft-engine's entry: its number, then the sealed bytes.
#[derive(Debug)]
struct Records;

impl MessageExt for Records {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        entry.value.first_chunk().copied().map_or(0, u64::from_le_bytes)
    }
}

fn entry(seq: u64, value: &[u8]) -> BytesValue {
    let mut bytes = Vec::with_capacity(8 + value.len());
    bytes.extend_from_slice(&seq.to_le_bytes());
    bytes.extend_from_slice(value);
    BytesValue { value: bytes, ..BytesValue::default() }
}

/// One store of raft-engine.
pub struct RaftEngine {
    engine: raft_engine::Engine,
    path: PathBuf,
    sizes: Sizes,
    /// Changed by the flusher alone; held for moments.
    directory: Mutex<Directory>,
    /// Bytes written since files were given back; all of `u64` if a log was removed.
    untidied: AtomicU64,
}

impl fmt::Debug for RaftEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftEngine").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What raft-engine's error means for the logs in `path`.
fn engine_error(path: &Path, error: raft_engine::Error) -> Error {
    let text = format!("{}: {error}", path.display());
    let io = |kind| Error::from(io::Error::new(kind, text.clone()));
    let damaged = || Error::DamagedStore { path: path.to_owned(), detail: error.to_string() };
    match &error {
        // It cuts off a file that is not the newest, and has it open for reading: the end of that
        // file is broken.
        raft_engine::Error::Io(e) if e.to_string() == "ftruncate" => damaged(),
        raft_engine::Error::Io(e) => io(e.kind()),
        raft_engine::Error::TryAgain(_) => io(io::ErrorKind::StorageFull),
        raft_engine::Error::InvalidArgument(_) | raft_engine::Error::Full => {
            io(io::ErrorKind::InvalidInput)
        }
        raft_engine::Error::Other(e) if e.to_string().contains("Failed to lock file") => {
            let text = format!("{}: in use by another process", path.display());
            io::Error::new(io::ErrorKind::WouldBlock, text).into()
        }
        raft_engine::Error::Corruption(_)
        | raft_engine::Error::Codec(_)
        | raft_engine::Error::Protobuf(_)
        | raft_engine::Error::EntryCompacted
        | raft_engine::Error::EntryNotFound
        | raft_engine::Error::Other(_) => damaged(),
    }
}

impl RaftEngine {
    fn error(&self, error: raft_engine::Error) -> Error {
        engine_error(&self.path, error)
    }

    fn damaged(&self, detail: String) -> Error {
        Error::DamagedStore { path: self.path.clone(), detail }
    }

    /// Adds one change; true if the directory is another now.
    fn add(
        &self,
        directory: &mut Directory,
        change: Change,
        batch: &mut LogBatch,
    ) -> Result<bool, Error> {
        let mut changed = false;
        match change {
            Change::Record { log, seq, value } => {
                let number = directory.get(log).unwrap_or_else(|| {
                    changed = true;
                    directory.add(log)
                });
                batch
                    .add_entries::<Records>(number, &[entry(seq, &value)])
                    .map_err(|e| self.error(e))?;
            }
            Change::Cut { log, seqs, head } => {
                let number = directory.get(log).expect("a log that is cut has records");
                batch.put(number, HEAD.to_vec(), head).map_err(|e| self.error(e))?;
                batch.add_command(number, Command::Compact { index: seqs.end });
            }
            Change::Remove { log } => {
                if let Some(number) = directory.remove(log) {
                    changed = true;
                    batch.add_command(number, Command::Clean);
                    self.untidied.store(u64::MAX, Ordering::Relaxed);
                }
            }
            Change::Manifest { batch: number, keep_from, value } => {
                batch
                    .add_entries::<Records>(META, &[entry(number, &value)])
                    .map_err(|e| self.error(e))?;
                batch.add_command(META, Command::Compact { index: keep_from });
            }
        }
        Ok(changed)
    }

    /// Shows the entries of a region from number `from` on, without the numbers.
    fn entries(
        &self,
        region: u64,
        from: u64,
        mut show: impl FnMut(u64, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let span = (self.engine.first_index(region), self.engine.last_index(region));
        let (Some(first), Some(last)) = span else { return Ok(()) };
        let mut next = from.max(first);
        let mut found = Vec::new();
        while next <= last {
            let end = last.saturating_add(1).min(next + READ_RECORDS);
            self.engine
                .fetch_entries_to::<Records>(region, next, end, None, &mut found)
                .map_err(|e| self.error(e))?;
            if found.is_empty() {
                return Err(self.damaged(format!("region {region} does not show entry {next}")));
            }
            for entry in found.drain(..) {
                let seq = Records::index(&entry);
                show(seq, entry.value.get(8..).unwrap_or_default())?;
                next = next.max(seq.saturating_add(1));
            }
        }
        Ok(())
    }
}

/// Reads every file and syncs it, before the engine looks: it cuts short what it cannot read as if it
/// were torn, and what a killed process wrote without a sync must be on the device before it counts.
fn settle(dir: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let mut file = File::open(entry.path())?;
            io::copy(&mut file, &mut io::sink())?;
            file.sync_all()?;
        }
    }
    Ok(())
}

impl Engine for RaftEngine {
    const NAME: &'static str = "raft-engine";
    type Sizes = Sizes;

    fn open(path: &Path, sizes: &Sizes) -> Result<Self, Error> {
        let dir = path.join(Self::NAME);
        let Some(name) = dir.to_str() else {
            let text = format!("{}: raft-engine needs a path of UTF-8", dir.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text).into());
        };
        files::check(&dir)?
            .map_err(|detail| Error::DamagedStore { path: path.to_owned(), detail })?;
        settle(&dir)?;
        let config = Config {
            dir: name.to_owned(),
            recovery_mode: RecoveryMode::TolerateTailCorruption,
            recovery_threads: 2,
            // Its mark of a compressed block is under no checksum (see `raft_engine_files`).
            batch_compression_threshold: ReadableSize(0),
            target_file_size: ReadableSize(sizes.file_bytes),
            purge_threshold: ReadableSize(sizes.purge_bytes),
            purge_rewrite_threshold: Some(ReadableSize(sizes.purge_bytes / 2)),
            // Space is given back, and a file never holds batches of an earlier life.
            enable_log_recycle: false,
            ..Config::default()
        };
        let engine = raft_engine::Engine::open(config).map_err(|e| engine_error(path, e))?;
        File::open(&dir)?.sync_all()?;
        let directory = match engine.get(META, directory::KEY) {
            None => Directory::default(),
            Some(value) => Directory::decode(&value).map_err(|e| {
                let detail = format!("directory of the logs: {e}");
                Error::DamagedStore { path: path.to_owned(), detail }
            })?,
        };
        Ok(RaftEngine {
            engine,
            path: path.to_owned(),
            sizes: sizes.clone(),
            directory: Mutex::new(directory),
            untidied: AtomicU64::new(0),
        })
    }

    fn manifests(&self) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        let mut found = Vec::new();
        self.entries(META, 1, |batch, value| {
            found.push((batch, value.to_vec()));
            Ok(())
        })?;
        Ok(found)
    }

    /// The directory and the manifests were written together: they name the same logs.
    fn expect(&self, logs: &BTreeMap<LogKey, u64>) -> Result<(), Error> {
        let known: BTreeSet<LogKey> =
            logs.iter().filter(|(_, seq)| **seq > 0).map(|(log, _)| *log).collect();
        let directory = self.directory.lock();
        if let Some(log) =
            directory.logs().collect::<BTreeSet<_>>().symmetric_difference(&known).next()
        {
            return Err(self.damaged(format!("the directory of the logs is wrong about {log}")));
        }
        // What a dropped record of a deletion lets come back holds files: delete it again.
        let numbers: BTreeSet<u64> = directory.numbers().collect();
        let mut batch = LogBatch::default();
        let stray = |region: &u64| *region != META && !numbers.contains(region);
        for region in self.engine.raft_groups().into_iter().filter(stray) {
            batch.add_command(region, Command::Clean);
        }
        self.engine.write(&mut batch, false).map_err(|e| self.error(e))?;
        Ok(())
    }

    fn read(&self, log: LogKey, visit: Visit<'_>) -> Result<(), Error> {
        let Some(region) = self.directory.lock().get(log) else { return Ok(()) };
        let mut first = 1;
        if let Some(value) = self.engine.get(region, HEAD) {
            let head = record::decode_head(&record::log_key(log), &value)
                .map_err(|e| Error::Damaged { log, detail: format!("head: {e}") })?;
            first = head.first_seq;
            visit(Stored::Head(&value))?;
        }
        self.entries(region, first, |seq, value| visit(Stored::Record(seq, value)))
    }

    fn logs(&self) -> Result<BTreeSet<LogKey>, Error> {
        Ok(self.directory.lock().logs().collect())
    }

    fn write(&self, changes: Vec<Change>, until: Until) -> Result<(), Error> {
        let mut batch = LogBatch::default();
        let mut changed = false;
        {
            let mut directory = self.directory.lock();
            for change in changes {
                changed |= self.add(&mut directory, change, &mut batch)?;
            }
            if changed {
                batch
                    .put(META, directory::KEY.to_vec(), directory.encode())
                    .map_err(|e| self.error(e))?;
            }
        }
        let sync = until == Until::Device;
        if sync && batch.is_empty() {
            batch.put(META, SYNCED.to_vec(), Vec::new()).map_err(|e| self.error(e))?;
        }
        let bytes = self.engine.write(&mut batch, sync).map_err(|e| self.error(e))?;
        let untidied = self.untidied.load(Ordering::Relaxed).saturating_add(bytes as u64);
        self.untidied.store(untidied, Ordering::Relaxed);
        Ok(())
    }

    /// Lets raft-engine delete files. It gives back the numbers of logs with much in its oldest
    /// files, for the caller to shorten; how long a log is the Raft layer decides, by snapshots, so
    /// raft-engine moves those on after nine rounds itself, which bounds what the device holds.
    fn tidy(&self) -> Result<(), Error> {
        if self.untidied.load(Ordering::Relaxed) < self.sizes.file_bytes {
            return Ok(());
        }
        self.untidied.store(0, Ordering::Relaxed);
        let held = self.engine.purge_expired_files().map_err(|e| self.error(e))?;
        if !held.is_empty() {
            tracing::debug!(logs = held.len(), "old files of the log are held by long logs");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::storage::wal::{FlushMode, LogRecord, Wal, WalOp};
    use crate::storage::wal_suite::{key, submit};
    use crate::types::metrics::Metrics;

    fn open(path: &Path) -> Arc<RaftEngineWal> {
        RaftEngineWal::open(path, Metrics::new(), FlushMode::Always).unwrap()
    }

    fn record(payload: &'static [u8]) -> LogRecord {
        LogRecord { term: 1, index: 0, payload: Bytes::from_static(payload) }
    }

    /// raft-engine caches the last block of a thread by its place, whichever store it is of.
    #[test]
    fn stores_read_on_one_thread_do_not_show_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let stores = [("a", b"one" as &[u8]), ("b", b"two"), ("c", b"six")];
        for (name, payload) in stores {
            let wal = open(&dir.path().join(name));
            wal.open(key(1, 1)).unwrap();
            let op = WalOp::Append(vec![record(payload)]);
            submit(wal.as_ref(), key(1, 1), op).blocking_recv().unwrap().unwrap();
        }
        let opened = stores.map(|(name, payload)| (open(&dir.path().join(name)), payload));
        for (wal, payload) in &opened {
            assert_eq!(wal.open(key(1, 1)).unwrap().records, [record(payload)]);
        }
    }

    /// `raft_engine::Engine::sync` does nothing: what was written before must be synced by a batch.
    #[test]
    fn a_sync_without_changes_writes_a_batch() {
        let dir = tempfile::tempdir().unwrap();
        let engine = RaftEngine::open(dir.path(), &Sizes::default()).unwrap();
        engine.write(Vec::new(), Until::Kernel).unwrap();
        assert_eq!(engine.untidied.load(Ordering::Relaxed), 0);
        engine.write(Vec::new(), Until::Device).unwrap();
        assert!(engine.untidied.load(Ordering::Relaxed) > 0);
        assert!(engine.engine.get(META, SYNCED).is_some());
    }

    #[test]
    fn a_directory_in_use_or_not_usable_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wal");
        let first = open(&path);
        let again = || RaftEngineWal::open(&path, Metrics::new(), FlushMode::Always);
        let error = again().unwrap_err();
        assert!(error.to_string().contains("in use by another process"), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()) && !error.is_damage());
        first.close().unwrap();
        again().unwrap();
        let blocked = dir.path().join("file");
        std::fs::write(&blocked, b"").unwrap();
        let error = RaftEngineWal::open(&blocked, Metrics::new(), FlushMode::Always).unwrap_err();
        assert!(error.to_string().contains(blocked.to_str().unwrap()) && !error.is_damage());
    }

    /// A store without its mark could have lost any number of its last batches.
    #[test]
    fn a_missing_flush_mark_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let wal = open(dir.path());
        wal.open(key(1, 1)).unwrap();
        let op = WalOp::Append(vec![record(b"one")]);
        submit(wal.as_ref(), key(1, 1), op).blocking_recv().unwrap().unwrap();
        wal.close().unwrap();
        std::fs::remove_file(dir.path().join("flushed")).unwrap();
        for attempt in 1..=2 {
            let opened = RaftEngineWal::open(dir.path(), Metrics::new(), FlushMode::Always);
            let error = opened.expect_err("its last batches may be gone");
            let told = error.to_string();
            assert!(error.is_damage() && told.contains("flush mark"), "{attempt}: {error}");
        }
    }
}
