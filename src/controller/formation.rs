//! Formation of a cluster from a list of seeds: a pure state machine fed with hellos.
//!
//! One node decides, once: when every seed has answered in one round and none belongs to a
//! cluster, the node with the lowest id founds it. It keeps the founders' list on disk and then
//! tells it; every other node waits until it is told, and saves it before it answers. A founder's replica is bound to its store,
//! so a founder that lost its disk is recognised by everyone who was told.
//!
//! All nodes must be given the same seeds; that is what makes "the lowest" the same node for all.

use std::collections::BTreeMap;

use super::founders::Founders;
use super::messages::Hello;
use crate::core::cluster::Founder;
use crate::types::NodeId;

/// Why this node cannot take part; an operator has to act.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Two nodes were given one id.
    #[error("node id {node} is used by two nodes: this one, and the one at {address}")]
    DuplicateNode {
        /// The id.
        node: NodeId,
        /// Peer address of the other.
        address: String,
    },
    /// The seeds belong to different clusters.
    #[error("seeds belong to different clusters: {one:032x} and {other:032x}")]
    TwoClusters {
        /// Name of one.
        one: u128,
        /// Name of the other.
        other: u128,
    },
    /// The node belongs to one cluster, and its seeds to another.
    #[error(
        "the data directory of node {node} belongs to cluster {ours:032x}, but every seed that \
         answers belongs to another: {peer} at {address} to {theirs:032x}. Give the node the seeds of \
         its cluster, or an empty node.data_dir"
    )]
    OtherCluster {
        /// This node.
        node: NodeId,
        /// Its cluster.
        ours: u128,
        /// A node behind a seed.
        peer: NodeId,
        /// Address of the seed.
        address: String,
        /// The cluster of that node.
        theirs: u128,
    },
}

/// What a node should do now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Ask again; these are missing.
    Wait(Missing),
    /// This node decides: save these founders, then `settle`.
    Found(Founders),
    /// This node was told: save these founders, then `settle`.
    Adopt(Founders),
    /// This node is a founder: run the controller's replica. The lowest founder initializes it.
    Run {
        /// True for the one that initializes.
        initialize: bool,
    },
    /// This node is no founder: follow the controller.
    Follow,
    /// This node is a founder whose store is gone: run nothing, only forward.
    StoreLost {
        /// The store the cluster knows.
        known: u128,
    },
    /// An operator has to act.
    Failed(Error),
}

/// What a node that waits is waiting for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Missing {
    /// Addresses that have not answered in this round.
    Seeds(Vec<String>),
    /// More nodes must show up.
    Nodes {
        /// Known now.
        known: usize,
        /// Expected.
        expected: usize,
    },
    /// Everyone is here; this node founds the cluster.
    Founder(NodeId),
    /// Two nodes claim one id; both of them have failed and one must go.
    Duplicate(NodeId),
}

/// Formation as one node sees it.
#[derive(Clone, Debug)]
pub struct Formation {
    me: Founder,
    seeds: Vec<String>,
    expected_nodes: usize,
    /// Answers of this round, by position of the seed.
    answers: BTreeMap<usize, Founder>,
    /// Seeds that belong to another cluster than this node, and to which, as last heard.
    foreign: BTreeMap<usize, (NodeId, u128)>,
    /// Nodes that called this one and have not founded.
    callers: BTreeMap<NodeId, u128>,
    /// Told, not saved yet.
    told: Option<Founders>,
    /// Saved. Invariant: set once, never changed.
    settled: Option<Founders>,
    failed: Option<Error>,
}

impl Formation {
    /// Begins, or goes on with what was `saved`. `expected_nodes` counts this node.
    pub fn new(
        me: Founder,
        seeds: Vec<String>,
        expected_nodes: usize,
        saved: Option<Founders>,
    ) -> Self {
        Formation {
            me,
            seeds,
            expected_nodes,
            answers: BTreeMap::new(),
            foreign: BTreeMap::new(),
            callers: BTreeMap::new(),
            told: None,
            settled: saved,
            failed: None,
        }
    }

    /// Seeds that have not answered in this round, with their position.
    pub fn unanswered(&self) -> Vec<(usize, String)> {
        let missing =
            self.seeds.iter().enumerate().filter(|(at, _)| !self.answers.contains_key(at));
        missing.map(|(at, seed)| (at, seed.clone())).collect()
    }

    /// Begins a round: what seeds said in the last one may be over.
    pub fn begin_round(&mut self) {
        self.answers.clear();
    }

    /// The founders, once they are saved.
    pub fn settled(&self) -> Option<&Founders> {
        self.settled.as_ref()
    }

    /// A seed answered that belongs to another cluster. It is asked again: it may be corrected.
    pub fn foreign(&mut self, seed: usize, peer: NodeId, cluster_id: u128) {
        self.answers.remove(&seed);
        self.foreign.insert(seed, (peer, cluster_id));
    }

