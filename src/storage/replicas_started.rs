//! The replicas that ever started in a data directory, so that one that lost its log can tell: it
//! must come back under a new id (a "blank restart" loses acknowledged writes).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::disk::{self, Disk};
use super::identity::{Error, seal, unseal};
use crate::types::wire::{self, get_u8, get_varint, put_varint};
use crate::types::{GroupId, LogKey, ReplicaId};

/// 1 had no list of the lost.
const FORMAT: u8 = 2;
const FILE: &str = "replicas";
/// Longest file, bytes: far more replicas than a node ever runs.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A durable set of log keys. All calls block; see `disk::offload`.
#[derive(Debug)]
pub struct ReplicasStarted {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    sets: Sets,
}

#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Sets {
    /// Every replica that started here.
    pub(super) started: BTreeSet<LogKey>,
    /// Those of them whose logs are gone. Told to the cluster at each registration, which changes
    /// nothing once it knows; forgotten when no table places them here.
    /// Invariant: a subset of `started`.
    pub(super) lost: BTreeSet<LogKey>,
}

fn put_keys(out: &mut BytesMut, keys: &BTreeSet<LogKey>) {
    put_varint(out, keys.len() as u64);
    for key in keys {
        put_varint(out, key.group.0.into());
        put_varint(out, key.replica.0);
    }
}

fn get_keys(input: &mut Bytes) -> Result<BTreeSet<LogKey>, wire::Error> {
    let mut keys = BTreeSet::new();
    for _ in 0..get_varint(input, "replicas")? {
        let group = u32::try_from(get_varint(input, "group")?)
            .map_err(|_| wire::Error::Malformed { what: "group" })?;
        let replica = ReplicaId(get_varint(input, "replica")?);
        keys.insert(LogKey { group: GroupId(group), replica });
    }
    Ok(keys)
}

pub(super) fn encode(sets: &Sets) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_u8(FORMAT);
    put_keys(&mut out, &sets.started);
    put_keys(&mut out, &sets.lost);
    seal(&out)
}

pub(super) fn decode(bytes: Vec<u8>) -> Result<Sets, wire::Error> {
    let mut input = unseal(bytes)?;
    let format = get_u8(&mut input, "format")?;
    if !(1..=FORMAT).contains(&format) {
        return Err(wire::Error::Tag { what: "format", tag: format.into() });
    }
    let started = get_keys(&mut input)?;
    let lost = if format == 1 { BTreeSet::new() } else { get_keys(&mut input)? };
    wire::finish(&input, "replicas")?;
    if !lost.is_subset(&started) {
        return Err(wire::Error::Malformed { what: "lost replicas" });
    }
    Ok(Sets { started, lost })
}

