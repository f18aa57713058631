//! Snapshot files: at most one current file for each log key, replaced as a whole.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3;

use super::disk::{Disk, FileReader};
use super::snapshot_format::{self as format, End, Kind};
pub use super::snapshot_writer::SnapshotWriter;
use crate::types::{LogKey, wire};

/// Why a snapshot could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device refused.
    #[error("snapshot file: {0}")]
    Io(#[from] io::Error),
    /// The file is not as it was written: throw it away and get the state from the leader.
    #[error("snapshot file {path} is damaged: {detail}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A chunk, or the meta, is longer than a file may hold.
    #[error("snapshot chunk of {bytes} bytes, more than {bytes_max}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The replica that began it has stopped meanwhile: what it wrote late counts no more.
    #[error("snapshot of {0}: its replica was stopped")]
    Stopped(LogKey),
}

/// Number of a replica's life in this process: each start begins another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Life(u64);

/// The present life of each replica. Held for a look, or for the rename of a file, by blocking
/// work only.
pub(super) type Lives = Arc<Mutex<BTreeMap<LogKey, Life>>>;

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) => error,
            damaged @ Error::Damaged { .. } => io::Error::new(io::ErrorKind::InvalidData, damaged),
            large @ Error::TooLarge { .. } => io::Error::new(io::ErrorKind::InvalidInput, large),
            stopped @ Error::Stopped(_) => io::Error::new(io::ErrorKind::Interrupted, stopped),
        }
    }
}

/// The snapshot files of a node, in one directory. All calls block; see `disk::offload`.
#[derive(Debug)]
pub struct SnapshotFiles {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    sync: bool,
    /// Numbers temporary files, so that two writers of one key do not meet.
    temporaries: AtomicU64,
    lives: Lives,
}

impl SnapshotFiles {
    /// Opens or makes the directory and removes what an earlier process left unfinished.
    pub fn new(disk: Arc<dyn Disk>, dir: impl Into<PathBuf>) -> Result<Self, Error> {
        let dir = dir.into();
        disk.create_dir(&dir)?;
        let (temporaries, lives) = (AtomicU64::new(0), Lives::default());
        let files = SnapshotFiles { disk, dir, sync: true, temporaries, lives };
        files.sweep()?;
        Ok(files)
    }

    /// Removes what was left unfinished. Only while no replica writes here.
    pub fn sweep(&self) -> Result<(), Error> {
        for name in self.disk.list(&self.dir)? {
            if name.ends_with(".tmp") {
                self.disk.remove(&self.dir.join(name))?;
            }
        }
        Ok(())
    }

    /// Begins another life of the replica: what its earlier ones still write is not committed.
    pub fn enter(&self, key: LogKey) -> Life {
        let mut lives = self.lives.lock();
        let life = lives.entry(key).or_default();
        life.0 += 1;
        *life
    }

    /// The present life of the replica.
    pub fn life(&self, key: LogKey) -> Life {
        self.lives.lock().get(&key).copied().unwrap_or_default()
    }

    /// Bytes that the files take on the device.
    pub fn used_bytes(&self) -> io::Result<u64> {
        self.disk.used_bytes(&self.dir)
    }

    /// Does not wait for the device: for `memory` durability, whose replicas never come back from
    /// their files after a power loss.
    pub fn without_sync(mut self) -> Self {
        self.sync = false;
        self
    }

    fn path(&self, key: LogKey) -> PathBuf {
        self.dir.join(format!("{key}.snap"))
    }

