//! What an operator must be told and has to acknowledge. Kept in the controller's state, so that no
//! restart and no change of leader forgets it (INV-7), and published in the routing table, so that
//! every node shows it. Pure.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ClusterMachine, ClusterReply, SHARD_REPLICAS_MAX};
use crate::core::table::ReplicaPlacement;
use crate::types::limits::{ALARMS_MAX, SHARDS_MAX};
use crate::types::{Generation, ShardId};

// One for each kind and shard: no alarm is ever pushed out by another.
const _: () = assert!(AlarmKind::ALL.len() * SHARDS_MAX as usize <= ALARMS_MAX);

/// Far above what a cluster ever counts to, and far below what overflows.
const ALARM_ID_MAX: u64 = 1 << 62;

/// What happened. Append only: tables and snapshots carry the position, commands the tag.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmKind {
    /// A shard lost the logs of a majority of its replicas and began again empty.
    MajorityLost,
    /// A replica lost a part of the log that it had acknowledged, or all of it.
    ReplicaLost,
    /// A replica held other data than its leader at the same log id.
    DigestDiffers,
}

impl AlarmKind {
    /// All of them.
    pub const ALL: [AlarmKind; 3] =
        [AlarmKind::MajorityLost, AlarmKind::ReplicaLost, AlarmKind::DigestDiffers];

    /// Its number in commands.
    pub fn tag(self) -> u8 {
        match self {
            AlarmKind::MajorityLost => 1,
            AlarmKind::ReplicaLost => 2,
            AlarmKind::DigestDiffers => 3,
        }
    }

    /// The kind of a number.
    pub fn of_tag(tag: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.tag() == tag)
    }

    /// Its name in pages, metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            AlarmKind::MajorityLost => "majority_lost",
            AlarmKind::ReplicaLost => "replica_lost",
            AlarmKind::DigestDiffers => "digest_differs",
        }
    }
}

/// An alarm that nobody has acknowledged yet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Alarm {
    /// Counted up by the controller. An alarm that is told again gets a new one: who acknowledges
    /// the old one has not seen the news.
    pub id: u64,
    /// What happened.
    pub kind: AlarmKind,
    /// To which shard.
    pub shard: ShardId,
    /// Generation of its group before it was told first.
    pub generation_before: Generation,
    /// Generation of its group after it was told last.
    pub generation: Generation,
    /// Replicas it happened to, in order of their ids, where it did not happen to the whole group.
    /// Invariant: at most `SHARD_REPLICAS_MAX`, the newest.
    pub replicas: Vec<ReplicaPlacement>,
    /// Wall time of the controller's leader when it was told first, milliseconds since 1970.
    pub first_unix_ms: u64,
    /// The same when it was told last.
    pub last_unix_ms: u64,
    /// How often it was told.
    pub count: u32,
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shard = self.shard.0;
        let replicas = || {
            let names =
                self.replicas.iter().map(|r| format!("{} on node {}", r.replica.0, r.node.0));
            names.collect::<Vec<_>>().join(", ")
        };
        match self.kind {
            AlarmKind::MajorityLost => write!(
                f,
                "shard {shard} lost its majority: what generation {} held is gone, generation {} \
                 began empty",
                self.generation_before.0, self.generation.0
            ),
            AlarmKind::ReplicaLost => {
                write!(f, "shard {shard} lost acknowledged log entries of replica {}", replicas())
            }
            AlarmKind::DigestDiffers => {
                write!(f, "shard {shard} held other data than its leader in replica {}", replicas())
            }
        }
    }
}

/// A node tells of a replica. That a shard lost its majority is known to the controller alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RaiseAlarm {
    /// What happened; not `MajorityLost`.
    pub kind: AlarmKind,
    /// To which shard.
    pub shard: ShardId,
    /// To which of its replicas.
    pub replica: ReplicaPlacement,
}

/// An operator has seen alarms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AckAlarms {
    /// All that are active when this is applied.
    All,
    /// These. What is not active any more is passed over.
    Ids(Vec<u64>),
}

/// The alarms that nobody has acknowledged yet.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Alarms {
    /// The last id given. Invariant: only grows, and is at most `ALARM_ID_MAX`.
    last_id: u64,
    /// Invariant: ids grow; one for each kind and shard.
    active: Vec<Alarm>,
}

/// One more time that something happened.
struct News {
    kind: AlarmKind,
    shard: ShardId,
    generation_before: Generation,
    generation: Generation,
    replica: Option<ReplicaPlacement>,
    unix_ms: u64,
}

impl Alarms {
    /// Those that are active, in order of their ids.
    pub fn active(&self) -> &[Alarm] {
        &self.active
    }

