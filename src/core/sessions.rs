//! First replies by request id, so that a retried operation is applied once and gets the first
//! answer (INV-6).
//!
//! A session remembers its `SESSION_REPLIES_MAX` highest sequences. What is lower than anything it
//! ever dropped is refused as forgotten: it may have been applied. Whole sessions are dropped when
//! unused for `SESSION_IDLE_MS_MAX` of log time, or as the least recently used of more than
//! `SESSIONS_MAX`; a retry must come before that.
//!
//! Replies that carry values are remembered up to `SESSION_REPLY_BYTES_MAX` bytes of a group. Past
//! that the oldest of them, whichever session's it is, gives way to the refusal that a retry of it
//! gets from then on: `SessionExpired`, which says that it may have been applied, and it was.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use bytes::BytesMut;
use lru::LruCache;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::digest::fold;
use super::reply_record::put_reply;
use crate::types::limits::{
    KEY_BYTES_MAX, SESSION_IDLE_MS_MAX, SESSION_REPLIES_MAX, SESSION_REPLY_BYTES_MAX, SESSIONS_MAX,
};
use crate::types::{Refusal, Reply, RequestId};

/// Sessions dropped for idleness by one call of `expire`.
const EXPIRE_STEP: usize = 64;

/// What is known of a request id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// Never applied, as far as the window reaches.
    New,
    /// Applied before, with this reply.
    Again(Reply),
    /// Too old to know.
    Forgotten,
}

/// One session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Session {
    /// Log time of its last use, milliseconds.
    pub used_ms: u64,
    /// Every sequence below was forgotten if it was ever used.
    pub forgotten_below: u64,
    /// Replies. Invariant: ascending by sequence, at most `SESSION_REPLIES_MAX`, none below
    /// `forgotten_below`.
    pub replies: VecDeque<(u64, Reply)>,
    /// Version of the write behind each reply that carries values, by sequence: their order of age.
    /// Invariant: exactly the sequences of the replies that `weight` is not 0 of.
    pub heavy: BTreeMap<u64, u64>,
}

/// Bytes a remembered reply counts for, 0 if it carries no values.
pub fn weight(reply: &Reply) -> usize {
    match reply.payload_bytes() {
        0 => 0,
        bytes => bytes + 64,
    }
}

impl Session {
    fn look(&self, sequence: u64) -> Seen {
        match self.replies.binary_search_by_key(&sequence, |(sequence, _)| *sequence) {
            Ok(at) => Seen::Again(self.replies[at].1.clone()),
            Err(_) if sequence < self.forgotten_below => Seen::Forgotten,
            Err(_) => Seen::New,
        }
    }

    /// Remembers a reply and gives the one that had to go for it.
    fn remember(&mut self, sequence: u64, reply: Reply) -> Option<(u64, Reply)> {
        let at = self.replies.partition_point(|(other, _)| *other < sequence);
        self.replies.insert(at, (sequence, reply));
        if self.replies.len() <= SESSION_REPLIES_MAX {
            return None;
        }
        let dropped = self.replies.pop_front()?;
        self.forgotten_below = self.forgotten_below.max(dropped.0.saturating_add(1));
        Some(dropped)
    }
}

/// The sessions of a group.
pub struct Sessions {
    /// In order of use. Shared so that a snapshot is a list of pointers: a session in use is
    /// copied only while a snapshot holds it.
    sessions: LruCache<u128, Arc<Session>, SessionHashing>,
    /// Wrapping sum over all replies remembered.
    digest: u64,
    /// Replies that carry values, oldest first: session and sequence by the version of the write.
    heavy: BTreeMap<u64, (u128, u64)>,
    /// Invariant: the sum of `weight` over them, at most `SESSION_REPLY_BYTES_MAX`.
    heavy_bytes: usize,
}

