//! The place of a log store that may fail and be opened again.

use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::health::{Reporter, StorageHealth};
use super::wal::{Done, Error, Recovered, Wal, WalOp};
use crate::types::LogKey;

/// Opens the engine on what the disk holds.
pub type Open = Box<dyn Fn() -> Result<Arc<dyn Wal>, Error> + Send + Sync>;

/// A log store, while it is open. Each opening is an engine of its own: a handle from before a
/// failure is dead and stays dead, so no replica of an earlier life writes into a later one.
pub struct WalSlot {
    name: &'static str,
    open: Open,
    /// `None` while closed. Locked while the engine is opened or closed, by blocking work only;
    /// nobody asks for a handle then.
    current: Mutex<Option<Arc<WatchedWal>>>,
    health: Arc<StorageHealth>,
}

impl fmt::Debug for WalSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalSlot").field("name", &self.name).finish_non_exhaustive()
    }
}

impl WalSlot {
    /// A slot that holds `engine`, with the way to open it again. `name` is that of its directory.
    pub fn new(
        name: &'static str,
        engine: Arc<dyn Wal>,
        health: &Arc<StorageHealth>,
        open: Open,
    ) -> Arc<Self> {
        let first = WatchedWal { engine, reporter: health.reporter() };
        let current = Mutex::new(Some(Arc::new(first)));
        Arc::new(WalSlot { name, open, current, health: Arc::clone(health) })
    }

    /// Name of its directory.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The engine of the present life; its failures are reported.
    ///
    /// # Errors
    /// `Closed` while the slot is closed.
    pub fn get(&self) -> Result<Arc<dyn Wal>, Error> {
        match self.current.lock().as_ref() {
            Some(engine) => Ok(Arc::clone(engine) as Arc<dyn Wal>),
            None => Err(Error::Closed),
        }
    }

    /// Closes the engine. Done if it is closed.
    ///
    /// # Errors
    /// What was queued could not be flushed; the engine is closed all the same.
    pub fn close(&self) -> Result<(), Error> {
        let mut current = self.current.lock();
        // Locked until it is closed: two engines must not have the same files open.
        current.take().map_or(Ok(()), |engine| engine.close())
    }

    /// True while there is an engine.
    pub fn is_open(&self) -> bool {
        self.current.lock().is_some()
    }

    /// Opens the engine again, in the storage's present life.
    ///
    /// # Errors
    /// What the engine says. Damage does not move the store aside: after a fault of the disk it may
    /// be the disk that cannot be read. A restart of the process decides.
    pub fn reopen(&self) -> Result<(), Error> {
        let mut current = self.current.lock();
        assert!(current.is_none(), "a slot is opened when it is closed");
        let engine = (self.open)()?;
        *current = Some(Arc::new(WatchedWal { engine, reporter: self.health.reporter() }));
        Ok(())
    }
}

/// An engine whose failures are reported.
#[derive(Debug)]
struct WatchedWal {
    engine: Arc<dyn Wal>,
    reporter: Reporter,
}

impl WatchedWal {
    /// Reports a device that does not read. Damage that is read is a matter of the replica: it is
    /// lost, and opening the store again would find the same.
    fn read<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.inspect_err(|error| {
            if !error.is_damage() {
                tell(&self.reporter, error);
            }
        })
    }
}

/// Reports what only a new life of the storage mends.
fn tell(reporter: &Reporter, error: &Error) {
    match error {
        Error::Io(io) => reporter.failed("log", error, io.kind()),
        Error::DamagedStore { .. } => reporter.failed("log", error, io::ErrorKind::InvalidData),
        // One log is damaged, or a change does not fit it, which is a matter of its replica; the
        // operator chose another engine; or somebody came too late.
        Error::Damaged { .. }
        | Error::Refused { .. }
        | Error::OtherEngine { .. }
        | Error::Closed => {}
    }
}

impl Wal for WatchedWal {
    fn open(&self, key: LogKey) -> Result<Recovered, Error> {
        self.read(self.engine.open(key))
    }

    fn submit(&self, key: LogKey, op: WalOp, done: Done) {
        let reporter = self.reporter.clone();
        let done: Done = Box::new(move |result| {
            if let Err(error) = &result {
                tell(&reporter, error);
            }
            done(result);
        });
        self.engine.submit(key, op, done);
    }

    fn remove(&self, key: LogKey) -> Result<(), Error> {
        self.engine.remove(key).inspect_err(|error| tell(&self.reporter, error))
    }

    fn keys(&self) -> Result<Vec<LogKey>, Error> {
        self.read(self.engine.keys())
    }

    fn close(&self) -> Result<(), Error> {
        self.engine.close()
    }
}
