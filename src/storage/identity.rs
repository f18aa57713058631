//! Who a data directory is: its random name, how often it was started, and how it last stopped.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{BufMut, Bytes, BytesMut};

use super::disk::{self, Disk};
use crate::types::NodeId;
use crate::types::wire::{self, get_bytes, get_u8, get_u64, put_bytes};

/// Of the directory as a whole: it changes also where what a logged entry does has changed, for a replica
/// that applies old entries anew would differ from one that had applied them (INV-3).
const FORMAT: u8 = 3;
const FILE: &str = "identity";
/// Longest identity file, bytes.
const BYTES_MAX: u64 = 4096;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device refused.
    #[error("data directory: {0}")]
    Io(#[from] io::Error),
    /// Another process uses it.
    #[error("data directory {0} is in use by another process")]
    InUse(PathBuf),
    /// A file in it is not as it was written: quarantine the directory and rejoin as a new store.
    #[error("{path} is damaged: {detail}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// It is that of another node.
    #[error(
        "data directory {dir} belongs to node {owner}, but this is node {node}: give each node a \
         node.data_dir of its own, and keep its node.id"
    )]
    OtherNode {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        owner: u64,
        /// Who was to use it.
        node: u64,
    },
    /// Another build made it.
    #[error(
        "{path} says format {format}; this build knows {expected}: what its log holds would be applied \
         differently. Start with the build that made it, or with an empty data directory"
    )]
    Format {
        /// Which file.
        path: PathBuf,
        /// What it says.
        format: u64,
        /// What this build writes.
        expected: u8,
    },
}

impl Error {
    /// A file that does not decode.
    fn of_wire(path: &Path, error: wire::Error) -> Self {
        let path = path.to_owned();
        match error {
            wire::Error::Tag { what: "format", tag } => {
                Error::Format { path, format: tag, expected: FORMAT }
            }
            error => Error::Damaged { path, detail: error.to_string() },
        }
    }
}

/// Checksum before the rest; both small files of this directory are sealed so.
pub(super) fn seal(body: &[u8]) -> Vec<u8> {
    let mut out = crc32c::crc32c(body).to_le_bytes().to_vec();
    out.extend_from_slice(body);
    out
}

/// Checks and takes off the checksum.
pub(super) fn unseal(bytes: Vec<u8>) -> Result<Bytes, wire::Error> {
    let mut input = Bytes::from(bytes);
    let crc = wire::get_u32(&mut input, "checksum")?;
    if crc == crc32c::crc32c(&input) {
        Ok(input)
    } else {
        Err(wire::Error::Malformed { what: "checksum" })
    }
}

/// How the directory was left by the process before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Previous {
    /// Boot of the operating system it ran under, if that was known.
    pub boot_id: Option<String>,
    /// It stopped in order, everything flushed.
    pub clean: bool,
    /// It acknowledged before flushing (`wal-async`).
    pub unflushed: bool,
    /// It knew of lost writes, and had not noted yet which replicas they belonged to.
    pub loss_unnoted: bool,
}

impl Previous {
    /// Whether the operating system may have gone down under it, so that what was written but not
    /// flushed is lost. Not known counts as yes.
    pub fn lost_unflushed(&self, boot_id: Option<&str>) -> bool {
        !self.clean && (boot_id.is_none() || self.boot_id.as_deref() != boot_id)
    }
}

/// Boot id of the running Linux kernel; `None` elsewhere.
pub fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

/// What a data directory says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Random name of the store.
    pub store_id: u128,
    /// The node whose directory it is.
    pub node: NodeId,
    /// Starts so far.
    pub starts: u64,
    /// How the last process left it.
    pub previous: Previous,
}

