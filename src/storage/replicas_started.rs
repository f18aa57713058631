//! The replicas that ever started in a data directory, so that one that lost its log can tell: it
//! must come back under a new id (a "blank restart" loses acknowledged writes). And those that are
//! set aside: no longer served, and still on the disk.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::disk::{self, Disk};
use super::identity::{Error, seal, unseal};
use crate::types::wire::{self, get_u8, get_varint, put_varint};
use crate::types::{GroupId, LogKey, ReplicaId};

const FORMAT: u8 = 3;
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

/// A replica that is kept on the disk and not served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetAside {
    /// Which.
    pub key: LogKey,
    /// Wall clock when it was set aside, milliseconds since 1970.
    pub at_ms: u64,
}

#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Sets {
    /// Every replica that started here and is not set aside.
    pub(super) started: BTreeSet<LogKey>,
    /// Those of them whose logs are gone. Told to the cluster at each registration, which changes
    /// nothing once it knows; forgotten when no table places them here.
    /// Invariant: a subset of `started`.
    pub(super) lost: BTreeSet<LogKey>,
    /// What is kept and not served, the oldest first. Invariant: none is in `started`.
    pub(super) set_aside: Vec<SetAside>,
}

pub(super) fn put_keys(out: &mut BytesMut, keys: &BTreeSet<LogKey>) {
    put_varint(out, keys.len() as u64);
    keys.iter().for_each(|key| put_key(out, *key));
}

fn put_key(out: &mut BytesMut, key: LogKey) {
    put_varint(out, key.group.0.into());
    put_varint(out, key.replica.0);
}

fn get_key(input: &mut Bytes) -> Result<LogKey, wire::Error> {
    let group = u32::try_from(get_varint(input, "group")?)
        .map_err(|_| wire::Error::Malformed { what: "group" })?;
    Ok(LogKey { group: GroupId(group), replica: ReplicaId(get_varint(input, "replica")?) })
}

pub(super) fn get_keys(input: &mut Bytes) -> Result<BTreeSet<LogKey>, wire::Error> {
    let mut keys = BTreeSet::new();
    for _ in 0..get_varint(input, "replicas")? {
        keys.insert(get_key(input)?);
    }
    Ok(keys)
}

pub(super) fn encode(sets: &Sets) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_u8(FORMAT);
    put_keys(&mut out, &sets.started);
    put_keys(&mut out, &sets.lost);
    put_varint(&mut out, sets.set_aside.len() as u64);
    for SetAside { key, at_ms } in &sets.set_aside {
        put_key(&mut out, *key);
        put_varint(&mut out, *at_ms);
    }
    seal(&out)
}

pub(super) fn decode(bytes: Vec<u8>) -> Result<Sets, wire::Error> {
    let mut input = unseal(bytes)?;
    let format = get_u8(&mut input, "format")?;
    if format != FORMAT {
        return Err(wire::Error::Tag { what: "format", tag: format.into() });
    }
    let started = get_keys(&mut input)?;
    let lost = get_keys(&mut input)?;
    let mut set_aside = Vec::new();
    for _ in 0..get_varint(&mut input, "set aside")? {
        let key = get_key(&mut input)?;
        set_aside.push(SetAside { key, at_ms: get_varint(&mut input, "time")? });
    }
    wire::finish(&input, "replicas")?;
    if !lost.is_subset(&started) || set_aside.iter().any(|aside| started.contains(&aside.key)) {
        return Err(wire::Error::Malformed { what: "lost replicas" });
    }
    Ok(Sets { started, lost, set_aside })
}

impl ReplicasStarted {
    /// Reads the set of the data directory `dir`, making that if need be.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, Error> {
        disk.create_dir(dir)?;
        Self::look(disk, dir)
    }

    /// Reads the set and changes nothing.
    pub fn look(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, Error> {
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
        self.sets.started.contains(&key) || self.is_set_aside(key)
    }

    /// Whether `key` is kept and not served.
    pub fn is_set_aside(&self, key: LogKey) -> bool {
        self.sets.set_aside.iter().any(|aside| aside.key == key)
    }

    /// What is kept and not served, the oldest first.
    pub fn set_aside(&self) -> &[SetAside] {
        &self.sets.set_aside
    }

    /// Notes, durably, that `key` is kept and no longer served: it never starts again.
    pub fn note_set_aside(&mut self, key: LogKey, at_ms: u64) -> Result<(), Error> {
        if self.is_set_aside(key) {
            return Ok(());
        }
        let mut sets = self.sets.clone();
        sets.started.remove(&key);
        sets.lost.remove(&key);
        sets.set_aside.push(SetAside { key, at_ms });
        self.replace(sets)
    }

    /// All that are not set aside, in order.
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
        let Sets { started, lost, .. } = &self.sets;
        let shards = started.iter().filter(|key| key.group != GroupId::CONTROLLER);
        let missing = shards.filter(|key| !present.contains(key) && !lost.contains(key));
        let missing: Vec<LogKey> = missing.copied().collect();
        let mut sets = self.sets.clone();
        sets.lost.extend(&missing);
        self.change(sets)?;
        Ok(missing)
    }

    /// Notes, durably, that the logs of `keys` are gone.
    pub fn note_lost(&mut self, keys: &[LogKey]) -> Result<(), Error> {
        let mut sets = self.sets.clone();
        sets.lost.extend(keys.iter().filter(|key| sets.started.contains(key)));
        self.change(sets)
    }

    /// Forgets, durably, those of the set aside that `keep` is false for.
    pub fn retain_set_aside(&mut self, keep: impl Fn(LogKey) -> bool) -> Result<(), Error> {
        let mut sets = self.sets.clone();
        sets.set_aside.retain(|aside| keep(aside.key));
        self.change(sets)
    }

    fn change(&mut self, sets: Sets) -> Result<(), Error> {
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
    fn what_is_set_aside_stays_known_and_is_neither_started_nor_lost() {
        let dir = tempfile::tempdir().unwrap();
        let open = || ReplicasStarted::open(Arc::new(RealDisk), dir.path()).unwrap();
        let mut started = open();
        for replica in 1..=3 {
            assert!(started.insert(key(1, replica)).unwrap());
        }
        started.note_lost(&[key(1, 2)]).unwrap();
        for (replica, at_ms) in [(2, 500), (1, 600), (2, 700)] {
            started.note_set_aside(key(1, replica), at_ms).unwrap();
        }
        let mut started = open();
        let aside = |replica, at_ms| SetAside { key: key(1, replica), at_ms };
        assert_eq!(started.set_aside(), [aside(2, 500), aside(1, 600)], "the oldest first");
        assert_eq!(started.keys().collect::<Vec<_>>(), [key(1, 3)]);
        assert_eq!((started.lost().count(), started.contains(key(1, 2))), (0, true));
        assert_eq!(started.take_stock(&BTreeSet::from([key(1, 3)])).unwrap(), []);
        started.retain_set_aside(|kept| kept != key(1, 2)).unwrap();
        assert_eq!(open().set_aside(), [aside(1, 600)]);
    }

    #[test]
    fn what_cannot_have_been_written_is_not_read() {
        let sets = Sets { started: BTreeSet::from([key(1, 1)]), ..Sets::default() };
        assert_eq!(decode(encode(&sets)).unwrap(), sets);
        let odd = Sets { lost: BTreeSet::from([key(1, 2)]), ..sets.clone() };
        assert!(decode(encode(&odd)).is_err());
        let set_aside = vec![SetAside { key: key(1, 1), at_ms: 1 }];
        assert!(decode(encode(&Sets { set_aside, ..sets })).is_err());
    }
}
