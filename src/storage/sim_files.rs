//! Files in memory that survive a node's crash as far as they were synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::disk::{Disk, FileReader, FileWriter};
use super::sim_wal::next_random;

/// A node's simulated file system: outlives the node's crashes.
#[derive(Debug)]
pub struct SimFiles {
    /// Held for moments, never across an await.
    state: Mutex<State>,
}

/// A copy of what the files of a directory held.
#[derive(Clone, Debug)]
pub struct SimFilesBackup {
    dir: PathBuf,
    files: BTreeMap<PathBuf, Arc<Vec<u8>>>,
}

type Names = BTreeMap<PathBuf, Arc<Mutex<Content>>>;

#[derive(Debug)]
struct State {
    names: Names,
    /// Names as they will be after a power loss.
    durable: Names,
    dirs: BTreeSet<PathBuf>,
    /// Counts crashes: writers of an earlier life are dead.
    epoch: Arc<Mutex<u64>>,
    random: u64,
    /// What every change is answered with while it is set.
    failing: Arc<Mutex<Option<io::ErrorKind>>>,
    /// Bytes that may still be written, as `free_bytes` says; not counted down.
    free_bytes: Option<u64>,
}

#[derive(Debug, Default)]
struct Content {
    bytes: Arc<Vec<u8>>,
    synced: usize,
}

impl SimFiles {
    /// No files; `seed` decides how much of what was not synced a crash leaves.
    pub fn new(seed: u64) -> Arc<Self> {
        let state = State {
            names: Names::new(),
            durable: Names::new(),
            dirs: BTreeSet::new(),
            epoch: Arc::default(),
            random: seed,
            failing: Arc::default(),
            free_bytes: None,
        };
        Arc::new(SimFiles { state: Mutex::new(state) })
    }

    /// From now on every change is answered with this error, also after a crash; `None` ends it.
    pub fn set_failing(&self, failing: Option<io::ErrorKind>) {
        *self.state.lock().failing.lock() = failing;
    }

    /// What `free_bytes` says.
    pub fn set_free_bytes(&self, bytes: Option<u64>) {
        self.state.lock().free_bytes = bytes;
    }

    /// Names of all files, for tests that look for leftovers.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state.lock().names.keys().cloned().collect()
    }

    /// The node loses power: names and bytes that were not synced are gone (of the bytes a seeded
    /// prefix may stay). Readers that are open keep what they see; writers fail.
    pub fn crash(&self) {
        let mut state = self.state.lock();
        *state.epoch.lock() += 1;
        let names: Names = std::mem::take(&mut state.durable);
        for content in names.values() {
            let mut content = content.lock();
            let unsynced = content.bytes.len() - content.synced;
            let kept = next_random(&mut state.random) as usize % (unsynced + 1);
            let len = content.synced + kept;
            Arc::make_mut(&mut content.bytes).truncate(len);
            content.synced = len;
        }
        state.durable.clone_from(&names);
        state.names = names;
    }

    /// What the files below `dir` hold now, as a backup of them holds it.
    pub fn backup(&self, dir: &Path) -> SimFilesBackup {
        let state = self.state.lock();
        let inside = state.durable.iter().filter(|(path, _)| path.starts_with(dir));
        let bytes = |content: &Arc<Mutex<Content>>| Arc::clone(&content.lock().bytes);
        let files = inside.map(|(path, content)| (path.clone(), bytes(content))).collect();
        SimFilesBackup { dir: dir.to_owned(), files }
    }

    /// An older copy is put back in place of what is there.
    pub fn restore(&self, backup: &SimFilesBackup) {
        let mut state = self.state.lock();
        let mut names = state.durable.clone();
        names.retain(|path, _| !path.starts_with(&backup.dir));
        for (path, bytes) in &backup.files {
            let content = Content { bytes: Arc::clone(bytes), synced: bytes.len() };
            names.insert(path.clone(), Arc::new(Mutex::new(content)));
        }
        state.durable.clone_from(&names);
        state.names = names;
    }

    /// Test only: changes the bytes of a file in place, as a failing device does.
    pub fn corrupt(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let content = self.find(path)?;
        let mut content = content.lock();
        change(Arc::make_mut(&mut content.bytes));
        content.synced = content.bytes.len();
        Ok(())
    }

    fn find(&self, path: &Path) -> io::Result<Arc<Mutex<Content>>> {
        self.state.lock().names.get(path).cloned().ok_or_else(|| not_found(path))
    }
}

