//! Faults, one after another, as the seed says.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use raftcache::types::NodeId;
use raftcache::types::clock::now;
use raftcache::types::random::Random;

use crate::book::Book;
use crate::cluster::{Backup, Cluster};
use crate::plan::Bug;
use crate::run::formed;

/// One fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// One node alone.
    Isolate,
    /// The node that leads some shard alone.
    IsolateLeader,
    /// Frames of one direction between two nodes are lost.
    OneWay,
    /// All but one pair of nodes reach each other.
    Bridge,
    /// Many frames are lost.
    Lossy,
    /// One node crashes and starts again.
    Crash,
    /// The node that leads some shard does.
    CrashLeader,
    /// All but one crash.
    CrashMajority,
    /// All crash in the same moment.
    PowerLoss,
    /// Clocks jump.
    Jump,
    /// Leaderships are handed over.
    HandOver,
    /// Replicas snapshot and purge their logs, while one node cannot be reached.
    Purge,
    /// A node's disk refuses everything for a while; the process goes on.
    DiskFails,
    /// A node's disk has less room than its reserve for a while.
    DiskLow,
    /// One node crashes, starts again, hears the others for a moment and is then alone.
    RestartAlone,
    /// The node that leads some shard starts again with a clock that is an hour off, and leads again.
    WrongClock,
    /// Nobody but the nodes themselves writes for longer than a session lasts.
    Silence,
    /// The logs and snapshots of one node are put back from an older copy, while it is down.
    OldCopy,
    /// In memory: two nodes start again, one after another, and all data is lost.
    LoseMajority,
    /// In memory: all nodes stop at once and start again 3 s apart.
    LoseAll,
}

use Fault::{
    Bridge, Crash, CrashLeader, CrashMajority, DiskFails, DiskLow, HandOver, Isolate,
    IsolateLeader, Jump, LoseAll, LoseMajority, Lossy, OldCopy, OneWay, PowerLoss, Purge,
    RestartAlone, Silence, WrongClock,
};

const NO_CRASHES: [Fault; 10] =
    [Isolate, IsolateLeader, OneWay, Bridge, Lossy, Jump, HandOver, Purge, DiskFails, DiskLow];
const CRASHES: [Fault; 7] =
    [Crash, CrashLeader, RestartAlone, CrashMajority, PowerLoss, DiskFails, WrongClock];
/// Where what a node holds is in memory.
const LOSSES: [Fault; 4] = [Crash, Crash, LoseMajority, LoseAll];

/// How far a wrong clock is off, milliseconds.
const WRONG_MS: i64 = 3_600_000;
/// How long a silence lasts: longer than a session that nobody uses.
const SILENCE: Duration = Duration::from_secs(11 * 60);
/// Longest that an operation which its client gave up may go on.
const LINGER: Duration = Duration::from_secs(5);

/// What a nemesis has done.
#[derive(Clone, Copy, Default, Debug)]
pub struct Happened {
    pub faults: u64,
    /// Elections of groups that are gone.
    pub elections: u64,
    /// Sum of all terms when the groups of now began.
    pub terms_before: u64,
}

/// Brings faults about.
pub struct Nemesis {
    cluster: Arc<Cluster>,
    book: Arc<Book>,
    random: Random,
    /// The one node that loses what it holds, where one may: never more than a minority does.
    weak: u64,
    backup: Option<Backup>,
    faults: u64,
    /// Sum of all terms when the groups began, and elections of groups that are gone.
    terms_before: u64,
    elections: u64,
}

impl Nemesis {
    pub fn new(cluster: Arc<Cluster>, book: Arc<Book>) -> Self {
        let mut random = Random::new(cluster.plan.seed ^ 0x4e3e_5150);
        let weak = 1 + random.bits() % cluster.plan.nodes;
        let terms_before = cluster.terms();
        let (backup, faults, elections) = (None, 0, 0);
        Nemesis { cluster, book, random, weak, backup, faults, terms_before, elections }
    }

