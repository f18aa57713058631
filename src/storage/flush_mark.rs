//! How far the write-ahead log was flushed, beside the engine's own files.
//!
//! An engine whose newest bytes are damaged comes up with an earlier state and says nothing. The
//! number of the last flushed batch, written here after each flush, tells such a state from a whole
//! one. The mark is not synced by itself: it never runs ahead of the log; a power loss may leave it
//! some seconds behind, a process crash never does.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

const MARK_BYTES: usize = 12;

/// The mark of one store.
#[derive(Debug)]
pub(super) struct FlushMark {
    file: File,
    batch: u64,
}

fn encode(batch: u64) -> [u8; MARK_BYTES] {
    let mut out = [0; MARK_BYTES];
    out[..8].copy_from_slice(&batch.to_le_bytes());
    let crc = crc32c::crc32c(&out[..8]);
    out[8..].copy_from_slice(&crc.to_le_bytes());
    out
}

impl FlushMark {
    /// Opens the mark, or makes one that says 0 if `may_begin`: beside batches a mark that is
    /// missing is damage, at each attempt. `InvalidData` if it is damaged.
    pub(super) fn open(path: &Path, may_begin: bool) -> io::Result<Self> {
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        // No bytes, or zeros: the power went before the first mark reached the device.
        if bytes.iter().all(|b| *b == 0) && bytes.len() <= MARK_BYTES {
            if !may_begin {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "flush mark is missing"));
            }
            let mut mark = FlushMark { file, batch: 0 };
            mark.write(0)?;
            mark.file.sync_all()?;
            return Ok(mark);
        }
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "flush mark is damaged");
        let number = bytes.first_chunk().copied().map(u64::from_le_bytes).ok_or_else(damaged)?;
        if bytes != encode(number) {
            return Err(damaged());
        }
        Ok(FlushMark { file, batch: number })
    }

    /// Number of the last batch known to be flushed.
    pub(super) fn batch(&self) -> u64 {
        self.batch
    }

    /// Notes that every batch up to `batch` is flushed; call it after the flush.
    pub(super) fn advance(&mut self, batch: u64) -> io::Result<()> {
        assert!(batch >= self.batch, "the flush mark only grows");
        if batch > self.batch { self.write(batch) } else { Ok(()) }
    }

    fn write(&mut self, batch: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&encode(batch))?;
        self.batch = batch;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_kept_and_damage_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flushed");
        assert!(FlushMark::open(&path, false).is_err(), "missing where it must not be");
        assert!(FlushMark::open(&path, false).is_err(), "also the second time");
        let mut mark = FlushMark::open(&path, true).unwrap();
        assert_eq!(mark.batch(), 0);
        mark.advance(7).unwrap();
        assert_eq!(FlushMark::open(&path, false).unwrap().batch(), 7);
        for offset in 0..MARK_BYTES {
            let mut bytes = encode(7);
            bytes[offset] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let error = FlushMark::open(&path, true).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        std::fs::write(&path, &encode(7)[..11]).unwrap();
        assert!(FlushMark::open(&path, true).is_err());
    }
}
