//! Faults, one after another, as the seed says.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use raftcache::types::NodeId;
use raftcache::types::clock::now;
use raftcache::types::random::Random;

use crate::client::Book;
use crate::cluster::Cluster;
use crate::plan::Bug;

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
}

use Fault::{
    Bridge, Crash, CrashLeader, CrashMajority, DiskFails, DiskLow, HandOver, Isolate,
    IsolateLeader, Jump, Lossy, OneWay, PowerLoss, Purge,
};

const HARMLESS_TO_MEMORY: [Fault; 10] =
    [Isolate, IsolateLeader, OneWay, Bridge, Lossy, Jump, HandOver, Purge, DiskFails, DiskLow];
const CRASHES: [Fault; 6] = [Crash, CrashLeader, Crash, CrashMajority, PowerLoss, DiskFails];

/// Brings faults about.
pub struct Nemesis {
    cluster: Arc<Cluster>,
    book: Arc<Book>,
    random: Random,
    faults: u64,
}

impl Nemesis {
    pub fn new(cluster: Arc<Cluster>, book: Arc<Book>) -> Self {
        let random = Random::new(cluster.plan.seed ^ 0x4e3e_5150);
        Nemesis { cluster, book, random, faults: 0 }
    }

    /// All faults of the plan; the network is whole and every node runs when it returns. Returns
    /// how many there were.
    pub async fn run(mut self) -> u64 {
        for round in 0..self.cluster.plan.faults {
            self.rest(200, 1_200).await;
            let fault = self.choose(round);
            self.book.note(format_args!("fault {fault:?}"));
            self.faults += 1;
            self.bring(fault).await;
            self.heal().await;
        }
        self.faults
    }

    fn choose(&mut self, round: u32) -> Fault {
        let plan = &self.cluster.plan;
        match plan.bug {
            Bug::SkipFsync => return PowerLoss,
            Bug::StaleReads => return IsolateLeader,
            Bug::UnknownAsRejected => {
                return if round.is_multiple_of(2) { CrashLeader } else { IsolateLeader };
            }
            _ => {}
        }
        let of = |list: &[Fault], random: &mut Random| list[random.bits() as usize % list.len()];
        if plan.durable && self.random.bits().is_multiple_of(2) {
            return of(&CRASHES, &mut self.random);
        }
        of(&HARMLESS_TO_MEMORY, &mut self.random)
    }

    async fn bring(&mut self, fault: Fault) {
        let victim = self.any();
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
                for id in self.cluster.ids() {
                    let delta = (self.random.bits() % 20_001) as i64 - 10_000;
                    self.cluster.jump_clock(id, delta);
                }
            }
            HandOver => self.hand_over().await,
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
