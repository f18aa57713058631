//! Who fills a key that is missing, and who waits for it: the leader's memory of fill tokens.
//!
//! Leases of memcache (Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013, 3.2.1), with one
//! difference: a token is checked once more when its fill is applied (docs/adr/0013). Nothing here is
//! replicated. Tokens belong to a term: another term knows none, and its callers get new ones.
//!
//! The machine says while it applies which keys changed (`Watcher`). A change kills the key's token and
//! wakes who waits for it. Callers enter while they hold the machine's lock for reading, so no change
//! lies between what they saw and their place here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::core::watcher::Watcher;
use crate::types::clock::{Instant, now};
use crate::types::limits::{
    LEASE_KEYS_BYTES_MAX, LEASE_TOKEN_MS, LEASE_TOKENS_MAX, LEASE_WAITERS_KEY_MAX,
    LEASE_WAITERS_MAX, WHAT_LEASE_KEYS_BYTES, WHAT_LEASE_TOKENS, WHAT_LEASE_WAITERS,
    WHAT_LEASE_WAITERS_KEY,
};
use crate::types::watch;
use crate::types::{Error, Reason};

/// Bounds of one group's leases (INV-8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseLimits {
    /// How long a token is good for; then another caller gets one.
    pub token: Duration,
    /// Tokens out at once.
    pub tokens_max: usize,
    /// Bytes of the keys that have tokens or waiters; beyond them no more tokens are given.
    pub keys_bytes_max: usize,
    /// Callers that wait for one key.
    pub waiters_key_max: usize,
    /// Callers that wait in all.
    pub waiters_max: usize,
}

impl Default for LeaseLimits {
    fn default() -> Self {
        LeaseLimits {
            token: Duration::from_millis(LEASE_TOKEN_MS),
            tokens_max: LEASE_TOKENS_MAX,
            keys_bytes_max: LEASE_KEYS_BYTES_MAX,
            waiters_key_max: LEASE_WAITERS_KEY_MAX,
            waiters_max: LEASE_WAITERS_MAX,
        }
    }
}

/// The tokens and waiters of one group. Handed to the machine as its watcher.
#[derive(Debug)]
pub struct Leases {
    limits: LeaseLimits,
    /// Keys in `State::keys`: while there are none, a change costs one load.
    held: AtomicUsize,
    // parking_lot: a look-up in a map, taken under the machine's lock, never across an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    term: u64,
    /// By key hash, as the machine tells changes. In order: a seed repeats who is woken first.
    keys: BTreeMap<u32, Vec<Held>>,
    /// The tokens by when they end, with the hash of their key.
    ends: BTreeMap<(Instant, u64), u32>,
    waiting: usize,
    /// Bytes of all keys in `keys`.
    key_bytes: usize,
}

/// A key that has a token or waiters.
#[derive(Debug)]
struct Held {
    key: Bytes,
    /// The token and when it ends. Invariant: it stands in `State::ends` as well.
    token: Option<(u64, Instant)>,
    waiting: usize,
    /// Counts the changes of the key.
    changes: watch::Sender<u64>,
}

/// What a caller gets who found nothing, or too old a value.
#[derive(Debug)]
pub enum Entered {
    /// It is to fill the key.
    Token(u64),
    /// Somebody else does, until then at most.
    Taken(Instant),
}

/// A place among those who wait for a key; given up when dropped.
#[derive(Debug)]
pub struct Waiter {
    leases: Arc<Leases>,
    hash: u32,
    key: Bytes,
    changes: watch::Receiver<u64>,
}

impl Waiter {
    /// Ends when the key has changed since the place was taken, or another term has begun.
    pub async fn changed(&mut self) {
        // The sender lives as long as somebody waits; without it, look again.
        drop(self.changes.changed().await);
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let state = &mut *self.leases.state.lock();
        state.waiting -= 1;
        if let Some(held) = state.find(self.hash, &self.key) {
            held.waiting -= 1;
        }
        state.tidy(self.hash);
        self.leases.held.store(state.keys.len(), Ordering::Release);
    }
}

fn exhausted(what: &'static str, limit: usize) -> Error {
    let limit = limit as u64;
    let again = Duration::from_millis(100);
    Error::from(Reason::ResourceExhausted { what, limit }).retry_after(again)
}

/// Forgets keys that nobody fills or waits for, and their bytes.
fn forget_idle(same_hash: &mut Vec<Held>, key_bytes: &mut usize) {
    same_hash.retain(|held| {
        let kept = held.token.is_some() || held.waiting > 0;
        *key_bytes -= if kept { 0 } else { held.key.len() };
        kept
    });
}

impl State {
    fn find(&mut self, hash: u32, key: &[u8]) -> Option<&mut Held> {
        self.keys.get_mut(&hash)?.iter_mut().find(|held| held.key == key)
    }

    fn find_or_add(&mut self, hash: u32, key: &Bytes) -> &mut Held {
        let same_hash = self.keys.entry(hash).or_default();
        let at = same_hash.iter().position(|held| held.key == key);
        let at = at.unwrap_or_else(|| {
            // A copy of its own: the caller's may be a slice of a whole message.
            let key = Bytes::copy_from_slice(key);
            self.key_bytes += key.len();
            same_hash.push(Held { key, token: None, waiting: 0, changes: watch::Sender::new(0) });
            same_hash.len() - 1
        });
        &mut same_hash[at]
    }

