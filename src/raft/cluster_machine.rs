//! The controller's state machine as the Raft layer sees it.

use std::sync::Arc;

use bytes::Bytes;

use super::machine::{Applied, Restorer, StateMachine};
use crate::codec::cluster_record;
use crate::core::cluster::ClusterMachine;
use crate::core::table::RoutingTable;
use crate::types::wire;

/// Decodes commands, applies them, encodes replies. Its state is small: a snapshot is one chunk,
/// whatever size is asked for.
#[derive(Default)]
pub struct ClusterStateMachine {
    machine: ClusterMachine,
    /// Snapshot under way: encoded when it began, taken by the first chunk.
    walk: Option<Bytes>,
}

impl ClusterStateMachine {
    /// The routing table as applied.
    pub fn table(&self) -> Arc<RoutingTable> {
        self.machine.table()
    }
}

impl StateMachine for ClusterStateMachine {
    type Restorer = ClusterRestorer;

    fn apply(&mut self, index: u64, payload: Bytes) -> Result<Applied, wire::Error> {
        let (unix_ms, command) = cluster_record::decode_entry(payload)?;
        let reply = self.machine.apply(index, unix_ms, command);
        Ok(Applied::Opaque(cluster_record::encode_reply(&reply)))
    }

    fn snapshot_begin(&mut self) {
        self.walk = Some(self.machine.encode_snapshot());
    }

    fn snapshot_chunk(&mut self, _bytes_max: usize) -> Option<Bytes> {
        self.walk.take()
    }

    fn snapshot_end(&mut self) {
        self.walk = None;
    }

    fn restorer(&self) -> ClusterRestorer {
        ClusterRestorer::default()
    }

    fn digest(&self) -> u64 {
        self.machine.digest()
    }
}

/// Collects the one chunk of a snapshot.
#[derive(Default)]
pub struct ClusterRestorer {
    chunk: Option<Bytes>,
}

impl Restorer for ClusterRestorer {
    type Machine = ClusterStateMachine;

    fn push(&mut self, chunk: Bytes) -> Result<(), wire::Error> {
        match self.chunk.replace(chunk) {
            None => Ok(()),
            Some(_) => Err(wire::Error::Malformed { what: "second chunk of a cluster snapshot" }),
        }
    }

    fn finish(self) -> Result<ClusterStateMachine, wire::Error> {
        let chunk = self.chunk.ok_or(wire::Error::Short { what: "cluster snapshot" })?;
        Ok(ClusterStateMachine { machine: ClusterMachine::decode_snapshot(&chunk)?, walk: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::cluster::{ClusterCommand, ClusterReply, Form, Founder};
    use crate::types::limits::SHARD_BYTES_MAX_FLOOR;
    use crate::types::{NodeId, RoutingEpoch};

    fn form() -> Bytes {
        let command = cluster_record::encode_command(&ClusterCommand::Form(Form {
            cluster_id: 1,
            founders: vec![Founder { node: NodeId(1), store_id: 2 }],
            nodes_min: 1,
            shards: 4,
            replicas: 1,
            bytes_max: SHARD_BYTES_MAX_FLOOR,
            seed: 3,
        }));
        cluster_record::encode_entry(1, &command)
    }

    #[test]
    fn a_snapshot_shows_the_state_at_its_beginning() {
        let mut machine = ClusterStateMachine::default();
        let empty = machine.digest();
        machine.snapshot_begin();
        let Applied::Opaque(reply) = machine.apply(1, form()).unwrap() else {
            panic!("the controller answers with its own reply")
        };
        let done = ClusterReply::Done { epoch: RoutingEpoch(1) };
        assert_eq!(cluster_record::decode_reply(reply), Ok(done));

        let mut restorer = machine.restorer();
        restorer.push(machine.snapshot_chunk(1).unwrap()).unwrap();
        assert!(machine.snapshot_chunk(1).is_none());
        machine.snapshot_end();
        assert_eq!(restorer.finish().unwrap().digest(), empty);
        assert_ne!(machine.digest(), empty);
    }

    #[test]
    fn a_damaged_record_or_snapshot_is_an_error() {
        let mut machine = ClusterStateMachine::default();
        assert!(machine.apply(1, Bytes::from_static(&[0xff])).is_err());
        let mut restorer = machine.restorer();
        assert!(machine.restorer().finish().is_err());
        restorer.push(Bytes::from_static(&[9])).unwrap();
        assert!(restorer.push(Bytes::new()).is_err());
    }
}
