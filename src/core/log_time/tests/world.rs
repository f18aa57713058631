//! Nodes with clocks of their own, messages between them, and a group that one of them leads.
//!
//! Elections are the model's: it lets one of the replicas that hold everything committed lead, once a
//! leader was gone for a second, or when a scenario says so. Everything that log time depends on
//! (stamps, appends and their answers, commits, pings) goes by messages with delays.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::present::Present;
use super::state::{Entry, Op, State};
use crate::core::log_time::{
    GroupClock, Leading, MS, Opening, Own, Pace, PeerClocks, Pong, Reading, RoundTrips, SECOND,
    majority_of,
};
use crate::types::{NodeId, ReplicaId};

/// One step of the model.
pub const STEP_US: u64 = 50 * MS;
const BEAT_US: u64 = 150 * MS;
const PING_US: u64 = 2 * SECOND;
const DISCIPLINE_US: u64 = 200 * MS;
const ELECTION_US: u64 = SECOND;
/// What true time begins at: 2027-01-15, about.
pub const BEGIN_US: u64 = 1_800_000_000 * SECOND;
/// A wall before this shows that nobody has set it.
const EARLIEST_US: i64 = 1_793_000_000_000_000;

/// Which rule the leader stamps by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// That of `core::log_time`.
    Majority,
    /// The leader's wall at its election, then its own time towards the wall: what log time was.
    LeadersWall,
}

/// How a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    Up,
    /// Stands still, and its clocks with it: nobody there notices.
    Paused,
    /// Its clocks run on.
    Down,
}

/// A generator whose seed replays a run.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }
}

#[derive(Clone, Copy, Debug)]
enum Message {
    Append {
        term: u64,
        seq: u64,
        applied: usize,
        told_us: Option<u64>,
        band_us: u64,
        echo: Echo,
        sent_us: u64,
    },
    Answer {
        term: u64,
        seq: u64,
        estimate_us: Option<u64>,
        echo: (u64, u64),
        sent_us: u64,
    },
    Ping {
        sent_us: u64,
    },
    Pong {
        sent_us: u64,
        peer_boot_us: u64,
        wall_us: i64,
    },
}

/// Life and boot clock of a follower when it answered last.
type Echo = Option<(u64, u64)>;

#[derive(Debug)]
pub struct Node {
    pub life: Life,
    pub rate: f64,
    boot_us: f64,
    pub wall_us: f64,
    /// How the wall runs; `None`: as the boot clock does.
    pub wall_rate: Option<f64>,
    starts: u64,
    clock: GroupClock,
    peers: PeerClocks,
    present: Present,
    term: u64,
    applied: usize,
    echoes: BTreeMap<usize, (u64, u64)>,
    round_trips: BTreeMap<usize, RoundTrips>,
    beat_at_us: u64,
    ping_at_us: u64,
    pings: u64,
}

impl Node {
    fn new(boot_us: u64) -> Self {
        Node {
            life: Life::Up,
            rate: 1.0,
            boot_us: boot_us as f64,
            wall_us: BEGIN_US as f64,
            wall_rate: Some(1.0),
            starts: 1,
            clock: GroupClock::default(),
            peers: PeerClocks::new(EARLIEST_US),
            present: Present::default(),
            term: 0,
            applied: 0,
            echoes: BTreeMap::new(),
            round_trips: BTreeMap::new(),
            beat_at_us: 0,
            ping_at_us: 0,
            pings: 0,
        }
    }

    pub fn boot(&self) -> u64 {
        self.boot_us as u64
    }

    fn wall(&self) -> i64 {
        self.wall_us as i64
    }

    /// The process begins again; the clocks are the machine's.
    pub fn start(&mut self) {
        let old = std::mem::replace(self, Node::new(0));
        self.boot_us = old.boot_us;
        (self.rate, self.wall_us, self.wall_rate) = (old.rate, old.wall_us, old.wall_rate);
        (self.starts, self.term, self.applied) = (old.starts + 1, old.term, old.applied);
    }
}