    /// Forgets keys of a hash that nobody fills or waits for.
    fn tidy(&mut self, hash: u32) {
        if let Some(same_hash) = self.keys.get_mut(&hash) {
            forget_idle(same_hash, &mut self.key_bytes);
            if same_hash.is_empty() {
                self.keys.remove(&hash);
            }
        }
    }

    /// Takes tokens back whose time is over.
    fn expire(&mut self, at: Instant) {
        while let Some((&(end, token), &hash)) = self.ends.first_key_value() {
            if end > at {
                break;
            }
            self.ends.pop_first();
            let same_hash = self.keys.get_mut(&hash).into_iter().flatten();
            for held in same_hash.filter(|held| held.token == Some((token, end))) {
                held.token = None;
                held.changes.send_modify(|changes| *changes += 1);
            }
            self.tidy(hash);
        }
    }

    /// Kills every token and wakes everybody.
    fn clear(&mut self) {
        self.ends.clear();
        for held in self.keys.values_mut().flatten() {
            held.token = None;
            held.changes.send_modify(|changes| *changes += 1);
        }
        self.keys.retain(|_, same_hash| {
            forget_idle(same_hash, &mut self.key_bytes);
            !same_hash.is_empty()
        });
    }

    /// Tokens of an earlier term are none.
    fn in_term(&mut self, term: u64) {
        if self.term != term {
            self.term = term;
            self.clear();
        }
    }
}

impl Leases {
    /// No tokens.
    pub fn new(limits: LeaseLimits) -> Arc<Self> {
        Arc::new(Leases { limits, held: AtomicUsize::new(0), state: Mutex::default() })
    }

    /// Asks for the key's one token in a term. `draw` gives a random number for it.
    ///
    /// # Errors
    /// `ResourceExhausted` if too many are out.
    pub fn enter(
        &self,
        (hash, key): (u32, &Bytes),
        term: u64,
        draw: impl FnOnce() -> u64,
    ) -> Result<Entered, Error> {
        let at = now();
        let state = &mut *self.state.lock();
        state.in_term(term);
        state.expire(at);
        if let Some((_, end)) = state.find(hash, key).and_then(|held| held.token) {
            return Ok(Entered::Taken(end));
        }
        if state.ends.len() >= self.limits.tokens_max {
            return Err(exhausted(WHAT_LEASE_TOKENS, self.limits.tokens_max));
        }
        if state.key_bytes >= self.limits.keys_bytes_max {
            return Err(exhausted(WHAT_LEASE_KEYS_BYTES, self.limits.keys_bytes_max));
        }
        let (token, end) = (token_of(draw()), at + self.limits.token);
        state.find_or_add(hash, key).token = Some((token, end));
        state.ends.insert((end, token), hash);
        self.held.store(state.keys.len(), Ordering::Release);
        Ok(Entered::Token(token))
    }

    /// Takes a place among those who wait for a key.
    ///
    /// # Errors
    /// `ResourceExhausted` if too many wait.
    pub fn wait(self: &Arc<Self>, hash: u32, key: &Bytes) -> Result<Waiter, Error> {
        let state = &mut *self.state.lock();
        if state.waiting >= self.limits.waiters_max {
            return Err(exhausted(WHAT_LEASE_WAITERS, self.limits.waiters_max));
        }
        let held = state.find_or_add(hash, key);
        if held.waiting >= self.limits.waiters_key_max {
            return Err(exhausted(WHAT_LEASE_WAITERS_KEY, self.limits.waiters_key_max));
        }
        held.waiting += 1;
        let (key, changes) = (held.key.clone(), held.changes.subscribe());
        state.waiting += 1;
        self.held.store(state.keys.len(), Ordering::Release);
        Ok(Waiter { leases: Arc::clone(self), hash, key, changes })
    }

    /// Whether a token was given in this term, its time is not over, and its key has not changed
    /// since.
    pub fn is_good(&self, (hash, key): (u32, &[u8]), term: u64, token: u64) -> bool {
        let state = &mut *self.state.lock();
        state.in_term(term);
        state.expire(now());
        let held = state.find(hash, key).and_then(|held| held.token);
        held.is_some_and(|(good, _)| good == token)
    }

    /// Callers that wait.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting
    }
}

/// Tokens are not 0, and exact where numbers are floating point (JSON).
fn token_of(random: u64) -> u64 {
    (random & ((1 << 53) - 1)).max(1)
}

impl Watcher for Leases {
    fn changed(&self, hash: u32) {
        if self.held.load(Ordering::Acquire) == 0 {
            return;
        }
        let state = &mut *self.state.lock();
        let Some(same_hash) = state.keys.get_mut(&hash) else { return };
        for held in same_hash.iter_mut() {
            if let Some((token, end)) = held.token.take() {
                state.ends.remove(&(end, token));
            }
            held.changes.send_modify(|changes| *changes += 1);
        }
        state.tidy(hash);
        self.held.store(state.keys.len(), Ordering::Release);
    }

    fn all_changed(&self) {
        let state = &mut *self.state.lock();
        state.clear();
        self.held.store(state.keys.len(), Ordering::Release);
    }
}

#[cfg(test)]
#[path = "leases_tests.rs"]
mod tests;
