//! Plain files behind a seam: real ones, or simulated ones that lose what was not synced.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

/// A file being written, from its beginning.
pub trait FileWriter: Send + Debug {
    /// Adds bytes at the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Returns when the file's bytes survive a power loss (its name: see `Disk::sync_dir`).
    fn sync(&mut self) -> io::Result<()>;
}

/// A file being read. Stays readable when its name is replaced or removed.
pub trait FileReader: Send + Debug {
    /// Fills `buffer` from where the last read ended; `UnexpectedEof` if there are fewer bytes.
    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()>;

    /// Moves to `offset` bytes from the beginning.
    fn seek(&mut self, offset: u64) -> io::Result<()>;

    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;

    /// True if there are none.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A file system. All calls block; see `offload`. Errors name the path.
pub trait Disk: Send + Sync + Debug + 'static {
    /// Creates a file, or empties one.
    fn create(&self, path: &Path) -> io::Result<Box<dyn FileWriter>>;

    /// Opens a file to read.
    fn open(&self, path: &Path) -> io::Result<Box<dyn FileReader>>;

    /// Renames a file, replacing `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory and its parents, unless they are there.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Names of the files in `dir`, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Returns when creations, renames and removals in `dir` survive a power loss.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that may still be written below `dir`; `None` if that is not known.
    fn free_bytes(&self, dir: &Path) -> io::Result<Option<u64>>;

    /// Bytes that the files in `dir` and below take; 0 if there is no such directory.
    fn used_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// Drops what is held in memory of the files in `dir` and below, so that the next reads show
    /// what the device has. After a sync that failed, Linux takes pages that never reached the
    /// device for written (<https://lwn.net/Articles/752063/>).
    fn drop_cached(&self, dir: &Path) -> io::Result<()>;

    /// True if calls never block, so that `offload` runs them in place.
    fn simulated(&self) -> bool;
}

/// True of what a device says before it takes anything: no room, or not allowed. Everything else
/// may have lost what was handed over before.
pub fn refused_beforehand(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(kind, StorageFull | QuotaExceeded | ReadOnlyFilesystem | PermissionDenied)
}

/// Runs blocking work on `disk` away from the runtime's workers; in place if it is simulated, so
/// that a simulation stays in one thread. A panic in `f` goes on in the caller.
pub async fn offload<T: Send + 'static>(
    disk: &Arc<dyn Disk>,
    f: impl FnOnce() -> T + Send + 'static,
) -> T {
    if disk.simulated() {
        return f();
    }
    match tokio::task::spawn_blocking(f).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that is going away cancels blocking work; nobody polls us again.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}

/// Writes a small file so that after a crash either the old or the new one is there. A half-written
/// one is removed again.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let written = write_whole(disk, &temporary, bytes).and_then(|()| disk.rename(&temporary, path));
    if let Err(error) = written {
        return Err(cleared(disk, &temporary, error));
    }
    disk.sync_dir(parent(path))
}

fn write_whole(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = disk.create(path)?;
    file.append(bytes)?;
    file.sync()
}

/// Removes a file that could not be written, and gives `error` back with the path in it.
fn cleared(disk: &dyn Disk, path: &Path, error: io::Error) -> io::Error {
    match disk.remove(path) {
        // Where nothing can be removed, nothing was made.
        Err(left)
            if !matches!(
                left.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            tracing::warn!(error = %left, path = %path.display(), "half-written file not removed");
        }
        Ok(()) | Err(_) => {}
    }
    let text = error.to_string();
    let name = path.display().to_string();
    if text.contains(&name) {
        error
    } else {
        io::Error::new(error.kind(), format!("{name}: {text}"))
    }
}

/// Whether a small file in `dir` can be written, made durable and removed.
///
/// # Errors
/// What the device says, with the path.
pub fn probe(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let path = dir.join("probe.tmp");
    if let Err(error) = write_whole(disk, &path, &[0x5a; PROBE_BYTES]) {
        return Err(cleared(disk, &path, error));
    }
    disk.remove(&path)?;
    disk.sync_dir(dir)
}

/// Bytes of the file that shows whether a disk takes writes again.
const PROBE_BYTES: usize = 64 * 1024;

/// Reads a small file of at most `bytes_max`; `None` if there is none.
pub fn read_small(disk: &dyn Disk, path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut file = match disk.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let len = file.len()?;
    if len > bytes_max {
        let text = format!("{}: {len} bytes, more than {bytes_max}", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The operating system's file system.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealDisk;

fn named<T>(path: &Path, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

#[derive(Debug)]
struct RealWriter(File);

impl FileWriter for RealWriter {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}

#[derive(Debug)]
struct RealReader(File);

impl FileReader for RealReader {
    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact(buffer)
    }

    fn seek(&mut self, offset: u64) -> io::Result<()> {
        io::Seek::seek(&mut self.0, io::SeekFrom::Start(offset)).map(|_| ())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn FileWriter>> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path);
        Ok(Box::new(RealWriter(named(path, file)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn FileReader>> {
        Ok(Box::new(RealReader(named(path, File::open(path))?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        named(to, fs::rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        named(path, fs::remove_file(path))
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        named(dir, fs::create_dir_all(dir))?;
        named(dir, self.sync_dir(parent(dir)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in named(dir, fs::read_dir(dir))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        named(dir, File::open(dir).and_then(|d| d.sync_all()))
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<Option<u64>> {
        let of = named(dir, rustix::fs::statvfs(dir).map_err(io::Error::from))?;
        Ok(Some(of.f_bavail.saturating_mul(of.f_frsize)))
    }

    fn used_bytes(&self, dir: &Path) -> io::Result<u64> {
        let mut bytes = 0;
        each_file(dir, &mut |path| {
            use std::os::unix::fs::MetadataExt;
            match fs::metadata(path) {
                Ok(metadata) => bytes += metadata.blocks() * 512,
                // Logs and snapshots come and go meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return named(path, Err(error)),
            }
            Ok(())
        })?;
        Ok(bytes)
    }

    fn drop_cached(&self, dir: &Path) -> io::Result<()> {
        each_file(dir, &mut |path| {
            let file = named(path, File::open(path))?;
            let advice = rustix::fs::Advice::DontNeed;
            named(path, rustix::fs::fadvise(&file, 0, None, advice).map_err(io::Error::from))
        })
    }

    fn simulated(&self) -> bool {
        false
    }
}

/// Calls `f` with every file in `dir` and below.
fn each_file(dir: &Path, f: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => named(dir, entries)?,
    };
    for entry in entries {
        let entry = named(dir, entry)?;
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => each_file(&entry.path(), f)?,
            Ok(kind) if kind.is_file() => f(&entry.path())?,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return named(&entry.path(), Err(error)),
        }
    }
    Ok(())
}
