//! The log of `wal` and `wal-async` durability, over a storage engine.
//!
//! One engine for all groups, written and flushed by one thread (`flusher`). Each log is a row of
//! records numbered without a gap (`store_record`). Both engines were seen to come up without what
//! they had flushed, and to say nothing, after their newest file was damaged; so numbers,
//! checksums, the order of entries, the manifests of the last batches and the flush mark are
//! checked at open, and what does not fit is damage, never a shorter log.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::engine::Engine;
use super::flush_mark::FlushMark;
use super::flusher::{Flusher, Item, Shared};
use super::log_state::{LogState, Replay};
use super::raft_engine_wal::RaftEngine;
use super::sled_wal::Sled;
use super::store_record as record;
use super::wal::{Done, Error, FlushMode, Recovered, Wal, WalOp};
use crate::types::LogKey;
use crate::types::limits::WAL_MANIFEST_FULL_EVERY;
use crate::types::metrics::Metrics;

/// Subdirectories of all engines: a store holds one of them.
const ENGINES: [&str; 2] = [Sled::NAME, RaftEngine::NAME];

/// Write-ahead log of a node on the engine `E`.
pub struct EngineWal<E: Engine> {
    path: PathBuf,
    shared: Arc<Shared>,
    /// What the manifests say of how far each log goes; 0: removed.
    expected: Mutex<BTreeMap<LogKey, u64>>,
    /// `None` once closed. Held for moments, never across an await.
    running: Mutex<Option<Running<E>>>,
}

/// The parts that end with `close`.
struct Running<E> {
    engine: Arc<E>,
    flusher: JoinHandle<()>,
}

impl<E: Engine> fmt::Debug for EngineWal<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineWal")
            .field("engine", &E::NAME)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Runs `f` on a thread of its own. Engines assert on some kinds of damage, which must not take
/// the node down; and raft-engine caches the last block a thread read under a name that another
/// store, or the same one after a restart, may give to another block.
fn guarded<E: Engine, T: Send>(
    path: &Path,
    f: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let name = "wal-reader".to_owned();
        let reader = std::thread::Builder::new().name(name).spawn_scoped(scope, f)?;
        reader.join().unwrap_or_else(|_| {
            let detail = format!("{} panicked while reading", E::NAME);
            Err(Error::DamagedStore { path: path.to_owned(), detail })
        })
    })
}

/// Makes the directory, and refuses one that another engine wrote.
fn take_directory<E: Engine>(path: &Path) -> Result<(), Error> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    std::fs::create_dir_all(path).map_err(named)?;
    for found in ENGINES.into_iter().filter(|name| *name != E::NAME) {
        if path.join(found).try_exists().map_err(named)? {
            return Err(Error::OtherEngine { path: path.to_owned(), found, asked: E::NAME });
        }
    }
    Ok(())
}

/// What the manifests of a store say: how far each log must go (0: removed), and the number of the
/// next batch.
fn read_manifests<E: Engine>(
    path: &Path,
    engine: &E,
) -> Result<(BTreeMap<LogKey, u64>, u64), Error> {
    let damaged = |detail: String| Error::DamagedStore { path: path.to_owned(), detail };
    let mut expected = BTreeMap::new();
    let mut next_batch = 1;
    let mut complete = true;
    for (number, (batch, value)) in engine.manifests()?.into_iter().enumerate() {
        if number == 0 {
            complete = batch == 1;
        } else if batch != next_batch {
            return Err(damaged(format!("manifest {batch} follows a missing one")));
        }
        let manifest = record::decode_manifest(&record::manifest_key(batch), &value)
            .map_err(|e| damaged(format!("manifest {batch}: {e}")))?;
        if batch.is_multiple_of(WAL_MANIFEST_FULL_EVERY) {
            complete = true;
            expected.clear();
        }
        next_batch = batch + 1;
        expected.extend(manifest);
    }
    if !complete {
        return Err(damaged("the manifest of all logs is missing".to_owned()));
    }
    Ok((expected, next_batch))
}

/// Reads the flush mark: a store that ends before it lost what was acknowledged.
fn open_mark(path: &Path, next_batch: u64) -> Result<FlushMark, Error> {
    let damaged = |detail: String| Error::DamagedStore { path: path.to_owned(), detail };
    let found = next_batch - 1;
    let mark = FlushMark::open(&path.join("flushed"), found == 0).map_err(|e| match e.kind() {
        io::ErrorKind::InvalidData => damaged(format!("{e} beside {found} batches")),
        kind => io::Error::new(kind, format!("{}: {e}", path.display())).into(),
    })?;
    if mark.batch() > found {
        let flushed = mark.batch();
        return Err(damaged(format!("ends at batch {found}, but batch {flushed} was flushed")));
    }
    Ok(mark)
}

