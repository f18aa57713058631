//! One session: the replies that a group remembers of it.

use std::collections::{BTreeMap, VecDeque};

use super::digest::fold;
use super::slot::slot_of;
use super::slot_set::SlotSet;
use crate::types::limits::SESSION_REPLIES_MAX;
use crate::types::{Command, Reply, Slot, Step};

/// Bytes that a session counts for beside its replies: itself, its place in the order of use and in
/// the table of sessions.
pub const SESSION_BYTES: usize = 256;

/// Slots that a write is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Slots {
    /// All slots of the group.
    All,
    /// One.
    One(Slot),
    /// Several. Invariant: ascending, at least two.
    Many(Box<[Slot]>),
}

impl Slots {
    /// The slots of a command.
    pub fn of(command: &Command) -> Self {
        match command {
            Command::Transaction(transaction) => {
                let watched = transaction.watches.iter().map(|watch| &watch.key);
                let keys = transaction.steps.iter().filter_map(Step::key);
                let targets = transaction.steps.iter().filter_map(Step::target);
                Self::from_slots(watched.chain(keys).chain(targets).map(|key| slot_of(key)))
            }
            other => match (other.key(), other.target()) {
                (None, _) => Slots::All,
                (Some(key), None) => Slots::One(slot_of(key)),
                (Some(key), Some(to)) => Self::from_slots([slot_of(key), slot_of(to)].into_iter()),
            },
        }
    }

    /// These slots; all if there are none.
    pub fn from_slots(slots: impl Iterator<Item = Slot>) -> Self {
        let mut slots: Vec<Slot> = slots.collect();
        slots.sort_unstable();
        slots.dedup();
        match slots[..] {
            [] => Slots::All,
            [slot] => Slots::One(slot),
            _ => Slots::Many(slots.into()),
        }
    }

    /// As numbers; none for all slots.
    pub fn as_slice(&self) -> &[Slot] {
        match self {
            Slots::All => &[],
            Slots::One(slot) => std::slice::from_ref(slot),
            Slots::Many(slots) => slots,
        }
    }

    /// Whether both are about a slot.
    pub fn meet(&self, other: &Slots) -> bool {
        match (self, other) {
            (Slots::All, _) | (_, Slots::All) => true,
            (few, many) => {
                let many = many.as_slice();
                few.as_slice().iter().any(|slot| many.binary_search(slot).is_ok())
            }
        }
    }

    /// Whether one of them is in the set.
    pub fn are_in(&self, set: &SlotSet) -> bool {
        match self {
            Slots::All => !set.is_empty(),
            some => some.as_slice().iter().any(|slot| set.contains(*slot)),
        }
    }

    /// Bytes beside itself.
    fn boxed_bytes(&self) -> usize {
        match self {
            Slots::Many(slots) => size_of_val(&slots[..]),
            Slots::All | Slots::One(_) => 0,
        }
    }

    fn digest(&self) -> u64 {
        match self {
            Slots::All => 0,
            Slots::One(slot) => 1 + u64::from(slot.0),
            Slots::Many(slots) => slots.iter().fold(1, |hash, slot| fold(&[hash, slot.0.into()])),
        }
    }
}

/// A remembered reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remembered {
    /// Number of the request within its session.
    pub sequence: u64,
    /// Which part of the request.
    pub part: u16,
    /// What it was about.
    pub slots: Slots,
    /// What it was answered.
    pub reply: Reply,
}

/// Bytes that a remembered reply counts for beside the values in it.
pub const REPLY_BYTES: usize = 72;
const _: () = assert!(size_of::<Remembered>() <= REPLY_BYTES);

impl Remembered {
    /// Its name within the session: what replies are in order of.
    pub fn name(&self) -> (u64, u16) {
        (self.sequence, self.part)
    }

    /// Digest of its name and slots.
    pub fn digest(&self) -> u64 {
        fold(&[self.sequence, self.part.into(), self.slots.digest()])
    }
}