    /// The file system it lives on, for `disk::offload`.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Runs blocking work on these files away from the runtime's workers (see `disk::offload`).
    pub async fn offload<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        super::disk::offload(&self.disk, work).await
    }

    /// Starts a snapshot. The current one stays until `commit`; if two are written for one key at a
    /// time, the one committed last is current. Committed only in the same `life`.
    pub fn begin(&self, key: LogKey, life: Life, name: &str) -> Result<SnapshotWriter, Error> {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let temporary = self.dir.join(format!("{key}.{number}.tmp"));
        SnapshotWriter::create(
            Arc::clone(&self.disk),
            key,
            name,
            (self.path(key), temporary),
            self.sync,
            (life, Arc::clone(&self.lives)),
        )
    }

    /// The current snapshot, `None` if there is none. Its chunks are checked as they are read.
    pub fn current(&self, key: LogKey) -> Result<Option<SnapshotFile>, Error> {
        let path = self.path(key);
        match self.disk.open(&path) {
            Ok(file) => SnapshotFile::open(key, path, file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the current snapshot, if there is one, and ends the replica's life: a snapshot that is
    /// still being written will not come back.
    pub fn remove(&self, key: LogKey) -> Result<(), Error> {
        let mut lives = self.lives.lock();
        lives.entry(key).or_default().0 += 1;
        match self.disk.remove(&self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            Err(_) => {}
            Ok(()) if self.sync => self.disk.sync_dir(&self.dir)?,
            Ok(()) => {}
        }
        Ok(())
    }

    /// Keys that have a snapshot.
    pub fn keys(&self) -> Result<Vec<LogKey>, Error> {
        let mut keys: Vec<LogKey> =
            self.disk.list(&self.dir)?.iter().filter_map(|name| parse_name(name)).collect();
        keys.sort();
        Ok(keys)
    }
}

fn parse_name(name: &str) -> Option<LogKey> {
    let (group, replica) = name.strip_suffix(".snap")?.split_once('-')?;
    Some(LogKey {
        group: crate::types::GroupId(group.strip_prefix('g')?.parse().ok()?),
        replica: crate::types::ReplicaId(replica.strip_prefix('r')?.parse().ok()?),
    })
}

impl fmt::Debug for SnapshotFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotFile")
            .field("path", &self.path)
            .field("name", &self.name)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// A snapshot being read. Stays readable while a newer one replaces it.
pub struct SnapshotFile {
    /// As given to `SnapshotWriter::commit`.
    pub meta: Bytes,
    /// As given to `SnapshotFiles::begin`.
    pub name: String,
    /// Bytes of all chunks.
    pub len: u64,
    path: PathBuf,
    file: Box<dyn FileReader>,
    end: End,
    end_offset: u64,
    offset: u64,
    chain: u32,
    chunks: u64,
    bytes: u64,
    hash: Xxh3,
    failed: bool,
}

impl SnapshotFile {
    fn open(key: LogKey, path: PathBuf, mut file: Box<dyn FileReader>) -> Result<Self, Error> {
        let damaged = |detail: String| Error::Damaged { path: path.clone(), detail };
        let wire = |error: wire::Error| damaged(error.to_string());
        let len = file.len()?;
        let trailer_offset = len
            .checked_sub(format::TRAILER_BYTES as u64)
            .ok_or_else(|| damaged(format!("{len} bytes are too few")))?;
        let mut trailer = [0; format::TRAILER_BYTES];
        file.seek(trailer_offset)?;
        file.read_exact(&mut trailer)?;
        let end_offset = format::decode_trailer(trailer).map_err(wire)?;
        if end_offset.saturating_add(format::FRAME_HEAD_BYTES as u64) > trailer_offset {
            return Err(damaged("trailer points outside".to_owned()));
        }
        file.seek(end_offset)?;
        let (payload, _) = read_frame(
            file.as_mut(),
            Kind::End,
            format::end_seed(key),
            trailer_offset - end_offset,
        )
        .map_err(|e| e.at(&path))?;
        let used = (format::FRAME_HEAD_BYTES + payload.len()) as u64;
        if end_offset + used != trailer_offset {
            return Err(damaged("bytes between end and trailer".to_owned()));
        }
        let end = format::decode_end(payload).map_err(wire)?;
        file.seek(0)?;
        let (payload, chain) =
            read_frame(file.as_mut(), Kind::Header, 0, end_offset).map_err(|e| e.at(&path))?;
        let offset = (format::FRAME_HEAD_BYTES + payload.len()) as u64;
        let (found, name) = format::decode_header(payload).map_err(wire)?;
        if found != key {
            return Err(damaged(format!("belongs to {found}")));
        }
        Ok(SnapshotFile {
            meta: end.meta.clone(),
            name,
            len: end.bytes,
            path,
            file,
            end,
            end_offset,
            offset,
            chain,
            chunks: 0,
            bytes: 0,
            hash: Xxh3::new(),
            failed: false,
        })
    }

    /// The next chunk as it was written; `None` after the last, once all of them were found whole
    /// and in order. After an error there is nothing more to be had.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, Error> {
        if self.failed {
            return Err(self.damaged("read on after an error".to_owned()));
        }
        let next = self.read_chunk();
        self.failed = next.is_err();
        next
    }

    fn damaged(&self, detail: String) -> Error {
        Error::Damaged { path: self.path.clone(), detail }
    }

    fn read_chunk(&mut self) -> Result<Option<Bytes>, Error> {
        if self.offset == self.end_offset {
            let seen = (self.chunks, self.bytes, self.chain, self.hash.digest());
            let said = (self.end.chunks, self.end.bytes, self.end.chain, self.end.hash);
            return if seen == said {
                Ok(None)
            } else {
                Err(self.damaged("chunks are not those that were written".to_owned()))
            };
        }
        let left = self.end_offset - self.offset;
        let (payload, chain) = read_frame(self.file.as_mut(), Kind::Chunk, self.chain, left)
            .map_err(|e| e.at(&self.path))?;
        self.chain = chain;
        self.offset += (format::FRAME_HEAD_BYTES + payload.len()) as u64;
        self.chunks += 1;
        self.bytes += payload.len() as u64;
        self.hash.update(&payload);
        Ok(Some(payload))
    }
}

enum FrameError {
    Io(io::Error),
    Damaged(String),
}

impl FrameError {
    fn at(self, path: &Path) -> Error {
        match self {
            // The length was checked against the file's, so the file shrank under us.
            FrameError::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                Error::Damaged { path: path.to_owned(), detail: "file ends early".to_owned() }
            }
            FrameError::Io(error) => Error::Io(error),
            FrameError::Damaged(detail) => Error::Damaged { path: path.to_owned(), detail },
        }
    }
}

impl From<wire::Error> for FrameError {
    fn from(error: wire::Error) -> Self {
        FrameError::Damaged(error.to_string())
    }
}

/// Reads a frame of at most `left` bytes; gives its payload and checksum.
fn read_frame(
    file: &mut dyn FileReader,
    expected: Kind,
    before: u32,
    left: u64,
) -> Result<(Bytes, u32), FrameError> {
    let mut head = [0; format::FRAME_HEAD_BYTES];
    file.read_exact(&mut head).map_err(FrameError::Io)?;
    let (kind, len, crc) = format::read_frame_head(head)?;
    if kind != expected {
        return Err(FrameError::Damaged(format!("{kind:?} where {expected:?} belongs")));
    }
    if (format::FRAME_HEAD_BYTES + len) as u64 > left {
        return Err(FrameError::Damaged("frame reaches past its part of the file".to_owned()));
    }
    let mut payload = vec![0; len];
    file.read_exact(&mut payload).map_err(FrameError::Io)?;
    format::check_payload(kind, before, &payload, crc)?;
    Ok((payload.into(), crc))
}
