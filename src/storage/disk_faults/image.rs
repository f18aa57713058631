//! The files of a store as bytes: taken from a running engine, changed, and put down elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A file: its bytes without the zeros at the end, and its length with them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Content {
    pub(super) data: Vec<u8>,
    pub(super) len: usize,
}

impl Content {
    fn new(mut data: Vec<u8>) -> Self {
        let len = data.len();
        let used = data.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        data.truncate(used);
        data.shrink_to_fit();
        Content { data, len }
    }

    /// The byte at `at`, as far as the file goes.
    pub(super) fn byte(&self, at: usize) -> u8 {
        self.data.get(at).copied().unwrap_or(0)
    }

    /// Replaces bytes within the length of the file.
    pub(super) fn put(&mut self, at: usize, bytes: &[u8]) {
        let end = (at + bytes.len()).min(self.len);
        if at < end {
            if self.data.len() < end {
                self.data.resize(end, 0);
            }
            self.data[at..end].copy_from_slice(&bytes[..end - at]);
        }
    }

    /// Ends the file at `at`.
    pub(super) fn cut(&mut self, at: usize) {
        self.data.truncate(at);
        self.len = self.len.min(at);
    }
}

/// All files of a store, by their paths within it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Image {
    pub(super) files: BTreeMap<PathBuf, Content>,
    dirs: BTreeSet<PathBuf>,
}

impl Image {
    pub(super) fn take(root: &Path) -> Self {
        let mut image = Image::default();
        image.add(root, Path::new(""));
        image
    }

    fn add(&mut self, root: &Path, within: &Path) {
        for entry in std::fs::read_dir(root.join(within)).unwrap() {
            let entry = entry.unwrap();
            let path = within.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                self.add(root, &path);
                self.dirs.insert(path);
            } else {
                self.files.insert(path, Content::new(std::fs::read(entry.path()).unwrap()));
            }
        }
    }

    pub(super) fn put_down(&self, root: &Path) {
        std::fs::create_dir_all(root).unwrap();
        for dir in &self.dirs {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        for (path, content) in &self.files {
            let mut file = File::create(root.join(path)).unwrap();
            file.write_all(&content.data).unwrap();
            file.set_len(content.len as u64).unwrap();
        }
    }

    /// Paths of the files that hold data: neither empty nor the flush mark.
    pub(super) fn data_files(&self) -> Vec<PathBuf> {
        let holds = |(path, content): &(&PathBuf, &Content)| {
            !content.data.is_empty() && path.as_path() != Path::new("flushed")
        };
        self.files.iter().filter(holds).map(|(path, _)| path.clone()).collect()
    }
}
