//! First replies by request id, so that a retried operation is applied once and gets the first
//! answer (INV-6): one memory of them, with bounds of its own (`retry_memory` has two).
//!
//! A session remembers its `SESSION_REPLIES_MAX` highest sequences. What is lower than anything it
//! ever dropped is refused as forgotten: it may have been applied. Whole sessions are dropped when
//! unused for `SESSION_IDLE_MS_MAX` of age, and the least recently used ones past `SESSIONS_MAX` or
//! `SESSIONS_BYTES_MAX`. The highest age at which a dropped one was last used is kept: a retry of an
//! unknown session that may have begun before is refused as forgotten as well.
//!
//! Replies that carry values are remembered up to `SESSION_REPLY_BYTES_MAX` bytes. Past that the oldest
//! of them, whichever session's it is, gives way to the refusal that a retry of it gets from then on:
//! `SessionExpired`, which says that it may have been applied, and it was.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use bytes::BytesMut;
use lru::LruCache;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::digest::fold;
use super::reply_record::put_reply;
use super::session::{REPLY_BYTES, Remembered, SESSION_BYTES, Seen, Session, Slots, weight};
use super::slot_set::SlotSet;
use crate::types::limits::{
    KEY_BYTES_MAX, SESSION_IDLE_MS_MAX, SESSION_REPLIES_MAX, SESSION_REPLY_BYTES_MAX,
    SESSIONS_BYTES_MAX, SESSIONS_MAX, TRANSACTION_OPERATIONS_MAX,
};
use crate::types::probe::{Probe, reached};
use crate::types::{Once, Refusal, Reply};

/// Sessions dropped for idleness by one log entry.
const EXPIRE_STEP: usize = 64;

// The largest session is one of many: a transaction names at most two keys a step, and as many watches.
const _: () = assert!(
    (SESSION_BYTES + SESSION_REPLIES_MAX * (REPLY_BYTES + 2 * 3 * TRANSACTION_OPERATIONS_MAX)) * 8
        < SESSIONS_BYTES_MAX
);

/// When something happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// Version of the write, or of the first of its steps: no two writes have the same.
    pub version: u64,
    /// Age of the group, milliseconds.
    pub age_ms: u64,
}

/// What a memory holds of some slots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionPart<'a> {
    /// The session.
    pub id: u128,
    /// Every sequence of it below was forgotten, whatever its slots.
    pub forgotten_below: u64,
    /// See `Session::forgotten_ms`.
    pub forgotten_ms: u64,
    /// Its replies about the slots, in order.
    pub replies: Vec<&'a Remembered>,
}

/// A memory of sessions.
pub struct Sessions {
    /// In order of use. Shared so that a snapshot is a list of pointers: a session in use is
    /// copied only while a snapshot holds it.
    sessions: LruCache<u128, Arc<Session>, SessionHashing>,
    /// The highest age at which a dropped session was last used, plus 1; 0 while none was dropped.
    forgotten_ms: u64,
    totals: Totals,
}

/// Sums over all sessions.
#[derive(Debug, Default)]
struct Totals {
    /// Wrapping sum of `Session::digest` over the sessions and `of_reply` over their replies.
    digest: u64,
    /// Of `Session::bytes`.
    bytes: usize,
    /// Replies that carry values, oldest first: session and name by the version of the write.
    heavy: BTreeMap<u64, (u128, (u64, u16))>,
    /// Invariant: the sum of `weight` over them, at most `SESSION_REPLY_BYTES_MAX`.
    heavy_bytes: usize,
}

impl Totals {
    fn add(&mut self, id: u128, known: &Remembered, version: Option<u64>) {
        self.digest = self.digest.wrapping_add(of_reply(id, known, version));
        if let Some(version) = version {
            let other = self.heavy.insert(version, (id, known.name()));
            assert!(other.is_none(), "a version is of one write");
            self.heavy_bytes += weight(&known.reply);
        }
    }

    fn subtract(&mut self, id: u128, known: &Remembered, version: Option<u64>) {
        self.digest = self.digest.wrapping_sub(of_reply(id, known, version));
        if let Some(version) = version {
            let known_here = self.heavy.remove(&version);
            assert!(known_here.is_some(), "every heavy reply is kept here");
            self.heavy_bytes -= weight(&known.reply);
        }
    }

    /// A session was something else before: its digest, and the bytes it counted for.
    fn changed(&mut self, before: (u64, usize), id: u128, session: &Session) {
        self.digest = self.digest.wrapping_sub(before.0).wrapping_add(session.digest(id));
        self.bytes = self.bytes - before.1 + session.bytes();
    }
}

