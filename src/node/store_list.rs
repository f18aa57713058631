//! What a data directory holds, for `raftcache store list`: read from its small files, while the node
//! runs or not. Changes nothing.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use serde::Serialize;

use crate::controller::{FoundersFile, FoundersStore};
use crate::storage::disk::{Disk, RealDisk};
use crate::storage::identity;
use crate::storage::replicas_started::ReplicasStarted;
use crate::storage::set_aside;
use crate::types::{GroupId, LogKey};

/// A replica that is kept and not served.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ReplicaAside {
    /// Group and replica.
    pub replica: String,
    /// When it was set aside, milliseconds since 1970.
    pub at_ms: u64,
    /// Bytes of its snapshot; 0 if it has none. Its log is in the store of the others.
    pub snapshot_bytes: u64,
}

/// A whole store that is kept and not read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct StoreAside {
    /// Its directory.
    pub path: PathBuf,
    /// Bytes on the disk.
    pub bytes: u64,
}

/// What a data directory says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct StoreList {
    /// Name of the store, hexadecimal.
    pub store: String,
    /// The node it belongs to.
    pub node: u64,
    /// The cluster it belongs to, hexadecimal; empty if it has not joined one.
    pub cluster: String,
    /// How often the node was started.
    pub starts: u64,
    /// It was stopped in order, and does not run.
    pub clean: bool,
    /// Replicas of shards that ran here and may run again.
    pub replicas: Vec<String>,
    /// Those that ran here and lost their logs.
    pub lost: Vec<String>,
    /// Replicas that are kept and not served, the oldest first.
    pub replicas_set_aside: Vec<ReplicaAside>,
    /// Whole stores that are kept and not read, the oldest first.
    pub stores_set_aside: Vec<StoreAside>,
}

impl StoreList {
    /// Reads it from `dir`.
    ///
    /// # Errors
    /// It is no data directory, or one of its files cannot be read.
    pub fn read(dir: &Path) -> anyhow::Result<Self> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let found = identity::look(disk.as_ref(), dir)?
            .with_context(|| format!("{} is no data directory of a node", dir.display()))?;
        let started = ReplicasStarted::look(Arc::clone(&disk), dir)?;
        let founders = FoundersFile::new(dir).load().context("founders")?;
        let names = |keys: &mut dyn Iterator<Item = LogKey>| -> Vec<String> {
            keys.filter(|key| key.group != GroupId::CONTROLLER).map(|key| key.to_string()).collect()
        };
        let aside = started.set_aside().iter().map(|aside| ReplicaAside {
            replica: aside.key.to_string(),
            at_ms: aside.at_ms,
            snapshot_bytes: file_bytes(&dir.join("snapshots").join(format!("{}.snap", aside.key))),
        });
        let stores = set_aside::stores(dir)?.into_iter().map(|store| {
            let bytes = disk.used_bytes(&store.path)?;
            Ok(StoreAside { path: store.path, bytes })
        });
        Ok(StoreList {
            store: format!("{:032x}", found.store_id),
            node: found.node.0,
            cluster: founders.map_or_else(String::new, |f| format!("{:032x}", f.cluster_id())),
            starts: found.starts,
            clean: found.previous.clean,
            replicas: names(&mut started.keys().filter(|key| !started.is_lost(*key))),
            lost: names(&mut started.lost()),
            replicas_set_aside: aside.collect(),
            stores_set_aside: stores.collect::<io::Result<_>>()?,
        })
    }

    /// Writes it for people.
    ///
    /// # Errors
    /// `out` takes no more.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let cluster = if self.cluster.is_empty() { "none yet" } else { &self.cluster };
        let stopped =
            if self.clean { "stopped in order" } else { "running, or not stopped in order" };
        writeln!(out, "store     {}", self.store)?;
        writeln!(out, "node      {}", self.node)?;
        writeln!(out, "cluster   {cluster}")?;
        writeln!(out, "starts    {}, {stopped}", self.starts)?;
        writeln!(out, "replicas  {}", self.replicas.join(" "))?;
        writeln!(out, "lost      {}", self.lost.join(" "))?;
        let count = self.replicas_set_aside.len() + self.stores_set_aside.len();
        writeln!(out, "set aside {count}")?;
        for ReplicaAside { replica, at_ms, snapshot_bytes } in &self.replicas_set_aside {
            writeln!(out, "  replica {replica}  at {at_ms} ms, snapshot {snapshot_bytes} bytes")?;
        }
        for StoreAside { path, bytes } in &self.stores_set_aside {
            writeln!(out, "  store   {}  {bytes} bytes", path.display())?;
        }
        Ok(())
    }
}

/// 0 if there is no such file: it may go while it is looked at.
fn file_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Durability};
    use crate::node::Environment;
    use crate::storage::set_aside::{Why, set_aside};
    use crate::types::ReplicaId;

    #[tokio::test]
    async fn a_directory_says_whose_it_is_and_what_it_keeps() {
        let dir = tempfile::tempdir().unwrap();
        let error = StoreList::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("is no data directory"), "{error}");
        let mut config = Config::default();
        (config.node.id, config.node.data_dir) = (7, dir.path().to_owned());
        config.durability = Durability::Memory;
        let (environment, data) = Environment::open(&config).unwrap();
        assert!(!StoreList::read(dir.path()).unwrap().clean, "it runs, and may be looked at");
        drop(environment);
        data.close().unwrap();
        let mut started = ReplicasStarted::open(Arc::new(RealDisk), dir.path()).unwrap();
        let key = |replica| LogKey { group: GroupId(1), replica: ReplicaId(replica) };
        for replica in 1..=3 {
            started.insert(key(replica)).unwrap();
        }
        started.note_lost(&[key(2)]).unwrap();
        started.note_set_aside(key(3), 1_700_000_000_000).unwrap();
        std::fs::create_dir(dir.path().join("wal")).unwrap();
        std::fs::write(dir.path().join("wal").join("f"), "x").unwrap();
        set_aside(dir.path(), &["wal"], Why::Damaged).unwrap();
        let list = StoreList::read(dir.path()).unwrap();
        let mut out = Vec::new();
        list.write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in [
            "node      7\n",
            "cluster   none yet\n",
            "starts    1, stopped in order\n",
            "replicas  g1-r1\n",
            "lost      g1-r2\n",
            "set aside 2\n",
            "  replica g1-r3  at 1700000000000 ms, snapshot 0 bytes\n",
            "/set-aside/1-damaged  ",
        ] {
            assert!(text.contains(line), "{line:?} in\n{text}");
        }
    }
}