/// What the leader of a term has proposed.
#[derive(Debug, Default)]
struct Proposals {
    seq: u64,
    pending: VecDeque<(u64, Entry)>,
    acknowledged: BTreeMap<usize, u64>,
}

#[derive(Debug)]
pub struct World {
    pub rule: Rule,
    pub random: Random,
    /// True time since the beginning.
    pub true_us: u64,
    pub nodes: Vec<Node>,
    voters: BTreeSet<ReplicaId>,
    pub leader: Option<usize>,
    term: u64,
    proposals: Proposals,
    leaderless_us: u64,
    pub state: State,
    /// Log time and `off` after each entry.
    history: Vec<(u64, Option<i64>)>,
    applied_term: u64,
    messages: VecDeque<(u64, usize, usize, Message)>,
    /// Shortest and longest way of a message.
    pub delay_us: (u64, u64),
    /// Nothing arrives before then.
    pub stalled_until_us: u64,
    pub elections: u64,
    pub entries: u64,
}

impl World {
    pub fn new(rule: Rule, nodes: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        let voters = (0..nodes).map(|at| ReplicaId(at as u64)).collect();
        let nodes = (0..nodes).map(|_| Node::new(random.below(1_000) * SECOND)).collect();
        World {
            rule,
            random,
            true_us: 0,
            nodes,
            voters,
            leader: None,
            term: 0,
            proposals: Proposals::default(),
            leaderless_us: 0,
            state: State::default(),
            history: vec![(0, None)],
            applied_term: 0,
            messages: VecDeque::new(),
            delay_us: (100, 2 * MS),
            stalled_until_us: 0,
            elections: 0,
            entries: 0,
        }
    }

    pub fn second(&self) -> u64 {
        self.true_us / SECOND
    }

    /// One step of true time.
    pub fn step(&mut self) {
        self.true_us += STEP_US;
        for node in &mut self.nodes {
            if node.life != Life::Paused {
                let ran_us = STEP_US as f64 * node.rate;
                node.boot_us += ran_us;
                node.wall_us += node.wall_rate.map_or(ran_us, |rate| STEP_US as f64 * rate);
            }
        }
        self.deliver();
        for at in 0..self.nodes.len() {
            self.ping(at);
            if !self.true_us.is_multiple_of(DISCIPLINE_US) {
                continue;
            }
            let (node, (_, off_ms)) = (&self.nodes[at], self.history[self.nodes[at].applied]);
            let (boot_us, wall_us) = (node.boot(), self.cluster_wall(at));
            self.nodes[at].clock.discipline(boot_us, wall_us, off_ms);
        }
        self.elect_if_needed();
        if let Some(leader) = self.leader
            && self.nodes[leader].boot() >= self.nodes[leader].beat_at_us
        {
            self.append(leader);
        }
    }

    fn up(&self, at: usize) -> bool {
        self.nodes[at].life == Life::Up
    }

    fn quorum_up(&self) -> bool {
        let up = (0..self.nodes.len()).filter(|at| self.up(*at)).count();
        up >= majority_of(self.nodes.len())
    }

    fn elect_if_needed(&mut self) {
        let well = self.leader.is_some_and(|leader| self.up(leader)) && self.quorum_up();
        self.leaderless_us = if well { 0 } else { self.leaderless_us + STEP_US };
        if self.leaderless_us >= ELECTION_US {
            self.leader = None;
            let candidates: Vec<usize> = (0..self.nodes.len()).filter(|at| self.up(*at)).collect();
            if self.quorum_up() {
                let chosen = self.random.below(candidates.len() as u64);
                self.elect(candidates[usize::try_from(chosen).expect("small")]);
            }
        }
    }

    /// Makes a node that is up the leader of a new term.
    pub fn elect(&mut self, at: usize) {
        if !self.up(at) || !self.quorum_up() {
            return;
        }
        self.term += 1;
        self.elections += 1;
        self.leader = Some(at);
        self.proposals = Proposals::default();
        self.nodes[at].term = self.term;
        self.nodes[at].applied = self.history.len() - 1;
        self.append(at);
    }