    /// All faults of the plan; the network is whole and every node runs when it returns.
    pub async fn run(mut self) -> Happened {
        for round in 0..self.cluster.plan.faults {
            self.rest(200, 1_200).await;
            if round == 1 {
                self.backup = Some(self.cluster.backup(self.weak));
            }
            let fault = self.choose(round);
            self.book.note(format_args!("fault {fault:?}"));
            self.faults += 1;
            self.bring(fault).await;
            self.heal().await;
        }
        let Nemesis { faults, elections, terms_before, .. } = self;
        Happened { faults, elections, terms_before }
    }

    fn elections_so_far(&self) -> u64 {
        self.elections + self.cluster.terms().saturating_sub(self.terms_before)
    }

    fn choose(&mut self, round: u32) -> Fault {
        let plan = &self.cluster.plan;
        let even = round.is_multiple_of(2);
        match plan.bug {
            Bug::SkipFsync => return PowerLoss,
            Bug::StaleReads => return IsolateLeader,
            Bug::UnknownAsRejected => return if even { CrashLeader } else { IsolateLeader },
            Bug::EchoLife => return RestartAlone,
            Bug::RetryBeforeExpiry => return WrongClock,
            Bug::LostReplicaIds => return LoseAll,
            Bug::ShortLog => return if round < 2 { Isolate } else { OldCopy },
            Bug::MajorityClock => return WrongClock,
            Bug::None | Bug::BlankRestart | Bug::ReusedRequestId => {}
        }
        if round + 1 == plan.faults && self.elections_so_far() == 0 {
            return if plan.durable { CrashLeader } else { HandOver };
        }
        let (durable, seed) = (plan.durable, plan.seed);
        let rare = round == 2 && plan.nodes == 3 && plan.bug == Bug::None;
        if rare && durable && seed.is_multiple_of(16) && plan.looks_for(Bug::RetryBeforeExpiry) {
            return Silence;
        }
        if rare && durable && seed.is_multiple_of(8) && plan.looks_for(Bug::ShortLog) {
            return OldCopy;
        }
        let list = match (durable, self.random.bits().is_multiple_of(2)) {
            (_, false) => &NO_CRASHES[..],
            (true, true) => &CRASHES[..],
            (false, true) => &LOSSES[..],
        };
        let at = self.random.bits() as usize % list.len();
        self.allowed(list[at])
    }

    /// A fault that the product is not up to yet gives way to another one.
    fn allowed(&self, fault: Fault) -> Fault {
        let plan = &self.cluster.plan;
        match fault {
            WrongClock if !plan.looks_for(Bug::MajorityClock) => CrashLeader,
            LoseAll if !plan.looks_for(Bug::LostReplicaIds) => LoseMajority,
            LoseAll | LoseMajority if plan.nodes != 3 => Crash,
            // What one node has lost for good, the other two must keep.
            CrashMajority | PowerLoss if !self.cluster.lost().is_empty() => Crash,
            other => other,
        }
    }

    async fn bring(&mut self, fault: Fault) {
        let victim = if self.cluster.plan.durable { self.any() } else { self.weak };
        match fault {
            Isolate => self.isolate(victim),
            IsolateLeader => {
                let leader = self.leader();
                self.isolate(leader);
            }
            OneWay => {
                let others = self.others(victim);
                let both = self.random.bits().is_multiple_of(2);
                for other in others.into_iter().take(if both { 2 } else { 1 }) {
                    self.cluster.network.cut(NodeId(victim), NodeId(other));
                }
            }
            Bridge => {
                if let [one, other, ..] = self.others(victim)[..] {
                    self.cluster.network.partition(&[&[NodeId(one)], &[NodeId(other)]]);
                }
            }
            Lossy => self.cluster.network.set_drop_probability(0.25),
            Crash => self.crash(&[victim]).await,
            CrashLeader => {
                let leader = self.leader();
                self.crash(&[leader]).await;
            }
            CrashMajority => {
                let others = self.others(victim);
                self.crash(&others).await;
            }
            PowerLoss => {
                let all = self.cluster.ids();
                self.crash(&all).await;
            }
            Jump => {
                let most = self.cluster.plan.clocks_differ_ms;
                for id in self.cluster.ids() {
                    let delta = (self.random.bits() % (2 * most + 1)) as i64 - most as i64;
                    self.cluster.jump_clock(id, delta);
                }
            }
            HandOver => self.hand_over().await,
            RestartAlone => {
                self.crash(&[victim]).await;
                self.rest(1_800, 2_600).await;
                self.isolate(victim);
                self.rest(1_500, 4_000).await;
            }
            WrongClock => self.wrong_clock().await,
            Silence => self.silence().await,
            OldCopy => self.old_copy().await,
            LoseMajority | LoseAll => self.lose(fault).await,
            DiskFails => {
                let victim =
                    if self.random.bits().is_multiple_of(2) { self.leader() } else { victim };
                let kinds =
                    [ErrorKind::StorageFull, ErrorKind::ReadOnlyFilesystem, ErrorKind::Other];
                let kind = kinds[self.random.bits() as usize % kinds.len()];
                self.book.note(format_args!("disk of n{victim}: {kind}"));
                self.cluster.set_disk(victim, Some(kind));
            }
            DiskLow => {
                let leader = self.leader();
                self.cluster.set_free_bytes(leader, Some(0));
                self.rest(2_000, 5_000).await;
            }
            Purge => {
                self.isolate(victim);
                self.rest(300, 900).await;
                self.purge().await;
            }
        }
        self.rest(300, 2_500).await;
    }