    /// Seeds of other clusters: address, node and cluster.
    pub fn foreigners(&self) -> Vec<(String, NodeId, u128)> {
        let seeds = self.foreign.iter().filter_map(|(at, (peer, cluster_id))| {
            Some((self.seeds.get(*at)?.clone(), *peer, *cluster_id))
        });
        seeds.collect()
    }

    /// Why this node cannot find its cluster by its seeds: all but itself belong to another one. Seeds
    /// that do not answer leave hope.
    pub fn astray(&self) -> Option<Error> {
        let ours = self.settled.as_ref()?.cluster_id();
        let own = |at: usize| self.answers.get(&at).is_some_and(|seed| *seed == self.me);
        let hopeless = |at: usize| own(at) || self.foreign.contains_key(&at);
        let (address, peer, theirs) = self.foreigners().into_iter().next()?;
        let none = (0..self.seeds.len()).all(hopeless);
        none.then_some(Error::OtherCluster { node: self.me.node, ours, peer, address, theirs })
    }

    /// A seed answered.
    pub fn answered(&mut self, seed: usize, hello: &Hello) {
        self.answers.insert(seed, founder_of(hello));
        self.foreign.remove(&seed);
        self.heard(hello);
    }

    /// A node called; it is listed nowhere, or it was faster.
    pub fn called(&mut self, hello: &Hello) {
        if hello.node != self.me.node {
            self.callers.insert(hello.node, hello.info.store_id);
        }
        self.heard(hello);
    }

    fn heard(&mut self, hello: &Hello) {
        if self.settled.is_some() {
            // Settled nodes stand; it is the newcomer that finds out and fails.
            return;
        }
        if hello.node == self.me.node && hello.info.store_id != self.me.store_id {
            let address = hello.info.peer_addr.clone();
            self.failed.get_or_insert(Error::DuplicateNode { node: hello.node, address });
        }
        let Some(founders) = &hello.founders else { return };
        match &self.told {
            None => self.told = Some(founders.clone()),
            Some(told) if told == founders => {}
            Some(told) => {
                let (one, other) = (told.cluster_id(), founders.cluster_id());
                self.failed.get_or_insert(Error::TwoClusters { one, other });
            }
        }
    }

    /// The founders are saved.
    pub fn settle(&mut self, founders: Founders) {
        assert!(self.settled.is_none(), "a node belongs to one cluster");
        self.settled = Some(founders);
    }

    /// What to do now.
    pub fn verdict(&self) -> Verdict {
        if let Some(founders) = &self.settled {
            return self.role(founders);
        }
        if let Some(error) = &self.failed {
            return Verdict::Failed(error.clone());
        }
        if let Some(told) = &self.told {
            return Verdict::Adopt(told.clone());
        }
        let unanswered = self.unanswered();
        if !unanswered.is_empty() {
            let seeds = unanswered.into_iter().map(|(_, seed)| seed).collect();
            return Verdict::Wait(Missing::Seeds(seeds));
        }
        match self.known() {
            Err(duplicate) => Verdict::Wait(Missing::Duplicate(duplicate)),
            Ok(known) => self.decide(known),
        }
    }

    fn decide(&self, known: BTreeMap<NodeId, u128>) -> Verdict {
        let (count, expected) = (known.len(), self.expected_nodes);
        // Only a seed founds, the lowest one: every node hears the same seeds, but not the same
        // callers, and two founders would make two clusters.
        let seeds = self.answers.values().map(|founder| founder.node).min();
        let lowest = seeds.unwrap_or(self.me.node);
        if count < expected {
            return Verdict::Wait(Missing::Nodes { known: count, expected });
        }
        if lowest != self.me.node {
            return Verdict::Wait(Missing::Founder(lowest));
        }
        let nodes = known.into_iter().map(|(node, store_id)| Founder { node, store_id });
        match Founders::of(nodes.collect()) {
            Some(founders) => Verdict::Found(founders),
            None => Verdict::Wait(Missing::Nodes { known: 0, expected }),
        }
    }

    fn role(&self, founders: &Founders) -> Verdict {
        match founders.get(self.me.node) {
            None => Verdict::Follow,
            Some(founder) if founder.store_id != self.me.store_id => {
                Verdict::StoreLost { known: founder.store_id }
            }
            Some(_) => {
                let lowest = founders.members().first().map(|founder| founder.node);
                Verdict::Run { initialize: lowest == Some(self.me.node) }
            }
        }
    }

    /// Nodes and their stores; an answer of this round outweighs an earlier call.
    fn known(&self) -> Result<BTreeMap<NodeId, u128>, NodeId> {
        let mut known = BTreeMap::from([(self.me.node, self.me.store_id)]);
        for founder in self.answers.values() {
            let before = known.insert(founder.node, founder.store_id);
            if before.is_some_and(|store_id| store_id != founder.store_id) {
                return Err(founder.node);
            }
        }
        for (node, store_id) in &self.callers {
            known.entry(*node).or_insert(*store_id);
        }
        Ok(known)
    }
}

fn founder_of(hello: &Hello) -> Founder {
    Founder { node: hello.node, store_id: hello.info.store_id }
}

#[cfg(test)]
mod tests;
