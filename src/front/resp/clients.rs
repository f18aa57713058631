//! Who is connected to the door: what `CLIENT LIST` and `CLIENT INFO` show.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::codec::resp::encode::Protocol;
use crate::types::clock::{Instant, now};

/// The clients of one door.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// Ids are given once.
    last_id: AtomicU64,
    /// parking_lot: held while a list is written, never across an await.
    by_id: Mutex<BTreeMap<u64, Arc<Client>>>,
    /// Commands read since the start.
    pub(super) commands: AtomicU64,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: u64,
    address: SocketAddr,
    since: Instant,
    /// parking_lot: held for a copy, never across an await.
    told: Mutex<Told>,
}

/// What it told of itself, and did last.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) name: String,
    pub(super) library: String,
    pub(super) library_version: String,
    pub(super) protocol: Protocol,
    pub(super) readonly: bool,
    /// Commands queued behind `MULTI`; `None` outside of it.
    pub(super) queued: Option<usize>,
    pub(super) watches: usize,
    pub(super) last_command: &'static str,
}

/// A client's place in the list, until dropped.
#[derive(Debug)]
pub(super) struct Listed {
    clients: Arc<Clients>,
    pub(super) client: Arc<Client>,
}

impl Clients {
    /// Lists a client that has connected.
    pub(super) fn add(self: &Arc<Self>, address: SocketAddr) -> Listed {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Arc::new(Client { id, address, since: now(), told: Mutex::default() });
        self.by_id.lock().insert(id, Arc::clone(&client));
        Listed { clients: Arc::clone(self), client }
    }

    /// How many are connected.
    pub(super) fn count(&self) -> usize {
        self.by_id.lock().len()
    }

    /// How many ever were.
    pub(super) fn total(&self) -> u64 {
        self.last_id.load(Ordering::Relaxed)
    }

    /// One line a client.
    pub(super) fn list(&self) -> String {
        let clients: Vec<Arc<Client>> = self.by_id.lock().values().cloned().collect();
        clients.iter().map(|client| client.line()).collect()
    }
}

impl Client {
    /// Changes what is told of it.
    pub(super) fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock());
    }

    /// What is told of it.
    pub(super) fn told(&self) -> Told {
        self.told.lock().clone()
    }

    /// As `CLIENT LIST` shows it, with the fields that mean something here.
    pub(super) fn line(&self) -> String {
        let told = self.told();
        let flags = match (told.queued.is_some(), told.readonly) {
            (true, true) => "xr",
            (true, false) => "x",
            (false, true) => "r",
            (false, false) => "N",
        };
        let queued = told.queued.map_or(-1, |queued| i64::try_from(queued).unwrap_or(i64::MAX));
        let mut line = String::new();
        let (id, address, age) = (self.id, self.address, (now() - self.since).as_secs());
        // Writing into a string cannot fail.
        let _ = writeln!(
            line,
            "id={id} addr={address} name={} age={age} flags={flags} db=0 sub=0 psub=0 multi={queued} \
             watch={} cmd={} user=default redir=-1 resp={} lib-name={} lib-ver={}",
            told.name,
            told.watches,
            told.last_command,
            told.protocol.number(),
            told.library,
            told.library_version,
        );
        line
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.clients.by_id.lock().remove(&self.client.id);
    }
}
