//! The log engine of `memory` durability: keeps nothing.

use super::wal::{Done, Error, Recovered, Wal, WalOp};
use crate::types::LogKey;

/// Keeps nothing and acknowledges at once, on the caller's thread. The Raft layer holds the
/// entries that are not purged in RAM; a replica that loses them rejoins under a new id.
#[derive(Debug, Default)]
pub struct MemoryWal(());

impl MemoryWal {
    /// An engine that keeps nothing.
    pub fn new() -> Self {
        MemoryWal(())
    }
}

impl Wal for MemoryWal {
    fn open(&self, _key: LogKey) -> Result<Recovered, Error> {
        Ok(Recovered { fresh: true, ..Recovered::default() })
    }

    fn submit(&self, _key: LogKey, _op: WalOp, done: Done) {
        done(Ok(()));
    }

    fn remove(&self, _key: LogKey) -> Result<(), Error> {
        Ok(())
    }

    fn keys(&self) -> Result<Vec<LogKey>, Error> {
        Ok(Vec::new())
    }

    fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use bytes::Bytes;

    use super::*;
    use crate::types::{GroupId, ReplicaId};

    #[test]
    fn acknowledges_at_once_and_keeps_nothing() {
        let wal = MemoryWal::new();
        let key = LogKey { group: GroupId(1), replica: ReplicaId(2) };
        let (sender, receiver) = mpsc::channel();
        let vote = WalOp::Vote(Bytes::from_static(b"v"));
        wal.submit(key, vote, Box::new(move |r| sender.send(r.is_ok()).unwrap()));
        assert_eq!(receiver.try_recv(), Ok(true));
        let recovered = wal.open(key).unwrap();
        assert!(recovered.fresh && recovered.vote.is_none());
        assert!(wal.keys().unwrap().is_empty());
    }
}