    /// How many of a kind are active.
    pub fn count(&self, kind: AlarmKind) -> usize {
        self.active.iter().filter(|alarm| alarm.kind == kind).count()
    }

    /// What the machine keeps so, asked of alarms that came from the network or the disk.
    pub fn is_consistent(&self) -> bool {
        let subjects: BTreeSet<_> = self.active.iter().map(|a| (a.kind, a.shard)).collect();
        let sound = |alarm: &Alarm| {
            let replicas = &alarm.replicas;
            alarm.shard.0 < SHARDS_MAX
                && replicas.len() <= usize::from(SHARD_REPLICAS_MAX)
                && replicas.is_sorted_by(|a, b| a.replica < b.replica)
        };
        subjects.len() == self.active.len()
            && self.active.iter().all(sound)
            && self.active.is_sorted_by(|a, b| a.id < b.id)
            && self.active.last().is_none_or(|last| last.id <= self.last_id)
            && self.last_id <= ALARM_ID_MAX
    }

    /// A group began again empty, in this generation.
    pub(super) fn majority_lost(&mut self, shard: ShardId, generation: Generation, unix_ms: u64) {
        self.tell(News {
            kind: AlarmKind::MajorityLost,
            shard,
            generation_before: Generation(generation.0.saturating_sub(1)),
            generation,
            replica: None,
            unix_ms,
        });
    }

    fn tell(&mut self, news: News) {
        let active = self.active.iter();
        let known = active.clone().position(|a| a.kind == news.kind && a.shard == news.shard);
        if known.is_some_and(|at| self.active[at].includes(&news)) {
            return;
        }
        let mut alarm = known.map(|at| self.active.remove(at)).unwrap_or_else(|| Alarm {
            id: 0,
            kind: news.kind,
            shard: news.shard,
            generation_before: news.generation_before,
            generation: news.generation,
            replicas: Vec::new(),
            first_unix_ms: news.unix_ms,
            last_unix_ms: news.unix_ms,
            count: 0,
        });
        self.last_id += 1;
        alarm.id = self.last_id;
        alarm.generation = news.generation;
        alarm.last_unix_ms = news.unix_ms;
        alarm.count = alarm.count.saturating_add(1);
        alarm.replicas.extend(news.replica);
        alarm.replicas.sort_by_key(|replica| replica.replica);
        if alarm.replicas.len() > usize::from(SHARD_REPLICAS_MAX) {
            alarm.replicas.remove(0);
        }
        self.active.push(alarm);
        assert!(self.active.len() <= ALARMS_MAX, "one for each kind and shard");
    }

    /// `Err` names an id that was never given; then nothing is acknowledged.
    fn acknowledge(&mut self, which: AckAlarms) -> Result<(), u64> {
        match which {
            AckAlarms::All => self.active.clear(),
            AckAlarms::Ids(ids) => {
                if let Some(unknown) = ids.iter().find(|id| !(1..=self.last_id).contains(*id)) {
                    return Err(*unknown);
                }
                self.active.retain(|alarm| !ids.contains(&alarm.id));
            }
        }
        Ok(())
    }
}

impl Alarm {
    /// True if it was told before. A replica older than all of a full list was.
    fn includes(&self, news: &News) -> bool {
        let Some(new) = news.replica else { return self.generation >= news.generation };
        let full = self.replicas.len() >= usize::from(SHARD_REPLICAS_MAX);
        self.replicas.iter().any(|known| known.replica == new.replica)
            || full && self.replicas.iter().all(|known| known.replica > new.replica)
    }
}

impl ClusterMachine {
    /// Keeps what a node tells, until it is acknowledged.
    pub(super) fn raise(&mut self, raise: RaiseAlarm) -> Option<ClusterReply> {
        let RaiseAlarm { kind, shard, replica } = raise;
        if kind == AlarmKind::MajorityLost {
            let problem = "kind: only the controller knows of a lost majority".to_owned();
            return Some(ClusterReply::Invalid { problem });
        }
        let table = &mut self.state.table;
        let Some(generation) = table.shards.get(&shard).map(|placement| placement.generation)
        else {
            let problem = format!("shard: there is no shard {}", shard.0);
            return Some(ClusterReply::Invalid { problem });
        };
        table.alarms.tell(News {
            kind,
            shard,
            generation_before: generation,
            generation,
            replica: Some(replica),
            unix_ms: self.state.unix_ms,
        });
        None
    }

    /// Ends alarms.
    pub(super) fn acknowledge(&mut self, which: AckAlarms) -> Option<ClusterReply> {
        let unknown = self.state.table.alarms.acknowledge(which).err()?;
        Some(ClusterReply::Invalid { problem: format!("ids: there was no alarm {unknown}") })
    }
}

#[cfg(test)]
#[path = "alarms_tests.rs"]
mod tests;