/// What is known of a request id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// Never applied, as far as the memory reaches.
    New,
    /// Applied before, with this reply.
    Again(Reply),
    /// It may have been applied: too old to know.
    Forgotten,
}

/// One session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Session {
    /// Version of the write that used it last: its place in the order of use.
    pub used_version: u64,
    /// Age of the group at its last use, milliseconds.
    pub used_age_ms: u64,
    /// Every sequence below was forgotten if it was ever used.
    pub forgotten_below: u64,
    /// What had been forgotten when it began (`Sessions::forgotten_ms`): it may be one of those.
    pub forgotten_ms: u64,
    /// Invariant: ascending by sequence and part, at most `SESSION_REPLIES_MAX`, none below
    /// `forgotten_below`.
    replies: VecDeque<Remembered>,
    /// Version of the write behind each reply that carries values: their order of age. Invariant:
    /// exactly the names of the replies whose `weight` is not 0.
    heavy: BTreeMap<(u64, u16), u64>,
    /// Invariant: the sum of `Slots::boxed_bytes` over the replies.
    boxed_bytes: usize,
}

/// Bytes of values that a remembered reply counts for, 0 if it carries none.
pub fn weight(reply: &Reply) -> usize {
    match reply.payload_bytes() {
        0 => 0,
        bytes => bytes + 64,
    }
}

impl Session {
    /// One that begins when so much was forgotten (`Session::forgotten_ms`).
    pub fn new(forgotten_ms: u64) -> Self {
        Session { forgotten_ms, ..Session::default() }
    }

    /// What is known of a part of a request. `born_ms` is the age of the group before which it was
    /// surely not sent; none if it is sent for the first time.
    ///
    /// Slots move together, but a request that is sent again may be parted in another way. A part that
    /// meets another one in a slot was applied at least there.
    pub fn look(&self, sequence: u64, part: u16, slots: &Slots, born_ms: Option<u64>) -> Seen {
        let first = self.replies.partition_point(|reply| reply.sequence < sequence);
        let mut met = false;
        for known in self.replies.range(first..).take_while(|reply| reply.sequence == sequence) {
            if known.part == part && known.slots == *slots {
                return Seen::Again(known.reply.clone());
            }
            met |= known.part == part || known.slots.meet(slots);
        }
        let before = born_ms.is_some_and(|born_ms| born_ms < self.forgotten_ms);
        if met || before || sequence < self.forgotten_below { Seen::Forgotten } else { Seen::New }
    }

    /// The replies, in order.
    pub fn replies(&self) -> impl ExactSizeIterator<Item = &Remembered> {
        self.replies.iter()
    }

    /// Version of the write behind a reply that carries values.
    pub fn heavy_version(&self, name: (u64, u16)) -> Option<u64> {
        self.heavy.get(&name).copied()
    }

    /// Bytes it counts for: what its buffers take, by the number of replies alone, so that every
    /// replica counts the same.
    pub fn bytes(&self) -> usize {
        let places =
            if self.replies.is_empty() { 0 } else { self.replies.len().next_power_of_two() };
        SESSION_BYTES + places * REPLY_BYTES + self.boxed_bytes
    }

    /// Takes out a reply that must go before one of this sequence can be remembered, and its version if
    /// it carries values.
    pub fn make_room(&mut self, sequence: u64) -> Option<(Remembered, Option<u64>)> {
        let lowest = self.replies.front()?.sequence;
        let full = self.replies.len() >= SESSION_REPLIES_MAX && sequence >= lowest;
        // All parts of a request are forgotten together.
        if !full && lowest >= self.forgotten_below {
            return None;
        }
        self.forgotten_below = self.forgotten_below.max(lowest.saturating_add(1));
        let dropped = self.replies.pop_front()?;
        self.boxed_bytes -= dropped.slots.boxed_bytes();
        let version = self.heavy.remove(&dropped.name());
        Some((dropped, version))
    }