    /// The cluster's wall as a node knows it.
    pub fn cluster_wall(&self, at: usize) -> Option<i64> {
        let node = &self.nodes[at];
        let nodes = self.nodes.len();
        node.peers.wall_us(Own { boot_us: node.boot(), wall_us: node.wall(), nodes })
    }

    fn ping(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.life != Life::Up || node.boot() < node.ping_at_us {
            return;
        }
        node.pings += 1;
        let sent_us = node.boot();
        node.ping_at_us = sent_us + if node.pings < 4 { 50 * MS } else { PING_US };
        self.broadcast(at, |_| Message::Ping { sent_us });
    }

    fn broadcast(&mut self, from: usize, message: impl Fn(usize) -> Message) {
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            self.send(from, to, message(to));
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        let (least, most) = self.delay_us;
        let at_us = self.true_us + least + self.random.below(most - least + 1);
        self.messages.push_back((at_us, from, to, message));
    }

    fn deliver(&mut self) {
        let mut messages = std::mem::take(&mut self.messages);
        messages.retain(|(at_us, from, to, message)| {
            // A connection that stalls, or ends at one that stands still, delivers later.
            let late = self.nodes[*to].life == Life::Paused || self.true_us < self.stalled_until_us;
            if *at_us > self.true_us || late {
                return true;
            }
            if self.up(*to) {
                self.receive(*from, *to, *message);
            }
            false
        });
        messages.append(&mut self.messages);
        self.messages = messages;
    }

    fn receive(&mut self, from: usize, to: usize, message: Message) {
        let (boot_us, wall_us) = (self.nodes[to].boot(), self.nodes[to].wall());
        match message {
            Message::Append { term, seq, applied, told_us, band_us, echo, sent_us } => {
                let node = &mut self.nodes[to];
                if term < node.term {
                    return;
                }
                (node.term, node.applied) = (term, node.applied.max(applied));
                if let Some(told_us) = told_us {
                    let said = echo.filter(|(starts, _)| *starts == node.starts);
                    let age_us = said.map_or(u64::MAX, |(_, at)| boot_us.saturating_sub(at));
                    node.clock.hear(boot_us, told_us, band_us, age_us);
                }
                let (estimate_us, echo) = (node.clock.estimate_us(boot_us), (node.starts, boot_us));
                self.send(to, from, Message::Answer { term, seq, estimate_us, echo, sent_us });
            }
            Message::Answer { term, seq, estimate_us, echo, sent_us } => {
                let node = &mut self.nodes[to];
                if self.leader != Some(to) || term != self.term || sent_us > boot_us {
                    return;
                }
                node.round_trips.entry(from).or_default().heard(boot_us - sent_us);
                node.echoes.insert(from, echo);
                let replica = ReplicaId(from as u64);
                node.clock.answered(term, replica, estimate_us, (sent_us, boot_us));
                let known = self.proposals.acknowledged.entry(from).or_default();
                *known = seq.max(*known);
                self.commit();
            }
            Message::Ping { sent_us } => {
                let pong = Message::Pong { sent_us, peer_boot_us: boot_us, wall_us };
                self.send(to, from, pong);
            }
            Message::Pong { sent_us, peer_boot_us, wall_us } => {
                let round_trip_us = boot_us.saturating_sub(sent_us);
                let pong = Pong { boot_us, round_trip_us, peer_boot_us, wall_us };
                self.nodes[to].peers.measured(NodeId(from as u64), pong);
            }
        }
    }

    fn pace(&self, leader: usize, follower: Option<usize>) -> Pace {
        let known = &self.nodes[leader].round_trips;
        let mut all: Vec<u64> = known.values().filter_map(RoundTrips::shortest_us).collect();
        all.sort_unstable();
        let nearest = all.get(majority_of(self.nodes.len()) - 2).copied();
        let round_trip_us = follower.and_then(|to| known.get(&to)?.shortest_us()).or(nearest);
        Pace { beat_us: BEAT_US, round_trip_us: round_trip_us.unwrap_or(0) }
    }