impl Sessions {
    /// No sessions; `seed` is that of the group's key hash.
    pub fn new(seed: u64) -> Self {
        Sessions {
            sessions: LruCache::unbounded_with_hasher(SessionHashing(seed)),
            forgotten_ms: 0,
            totals: Totals::default(),
        }
    }

    /// Sessions remembered.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether no session is remembered.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Bytes that sessions and replies count for, values included.
    pub fn bytes(&self) -> usize {
        self.totals.bytes + self.totals.heavy_bytes
    }

    /// The highest age at which a dropped session was last used, plus 1; 0 while none was dropped.
    pub fn forgotten_ms(&self) -> u64 {
        self.forgotten_ms
    }

    /// Hash of all that decides a later answer: the replies, what was forgotten, and the order of use.
    pub fn digest(&self) -> u64 {
        fold(&[self.totals.digest, self.forgotten_ms])
    }

    /// What is known of a write that came under this name; using a session keeps it.
    pub fn look(&mut self, once: &Once, slots: &Slots, now: Moment) -> Seen {
        let born_ms = once.age_ms_max.map(|ms| now.age_ms.saturating_sub(ms));
        let id = once.id.session;
        let Some(session) = self.sessions.get_mut(&id) else {
            let dropped = born_ms.is_some_and(|born_ms| born_ms < self.forgotten_ms);
            return if dropped { Seen::Forgotten } else { Seen::New };
        };
        let before = (session.digest(id), session.bytes());
        let session = Arc::make_mut(session);
        (session.used_version, session.used_age_ms) = (now.version, now.age_ms);
        self.totals.changed(before, id, session);
        session.look(once.id.sequence, once.part, slots, born_ms)
    }

    /// Remembers the first reply to a write that `look` called new at this moment. The bounds on
    /// sessions may be passed until `settle`.
    pub fn remember(&mut self, once: &Once, slots: Slots, reply: &Reply, now: Moment) {
        let (id, sequence) = (once.id.session, once.id.sequence);
        let mut reply = reply.clone();
        // What is smaller than the key beside it could keep more alive than it counts for.
        reply.detach(KEY_BYTES_MAX);
        let forgotten_ms = self.forgotten_ms;
        let mut before = None;
        let new = || Arc::new(Session::new(forgotten_ms));
        if let Some(session) = self.sessions.peek(&id) {
            before = Some((session.digest(id), session.bytes()));
        }
        let session = Arc::make_mut(self.sessions.get_or_insert_mut(id, new));
        (session.used_version, session.used_age_ms) = (now.version, now.age_ms);
        while let Some((dropped, version)) = session.make_room(sequence) {
            self.totals.subtract(id, &dropped, version);
        }
        let known = Remembered { sequence, part: once.part, slots, reply };
        let name = known.name();
        if session.remember(known, now.version) {
            let known = session.reply(name).expect("it was just remembered");
            self.totals.add(id, known, session.heavy_version(name));
        }
        self.totals.changed(before.unwrap_or_default(), id, session);
        while self.totals.heavy_bytes > SESSION_REPLY_BYTES_MAX {
            self.forget_oldest_heavy();
        }
    }

    /// The oldest reply that carries values gives way to a refusal.
    fn forget_oldest_heavy(&mut self) {
        let (&version, &(id, name)) =
            self.totals.heavy.first_key_value().expect("bytes are those of heavy replies");
        let session = self.sessions.peek_mut(&id).expect("heavy replies are of sessions held");
        let session = Arc::make_mut(session);
        let forgotten = Reply::Refused(Refusal::SessionExpired);
        let old = session.replace_heavy(name, forgotten).expect("heavy replies are remembered");
        self.totals.subtract(id, &old, Some(version));
        let new = session.reply(name).expect("it was just replaced");
        self.totals.add(id, new, None);
    }

