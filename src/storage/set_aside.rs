//! Whole stores that are kept on the disk and no longer served, in the subdirectory `set-aside` of a
//! data directory: damaged ones, and those that the operator let go. Nothing here is ever read by a
//! node. Single replicas that are set aside stay in their store (`replicas_started`).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The subdirectory.
const DIR: &str = "set-aside";

/// Why a store was set aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// It was damaged.
    Damaged,
    /// The operator allowed it (`wal.discard_logs`).
    Discarded,
}

impl Why {
    fn name(self) -> &'static str {
        match self {
            Why::Damaged => "damaged",
            Why::Discarded => "discarded",
        }
    }
}

/// A store that was set aside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreAside {
    /// They are numbered in the order in which they were set aside.
    number: u64,
    /// Its directory, `set-aside/<number>-<why>`.
    pub path: PathBuf,
}

/// The stores that `data_dir` keeps, the oldest first.
///
/// # Errors
/// The directory cannot be read.
pub fn stores(data_dir: &Path) -> io::Result<Vec<StoreAside>> {
    let entries = match fs::read_dir(data_dir.join(DIR)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.split_once('-')?.0.parse().ok());
        // What else lies there is the operator's.
        if let Some(number) = number {
            found.push(StoreAside { number, path: entry.path() });
        }
    }
    found.sort_by_key(|store| store.number);
    Ok(found)
}

/// Moves those of `names` that are in `data_dir` into a directory of their own; gives its path. Moved
/// again after a crash in between, they come into the same one.
///
/// # Errors
/// The device refuses; what is not moved is where it was.
pub fn set_aside(data_dir: &Path, names: &[&str], why: Why) -> io::Result<PathBuf> {
    let present: Vec<&str> =
        names.iter().copied().filter(|name| data_dir.join(name).exists()).collect();
    let last = stores(data_dir)?.pop();
    let begun = last.as_ref().filter(|last| {
        let why = last.path.file_name().is_some_and(|name| *name == *file_name(last.number, why));
        why && !present.iter().any(|name| last.path.join(name).exists())
    });
    let into = match (begun, &last) {
        (Some(begun), _) => begun.path.clone(),
        (None, last) => {
            let number = last.as_ref().map_or(0, |last| last.number) + 1;
            data_dir.join(DIR).join(file_name(number, why))
        }
    };
    fs::create_dir_all(&into)?;
    for name in present {
        fs::rename(data_dir.join(name), into.join(name))?;
    }
    for dir in [into.as_path(), &data_dir.join(DIR), data_dir] {
        File::open(dir)?.sync_all()?;
    }
    Ok(into)
}

fn file_name(number: u64, why: Why) -> String {
    format!("{number}-{}", why.name())
}

/// Removes the oldest stores that are more than `stores_max`.
///
/// # Errors
/// The device refuses.
pub fn bound(data_dir: &Path, stores_max: usize) -> io::Result<()> {
    let kept = stores(data_dir)?;
    for store in &kept[..kept.len().saturating_sub(stores_max)] {
        let path = store.path.display();
        tracing::warn!(%path, stores_max, "deleted: the oldest of more than wal.set_aside_stores_max");
        fs::remove_dir_all(&store.path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(dir: &Path, name: &str, content: &str) {
        fs::create_dir(dir.join(name)).unwrap();
        fs::write(dir.join(name).join("f"), content).unwrap();
    }

    fn read(dir: &Path, name: &str) -> String {
        fs::read_to_string(dir.join(DIR).join(name)).unwrap()
    }

    #[test]
    fn stores_are_numbered_and_those_of_a_crash_in_between_come_together() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert_eq!(stores(dir).unwrap(), []);
        make(dir, "wal", "one");
        let path = set_aside(dir, &["wal"], Why::Damaged).unwrap();
        assert_eq!(path, dir.join("set-aside/1-damaged"));
        make(dir, "wal", "two");
        // As if the process had ended after the first of two.
        make(dir, "snapshots", "two");
        set_aside(dir, &["snapshots"], Why::Discarded).unwrap();
        set_aside(dir, &["snapshots", "wal"], Why::Discarded).unwrap();
        make(dir, "wal", "three");
        set_aside(dir, &["snapshots", "wal"], Why::Discarded).unwrap();
        assert_eq!(read(dir, "1-damaged/wal/f"), "one");
        assert_eq!(
            read(dir, "2-discarded/wal/f") + &read(dir, "2-discarded/snapshots/f"),
            "twotwo"
        );
        assert_eq!(read(dir, "3-discarded/wal/f"), "three");
        assert!(!dir.join("wal").exists() && !dir.join("snapshots").exists());
    }

    #[test]
    fn the_oldest_stores_go_first_and_what_is_not_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        for _ in 0..11 {
            make(dir, "wal", "x");
            set_aside(dir, &["wal"], Why::Damaged).unwrap();
        }
        fs::write(dir.join(DIR).join("notes"), "mine").unwrap();
        bound(dir, 2).unwrap();
        let names: Vec<_> = stores(dir).unwrap().into_iter().map(|store| store.number).collect();
        assert_eq!(names, [10, 11]);
        bound(dir, 2).unwrap();
        assert_eq!((stores(dir).unwrap().len(), read(dir, "notes")), (2, "mine".to_owned()));
    }
}
