//! Makes sled's files durable: on Linux its own flush does not.
//!
//! sled 0.34 ends a flush by `sync_file_range`, which flushes neither the device's cache nor the
//! file's metadata, and does not sync the files of large values at all (spacejam/sled#1351, #1452).
//! So each flush that acknowledges is followed by `fdatasync` on the same file.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The files of one sled database.
#[derive(Debug)]
pub(super) struct SledFiles {
    db: File,
    blobs: PathBuf,
    /// Large values that are synced already; sled writes such a file once.
    synced: BTreeSet<OsString>,
}

impl SledFiles {
    /// Of the database in `dir`, which is open. Syncs what is there, names included.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let db = File::open(dir.join("db"))?;
        let mut files = SledFiles { db, blobs: dir.join("blobs"), synced: BTreeSet::new() };
        files.sync()?;
        let parents = dir.ancestors().take(3).filter(|p| !p.as_os_str().is_empty());
        for parent in parents {
            File::open(parent)?.sync_all()?;
        }
        Ok(files)
    }

    /// Returns when everything that sled has flushed survives a power loss.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let mut present = BTreeSet::new();
        let mut more = false;
        for entry in std::fs::read_dir(&self.blobs)? {
            let entry = entry?;
            let name = entry.file_name();
            if !self.synced.contains(&name) {
                match File::open(entry.path()) {
                    Ok(file) => file.sync_all()?,
                    // sled deletes what it no longer needs from threads of its own.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
                more = true;
            }
            present.insert(name);
        }
        if more {
            File::open(&self.blobs)?.sync_all()?;
        }
        self.synced = present;
        // Last: the log refers to the large values.
        self.db.sync_data()
    }
}