    async fn heal(&mut self) {
        for id in self.cluster.ids() {
            self.cluster.set_disk(id, None);
            self.cluster.set_free_bytes(id, None);
        }
        self.cluster.network.heal();
        self.cluster.network.set_drop_probability(self.cluster.plan.drop_probability);
        self.book.note(format_args!("healed"));
    }

    fn any(&mut self) -> u64 {
        1 + self.random.bits() % self.cluster.plan.nodes
    }

    fn others(&self, of: u64) -> Vec<u64> {
        self.cluster.ids().into_iter().filter(|id| *id != of).collect()
    }

    /// A node that leads some shard, as it believes.
    fn leader(&mut self) -> u64 {
        let groups = self.cluster.groups();
        let mut leaders = groups.iter().filter(|(_, group)| group.replica().is_leader());
        let skip = self.random.bits() as usize % usize::from(self.cluster.plan.shards);
        let leader = leaders.nth(skip).map(|(id, _)| *id);
        leader.unwrap_or_else(|| self.any())
    }

    fn isolate(&self, id: u64) {
        let others: Vec<NodeId> = self.others(id).into_iter().map(NodeId).collect();
        self.cluster.network.partition(&[&[NodeId(id)], &others]);
    }

    async fn crash(&mut self, ids: &[u64]) {
        self.book.note(format_args!("crash {ids:?}"));
        for id in ids {
            self.cluster.crash(*id);
        }
        self.rest(20, 2_000).await;
        for id in ids {
            self.cluster.start(*id).await;
            self.book.note(format_args!("n{id} started"));
            if self.random.bits().is_multiple_of(2) {
                self.rest(1, 400).await;
            }
        }
    }

    /// A leader comes back an hour fast, is given its leaderships again, and is right at last.
    async fn wrong_clock(&mut self) {
        let leader = self.leader();
        let slow = self.cluster.plan.bug == Bug::None && self.random.bits().is_multiple_of(4);
        let sign = if slow { -1 } else { 1 };
        self.book.note(format_args!("clock of n{leader}: {} ms", sign * WRONG_MS));
        self.cluster.jump_clock(leader, sign * WRONG_MS);
        self.crash(&[leader]).await;
        // Past the time for which it keeps still after its start.
        self.rest(2_000, 3_000).await;
        self.hand_over_to(leader).await;
        self.rest(2_000, 5_000).await;
        self.cluster.jump_clock(leader, -sign * WRONG_MS);
    }

    /// Every shard that another node leads is handed to this one, if it will have it.
    async fn hand_over_to(&mut self, id: u64) {
        let groups = self.cluster.groups();
        let own: Vec<_> = groups.iter().filter(|(node, _)| *node == id).collect();
        for (_, group) in groups.iter().filter(|(node, _)| *node != id) {
            let (key, leads) = (group.replica().key(), group.replica().is_leader());
            let target = own.iter().map(|(_, group)| group.replica().key());
            let target = target.filter(|_| leads).find(|target| target.group == key.group);
            if let Some(target) = target {
                let deadline = now() + Duration::from_secs(1);
                let moved = group.replica().hand_over_to(Some(target.replica), deadline).await;
                self.book.note(format_args!("{} to n{id}: {}", key.group, moved.is_ok()));
            }
        }
    }

