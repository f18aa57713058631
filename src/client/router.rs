//! Which node to ask next, and how the client learns of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::error::{Error, Failure};
use super::node::Node;
use super::options::Options;
use super::table::Table;
use crate::pb;
use crate::types::Slot;
use crate::types::clock::now;

/// Least time between two looks at the routing table, however many ask for one.
const REFRESH_PAUSE: Duration = Duration::from_millis(20);
/// Nodes that are remembered by address; past it those that left the table are forgotten.
const NODES_MAX: usize = 1024;

/// What a client has done; for measurements and tests.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub attempts: AtomicU64,
    pub retries: AtomicU64,
    pub hedges: AtomicU64,
    pub refreshes: AtomicU64,
}

/// Where the next attempt goes.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub node: Arc<Node>,
    /// Its id, if it is one of the table.
    pub id: Option<u64>,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Router {
    options: Options,
    /// Not async: cloned out of.
    table: RwLock<Arc<Table>>,
    /// By address. Not async: looked up in.
    nodes: Mutex<BTreeMap<String, Arc<Node>>>,
    turn: AtomicUsize,
    /// Newest epoch that any answer carried.
    epoch_seen: AtomicU64,
    stale: Notify,
    pub counts: Counts,
}

impl Router {
    /// Knows the seeds and nothing else.
    pub fn new(options: Options) -> Result<Arc<Router>, Error> {
        let mut nodes = BTreeMap::new();
        for seed in &options.seeds {
            nodes.insert(seed.clone(), Node::new(seed, &options)?);
        }
        Ok(Arc::new(Router {
            options,
            table: RwLock::default(),
            nodes: Mutex::new(nodes),
            turn: AtomicUsize::new(0),
            epoch_seen: AtomicU64::new(0),
            stale: Notify::new(),
            counts: Counts::default(),
        }))
    }

