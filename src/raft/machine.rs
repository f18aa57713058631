//! What the Raft layer asks of a state machine: apply, snapshot in chunks, restore.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::{Reply, wire};

/// What applying one entry answers; openraft hands it back to the proposer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub enum Applied {
    /// Blank and membership entries.
    #[default]
    Nothing,
    /// Of a shard's group, one for each write of the batch.
    Replies(Vec<Reply>),
    /// Of the controller, encoded by it.
    Opaque(Bytes),
}

/// A deterministic state machine behind a group. All calls are made in log order.
pub trait StateMachine: Send + Sync + Sized + 'static {
    /// Collects the chunks of a snapshot.
    type Restorer: Restorer<Machine = Self>;

    /// Applies the payload of the entry at `index`. An error means the log is damaged (a record
    /// that passed its checksum cannot be decoded): the replica stops.
    fn apply(&mut self, index: u64, payload: Bytes) -> Result<Applied, wire::Error>;

    /// Starts a point-in-time walk of the present state, while later entries are applied.
    /// At most one walk is under way; beginning another abandons the first.
    fn snapshot_begin(&mut self);

    /// Next chunk of the walk, of about `bytes_max` bytes; `None` when all has been given.
    fn snapshot_chunk(&mut self, bytes_max: usize) -> Option<Bytes>;

    /// Ends the walk, finished or not.
    fn snapshot_end(&mut self);

    /// A collector for a snapshot of such a machine.
    fn restorer(&self) -> Self::Restorer;

    /// Order-independent hash of the replicated state (INV-3).
    fn digest(&self) -> u64;

    /// Log time, milliseconds; only grows. 0 where entries carry none.
    fn log_time_ms(&self) -> u64 {
        0
    }

    /// What the last changes left to drop and takes long; it is dropped where nobody waits. Asked
    /// after each apply and at the end of each walk.
    fn take_garbage(&mut self) -> Option<Box<dyn Send>> {
        None
    }

    /// Bytes a snapshot would take, roughly: how much log is worth keeping instead of one.
    fn live_bytes(&self) -> u64 {
        0
    }
}

/// Collects the chunks of a snapshot, in order.
pub trait Restorer: Send + 'static {
    /// What it restores.
    type Machine;

    /// Adds a chunk.
    fn push(&mut self, chunk: Bytes) -> Result<(), wire::Error>;

    /// Checks completeness and gives the machine.
    fn finish(self) -> Result<Self::Machine, wire::Error>;
}