    /// Drops sessions that were not used for long, a bounded number a call, and those past the bounds.
    /// Called after all writes of an entry: a retry in it is looked up first.
    pub fn settle(&mut self, age_ms: u64) {
        for _ in 0..EXPIRE_STEP {
            let idle = |session: &Session| {
                session.used_age_ms.saturating_add(SESSION_IDLE_MS_MAX) <= age_ms
            };
            match self.sessions.peek_lru() {
                Some((_, session)) if idle(session) => {
                    reached(Probe::SessionForgotten);
                    self.drop_oldest();
                }
                _ => break,
            }
        }
        while self.sessions.len() > SESSIONS_MAX || self.totals.bytes > SESSIONS_BYTES_MAX {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((id, session)) = self.sessions.pop_lru() else { return };
        self.forgotten_ms = self.forgotten_ms.max(session.used_age_ms.saturating_add(1));
        for known in session.replies() {
            self.totals.subtract(id, known, session.heavy_version(known.name()));
        }
        self.totals.digest = self.totals.digest.wrapping_sub(session.digest(id));
        self.totals.bytes -= session.bytes();
    }

    /// What a group that takes these slots over must know: the replies about them, and of each session
    /// what it forgot. Least recently used first. What was forgotten of whole sessions is
    /// `forgotten_ms`.
    pub fn of_slots<'a>(&'a self, slots: &SlotSet) -> Vec<SessionPart<'a>> {
        let part = |(id, session): (&u128, &'a Arc<Session>)| {
            let about = |known: &&Remembered| known.slots.are_in(slots);
            SessionPart {
                id: *id,
                forgotten_below: session.forgotten_below,
                forgotten_ms: session.forgotten_ms,
                replies: session.replies().filter(about).collect(),
            }
        };
        let matters = |part: &SessionPart<'_>| !part.replies.is_empty() || part.forgotten_below > 0;
        let mut parts: Vec<_> = self.sessions.iter().map(part).filter(matters).collect();
        parts.reverse();
        parts
    }

    /// The sessions as they are now, least recently used first.
    pub fn export(&self) -> Vec<(u128, Arc<Session>)> {
        let mut all: Vec<_> = self.sessions.iter().map(|(id, s)| (*id, Arc::clone(s))).collect();
        all.reverse();
        all
    }

    /// Takes in what was forgotten; the first of an import.
    pub fn import_forgotten_ms(&mut self, forgotten_ms: u64) {
        self.forgotten_ms = forgotten_ms;
    }

    /// Takes in a session of a snapshot; called in the order of `export`. False if it is there
    /// already or breaks a bound.
    pub fn import(&mut self, id: u128, session: Session) -> bool {
        let versions = || session.replies().filter_map(|r| session.heavy_version(r.name()));
        let distinct: std::collections::BTreeSet<u64> = versions().collect();
        let values: usize = session.replies().map(|known| weight(&known.reply)).sum();
        let ordered = self
            .sessions
            .iter()
            .next()
            .is_none_or(|(_, newest)| newest.used_version < session.used_version);
        let sound = ordered
            && distinct.len() == versions().count()
            && !distinct.iter().any(|version| self.totals.heavy.contains_key(version))
            && self.totals.heavy_bytes + values <= SESSION_REPLY_BYTES_MAX
            && self.totals.bytes + session.bytes() <= SESSIONS_BYTES_MAX
            && self.sessions.len() < SESSIONS_MAX
            && !self.sessions.contains(&id);
        if !sound {
            return false;
        }
        for known in session.replies() {
            self.totals.add(id, known, session.heavy_version(known.name()));
        }
        self.totals.changed((0, 0), id, &session);
        self.sessions.put(id, Arc::new(session));
        true
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sessions({})", self.sessions.len())
    }
}

fn of_reply(id: u128, known: &Remembered, heavy: Option<u64>) -> u64 {
    let (tag, a, b) = match &known.reply {
        Reply::Set { version } => (1, version.0, 0),
        Reply::Deleted { version } => (2, version.0, 0),
        Reply::NotFound => (3, 0, 0),
        Reply::ConditionFailed { current: None } => (4, 0, 0),
        Reply::ConditionFailed { current: Some(version) } => (5, version.0, 0),
        Reply::Done => (6, 0, 0),
        Reply::Refused(Refusal::TooLarge { bytes, bytes_max }) => (7, *bytes, *bytes_max),
        Reply::Refused(Refusal::NotOwner { epoch }) => (8, epoch.0, 0),
        Reply::Refused(Refusal::SessionExpired) => (9, 0, 0),
        other => {
            let mut bytes = BytesMut::new();
            put_reply(&mut bytes, other);
            (10, xxh3_64(&bytes), heavy.unwrap_or(0))
        }
    };
    fold(&[id as u64, (id >> 64) as u64, known.digest(), tag, a, b])
}

/// Hashes session ids, which clients choose, with the group's seed.
#[derive(Clone, Copy, Debug)]
struct SessionHashing(u64);

impl BuildHasher for SessionHashing {
    type Hasher = SessionHasher;

    fn build_hasher(&self) -> SessionHasher {
        SessionHasher(self.0)
    }
}

struct SessionHasher(u64);

impl Hasher for SessionHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
mod tests;
