//! Request ids, so that a retry is applied once and gets the first answer (INV-6).
//!
//! A shard remembers the last 128 answers of a session. An operation that is tried again and again
//! while others of its session go on must not fall out of that window, so a session gives no number
//! that is 128 or more above one still in flight; another session is used then.

use bytes::Bytes;
use parking_lot::Mutex;

use crate::pb;
use crate::types::limits::SESSION_REPLIES_MAX;

/// Sessions of one client: more than 100,000 writes in flight.
const SESSIONS_MAX: usize = 1024;

/// `Session::in_flight` has a bit for each number of the window.
const _: () = assert!(SESSION_REPLIES_MAX == u128::BITS as usize);

#[derive(Debug)]
struct Session {
    name: Bytes,
    /// Invariant: `first <= next <= first + 128`.
    next: u64,
    /// Oldest number in flight; `next` if none is.
    first: u64,
    /// Bit `i`: number `first + i` is in flight. Invariant: bit 0 is set unless none is.
    in_flight: u128,
}

impl Session {
    fn new() -> Self {
        // All zero is refused by nodes; it is as likely as a collision.
        let name = rand::random::<u128>().max(1);
        let name = Bytes::copy_from_slice(&name.to_be_bytes());
        Session { name, next: 1, first: 1, in_flight: 0 }
    }

    fn take(&mut self) -> Option<u64> {
        let bit = u32::try_from(self.next - self.first).ok().filter(|bit| *bit < u128::BITS)?;
        self.in_flight |= 1 << bit;
        self.next += 1;
        Some(self.next - 1)
    }

    fn give_back(&mut self, sequence: u64) {
        self.in_flight &= !(1 << (sequence - self.first));
        match self.in_flight.trailing_zeros() {
            u128::BITS => self.first = self.next,
            0 => {}
            done => {
                self.in_flight >>= done;
                self.first += u64::from(done);
            }
        }
    }
}

/// The sessions of a client.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// Not async: nothing waits while it is held.
    sessions: Mutex<Vec<Session>>,
}

/// A request id, given back when dropped.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    sessions: &'a Sessions,
    at: usize,
    sequence: u64,
    name: Bytes,
}

impl Sessions {
    /// A request id that nobody had before; `None` if too many are in flight.
    pub fn take(&self) -> Option<Ticket<'_>> {
        let mut sessions = self.sessions.lock();
        let found = sessions.iter_mut().enumerate().find_map(|(at, session)| {
            session.take().map(|sequence| (at, sequence, session.name.clone()))
        });
        let (at, sequence, name) = match found {
            Some(found) => found,
            None if sessions.len() == SESSIONS_MAX => return None,
            None => {
                let mut session = Session::new();
                let taken = (sessions.len(), session.take()?, session.name.clone());
                sessions.push(session);
                taken
            }
        };
        Some(Ticket { sessions: self, at, sequence, name })
    }
}

impl Ticket<'_> {
    /// As nodes read it, of what is sent for the first time.
    pub fn id(&self) -> pb::RequestId {
        let sent = Some(pb::request_id::Sent::First(true));
        pb::RequestId { session: self.name.clone(), sequence: self.sequence, sent }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.sessions.sessions.lock()[self.at].give_back(self.sequence);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::types::random::Random;

    #[test]
    fn an_id_in_flight_never_falls_out_of_the_window() {
        let sessions = Sessions::default();
        let mut random = Random::new(11);
        let mut held: Vec<Ticket<'_>> = Vec::new();
        let mut given = BTreeSet::new();
        let mut newest: BTreeMap<Bytes, u64> = BTreeMap::new();
        for step in 0..20_000 {
            if held.len() < 600 && (held.is_empty() || !random.bits().is_multiple_of(3)) {
                let ticket = sessions.take().unwrap();
                assert!(given.insert((ticket.name.clone(), ticket.sequence)), "given once");
                newest.insert(ticket.name.clone(), ticket.sequence);
                held.push(ticket);
            } else {
                // Mostly the youngest: the old ones are those that are retried.
                let at = if step % 10 == 0 { 0 } else { held.len() - 1 };
                held.remove(at);
            }
            for ticket in held.iter().take(5) {
                assert!(newest[&ticket.name] - ticket.sequence < SESSION_REPLIES_MAX as u64);
            }
        }
        let used = sessions.sessions.lock().len();
        assert!((5..=100).contains(&used), "few sessions, as each costs the nodes: {used}");
    }

    #[test]
    fn one_caller_needs_one_session() {
        let sessions = Sessions::default();
        for expected in 1..=1_000 {
            assert_eq!(sessions.take().unwrap().sequence, expected);
        }
        assert_eq!(sessions.sessions.lock().len(), 1);
    }
}
