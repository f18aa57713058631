//! The cache's machine behind a shard's group: decode, apply, snapshot.

use bytes::Bytes;

use super::machine::{Applied, Restorer, StateMachine};
use crate::codec::log_record::decode_batch;
use crate::core::machine::Machine;
use crate::core::restore::MachineRestorer;
use crate::types::wire;

impl StateMachine for Machine {
    type Restorer = MachineRestorer;

    fn apply(&mut self, index: u64, payload: Bytes) -> Result<Applied, wire::Error> {
        let batch = decode_batch(payload)?;
        let mut replies = Vec::with_capacity(batch.writes.len());
        Machine::apply(self, index, &batch, &mut replies);
        assert_eq!(replies.len(), batch.writes.len(), "one reply for each write");
        Ok(Applied::Replies(replies))
    }

    fn snapshot_begin(&mut self) {
        Machine::snapshot_begin(self);
    }

    fn snapshot_chunk(&mut self, bytes_max: usize) -> Option<Bytes> {
        Machine::snapshot_chunk(self, bytes_max)
    }

    fn snapshot_end(&mut self) {
        Machine::snapshot_end(self);
    }

    fn restorer(&self) -> MachineRestorer {
        Machine::restorer(self)
    }

    fn digest(&self) -> u64 {
        Machine::digest(self)
    }

    fn log_time_ms(&self) -> u64 {
        Machine::log_time_ms(self)
    }

    fn take_garbage(&mut self) -> Option<Box<dyn Send>> {
        let garbage = Machine::take_garbage(self);
        if garbage.is_empty() { None } else { Some(Box::new(garbage)) }
    }

    fn live_bytes(&self) -> u64 {
        self.stats().bytes
    }
}

impl Restorer for MachineRestorer {
    type Machine = Machine;

    fn push(&mut self, chunk: Bytes) -> Result<(), wire::Error> {
        MachineRestorer::push(self, chunk)
    }

    fn finish(self) -> Result<Machine, wire::Error> {
        MachineRestorer::finish(self)
    }
}