/// Makes the names in `path`, and its own, survive a power loss.
fn sync_names(path: &Path) -> io::Result<()> {
    let parents = path.ancestors().take(2).filter(|p| !p.as_os_str().is_empty());
    for parent in parents {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

impl<E: Engine> EngineWal<E> {
    /// Opens or creates the store in the directory `path` and starts its flusher thread.
    ///
    /// # Errors
    /// `OtherEngine` if another engine wrote it; `Io` naming the path if it is in use by another
    /// process or cannot be read or written; `DamagedStore` if it is damaged (see `set_aside`).
    /// Blocks on the device.
    pub fn open(path: &Path, metrics: Arc<Metrics>, mode: FlushMode) -> Result<Arc<Self>, Error> {
        Self::open_with(path, metrics, mode, &E::Sizes::default())
    }

    /// As `open`, with sizes of the engine's files other than its defaults.
    pub fn open_with(
        path: &Path,
        metrics: Arc<Metrics>,
        mode: FlushMode,
        sizes: &E::Sizes,
    ) -> Result<Arc<Self>, Error> {
        take_directory::<E>(path)?;
        let (engine, expected, next_batch, mark) = guarded::<E, _>(path, || {
            let engine = E::open(path, sizes)?;
            let (expected, next_batch) = read_manifests(path, &engine)?;
            let mark = open_mark(path, next_batch)?;
            engine.expect(&expected)?;
            sync_names(path)?;
            Ok((Arc::new(engine), expected, next_batch, mark))
        })?;
        let shared = Arc::new(Shared::new(metrics));
        let flusher = Flusher {
            shared: Arc::clone(&shared),
            engine: Arc::clone(&engine),
            path: path.to_owned(),
            mode,
            mark,
            next_batch,
            reach: expected.clone(),
            dirty: false,
            flush_by: None,
        };
        let flusher =
            std::thread::Builder::new().name("wal-flusher".to_owned()).spawn(|| flusher.run())?;
        Ok(Arc::new(EngineWal {
            path: path.to_owned(),
            shared,
            expected: Mutex::new(expected),
            running: Mutex::new(Some(Running { engine, flusher })),
        }))
    }

    fn engine(&self) -> Result<Arc<E>, Error> {
        self.running.lock().as_ref().map(|r| Arc::clone(&r.engine)).ok_or(Error::Closed)
    }

    fn read_log(&self, engine: &E, key: LogKey) -> Result<(LogState, Recovered), Error> {
        let mut replay = Replay::new(key);
        engine.read(key, &mut |stored| replay.visit(stored))?;
        let (state, recovered) = replay.finish();
        let expected = self.expected.lock().get(&key).copied().unwrap_or(0);
        if state.last_seq() < expected {
            let detail = format!("ends at record {}, not at {expected}", state.last_seq());
            return Err(Error::Damaged { log: key, detail });
        }
        Ok((state, recovered))
    }
}

impl<E: Engine> Wal for EngineWal<E> {
    fn open(&self, key: LogKey) -> Result<Recovered, Error> {
        let engine = self.engine()?;
        let (state, recovered) =
            guarded::<E, _>(&self.path, || self.read_log(engine.as_ref(), key))?;
        let mut logs = self.shared.logs.lock();
        if logs.contains_key(&key) {
            let detail = format!("{key} was opened before by this process");
            return Err(Error::Refused { detail });
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
        let engine = self.engine()?;
        let mut found = guarded::<E, _>(&self.path, || engine.logs())?;
        // A log that vanished is still a log: opening it says that it is damaged.
        let expected = self.expected.lock();
        found.extend(expected.iter().filter(|(_, seq)| **seq > 0).map(|(key, _)| *key));
        Ok(found.into_iter().collect())
    }

    /// Blocks on the device. Safe to call again.
    fn close(&self) -> Result<(), Error> {
        let Some(running) = self.running.lock().take() else { return self.shared.check() };
        self.shared.begin_close();
        if running.flusher.join().is_err() {
            let detail = "the flusher panicked".to_owned();
            return Err(Error::DamagedStore { path: self.path.clone(), detail });
        }
        let engine = running.engine;
        guarded::<E, _>(&self.path, || {
            drop(engine);
            Ok(())
        })?;
        self.shared.check()
    }
}

impl<E: Engine> Drop for EngineWal<E> {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, path = %self.path.display(), "write-ahead log closed badly");
        }
    }
}