fn check(failing: &Mutex<Option<io::ErrorKind>>) -> io::Result<()> {
    failing.lock().map_or(Ok(()), |kind| Err(kind.into()))
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{}: no such file", path.display()))
}

#[derive(Debug)]
struct SimWriter {
    content: Arc<Mutex<Content>>,
    epoch: Arc<Mutex<u64>>,
    born: u64,
    failing: Arc<Mutex<Option<io::ErrorKind>>>,
}

impl SimWriter {
    fn alive(&self) -> io::Result<()> {
        check(&self.failing)?;
        if *self.epoch.lock() == self.born {
            Ok(())
        } else {
            Err(io::Error::other("the node of this file crashed"))
        }
    }
}

impl FileWriter for SimWriter {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.alive()?;
        Arc::make_mut(&mut self.content.lock().bytes).extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.alive()?;
        let mut content = self.content.lock();
        content.synced = content.bytes.len();
        Ok(())
    }
}

#[derive(Debug)]
struct SimReader {
    bytes: Arc<Vec<u8>>,
    at: usize,
}

impl FileReader for SimReader {
    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let found = rest.get(..buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(found);
        self.at += buffer.len();
        Ok(())
    }

    fn seek(&mut self, offset: u64) -> io::Result<()> {
        self.at = usize::try_from(offset).map_err(io::Error::other)?;
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }
}

impl Disk for SimFiles {
    fn create(&self, path: &Path) -> io::Result<Box<dyn FileWriter>> {
        let mut state = self.state.lock();
        check(&state.failing)?;
        if path.parent().is_none_or(|dir| !state.dirs.contains(dir)) {
            return Err(not_found(path));
        }
        let content: Arc<Mutex<Content>> = Arc::default();
        state.names.insert(path.to_owned(), Arc::clone(&content));
        let epoch = Arc::clone(&state.epoch);
        let born = *epoch.lock();
        let failing = Arc::clone(&state.failing);
        Ok(Box::new(SimWriter { content, epoch, born, failing }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn FileReader>> {
        let bytes = Arc::clone(&self.find(path)?.lock().bytes);
        Ok(Box::new(SimReader { bytes, at: 0 }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        check(&state.failing)?;
        let content = state.names.remove(from).ok_or_else(|| not_found(from))?;
        state.names.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        // A full disk can be tidied; one that is read-only cannot.
        match *state.failing.lock() {
            Some(kind) if kind != io::ErrorKind::StorageFull => return Err(kind.into()),
            Some(_) | None => {}
        }
        state.names.remove(path).map(|_| ()).ok_or_else(|| not_found(path))
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.state.lock().dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        if !state.dirs.contains(dir) {
            return Err(not_found(dir));
        }
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        let name = |path: &PathBuf| Some(path.file_name()?.to_string_lossy().into_owned());
        Ok(inside.filter_map(name).collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        check(&state.failing)?;
        let State { names, durable, .. } = &mut *state;
        durable.retain(|path, _| path.parent() != Some(dir));
        let inside = names.iter().filter(|(path, _)| path.parent() == Some(dir));
        durable.extend(inside.map(|(path, content)| (path.clone(), Arc::clone(content))));
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<Option<u64>> {
        Ok(self.state.lock().free_bytes)
    }

    fn used_bytes(&self, dir: &Path) -> io::Result<u64> {
        let state = self.state.lock();
        let inside = state.names.iter().filter(|(path, _)| path.starts_with(dir));
        Ok(inside.map(|(_, content)| content.lock().bytes.len() as u64).sum())
    }

    fn drop_cached(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn simulated(&self) -> bool {
        true
    }
}