impl Sessions {
    /// No sessions; `seed` is that of the group's key hash.
    pub fn new(seed: u64) -> Self {
        Sessions {
            sessions: LruCache::unbounded_with_hasher(SessionHashing(seed)),
            digest: 0,
            heavy: BTreeMap::new(),
            heavy_bytes: 0,
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

    /// Hash of every (session, sequence, reply), whatever their order.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// What is known of a request id; using a session keeps it.
    pub fn look(&mut self, id: RequestId, log_time_ms: u64) -> Seen {
        let Some(session) = self.sessions.get_mut(&id.session) else { return Seen::New };
        if session.used_ms != log_time_ms {
            Arc::make_mut(session).used_ms = log_time_ms;
        }
        session.look(id.sequence)
    }

    /// Remembers the first reply to a request id that `look` called new. `version` is that of the
    /// write, or of the first of its steps.
    pub fn remember(&mut self, id: RequestId, reply: &Reply, version: u64, log_time_ms: u64) {
        if !self.sessions.contains(&id.session) && self.sessions.len() == SESSIONS_MAX {
            self.drop_oldest();
        }
        let weight = weight(reply);
        let mut kept = reply.clone();
        // What is smaller than the key beside it could keep more alive than it counts for.
        kept.detach(KEY_BYTES_MAX);
        let session = self.sessions.get_or_insert_mut(id.session, Arc::default);
        let session = Arc::make_mut(session);
        session.used_ms = log_time_ms;
        let dropped = session.remember(id.sequence, kept);
        if weight > 0 {
            session.heavy.insert(id.sequence, version);
        }
        let dropped =
            dropped.map(|(sequence, reply)| (sequence, reply, session.heavy.remove(&sequence)));
        self.add(id, reply, (weight > 0).then_some(version));
        if let Some((sequence, reply, version)) = dropped {
            self.subtract(RequestId { session: id.session, sequence }, &reply, version);
        }
        while self.heavy_bytes > SESSION_REPLY_BYTES_MAX {
            self.forget_oldest_heavy();
        }
    }

    fn add(&mut self, id: RequestId, reply: &Reply, version: Option<u64>) {
        self.digest = self.digest.wrapping_add(of_reply(id, reply, version));
        if let Some(version) = version {
            let other = self.heavy.insert(version, (id.session, id.sequence));
            assert!(other.is_none(), "a version is of one write");
            self.heavy_bytes += weight(reply);
        }
    }

    fn subtract(&mut self, id: RequestId, reply: &Reply, version: Option<u64>) {
        self.digest = self.digest.wrapping_sub(of_reply(id, reply, version));
        if let Some(version) = version {
            let known = self.heavy.remove(&version);
            assert!(known.is_some(), "every heavy reply is kept here");
            self.heavy_bytes -= weight(reply);
        }
    }

    /// The oldest reply that carries values gives way to a refusal.
    fn forget_oldest_heavy(&mut self) {
        let (&version, &(session, sequence)) =
            self.heavy.first_key_value().expect("bytes are those of heavy replies");
        let id = RequestId { session, sequence };
        let state = self.sessions.peek_mut(&session).expect("heavy replies are of sessions held");
        let state = Arc::make_mut(state);
        let at = state.replies.binary_search_by_key(&sequence, |(sequence, _)| *sequence);
        let at = at.expect("heavy replies are remembered");
        let forgotten = Reply::Refused(Refusal::SessionExpired);
        let old = std::mem::replace(&mut state.replies[at].1, forgotten.clone());
        state.heavy.remove(&sequence);
        self.subtract(id, &old, Some(version));
        self.add(id, &forgotten, None);
    }

    /// Drops sessions that were not used for long, a bounded number a call.
    pub fn expire(&mut self, log_time_ms: u64) {
        for _ in 0..EXPIRE_STEP {
            let idle = |session: &Session| {
                session.used_ms.saturating_add(SESSION_IDLE_MS_MAX) <= log_time_ms
            };
            match self.sessions.peek_lru() {
                Some((_, session)) if idle(session) => self.drop_oldest(),
                _ => break,
            }
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((id, state)) = self.sessions.pop_lru() {
            for (sequence, reply) in &state.replies {
                let id = RequestId { session: id, sequence: *sequence };
                self.subtract(id, reply, state.heavy.get(sequence).copied());
            }
        }
    }

    /// The sessions as they are now, least recently used first.
    pub fn export(&self) -> Vec<(u128, Arc<Session>)> {
        let mut all: Vec<_> = self.sessions.iter().map(|(id, s)| (*id, Arc::clone(s))).collect();
        all.reverse();
        all
    }

    /// Takes in a session of a snapshot; called in the order of `export`. False if it is there
    /// already or breaks a bound.
    pub fn import(&mut self, id: u128, session: Session) -> bool {
        let ascending = session.replies.iter().zip(session.replies.iter().skip(1));
        let heavy = session.replies.iter().filter(|(_, reply)| weight(reply) > 0);
        let versions = session.heavy.values().collect::<std::collections::BTreeSet<_>>();
        let bytes: usize = session.replies.iter().map(|(_, reply)| weight(reply)).sum();
        let sound = session.replies.len() <= SESSION_REPLIES_MAX
            && ascending.into_iter().all(|(a, b)| a.0 < b.0)
            && session.replies.front().is_none_or(|r| r.0 >= session.forgotten_below)
            && heavy.map(|(sequence, _)| sequence).eq(session.heavy.keys())
            && versions.len() == session.heavy.len()
            && !versions.iter().any(|version| self.heavy.contains_key(version))
            && self.heavy_bytes + bytes <= SESSION_REPLY_BYTES_MAX;
        if !sound || self.sessions.len() == SESSIONS_MAX || self.sessions.contains(&id) {
            return false;
        }
        for (sequence, reply) in &session.replies {
            let id = RequestId { session: id, sequence: *sequence };
            self.add(id, reply, session.heavy.get(sequence).copied());
        }
        self.sessions.put(id, Arc::new(session));
        true
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sessions({})", self.sessions.len())
    }
}

fn of_reply(id: RequestId, reply: &Reply, heavy: Option<u64>) -> u64 {
    let (tag, a, b) = match reply {
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
    fold(&[id.session as u64, (id.session >> 64) as u64, id.sequence, tag, a, b])
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
mod tests {
    use super::*;
    use crate::types::{Found, Value, ValueKind, Version};

    fn id(session: u128, sequence: u64) -> RequestId {
        RequestId { session, sequence }
    }

    fn reply(sequence: u64) -> Reply {
        Reply::Set { version: Version(1000 + sequence) }
    }

    #[test]
    fn remembers_the_highest_sequences_and_says_what_it_forgot() {
        let mut sessions = Sessions::new(1);
        let count = SESSION_REPLIES_MAX as u64;
        // From the highest down: the order of arrival does not matter.
        for sequence in (10..10 + count).rev() {
            assert_eq!(sessions.look(id(1, sequence), 0), Seen::New);
            sessions.remember(id(1, sequence), &reply(sequence), 0, 0);
        }
        assert_eq!(sessions.look(id(1, 9), 0), Seen::New, "nothing was dropped yet");
        sessions.remember(id(1, 10 + count), &reply(10 + count), 0, 0);
        assert_eq!(sessions.look(id(1, 10), 0), Seen::Forgotten);
        assert_eq!(sessions.look(id(1, 9), 0), Seen::Forgotten);
        assert_eq!(sessions.look(id(1, 11), 0), Seen::Again(reply(11)));
        assert_eq!(sessions.look(id(1, 10 + count), 0), Seen::Again(reply(10 + count)));
        assert_eq!(sessions.look(id(2, 10), 0), Seen::New, "another session");
    }

    #[test]
    fn the_least_recently_used_session_goes_first() {
        let mut sessions = Sessions::new(1);
        for session in 0..SESSIONS_MAX as u128 {
            sessions.remember(id(session, 1), &reply(1), 0, 0);
        }
        assert_eq!(sessions.look(id(0, 1), 0), Seen::Again(reply(1)));
        sessions.remember(id(u128::MAX, 1), &reply(1), 0, 0);
        assert_eq!(sessions.len(), SESSIONS_MAX);
        assert_eq!(sessions.look(id(0, 1), 0), Seen::Again(reply(1)), "was used since");
        assert_eq!(sessions.look(id(1, 1), 0), Seen::New);
    }

    #[test]
    fn idle_sessions_expire_by_log_time() {
        let mut sessions = Sessions::new(1);
        sessions.remember(id(1, 1), &reply(1), 0, 1000);
        sessions.remember(id(2, 1), &reply(1), 0, 2000);
        sessions.expire(1000 + SESSION_IDLE_MS_MAX - 1);
        assert_eq!(sessions.len(), 2);
        sessions.expire(1000 + SESSION_IDLE_MS_MAX);
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions.look(id(1, 1), 0), Seen::New);
    }

    /// INV-3: the digest is that of what is remembered, however it came about.
    #[test]
    fn the_digest_follows_what_is_remembered() {
        let (mut long, mut short) = (Sessions::new(1), Sessions::new(1));
        let count = SESSION_REPLIES_MAX as u64;
        for sequence in 0..3 * count {
            long.remember(id(1, sequence), &reply(sequence), 0, 0);
        }
        for sequence in 2 * count..3 * count {
            short.remember(id(1, sequence), &reply(sequence), 0, 0);
        }
        assert_eq!(long.digest(), short.digest());
        assert_ne!(long.digest(), 0);
        long.expire(SESSION_IDLE_MS_MAX);
        assert_eq!(long.digest(), 0);
    }

    #[test]
    fn a_snapshot_keeps_its_state_while_sessions_are_used() {
        let mut sessions = Sessions::new(1);
        sessions.remember(id(1, 1), &reply(1), 0, 0);
        sessions.remember(id(2, 1), &reply(1), 0, 0);
        let (taken, digest) = (sessions.export(), sessions.digest());
        sessions.remember(id(1, 2), &reply(2), 0, 5);
        sessions.expire(SESSION_IDLE_MS_MAX);
        let mut restored = Sessions::new(1);
        for (session, state) in taken {
            assert!(restored.import(session, Session::clone(&state)));
            assert!(!restored.import(session, Session::default()), "twice");
        }
        assert_eq!(restored.digest(), digest);
        assert_eq!(restored.look(id(1, 2), 0), Seen::New);
        assert_eq!(restored.look(id(1, 1), 0), Seen::Again(reply(1)));
    }

    fn heavy(bytes: usize) -> Reply {
        let value = Value { data: vec![b'v'; bytes].into(), kind: ValueKind::Bytes };
        Reply::Taken(Box::new(Found { value, version: Version(1), ttl_ms: None }))
    }

    /// INV-8, INV-6: values are remembered up to a bound; the retry of what was forgotten is told
    /// so, and small replies stay.
    #[test]
    fn the_oldest_values_give_way_to_a_refusal() {
        let mut sessions = Sessions::new(1);
        sessions.remember(id(7, 1), &reply(1), 1, 0);
        let fits = SESSION_REPLY_BYTES_MAX as u64 / (1024 * 1024 + 64);
        for n in 0..=fits {
            // Two sessions by turns: age counts, not the session.
            sessions.remember(id(u128::from(n % 2), n), &heavy(1024 * 1024), 10 + n, 0);
        }
        assert!(sessions.heavy_bytes <= SESSION_REPLY_BYTES_MAX);
        let expired = Seen::Again(Reply::Refused(Refusal::SessionExpired));
        assert_eq!(sessions.look(id(0, 0), 0), expired);
        assert_eq!(sessions.look(id(1, 1), 0), Seen::Again(heavy(1024 * 1024)));
        assert_eq!(sessions.look(id(7, 1), 0), Seen::Again(reply(1)));
        let mut restored = Sessions::new(1);
        for (session, state) in sessions.export() {
            assert!(restored.import(session, Session::clone(&state)));
        }
        assert_eq!(restored.digest(), sessions.digest());
        for sessions in [&mut sessions, &mut restored] {
            sessions.remember(id(3, 1), &heavy(1024 * 1024), 100, 0);
            assert_eq!(sessions.look(id(1, 1), 0), expired);
        }
        assert_eq!(restored.digest(), sessions.digest());
        for sessions in [&mut sessions, &mut restored] {
            sessions.expire(SESSION_IDLE_MS_MAX);
            assert_eq!((sessions.digest(), sessions.heavy_bytes, sessions.heavy.len()), (0, 0, 0));
        }
    }

    #[test]
    fn a_small_value_keeps_nothing_else_alive() {
        let buffer = bytes::Bytes::from(vec![b'v'; 4096]);
        let value = Value { data: buffer.slice(..10), kind: ValueKind::Bytes };
        let found = Found { value, version: Version(1), ttl_ms: None };
        let mut sessions = Sessions::new(1);
        sessions.remember(id(1, 1), &Reply::Taken(Box::new(found)), 1, 0);
        assert!(buffer.is_unique());
    }
}
