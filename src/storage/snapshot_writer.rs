//! Writing a snapshot file: under a temporary name until it is whole and synced.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::disk::{Disk, FileWriter};
use super::snapshot_files::{Error, Life, Lives};
use super::snapshot_format::{self as format, End, Kind};
use crate::types::LogKey;

/// A snapshot being written. Dropped without `commit` it leaves nothing.
pub struct SnapshotWriter {
    disk: Arc<dyn Disk>,
    key: LogKey,
    path: PathBuf,
    temporary: PathBuf,
    sync: bool,
    /// In which life of the replica it was begun: a later one must not find it committed.
    life: Life,
    lives: Lives,
    /// `None` once committed.
    file: Option<Box<dyn FileWriter>>,
    sealed: bool,
    offset: u64,
    chain: u32,
    chunks: u64,
    bytes: u64,
    hash: Xxh3,
}

impl SnapshotWriter {
    /// Begins `temporary`, which `publish` renames to `path`.
    pub(super) fn create(
        disk: Arc<dyn Disk>,
        key: LogKey,
        name: &str,
        (path, temporary): (PathBuf, PathBuf),
        sync: bool,
        (life, lives): (Life, Lives),
    ) -> Result<Self, Error> {
        let file = disk.create(&temporary)?;
        let mut writer = SnapshotWriter {
            disk,
            key,
            path,
            temporary,
            sync,
            life,
            lives,
            file: Some(file),
            sealed: false,
            offset: 0,
            chain: 0,
            chunks: 0,
            bytes: 0,
            hash: Xxh3::new(),
        };
        writer.chain = writer.put(Kind::Header, 0, &format::encode_header(key, name))?;
        Ok(writer)
    }

    fn put(&mut self, kind: Kind, before: u32, payload: &[u8]) -> Result<u32, Error> {
        let (bytes, bytes_max) = (payload.len(), format::PAYLOAD_BYTES_MAX);
        if bytes > bytes_max {
            return Err(Error::TooLarge { bytes, bytes_max });
        }
        let file = self.file.as_mut().expect("only commit takes the file, and the writer with it");
        let (head, crc) = format::frame_head(kind, before, payload);
        file.append(&head)?;
        file.append(payload)?;
        self.offset += (head.len() + payload.len()) as u64;
        Ok(crc)
    }

    /// Adds a chunk. After an error the snapshot cannot be committed: drop it.
    pub fn append_chunk(&mut self, chunk: Bytes) -> Result<(), Error> {
        self.chain = self.put(Kind::Chunk, self.chain, &chunk)?;
        self.chunks += 1;
        self.bytes += chunk.len() as u64;
        self.hash.update(&chunk);
        Ok(())
    }

    /// Makes it the current snapshot of its key. When it returns it survives a power loss (unless
    /// the directory is `without_sync`).
    pub fn commit(mut self, meta: Bytes) -> Result<(), Error> {
        self.seal(meta)?;
        self.publish()
    }

    /// Writes the end and makes all of it durable: what needs room has it when this returns, and
    /// only `publish` is left.
    pub fn seal(&mut self, meta: Bytes) -> Result<(), Error> {
        assert!(!self.sealed, "a snapshot ends once");
        let end_offset = self.offset;
        let end = End {
            meta,
            chunks: self.chunks,
            bytes: self.bytes,
            chain: self.chain,
            hash: self.hash.digest(),
        };
        self.put(Kind::End, format::end_seed(self.key), &format::encode_end(&end))?;
        let file = self.file.as_mut().expect("only commit takes the file");
        file.append(&format::encode_trailer(end_offset))?;
        if self.sync {
            file.sync()?;
        }
        self.sealed = true;
        Ok(())
    }

    /// Makes what was sealed the current snapshot of its key.
    pub fn publish(mut self) -> Result<(), Error> {
        assert!(self.sealed, "only a whole snapshot becomes current");
        {
            // Locked over the rename, so that no life begins, and no file is removed, in between.
            let lives = self.lives.lock();
            if lives.get(&self.key).copied().unwrap_or_default() != self.life {
                return Err(Error::Stopped(self.key));
            }
            self.disk.rename(&self.temporary, &self.path)?;
        }
        self.file = None;
        if self.sync {
            self.disk.sync_dir(self.path.parent().unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if self.file.take().is_some()
            && let Err(error) = self.disk.remove(&self.temporary)
        {
            // The next start removes it.
            tracing::warn!(%error, "unfinished snapshot not removed");
        }
    }
}

impl fmt::Debug for SnapshotWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotWriter").field("path", &self.temporary).finish_non_exhaustive()
    }
}