    fn append(&mut self, leader: usize) {
        let told_us = self.read().and_then(|reading| reading.told_us);
        let node = &mut self.nodes[leader];
        let sent_us = node.boot();
        node.beat_at_us = sent_us + BEAT_US;
        self.proposals.seq += 1;
        let (term, seq, applied) = (self.term, self.proposals.seq, self.nodes[leader].applied);
        for to in (0..self.nodes.len()).filter(|to| *to != leader) {
            let band_us = self.pace(leader, Some(to)).band_us();
            let echo = self.nodes[leader].echoes.get(&to).copied();
            let append = Message::Append { term, seq, applied, told_us, band_us, echo, sent_us };
            self.send(leader, to, append);
        }
    }

    /// What the leader reads, if there is one that may stamp.
    pub fn read(&mut self) -> Option<Reading> {
        let leader = self.leader.filter(|leader| self.up(*leader))?;
        let (log_time_ms, off_ms) = self.history[self.nodes[leader].applied];
        if self.rule == Rule::LeadersWall {
            let node = &mut self.nodes[leader];
            let wall_us = u64::try_from(node.wall()).unwrap_or(0);
            let now_ms = node.present.now_ms(self.term, node.boot(), wall_us, log_time_ms);
            return Some(Reading { now_ms, told_us: None, opening: Opening::default() });
        }
        self.with_leading(leader, (log_time_ms, off_ms), |clock, term, around| {
            clock.read(term, around)
        })
    }

    fn with_leading<T>(
        &mut self,
        leader: usize,
        (log_time_ms, off_ms): (u64, Option<i64>),
        then: impl FnOnce(&mut GroupClock, u64, &Leading<'_>) -> T,
    ) -> T {
        let around = Leading {
            boot_us: self.nodes[leader].boot(),
            own: ReplicaId(leader as u64),
            halves: std::slice::from_ref(&self.voters),
            log_time_ms,
            off_ms,
            wall_us: self.cluster_wall(leader),
            pace: self.pace(leader, None),
        };
        then(&mut self.nodes[leader].clock, self.term, &around)
    }

    /// The leader proposes an operation; false if it must not stamp.
    pub fn propose(&mut self, op: Op) -> bool {
        let (Some(reading), Some(leader)) = (self.read(), self.leader) else { return false };
        let opening =
            if self.applied_term == self.term { Opening::default() } else { reading.opening };
        let mut entry =
            Entry { stamp_ms: reading.now_ms, opening, off_ms: None, op, asked_us: self.true_us };
        if self.rule == Rule::Majority && self.applied_term == self.term {
            let now = self.history[self.nodes[leader].applied];
            let new = self.with_leading(leader, now, |clock, term, around| {
                clock.new_off(term, around, &reading)
            });
            entry.off_ms = new.map(|new| new.off_ms);
        }
        let seq = self.proposals.seq + 1;
        self.proposals.pending.push_back((seq, entry));
        self.append(leader);
        self.commit();
        true
    }

    fn commit(&mut self) {
        let needed = majority_of(self.nodes.len()) - 1;
        while let Some((seq, _)) = self.proposals.pending.front() {
            let holders = self.proposals.acknowledged.values().filter(|known| *known >= seq);
            if holders.count() < needed {
                return;
            }
            let (_, entry) = self.proposals.pending.pop_front().expect("looked at");
            self.state.apply(&entry, self.true_us);
            self.entries += 1;
            self.history.push((self.state.log_time_ms, self.state.off_ms));
            self.applied_term = self.term;
            if let Some(leader) = self.leader {
                self.nodes[leader].applied = self.history.len() - 1;
            }
        }
    }

    /// Entries proposed and not yet committed.
    pub fn in_flight(&self) -> usize {
        self.proposals.pending.len()
    }

    /// Whether an entry waits for longer than messages need.
    pub fn stuck(&self) -> bool {
        let oldest = self.proposals.pending.front();
        oldest.is_some_and(|(_, entry)| {
            self.true_us - entry.asked_us > 2 * self.delay_us.1 + 4 * STEP_US
        })
    }

    /// The term began with something to say that is not said yet.
    pub fn must_open(&mut self) -> bool {
        self.applied_term != self.term
            && self.read().is_some_and(|reading| reading.opening != Opening::default())
    }
}