/// The identity of a data directory in use.
#[derive(Debug)]
pub struct Identity {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Random name, drawn once: another one is another store, whose logs are gone.
    pub store_id: u128,
    node: NodeId,
    /// Starts of this store so far, this one included: 1 is the first.
    pub incarnation: u64,
    /// How the process before left it, `None` at the first start.
    pub previous: Option<Previous>,
    boot_id: Option<String>,
    /// Writes are acknowledged before they are flushed.
    unflushed: bool,
    /// Writes were lost, and it is not noted yet whose (`ReplicasStarted`): kept over restarts until it
    /// is.
    loss_unnoted: AtomicBool,
}

/// Bits of the state byte.
const CLEAN: u8 = 1;
const UNFLUSHED: u8 = 2;
const LOSS_UNNOTED: u8 = 4;

pub(super) fn encode(
    store_id: u128,
    node: NodeId,
    incarnation: u64,
    boot_id: Option<&str>,
    state: u8,
) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_u8(FORMAT);
    out.put_u64_le((store_id >> 64) as u64);
    out.put_u64_le(store_id as u64);
    out.put_u64_le(node.0);
    out.put_u64_le(incarnation);
    out.put_u8(state);
    put_bytes(&mut out, boot_id.unwrap_or_default().as_bytes());
    seal(&out)
}

pub(super) fn decode(bytes: Vec<u8>) -> Result<Found, wire::Error> {
    let mut input = unseal(bytes)?;
    let format = get_u8(&mut input, "format")?;
    if format != FORMAT {
        return Err(wire::Error::Tag { what: "format", tag: format.into() });
    }
    let high = get_u64(&mut input, "store id")?;
    let low = get_u64(&mut input, "store id")?;
    let node = NodeId(get_u64(&mut input, "node")?);
    let starts = get_u64(&mut input, "incarnation")?;
    let state = get_u8(&mut input, "state")?;
    let boot_id = String::from_utf8(get_bytes(&mut input, "boot id")?.into())
        .map_err(|_| wire::Error::Malformed { what: "boot id" })?;
    wire::finish(&input, "identity")?;
    let boot_id = Some(boot_id).filter(|id| !id.is_empty());
    let previous = Previous {
        boot_id,
        clean: state & CLEAN != 0,
        unflushed: state & UNFLUSHED != 0,
        loss_unnoted: state & LOSS_UNNOTED != 0,
    };
    Ok(Found { store_id: u128::from(high) << 64 | u128::from(low), node, starts, previous })
}

/// Reads what `dir` says of itself and changes nothing; `None` if it is new.
///
/// # Errors
/// It cannot be read, is damaged, or is of another build.
pub fn look(disk: &dyn Disk, dir: &Path) -> Result<Option<Found>, Error> {
    let path = dir.join(FILE);
    match disk::read_small(disk, &path, BYTES_MAX)? {
        None => Ok(None),
        Some(bytes) => decode(bytes).map(Some).map_err(|e| Error::of_wire(&path, e)),
    }
}

/// As `look`, for `node` to use it.
///
/// # Errors
/// As `look`; `OtherNode` if it belongs to another node.
pub fn look_as(disk: &dyn Disk, dir: &Path, node: NodeId) -> Result<Option<Found>, Error> {
    let found = look(disk, dir)?;
    match found.as_ref().filter(|found| found.node != node) {
        Some(Found { node: owner, .. }) => {
            Err(Error::OtherNode { dir: dir.to_owned(), owner: owner.0, node: node.0 })
        }
        None => Ok(found),
    }
}

impl Identity {
    /// Takes `dir` into use for `node`: draws a store id by `draw` if it has none, counts the start, and
    /// takes the clean mark off, durably. `boot_id` is that of the running system (see `boot_id`);
    /// `unflushed` says that writes will be acknowledged before they are flushed.
    pub fn start(
        disk: Arc<dyn Disk>,
        dir: &Path,
        node: NodeId,
        boot_id: Option<String>,
        unflushed: bool,
        draw: impl FnOnce() -> u128,
    ) -> Result<Self, Error> {
        disk.create_dir(dir)?;
        let path = dir.join(FILE);
        let (store_id, starts, previous) = match look_as(disk.as_ref(), dir, node)? {
            Some(found) => (found.store_id, found.starts, Some(found.previous)),
            None => (draw(), 0, None),
        };
        let incarnation = starts + 1;
        let lost = previous.as_ref().is_some_and(|p| {
            p.loss_unnoted || (p.unflushed && p.lost_unflushed(boot_id.as_deref()))
        });
        let loss_unnoted = AtomicBool::new(lost);
        let identity = Identity {
            disk,
            path,
            store_id,
            node,
            incarnation,
            previous,
            boot_id,
            unflushed,
            loss_unnoted,
        };
        identity.write(false)?;
        Ok(identity)
    }