impl ReplicasStarted {
    /// Reads the set of the data directory `dir`.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, Error> {
        disk.create_dir(dir)?;
        let path = dir.join(FILE);
        let sets = match disk::read_small(disk.as_ref(), &path, BYTES_MAX)? {
            None => Sets::default(),
            Some(bytes) => decode(bytes)
                .map_err(|e| Error::Damaged { path: path.clone(), detail: e.to_string() })?,
        };
        Ok(ReplicasStarted { disk, path, sets })
    }

    /// Whether `key` ever started here.
    pub fn contains(&self, key: LogKey) -> bool {
        self.sets.started.contains(&key)
    }

    /// All of them, in order.
    pub fn keys(&self) -> impl Iterator<Item = LogKey> + '_ {
        self.sets.started.iter().copied()
    }

    /// Whether the log of `key` is gone: it must never run here again.
    pub fn is_lost(&self, key: LogKey) -> bool {
        self.sets.lost.contains(&key)
    }

    /// Replicas of shards whose logs are gone, in order.
    pub fn lost(&self) -> impl Iterator<Item = LogKey> + '_ {
        self.sets.lost.iter().copied()
    }

    /// Notes, durably, which replicas of shards have no log among `present`: call it once, before any
    /// replica starts. Those newly lost.
    pub fn take_stock(&mut self, present: &BTreeSet<LogKey>) -> Result<Vec<LogKey>, Error> {
        let Sets { started, lost } = &self.sets;
        let shards = started.iter().filter(|key| key.group != GroupId::CONTROLLER);
        let missing = shards.filter(|key| !present.contains(key) && !lost.contains(key));
        let missing: Vec<LogKey> = missing.copied().collect();
        self.note_lost(&missing)?;
        Ok(missing)
    }

    /// Notes, durably, that the logs of `keys` are gone.
    pub fn note_lost(&mut self, keys: &[LogKey]) -> Result<(), Error> {
        let mut sets = self.sets.clone();
        sets.lost.extend(keys.iter().filter(|key| sets.started.contains(key)));
        if sets == self.sets { Ok(()) } else { self.replace(sets) }
    }

    /// Notes, durably, that `key` starts: call it before the replica speaks to anyone. False if it
    /// had been noted before.
    pub fn insert(&mut self, key: LogKey) -> Result<bool, Error> {
        let mut sets = self.sets.clone();
        let new = sets.started.insert(key);
        if new {
            self.replace(sets)?;
        }
        Ok(new)
    }

    /// Forgets a replica that was removed from its group and can never start again.
    pub fn remove(&mut self, key: LogKey) -> Result<bool, Error> {
        let mut sets = self.sets.clone();
        let known = sets.started.remove(&key);
        if known {
            sets.lost.remove(&key);
            self.replace(sets)?;
        }
        Ok(known)
    }

    fn replace(&mut self, sets: Sets) -> Result<(), Error> {
        disk::replace(self.disk.as_ref(), &self.path, &encode(&sets))?;
        self.sets = sets;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk::RealDisk;

    fn key(group: u32, replica: u64) -> LogKey {
        LogKey { group: GroupId(group), replica: ReplicaId(replica) }
    }

    #[test]
    fn a_loss_counts_once_and_what_is_lost_later_counts_again() {
        let dir = tempfile::tempdir().unwrap();
        let open = || ReplicasStarted::open(Arc::new(RealDisk), dir.path()).unwrap();
        let mut started = open();
        for replica in 1..=3 {
            assert!(started.insert(key(1, replica)).unwrap());
        }
        let present = BTreeSet::from([key(1, 2), key(1, 3)]);
        started = open();
        assert_eq!(started.take_stock(&present).unwrap(), [key(1, 1)]);
        started = open();
        assert_eq!(started.take_stock(&present).unwrap(), []);
        assert!(started.is_lost(key(1, 1)) && started.contains(key(1, 1)), "never again");
        // What starts from here on is not among the lost ones, and those go on being told.
        assert!(started.insert(key(1, 9)).unwrap());
        assert_eq!(open().lost().collect::<Vec<_>>(), [key(1, 1)]);
        started = open();
        assert_eq!(
            started.take_stock(&BTreeSet::from([key(1, 3), key(1, 9)])).unwrap(),
            [key(1, 2)]
        );
        started.remove(key(1, 1)).unwrap();
        started.remove(key(1, 9)).unwrap();
        assert_eq!(open().keys().collect::<Vec<_>>(), [key(1, 2), key(1, 3)]);
    }

    #[test]
    fn a_file_without_the_list_of_the_lost_is_read() {
        let mut old = BytesMut::new();
        old.put_u8(1);
        put_keys(&mut old, &BTreeSet::from([key(1, 1)]));
        let sets = decode(seal(&old)).unwrap();
        assert_eq!(sets, Sets { started: BTreeSet::from([key(1, 1)]), lost: BTreeSet::new() });
        assert_eq!(decode(encode(&sets)).unwrap(), sets);
        let odd = Sets { started: BTreeSet::new(), lost: BTreeSet::from([key(1, 1)]) };
        assert!(decode(encode(&odd)).is_err());
    }
}