    /// Remembers a reply for which there is room; false if it is itself the one to forget.
    pub fn remember(&mut self, new: Remembered, version: u64) -> bool {
        let full = self.replies.len() >= SESSION_REPLIES_MAX;
        if full || new.sequence < self.forgotten_below {
            self.forgotten_below = self.forgotten_below.max(new.sequence.saturating_add(1));
            return false;
        }
        let at = self.replies.partition_point(|known| known.name() < new.name());
        if self.replies.len() == self.replies.capacity() {
            // No more than is counted, also after a copy, which has no room to spare.
            let places = (self.replies.len() + 1).next_power_of_two();
            self.replies.reserve_exact(places - self.replies.len());
        }
        self.boxed_bytes += new.slots.boxed_bytes();
        if weight(&new.reply) > 0 {
            self.heavy.insert(new.name(), version);
        }
        self.replies.insert(at, new);
        true
    }

    /// Puts another reply in the place of one that carries values; gives the old one.
    pub fn replace_heavy(&mut self, name: (u64, u16), reply: Reply) -> Option<Remembered> {
        let at = self.replies.binary_search_by_key(&name, Remembered::name).ok()?;
        let old = self.replies[at].clone();
        self.replies[at].reply = reply;
        self.heavy.remove(&name);
        Some(old)
    }

    /// The reply of this name.
    pub fn reply(&self, name: (u64, u16)) -> Option<&Remembered> {
        let at = self.replies.binary_search_by_key(&name, Remembered::name).ok()?;
        self.replies.get(at)
    }

    /// Adds a reply of a snapshot; false if it is out of order or one too many.
    pub fn import(&mut self, reply: Remembered, version: Option<u64>) -> bool {
        let ascending = self.replies.back().is_none_or(|last| last.name() < reply.name());
        let heavy = (weight(&reply.reply) > 0) == version.is_some();
        let sound = ascending
            && heavy
            && reply.sequence >= self.forgotten_below
            && self.replies.len() < SESSION_REPLIES_MAX;
        sound && self.remember(reply, version.unwrap_or_default())
    }