    /// Clients rest for longer than a session lasts; meanwhile every group writes once a second.
    async fn silence(&mut self) {
        let book = Arc::clone(&self.book);
        let at_rest = book.rest.write().await;
        let until = now() + SILENCE;
        while now() < until {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.cluster.tick_everywhere().await;
        }
        drop(at_rest);
        self.rest(2_000, 4_000).await;
    }

    async fn old_copy(&mut self) {
        let Some(backup) = self.backup.clone() else { return };
        let id = self.weak;
        self.cluster.crash(id);
        self.rest(500, 2_000).await;
        self.book.note(format_args!("n{id} gets an older copy back"));
        self.cluster.restore(id, &backup);
        self.cluster.start(id).await;
        self.rest(3_000, 5_000).await;
    }

    /// All data in memory is lost, while clients rest: the groups must begin again in a new
    /// generation (INV-7), and every node must become ready.
    async fn lose(&mut self, fault: Fault) {
        let book = Arc::clone(&self.book);
        let _at_rest = book.rest.write().await;
        tokio::time::sleep(LINGER).await;
        self.elections = self.elections_so_far();
        let before = self.cluster.generations();
        let ids = self.cluster.ids();
        if fault == LoseAll {
            self.book.note(format_args!("crash {ids:?}"));
            ids.iter().for_each(|id| self.cluster.crash(*id));
            for id in &ids {
                self.cluster.start(*id).await;
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
        } else {
            // With what is lost already it is a majority.
            let count = 2_usize.saturating_sub(self.cluster.lost().len());
            let more: Vec<u64> = self.others(self.weak).into_iter().take(count).collect();
            self.crash(&more).await;
        }
        self.cluster.all_begin_again();
        if let Err(problem) = formed(&self.cluster).await {
            return self.book.violated(problem);
        }
        let after = self.cluster.generations();
        if before.len() != after.len() || before.iter().zip(&after).any(|(b, a)| a <= b) {
            self.book.violated(format!("INV-7: generations {before:?} became {after:?}"));
        }
        self.terms_before = self.cluster.terms();
        self.book.note(format_args!("generations {after:?}"));
        self.book.begin_era(&self.cluster.plan);
    }

    async fn hand_over(&mut self) {
        let deadline = now() + Duration::from_secs(1);
        for (id, group) in self.cluster.groups() {
            if group.replica().is_leader() {
                // A transfer that did not happen is no fault of anybody.
                let moved = group.replica().hand_over(deadline).await.is_ok();
                self.book.note(format_args!("n{id} handed over: {moved}"));
            }
        }
    }

    async fn purge(&mut self) {
        for (id, group) in self.cluster.groups() {
            let deadline = now() + Duration::from_millis(500);
            let replica = group.replica();
            let taken = replica.snapshot_now(deadline).await.is_ok();
            let purged = taken && replica.purge_to_snapshot().await.is_ok();
            self.book.note(format_args!("n{id} snapshot {taken} purge {purged}"));
        }
    }

    async fn rest(&mut self, low_ms: u64, high_ms: u64) {
        let us = low_ms * 1_000 + self.random.bits() % ((high_ms - low_ms) * 1_000);
        tokio::time::sleep(Duration::from_micros(us)).await;
    }
}

/// The script of a blank restart: what was acknowledged without one node is wiped on the others.
pub async fn blank_restart(cluster: &Cluster) {
    for spared in 1..=cluster.plan.nodes {
        let others: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != spared).collect();
        let beyond: Vec<NodeId> = others.iter().copied().map(NodeId).collect();
        cluster.network.partition(&[&[NodeId(spared)], &beyond]);
        tokio::time::sleep(Duration::from_secs(3)).await;
        for id in &others {
            cluster.crash(*id);
            cluster.wipe_logs(*id);
        }
        cluster.network.heal();
        for id in &others {
            cluster.start(*id).await;
        }
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
}
