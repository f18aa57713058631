//! `Transaction`: several operations of one shard as one.

use crate::core::machine::{Due, Machine};
use crate::types::limits::{TRANSACTION_REPLY_BYTES_MAX, TRANSACTION_WORK_BYTES_MAX};
use crate::types::probe::{Probe, reached};
use crate::types::{Query, Refusal, Reply, Step, Transaction, Version, Watch};

impl Machine {
    /// Step `i` gives version `version + i`. Refused as a whole, before anything is changed, if a
    /// slot is not owned here or it would hold the shard up for too long; aborted if a watched key is not
    /// as it was.
    pub(in crate::core::machine) fn transaction(
        &mut self,
        transaction: &Transaction,
        version: u64,
    ) -> Reply {
        let watched = transaction.watches.iter().map(|watch| &watch.key);
        let stepped = transaction.steps.iter().map(|step| {
            step.key()
                .expect("a step is about one key: the decoder and the door let no other through")
        });
        let targets = transaction.steps.iter().filter_map(Step::target);
        let mut keys = watched.chain(stepped).chain(targets);
        if let Some(refusal) = keys.find_map(|key| self.not_owned(key)) {
            return Reply::Refused(refusal);
        }
        for (watch, at) in transaction.watches.iter().zip(0..) {
            let found = self.find_alive(&watch.key);
            let current = found.map(|id| Version(self.keyspace.get(id).version));
            if current != watch.version || self.came_and_went(watch) {
                reached(Probe::TransactionAborted);
                return Reply::Aborted { watch: at, current };
            }
        }
        let work = self.work_of(transaction);
        if transaction.steps.len() > 1 && work > TRANSACTION_WORK_BYTES_MAX {
            let (bytes, bytes_max) = (work as u64, TRANSACTION_WORK_BYTES_MAX as u64);
            return Reply::Refused(Refusal::TooMuchWork { bytes, bytes_max });
        }
        let mut bytes = 0;
        let steps = transaction.steps.iter().zip(version..);
        Reply::Transaction(
            steps.map(|(step, version)| self.step(step, version, &mut bytes)).collect(),
        )
    }

    /// Whether a key that must be absent may have been there since it was seen to be. Never false where
    /// it was; other keys that share its bucket of removals make it true at times.
    fn came_and_went(&self, watch: &Watch) -> bool {
        let last = self.removals.last(self.keyspace.hash_of(&watch.key));
        watch.version.is_none() && watch.since.is_some_and(|since| last > since.0)
    }

    /// Does one step, unless what it answers would make the replies larger than they may be: then
    /// it is not done.
    fn step(&mut self, step: &Step, version: u64, bytes: &mut usize) -> Reply {
        let shown = self.value_bytes_shown(step);
        if shown > 0 && *bytes + shown > TRANSACTION_REPLY_BYTES_MAX {
            return Reply::Refused(Refusal::ReplyTooLarge {
                bytes: (*bytes + shown) as u64,
                bytes_max: TRANSACTION_REPLY_BYTES_MAX as u64,
            });
        }
        let mut reply = match step {
            Step::Write(command) => self.execute(command, version),
            Step::Read(query) => match self.read(query, 0) {
                Ok(answer) => Reply::Read(Box::new(answer)),
                Err(Due(_)) => unreachable!("nothing is due before log time 0"),
            },
        };
        if matches!(step, Step::Read(Query::GetRange { .. })) {
            // A slice would keep the whole value alive for as long as the reply is remembered.
            reply.detach(usize::MAX);
        }
        *bytes += reply.payload_bytes();
        reply
    }

