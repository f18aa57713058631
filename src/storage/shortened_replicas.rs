//! The replicas of a data directory whose log was found shorter than what they acknowledged: they
//! stay out after a restart as well, whoever leads by then and knows nothing of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::disk::{self, Disk};
use super::identity::{Error, seal, unseal};
use super::replicas_started::{get_keys, put_keys};
use crate::types::LogKey;
use crate::types::wire::{self, get_u8};

const FORMAT: u8 = 1;
const FILE: &str = "shortened";
/// Longest file, bytes: far more replicas than a node ever runs.
const BYTES_MAX: u64 = 1024 * 1024;

/// A durable set of log keys. All calls block; see `disk::offload`.
#[derive(Debug)]
pub struct ShortenedReplicas {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    keys: BTreeSet<LogKey>,
}

pub(super) fn encode(keys: &BTreeSet<LogKey>) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_u8(FORMAT);
    put_keys(&mut out, keys);
    seal(&out)
}

pub(super) fn decode(bytes: Vec<u8>) -> Result<BTreeSet<LogKey>, wire::Error> {
    let mut input = unseal(bytes)?;
    match get_u8(&mut input, "format")? {
        FORMAT => {}
        tag => return Err(wire::Error::Tag { what: "format", tag: tag.into() }),
    }
    let keys = get_keys(&mut input)?;
    wire::finish(&input, "shortened replicas")?;
    Ok(keys)
}

impl ShortenedReplicas {
    /// Reads the set of the data directory `dir`.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let keys = match disk::read_small(disk.as_ref(), &path, BYTES_MAX)? {
            None => BTreeSet::new(),
            Some(bytes) => decode(bytes)
                .map_err(|e| Error::Damaged { path: path.clone(), detail: e.to_string() })?,
        };
        Ok(ShortenedReplicas { disk, path, keys })
    }

    /// All of them, in order.
    pub fn keys(&self) -> impl Iterator<Item = LogKey> + '_ {
        self.keys.iter().copied()
    }

    /// Notes one, durably.
    pub fn insert(&mut self, key: LogKey) -> Result<(), Error> {
        let mut keys = self.keys.clone();
        if keys.insert(key) { self.replace(keys) } else { Ok(()) }
    }

    /// Forgets one that was removed from its group and can never start again.
    pub fn remove(&mut self, key: LogKey) -> Result<(), Error> {
        let mut keys = self.keys.clone();
        if keys.remove(&key) { self.replace(keys) } else { Ok(()) }
    }

    fn replace(&mut self, keys: BTreeSet<LogKey>) -> Result<(), Error> {
        disk::replace(self.disk.as_ref(), &self.path, &encode(&keys))?;
        self.keys = keys;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk::RealDisk;
    use crate::types::{GroupId, ReplicaId};

    #[test]
    fn what_was_noted_is_there_again_and_damage_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let open = || ShortenedReplicas::open(Arc::new(RealDisk), dir.path());
        let key = |replica| LogKey { group: GroupId(1), replica: ReplicaId(replica) };
        let mut noted = open().unwrap();
        assert_eq!(noted.keys().count(), 0);
        for replica in [3, 1, 3] {
            noted.insert(key(replica)).unwrap();
        }
        assert_eq!(open().unwrap().keys().collect::<Vec<_>>(), [key(1), key(3)]);
        noted.remove(key(1)).unwrap();
        noted.remove(key(2)).unwrap();
        assert_eq!(open().unwrap().keys().collect::<Vec<_>>(), [key(3)]);
        let mut bytes = std::fs::read(dir.path().join(FILE)).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(dir.path().join(FILE), bytes).unwrap();
        assert!(matches!(open(), Err(Error::Damaged { .. })));
    }
}
