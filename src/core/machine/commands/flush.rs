//! `Flush`: every key of the group goes at once, and their memory later.
//!
//! Dropping 64 MiB of entries takes tens of milliseconds, so what was there is moved aside in a few
//! steps and whoever drives the machine drops it outside (`Machine::take_garbage`). A snapshot under
//! way walks on in what was moved aside: it is the state at the snapshot's point but for what was
//! settled before.

use crate::core::eviction::Lru;
use crate::core::expiry::Deadlines;
use crate::core::keyspace::Keyspace;
use crate::core::machine::Machine;
use crate::core::snapshot::Source;
use crate::types::Reply;

/// What nobody needs any more and takes long to drop.
#[derive(Debug, Default)]
pub struct Garbage {
    sources: Vec<Source>,
    deadlines: Vec<Deadlines>,
}

impl Garbage {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.deadlines.is_empty()
    }
}

impl Machine {
    /// The clock, the limit, the sessions and the ticks of the eviction order stay. Locks go with the
    /// rest: their tokens still grow, so who checks them is safe.
    pub(in crate::core::machine) fn flush(&mut self, version: u64) -> Reply {
        self.removals.note_all(version);
        if let Some(watcher) = &self.watcher {
            watcher.all_changed();
        }
        if self.keyspace.is_empty() {
            return Reply::Done;
        }
        let keyspace = Keyspace::new(self.keyspace.seed());
        let order = Lru::at_tick(self.order.tick());
        let source = Source {
            keyspace: std::mem::replace(&mut self.keyspace, keyspace),
            order: std::mem::replace(&mut self.order, order),
        };
        self.garbage.deadlines.push(std::mem::take(&mut self.deadlines));
        (self.content_digest, self.order_digest) = (0, 0);
        match self.walk.as_mut() {
            Some(walk) => self.garbage.sources.extend(walk.flushed(source)),
            None => self.garbage.sources.push(source),
        }
        Reply::Done
    }

    /// Ends the walk, finished or not.
    pub fn snapshot_end(&mut self) {
        if let Some(walk) = self.walk.take() {
            self.garbage.sources.extend(walk.into_source());
        }
    }

    /// What flushes left to drop. Call it after each apply, and drop what it gives where nobody
    /// waits.
    pub fn take_garbage(&mut self) -> Garbage {
        std::mem::take(&mut self.garbage)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use crate::core::restore::MachineRestorer;
    use crate::types::Command;

    #[test]
    fn everything_goes_and_the_rest_stays() {
        let mut machine = machine();
        let empty = machine.digest();
        for n in 0..100 {
            run(&mut machine, put(&format!("k{n}"), "v"));
        }
        assert_eq!(run(&mut machine, Command::Flush), Reply::Done);
        let stats = machine.stats();
        assert_eq!((stats.keys, stats.bytes, stats.log_time_ms), (0, 0, TIME_MS));
        assert_ne!(machine.digest(), empty, "the ticks of the order go on");
        assert!(!machine.take_garbage().is_empty());
        assert!(machine.take_garbage().is_empty());
        run(&mut machine, put("k1", "w"));
        assert_eq!(get(&machine, "k1").map(|f| f.value), Some(text("w")));
        assert_eq!(machine.keys_by_recency().count(), 1);
    }

    /// A snapshot that was begun before the flush is the state at its point, also when a second
    /// flush comes, and its walk ends with the memory given back.
    #[test]
    fn a_walk_goes_on_in_what_was_flushed() {
        let mut machine = machine();
        for n in 0..300 {
            run(&mut machine, put(&format!("k{n}"), "v"));
        }
        let digest = machine.digest();
        machine.snapshot_begin();
        let mut restorer = MachineRestorer::new();
        let mut push = |machine: &mut Machine| {
            let chunk = machine.snapshot_chunk(1_000);
            chunk
                .map(|chunk| restorer.push(chunk))
                .transpose()
                .expect("the chunk is sound")
                .is_some()
        };
        push(&mut machine);
        run(&mut machine, put("k299", "changed before the flush"));
        run(&mut machine, Command::Flush);
        run(&mut machine, put("k5", "new"));
        push(&mut machine);
        run(&mut machine, Command::Flush);
        run(&mut machine, put("k6", "newer"));
        while push(&mut machine) {}
        machine.snapshot_end();
        let restored = restorer.finish().expect("the snapshot is whole");
        assert_eq!(restored.digest(), digest);
        assert_eq!(restored.stats().keys, 300);
        assert_eq!(machine.stats().keys, 1);
        assert_eq!(machine.take_garbage().sources.len(), 2, "both are given back");
    }
}
