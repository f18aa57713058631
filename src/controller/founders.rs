//! Who founded the cluster: decided once, by one node, and kept on disk before anyone votes.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::core::cluster::{Founder, NODE_ID_MAX};
use crate::types::NodeId;
use crate::types::limits::CONTROLLER_REPLICAS_MAX;

/// The controller's first voters and the name that follows from them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Founders {
    cluster_id: u128,
    members: Vec<Founder>,
}

impl Founders {
    /// The founders among `nodes`: those with the lowest ids, as many as the controller may have.
    /// `None` without nodes.
    pub fn of(mut nodes: Vec<Founder>) -> Option<Self> {
        nodes.sort_by_key(|founder| founder.node);
        nodes.truncate(CONTROLLER_REPLICAS_MAX);
        let founders = Founders { cluster_id: cluster_id(&nodes), members: nodes };
        founders.is_valid().then_some(founders)
    }

    /// Name of the cluster: store ids are random, so their hash names this cluster alone.
    pub fn cluster_id(&self) -> u128 {
        self.cluster_id
    }

    /// Ascending by node id.
    pub fn members(&self) -> &[Founder] {
        &self.members
    }

    /// The founder on `node`.
    pub fn get(&self, node: NodeId) -> Option<&Founder> {
        self.members.iter().find(|founder| founder.node == node)
    }

    /// Whether this can be a founders' list; what came from a peer or the disk is checked with it.
    pub fn is_valid(&self) -> bool {
        (1..=CONTROLLER_REPLICAS_MAX).contains(&self.members.len())
            && self.members.is_sorted_by(|a, b| a.node < b.node)
            && self.members.iter().all(|founder| (1..=NODE_ID_MAX).contains(&founder.node.0))
            && self.cluster_id == cluster_id(&self.members)
    }
}

fn cluster_id(members: &[Founder]) -> u128 {
    let bytes: Vec<u8> = members
        .iter()
        .flat_map(|founder| {
            founder.node.0.to_le_bytes().into_iter().chain(founder.store_id.to_le_bytes())
        })
        .collect();
    xxh3_128(&bytes).max(1)
}

/// Keeps the founders of a node's cluster with its logs.
pub trait FoundersStore: Send + Sync + Debug + 'static {
    /// What was saved. An error if there is something that cannot be read: the node must not
    /// start as if it were new.
    fn load(&self) -> io::Result<Option<Founders>>;

    /// Saves durably; when it returns, `load` finds it after any crash.
    fn save(&self, founders: &Founders) -> io::Result<()>;
}

/// A small file in the node's data directory: CRC-32C, then the encoded founders.
#[derive(Debug)]
pub struct FoundersFile {
    path: PathBuf,
}

impl FoundersFile {
    /// The file in `data_dir`.
    pub fn new(data_dir: &Path) -> Self {
        FoundersFile { path: data_dir.join("founders") }
    }
}

impl FoundersStore for FoundersFile {
    fn load(&self) -> io::Result<Option<Founders>> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let damaged = || {
            let detail = format!("{} is damaged", self.path.display());
            io::Error::new(io::ErrorKind::InvalidData, detail)
        };
        let (crc, body) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
        if u32::from_le_bytes(*crc) != crc32c::crc32c(body) {
            return Err(damaged());
        }
        let founders: Founders = postcard::from_bytes(body).map_err(|_| damaged())?;
        if founders.is_valid() { Ok(Some(founders)) } else { Err(damaged()) }
    }

    fn save(&self, founders: &Founders) -> io::Result<()> {
        let body = postcard::to_stdvec(founders).map_err(io::Error::other)?;
        let temporary = self.path.with_extension("new");
        let mut file = File::create(&temporary)?;
        file.write_all(&crc32c::crc32c(&body).to_le_bytes())?;
        file.write_all(&body)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        // The rename is durable only when its directory is.
        self.path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    }
}

/// Survives the restarts of a simulated node.
#[derive(Debug, Default)]
pub struct MemoryFounders {
    /// A std-like lock: held for a copy, never across an await.
    saved: Mutex<Option<Founders>>,
}

impl FoundersStore for MemoryFounders {
    fn load(&self) -> io::Result<Option<Founders>> {
        Ok(self.saved.lock().clone())
    }

    fn save(&self, founders: &Founders) -> io::Result<()> {
        *self.saved.lock() = Some(founders.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn founders(nodes: &[u64]) -> Founders {
        let founder = |node: &u64| Founder { node: NodeId(*node), store_id: u128::from(*node) + 9 };
        Founders::of(nodes.iter().map(founder).collect()).unwrap()
    }

    #[test]
    fn the_lowest_found_and_their_order_does_not_matter() {
        let of_seven = founders(&[7, 3, 5, 1, 2, 6, 4]);
        let ids: Vec<u64> = of_seven.members().iter().map(|f| f.node.0).collect();
        assert_eq!(ids, [1, 2, 3, 4, 5]);
        assert_eq!(founders(&[3, 1, 2]), founders(&[1, 2, 3]));
        assert_ne!(founders(&[1, 2]).cluster_id(), founders(&[1, 2, 3]).cluster_id());
        assert_eq!(Founders::of(Vec::new()), None);
        let zero = Founder { node: NodeId(0), store_id: 1 };
        assert_eq!(Founders::of(vec![zero]), None);
        let twin = Founder { node: NodeId(1), store_id: 1 };
        assert_eq!(Founders::of(vec![twin, twin]), None);
    }

    #[test]
    fn the_file_keeps_them_and_damage_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = FoundersFile::new(directory.path());
        assert_eq!(file.load().unwrap(), None);
        file.save(&founders(&[1])).unwrap();
        file.save(&founders(&[1, 2, 3])).unwrap();
        assert_eq!(file.load().unwrap(), Some(founders(&[1, 2, 3])));

        let good = fs::read(&file.path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            fs::write(&file.path, &bad).unwrap();
            assert!(file.load().is_err(), "flipped at {at}");
            fs::write(&file.path, &good[..at]).unwrap();
            assert!(file.load().is_err(), "cut at {at}");
        }
    }
}