    fn write(&self, clean: bool) -> Result<(), Error> {
        let mut state = if clean { CLEAN } else { 0 };
        if self.unflushed {
            state |= UNFLUSHED;
        }
        if self.loss_unnoted.load(Ordering::Acquire) {
            state |= LOSS_UNNOTED;
        }
        let boot_id = self.boot_id.as_deref();
        let bytes = encode(self.store_id, self.node, self.incarnation, boot_id, state);
        Ok(disk::replace(self.disk.as_ref(), &self.path, &bytes)?)
    }

    /// Whether the directory is still this store: a file system that was unmounted, or another one
    /// in its place, must not be taken for an empty one.
    ///
    /// # Errors
    /// `Damaged` naming the file if it is gone, unreadable or of another store.
    pub fn check(&self) -> Result<(), Error> {
        let damaged = |detail: String| Error::Damaged { path: self.path.clone(), detail };
        let found = disk::read_small(self.disk.as_ref(), &self.path, BYTES_MAX)?
            .ok_or_else(|| damaged("it is gone".to_owned()))?;
        let store_id = decode(found).map_err(|e| Error::of_wire(&self.path, e))?.store_id;
        if store_id != self.store_id {
            return Err(damaged(format!("it belongs to store {store_id:032x}")));
        }
        Ok(())
    }

    /// The last thing before the process ends, after every log was closed.
    pub fn mark_clean(&self) -> Result<(), Error> {
        self.write(true)
    }

    /// Whether acknowledged writes of every replica here may be lost, and it is not noted yet replica by
    /// replica: since this start, or since an earlier one that ended before it could.
    pub fn loss_unnoted(&self) -> bool {
        self.loss_unnoted.load(Ordering::Acquire)
    }

    /// Writes of every replica here may be lost: remembered durably until it is noted whose.
    pub fn note_loss(&self) -> Result<(), Error> {
        let before = self.loss_unnoted.swap(true, Ordering::AcqRel);
        // What is not on the disk is not remembered: whoever asks again must not find it done.
        self.write(false).inspect_err(|_| self.loss_unnoted.store(before, Ordering::Release))
    }

    /// `ReplicasStarted` names the replicas, durably, before any other starts here.
    pub fn loss_noted(&self) -> Result<(), Error> {
        if !self.loss_unnoted.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        self.write(false)
    }
}

/// Keeps a second process out of a data directory until it is dropped.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Locks `dir`, making it if need be. The kernel frees the lock when the process ends.
    pub fn acquire(dir: &Path) -> Result<Self, Error> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", dir.display()));
        std::fs::create_dir_all(dir).map_err(named)?;
        let path = dir.join("lock");
        if let Err(error) = File::options().write(true).create_new(true).open(&path)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(named(error).into());
        }
        // Held open for reading: a file open for writing keeps a file system from becoming
        // read-only, which an operator may want after a fault.
        let file = File::open(&path).map_err(named)?;
        // Network file systems lock only what is open for writing.
        let (file, locked) = match file.try_lock() {
            Err(TryLockError::Error(_)) => {
                let file = File::options().write(true).open(&path).map_err(named)?;
                let locked = file.try_lock();
                (file, locked)
            }
            locked => (file, locked),
        };
        match locked {
            Ok(()) => Ok(DirLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::InUse(dir.to_owned())),
            Err(TryLockError::Error(error)) => Err(named(error).into()),
        }
    }
}