    /// The table as it is now.
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read())
    }

    fn turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Goes on by so many turns.
    #[cfg(test)]
    pub fn take_turns(&self, turns: usize) {
        self.turn.fetch_add(turns, Ordering::Relaxed);
    }

    /// The node at an address; `None` if that is none.
    fn at(&self, address: &str, table: &Table) -> Option<Arc<Node>> {
        let mut nodes = self.nodes.lock();
        if let Some(node) = nodes.get(address) {
            return Some(Arc::clone(node));
        }
        if nodes.len() >= NODES_MAX {
            let known = |address: &String| {
                self.options.seeds.contains(address) || table.nodes.values().any(|a| a == address)
            };
            nodes.retain(|address, _| known(address));
        }
        let node = Node::new(address, &self.options).ok()?;
        nodes.insert(address.to_owned(), Arc::clone(&node));
        Some(node)
    }

    /// The node that a hint names.
    pub fn hinted(&self, slot: Slot, id: u64, address: &str) -> Option<Choice> {
        let table = self.table();
        table.leads(slot, id);
        let node = self.at(address, &table)?;
        node.allows().then_some(Choice { node, id: Some(id) })
    }

    /// Where to send an operation on a slot: the leader, or any replica if `any` will do, and not
    /// again to `avoid` if there is another. `None` if every node is left alone now.
    pub fn pick(&self, slot: Slot, any: bool, avoid: Option<&Node>) -> Option<Choice> {
        let table = self.table();
        // Only reads of any replica, and those who do not know a leader, take turns.
        let turn = if any || table.leader(slot) == 0 { self.turn() } else { 0 };
        let mut last = None;
        for id in table.candidates(slot, any, turn) {
            let address = table.nodes.get(&id).expect("candidates are nodes of the table");
            let Some(node) = self.at(address, &table) else { continue };
            let choice = Choice { node, id: Some(id) };
            if avoid.is_some_and(|avoid| avoid.address == choice.node.address) {
                last = Some(choice);
            } else if choice.node.allows() {
                return Some(choice);
            }
        }
        let seeds = self.options.seeds.len();
        let turn = self.turn();
        for i in 0..seeds {
            let Some(node) = self.at(&self.options.seeds[(turn + i) % seeds], &table) else {
                continue;
            };
            let choice = Choice { node, id: None };
            if avoid.is_some_and(|avoid| avoid.address == choice.node.address) {
                last = last.or(Some(choice));
            } else if choice.node.allows() {
                return Some(choice);
            }
        }
        last.filter(|choice| choice.node.allows())
    }

    /// Where to ask for a read a second time while `first` is silent: another node of the table that
    /// nothing speaks against. `None` if there is none, or if `first` was asked as a seed: by its
    /// address alone it may be any node of the table.
    pub fn other(&self, slot: Slot, any: bool, first: &Choice) -> Option<Choice> {
        let asked = first.id?;
        let table = self.table();
        let turn = if any { self.turn() } else { 0 };
        let others = table.candidates(slot, any, turn).into_iter().filter(|id| *id != asked);
        others
            .filter_map(|id| {
                let node = self.at(table.nodes.get(&id)?, &table)?;
                Some(Choice { node, id: Some(id) })
            })
            .find(|other| other.node.address != first.node.address && other.node.in_good_standing())
    }

    /// An answer carried this epoch.
    pub fn saw_epoch(&self, epoch: u64) {
        if epoch > self.epoch_seen.fetch_max(epoch, Ordering::Relaxed) {
            let known = self.table.read().epoch;
            if epoch > known {
                self.stale.notify_one();
            }
        }
    }

    /// An attempt failed at a node: what is believed of the leader may be wrong.
    pub fn failed(&self, slot: Slot, choice: &Choice, failure: &Failure) {
        if failure.leader.as_ref().is_some_and(|(_, address)| !address.is_empty()) {
            // The hint is followed, and newer than what another node may believe.
            return;
        }
        let moved = matches!(failure.reason.as_str(), "not_leader" | "not_owner" | "stopping");
        if !failure.silent && !moved {
            return;
        }
        if let Some(id) = choice.id {
            self.table.read().leads_not(slot, id);
        }
        self.stale.notify_one();
    }

    /// Asks one node for the table and takes what is newer. Fails if the node is behind what other
    /// nodes are known to know, whatever was taken of it.
    async fn refresh_from(&self, node: &Node) -> Result<(), Failure> {
        let table = self.table();
        // Before it is asked: what others say meanwhile is nothing it could know.
        let seen = self.epoch_seen.load(Ordering::Relaxed);
        let until = now() + self.options.attempt;
        let response = node.routing(table.epoch, until).await?;
        self.counts.refreshes.fetch_add(1, Ordering::Relaxed);
        if response.epoch == 0 && table.epoch > 0 {
            // It has just started and knows nothing yet: the next may.
            return Err(Failure::silent(true, "the node has no routing table yet"));
        }
        if response.cluster_id != table.cluster {
            // Under the same epoch, all of it is still to be asked for.
            let whole = match response.unchanged {
                true => node.routing(0, until).await?,
                false => response,
            };
            return self.take(whole);
        }
        let epoch = response.epoch;
        if epoch == table.epoch {
            table.take_leaders(&response.shards);
        } else if table.is_older_than(&response) {
            self.take(response)?;
        }
        if epoch < seen {
            let behind = format!("{} has epoch {epoch}, another had {seen}", node.address);
            return Err(Failure::silent(true, behind));
        }
        Ok(())
    }

    fn take(&self, response: pb::RoutingResponse) -> Result<(), Failure> {
        let table = Table::read(response).map_err(Failure::bad_answer)?;
        if table.cluster == self.table.read().cluster {
            self.epoch_seen.fetch_max(table.epoch, Ordering::Relaxed);
        } else {
            // Epochs of two clusters cannot be compared.
            self.epoch_seen.store(table.epoch, Ordering::Relaxed);
        }
        *self.table.write() = Arc::new(table);
        Ok(())
    }

    /// Asks nodes in turn until one knows the newest epoch seen; the failure of the last if none does.
    pub async fn refresh(&self) -> Result<(), Failure> {
        let table = self.table();
        let seen = self.epoch_seen.load(Ordering::Relaxed);
        let known: Vec<String> = table.nodes.values().cloned().collect();
        let turn = self.turn();
        let seeds = self.options.seeds.iter();
        let in_turn = (0..known.len()).map(|i| &known[(turn + i) % known.len()]);
        let mut failed = Failure::silent(false, "no node may be asked now");
        let mut asked = Vec::new();
        for address in in_turn.chain(seeds) {
            if asked.contains(&address) {
                continue;
            }
            asked.push(address);
            let Some(node) = self.at(address, &table).filter(|node| node.allows()) else {
                continue;
            };
            match self.refresh_from(&node).await {
                Ok(()) => return Ok(()),
                Err(failure) => failed = failure,
            }
        }
        // Nobody who answers knows that epoch (any more). The next answer that carries it is a reason
        // to look again, which it is not while it counts as seen.
        let newest = self.table().epoch;
        let given_up =
            self.epoch_seen.compare_exchange(seen, newest, Ordering::Relaxed, Ordering::Relaxed);
        if given_up.is_ok() && newest < seen {
            tracing::debug!(seen, newest, "no node that answers knows the routing epoch seen");
        }
        Err(failed)
    }

    /// Keeps the table fresh until `cancel`.
    pub async fn keep_fresh(self: Arc<Self>, cancel: CancellationToken) {
        loop {
            // Spread, so that clients that started together do not ask together.
            let pause = self.options.refresh_every.mul_f64(0.75 + rand::random::<f64>() / 2.0);
            tokio::select! { biased;
                () = cancel.cancelled() => return,
                () = self.stale.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            let refreshed = tokio::select! { biased;
                () = cancel.cancelled() => return,
                refreshed = self.refresh() => refreshed,
            };
            if let Err(failure) = refreshed {
                tracing::debug!(why = failure.message, "no node tells the routing table");
            }
            tokio::select! { biased;
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(REFRESH_PAUSE) => {}
            }
        }
    }
}
