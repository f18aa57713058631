//! The replicas that ever started in a data directory, so that one that lost its log can tell: it
//! must come back under a new id (a "blank restart" loses acknowledged writes).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::disk::{self, Disk};
use super::identity::{Error, seal, unseal};
use crate::types::wire::{self, get_u8, get_varint, put_varint};
use crate::types::{GroupId, LogKey, ReplicaId};

const FORMAT: u8 = 1;
const FILE: &str = "replicas";
/// Longest file, bytes: far more replicas than a node ever runs.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A durable set of log keys. All calls block; see `disk::offload`.
#[derive(Debug)]
pub struct ReplicasStarted {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    keys: BTreeSet<LogKey>,
}

fn encode(keys: &BTreeSet<LogKey>) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_u8(FORMAT);
    put_varint(&mut out, keys.len() as u64);
    for key in keys {
        put_varint(&mut out, key.group.0.into());
        put_varint(&mut out, key.replica.0);
    }
    seal(&out)
}

fn decode(bytes: Vec<u8>) -> Result<BTreeSet<LogKey>, wire::Error> {
    let mut input = unseal(bytes)?;
    let format = get_u8(&mut input, "format")?;
    if format != FORMAT {
        return Err(wire::Error::Tag { what: "format", tag: format.into() });
    }
    let mut keys = BTreeSet::new();
    for _ in 0..get_varint(&mut input, "replicas")? {
        let group = u32::try_from(get_varint(&mut input, "group")?)
            .map_err(|_| wire::Error::Malformed { what: "group" })?;
        let replica = ReplicaId(get_varint(&mut input, "replica")?);
        keys.insert(LogKey { group: GroupId(group), replica });
    }
    wire::finish(&input, "replicas")?;
    Ok(keys)
}

impl ReplicasStarted {
    /// Reads the set of the data directory `dir`.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, Error> {
        disk.create_dir(dir)?;
        let path = dir.join(FILE);
        let keys = match disk::read_small(disk.as_ref(), &path, BYTES_MAX)? {
            None => BTreeSet::new(),
            Some(bytes) => decode(bytes)
                .map_err(|e| Error::Damaged { path: path.clone(), detail: e.to_string() })?,
        };
        Ok(ReplicasStarted { disk, path, keys })
    }

    /// Whether `key` ever started here.
    pub fn contains(&self, key: LogKey) -> bool {
        self.keys.contains(&key)
    }

    /// All of them, in order.
    pub fn keys(&self) -> impl Iterator<Item = LogKey> + '_ {
        self.keys.iter().copied()
    }

    /// Notes, durably, that `key` starts: call it before the replica speaks to anyone. False if it
    /// had been noted before.
    pub fn insert(&mut self, key: LogKey) -> Result<bool, Error> {
        let mut keys = self.keys.clone();
        let new = keys.insert(key);
        if new {
            self.replace(keys)?;
        }
        Ok(new)
    }

    /// Forgets a replica that was removed from its group and can never start again.
    pub fn remove(&mut self, key: LogKey) -> Result<bool, Error> {
        let mut keys = self.keys.clone();
        let known = keys.remove(&key);
        if known {
            self.replace(keys)?;
        }
        Ok(known)
    }

    fn replace(&mut self, keys: BTreeSet<LogKey>) -> Result<(), Error> {
        disk::replace(self.disk.as_ref(), &self.path, &encode(&keys))?;
        self.keys = keys;
        Ok(())
    }
}