    /// Bytes of the value that a step will answer, at most.
    fn value_bytes_shown(&self, step: &Step) -> usize {
        let found =
            step.shown_key().and_then(|key| self.keyspace.find(self.keyspace.hash_of(key), key));
        found.map_or(0, |id| self.keyspace.get(id).value_len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use crate::core::machine::MachineConfig;
    use crate::core::machine_tests::config;
    use crate::core::slot::slot_of;
    use crate::types::limits::VALUE_BYTES_MAX;
    use crate::types::{Answer, Command, Condition, CopyKey, Delete, Expiry, Increment};

    fn read(key: &'static str) -> Step {
        Step::Read(Query::Get { key: key.into() })
    }

    fn transaction(watches: Vec<Watch>, steps: Vec<Step>) -> Command {
        Command::Transaction(Transaction { watches, steps })
    }

    fn value(reply: &Reply) -> Option<String> {
        let Reply::Read(answer) = reply else { panic!("{reply:?}") };
        let Answer::Value(found) = answer.as_ref() else { panic!("{answer:?}") };
        found.as_ref().map(|found| String::from_utf8_lossy(&found.value.data).into_owned())
    }

    #[test]
    fn steps_see_those_before_and_fail_alone() {
        let mut machine = machine();
        run(&mut machine, put("text", "abc"));
        let steps = vec![
            Step::Write(put("a", "1")),
            Step::Write(Command::Increment(Increment { key: "text".into(), delta: 1 })),
            Step::Write(Command::Increment(Increment { key: "a".into(), delta: 1 })),
            read("a"),
            Step::Write(Command::Set(set("a", "x", Expiry::Never, Condition::IfAbsent))),
            read("b"),
        ];
        let Reply::Transaction(replies) = run(&mut machine, transaction(Vec::new(), steps)) else {
            panic!("nothing is watched")
        };
        let Reply::Set { version: first } = replies[0] else { panic!("{replies:?}") };
        assert_eq!(replies[1], Reply::Refused(Refusal::NotInteger));
        assert_eq!(replies[2], Reply::Integer { version: Version(first.0 + 2), value: 2 });
        assert_eq!(value(&replies[3]).as_deref(), Some("2"));
        let current = Some(Version(first.0 + 2));
        assert_eq!(replies[4], Reply::ConditionFailed { current });
        assert_eq!(value(&replies[5]), None);
        assert_eq!(replies.len(), 6);
    }

    #[test]
    fn a_watched_key_that_changed_aborts_all() {
        let mut machine = machine();
        run(&mut machine, put("a", "1"));
        let seen = version(&machine, "a");
        let watch = |key: &'static str, version| Watch::of(key.into(), version);
        let steps = || vec![Step::Write(put("b", "2"))];
        let watches = || vec![watch("b", None), watch("a", Some(seen))];
        run(&mut machine, put("a", "1"));
        let aborted = Reply::Aborted { watch: 1, current: Some(version(&machine, "a")) };
        assert_eq!(run(&mut machine, transaction(watches(), steps())), aborted);
        assert_eq!(get(&machine, "b"), None);
        let gone = Delete { key: "a".into(), condition: Condition::Always };
        run(&mut machine, Command::Delete(gone));
        let aborted = Reply::Aborted { watch: 1, current: None };
        assert_eq!(run(&mut machine, transaction(watches(), steps())), aborted);
        let held = vec![watch("a", None)];
        assert!(matches!(run(&mut machine, transaction(held, steps())), Reply::Transaction(_)));
        let held = vec![watch("b", Some(version(&machine, "b")))];
        assert_eq!(
            run(&mut machine, transaction(held, Vec::new())),
            Reply::Transaction(Vec::new()),
            "watching alone is a check"
        );
    }

    /// A key of another shard refuses all, before anything is changed.
    #[test]
    fn a_slot_that_is_not_owned_refuses_all() {
        let owned = [slot_of(b"a")].into_iter().collect();
        let mut machine = Machine::new(MachineConfig { owned, ..config(1 << 20) });
        let steps = vec![Step::Write(put("a", "1")), read("b")];
        let reply = run(&mut machine, transaction(Vec::new(), steps));
        assert!(matches!(reply, Reply::Refused(Refusal::NotOwner { .. })), "{reply:?}");
        assert_eq!(get(&machine, "a"), None);
    }

    /// INV-8: what one entry touches of large values is bounded, and what would touch more does nothing.
    #[test]
    fn work_on_large_values_is_bounded() {
        let mut machine = Machine::new(config(128 << 20));
        run(&mut machine, put("k", &"v".repeat(1_000_000)));
        let names =
            |to: String| CopyKey { key: "k".into(), to: to.into(), condition: Condition::Always };
        let copies = |count: usize| {
            let copy = |at: usize| Step::Write(Command::Copy(names(format!("copy{at}"))));
            transaction(Vec::new(), (0..count).map(copy).collect())
        };
        let (bytes, bytes_max) = (68_000_000, TRANSACTION_WORK_BYTES_MAX as u64);
        let refused = Reply::Refused(Refusal::TooMuchWork { bytes, bytes_max });
        assert_eq!(run(&mut machine, copies(68)), refused);
        assert_eq!(get(&machine, "copy0"), None);
        let Reply::Transaction(done) = run(&mut machine, copies(67)) else { panic!("it fits") };
        assert_eq!(done.len(), 67);
        // They are there now: what is replaced is touched as well.
        assert!(matches!(run(&mut machine, copies(67)), Reply::Refused(_)));
    }

    /// INV-8: the replies are bounded, and a step that would go past the bound is not done.
    #[test]
    fn replies_are_bounded() {
        let mut machine = Machine::new(config(64 << 20));
        run(&mut machine, put("k", &"v".repeat(VALUE_BYTES_MAX)));
        let take = Command::GetDelete(Delete { key: "k".into(), condition: Condition::Always });
        let steps = vec![read("k"), read("k"), Step::Write(take), read("x")];
        let Reply::Transaction(replies) = run(&mut machine, transaction(Vec::new(), steps)) else {
            panic!("nothing is watched")
        };
        let bytes = 3 * VALUE_BYTES_MAX as u64;
        let bytes_max = TRANSACTION_REPLY_BYTES_MAX as u64;
        assert_eq!(replies[2], Reply::Refused(Refusal::ReplyTooLarge { bytes, bytes_max }));
        assert!(get(&machine, "k").is_some());
        assert_eq!(value(&replies[3]), None);
    }
}
