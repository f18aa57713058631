//! `Delete` and `GetDelete`.

use crate::core::machine::{Machine, holds};
use crate::types::{Delete, Refusal, Reply, Version};

impl Machine {
    pub(in crate::core::machine) fn delete(&mut self, delete: &Delete, version: u64) -> Reply {
        if let Some(refusal) = self.refuse_key(&delete.key) {
            return Reply::Refused(refusal);
        }
        let found = self.find_alive(&delete.key);
        if self.wrong_kind(found) {
            return Reply::Refused(Refusal::WrongKind);
        }
        let current = found.map(|id| self.keyspace.get(id));
        let current_version = current.map(|e| Version(e.version));
        if !holds(delete.condition, current) {
            return Reply::ConditionFailed { current: current_version };
        }
        self.note_removal(&delete.key, version);
        match (found, current_version) {
            (Some(id), Some(version)) => {
                self.remove(id);
                Reply::Deleted { version }
            }
            _ => Reply::NotFound,
        }
    }

    /// The value is a handle on its allocation, not a copy.
    pub(in crate::core::machine) fn get_delete(&mut self, delete: &Delete, version: u64) -> Reply {
        if let Some(refusal) = self.refuse_key(&delete.key) {
            return Reply::Refused(refusal);
        }
        let id = self.find_alive(&delete.key);
        if self.wrong_kind(id) {
            return Reply::Refused(Refusal::WrongKind);
        }
        let found = id.map(|id| Box::new(self.found(id)));
        if !holds(delete.condition, id.map(|id| self.keyspace.get(id))) {
            return Reply::NotSwapped { current: found };
        }
        self.note_removal(&delete.key, version);
        match (id, found) {
            (Some(id), Some(found)) => {
                self.remove(id);
                Reply::Taken(found)
            }
            _ => Reply::NotFound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use crate::types::*;

    #[test]
    fn get_delete_answers_what_was_there_and_is_gone() {
        let mut machine = machine();
        let take = |condition| Command::GetDelete(Delete { key: "k".into(), condition });
        assert_eq!(run(&mut machine, take(Condition::Always)), Reply::NotFound);
        run(&mut machine, put("k", "a"));
        let held = Box::new(found("a", version(&machine, "k"), None));
        let other = take(Condition::IfVersion(Version(1)));
        assert_eq!(run(&mut machine, other), Reply::NotSwapped { current: Some(held.clone()) });
        let same = take(Condition::IfVersion(held.version));
        assert_eq!(run(&mut machine, same), Reply::Taken(held));
        assert_eq!(get(&machine, "k"), None);
        let gone = take(Condition::IfPresent);
        assert_eq!(run(&mut machine, gone), Reply::NotSwapped { current: None });
    }
}