    /// Digest of all but the replies.
    pub fn digest(&self, id: u128) -> u64 {
        fold(&[
            id as u64,
            (id >> 64) as u64,
            self.used_version,
            self.used_age_ms,
            self.forgotten_below,
            self.forgotten_ms,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Condition, CopyKey, Delete, Transaction, Version, Watch};

    fn slots(of: &[u16]) -> Slots {
        Slots::from_slots(of.iter().map(|slot| Slot(*slot)))
    }

    fn reply(sequence: u64, part: u16, of: &[u16]) -> Remembered {
        let reply = Reply::Set { version: Version(sequence * 100 + u64::from(part)) };
        Remembered { sequence, part, slots: slots(of), reply }
    }

    #[test]
    fn slots_are_those_of_all_keys() {
        let delete = |key: &'static str| {
            Command::Delete(Delete { key: key.into(), condition: Condition::Always })
        };
        assert_eq!(Slots::of(&delete("a")), Slots::One(slot_of(b"a")));
        assert_eq!(Slots::of(&Command::Flush), Slots::All);
        let names = CopyKey { key: "a".into(), to: "b".into(), condition: Condition::Always };
        let both = Slots::from_slots([slot_of(b"a"), slot_of(b"b")].into_iter());
        assert_eq!(Slots::of(&Command::Copy(names.clone())), both);
        let watches = vec![Watch::of("w".into(), None)];
        let steps = vec![Step::Write(Command::Rename(names)), Step::Write(delete("a"))];
        let all = [slot_of(b"a"), slot_of(b"b"), slot_of(b"w")];
        let of = Slots::of(&Command::Transaction(Transaction { watches, steps }));
        assert_eq!(of, Slots::from_slots(all.into_iter()));
        assert!(slots(&[1, 5]).meet(&slots(&[5, 9])) && !slots(&[1, 5]).meet(&slots(&[2, 9])));
        assert!(Slots::All.meet(&slots(&[1])) && slots(&[1]).meet(&Slots::All));
    }

    /// Parts of one request that went to two groups and met in one since: each gets its own reply,
    /// and what is parted in another way is not applied again.
    #[test]
    fn parts_of_one_request_are_told_apart() {
        let mut session = Session::default();
        let parts: [(u16, &[u16]); 2] = [(0, &[1, 2]), (3, &[7])];
        for (part, of) in parts {
            assert_eq!(session.look(5, part, &slots(of), None), Seen::New);
            assert!(session.remember(reply(5, part, of), 0));
        }
        assert_eq!(session.look(5, 0, &slots(&[1, 2]), None), Seen::Again(reply(5, 0, &[]).reply));
        assert_eq!(session.look(5, 3, &slots(&[7]), None), Seen::Again(reply(5, 3, &[]).reply));
        assert_eq!(session.look(5, 4, &slots(&[8]), None), Seen::New, "the part of a third group");
        let parted_anew: [(u16, &[u16]); 4] = [(1, &[2]), (0, &[1]), (0, &[1, 2, 7]), (2, &[7, 8])];
        for (part, of) in parted_anew {
            assert_eq!(session.look(5, part, &slots(of), None), Seen::Forgotten, "{part} {of:?}");
        }
        assert_eq!(session.look(6, 0, &slots(&[1, 2]), None), Seen::New);
    }

    #[test]
    fn the_lowest_go_first_with_all_their_parts_and_buffers_do_not_double() {
        let mut session = Session::default();
        let count = SESSION_REPLIES_MAX as u64 - 1;
        assert!(session.remember(reply(1, 0, &[1]), 0) && session.remember(reply(1, 4, &[2]), 0));
        // From the highest down: the order of arrival does not matter.
        for sequence in (2..=count).rev() {
            assert!(session.make_room(sequence).is_none());
            assert!(session.remember(reply(sequence, 0, &[3, 4]), 0));
            let places = (session.bytes() - SESSION_BYTES - session.boxed_bytes) / REPLY_BYTES;
            assert!(session.replies.capacity() <= places);
        }
        assert_eq!(session.replies.len(), SESSION_REPLIES_MAX);
        assert!(session.make_room(0).is_none(), "it would be the lowest itself");
        assert!(!session.remember(reply(0, 0, &[1]), 0));
        assert_eq!(session.look(0, 0, &slots(&[1]), None), Seen::Forgotten);
        for part in [0, 4] {
            let (dropped, version) = session.make_room(count + 1).expect("it is full");
            assert_eq!((dropped.name(), version), ((1, part), None));
        }
        assert!(session.make_room(count + 1).is_none());
        assert!(session.remember(reply(count + 1, 0, &[1]), 0));
        assert_eq!(session.look(1, 4, &slots(&[2]), None), Seen::Forgotten);
        assert_eq!(session.replies.capacity(), SESSION_REPLIES_MAX);
        // A copy has no room to spare, and gets no more than it needs.
        let mut copy = session.clone();
        for sequence in count + 2..count + 5 {
            while copy.make_room(sequence).is_some() {}
            assert!(copy.remember(reply(sequence, 0, &[1]), 0));
        }
        assert_eq!(copy.replies.len(), SESSION_REPLIES_MAX);
        assert_eq!(copy.replies.capacity(), SESSION_REPLIES_MAX);
    }

    #[test]
    fn a_session_that_began_anew_does_not_know_what_it_was() {
        let session = Session::new(501);
        assert_eq!(session.look(1, 0, &slots(&[1]), None), Seen::New, "the first time");
        assert_eq!(session.look(1, 0, &slots(&[1]), Some(500)), Seen::Forgotten);
        assert_eq!(session.look(1, 0, &slots(&[1]), Some(501)), Seen::New);
    }
}
