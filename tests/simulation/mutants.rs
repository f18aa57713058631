//! Known bugs that can be put back, and whether the product is rid of them: the table of
//! docs/testing.md.
//!
//! A bug whose fix is not in the tree yet has `fixed: false`. Its test then finds it in the product as
//! it is, and `seeds` leaves out the faults and checks that would find it as well. With the fix comes
//! `fixed: true`: the test takes the countermeasure out, and `seeds` must find nothing.

use raftcache::types::countermeasure::Countermeasure;

/// A known bug that is put back, to see that the checker sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    None,
    /// The log acknowledges before it flushes.
    SkipFsync,
    /// A node that lost its logs starts again under its old replica ids.
    BlankRestart,
    /// Reads skip the barrier.
    StaleReads,
    /// A client uses a request id for two operations.
    ReusedRequestId,
    /// A client says of a write whose outcome is unknown that it was rejected.
    UnknownAsRejected,
    /// A leader sends a follower the clock of an earlier life back: a bounded read claims an age
    /// that is too low.
    EchoLife,
    /// Sessions that nobody used for long are dropped before the retry is looked up that comes in the
    /// same entry: it is applied twice.
    RetryBeforeExpiry,
    /// A node whose logs are gone reports replicas lost that never ran on it.
    LostReplicaIds,
    /// A replica whose log is shorter than what it acknowledged goes on as if nothing were.
    ShortLog,
    /// The leader's wall clock decides what log time is.
    MajorityClock,
}

/// A row of the table.
#[derive(Debug)]
pub struct Mutant {
    pub bug: Bug,
    /// What is taken out of the product; nothing where the bug is in the simulated world or client.
    pub countermeasures: &'static [Countermeasure],
    /// The product has the countermeasure.
    pub fixed: bool,
    /// Seeds within which some violation must hold one of `wanted`.
    pub seeds: u64,
    pub wanted: &'static [&'static str],
}

const fn of_the_world(bug: Bug, seeds: u64) -> Mutant {
    Mutant { bug, countermeasures: &[], fixed: true, seeds, wanted: &["not linearizable"] }
}

pub const MUTANTS: [Mutant; 10] = [
    of_the_world(Bug::SkipFsync, 20),
    of_the_world(Bug::BlankRestart, 20),
    of_the_world(Bug::StaleReads, 20),
    of_the_world(Bug::ReusedRequestId, 20),
    of_the_world(Bug::UnknownAsRejected, 40),
    Mutant {
        bug: Bug::EchoLife,
        countermeasures: &[Countermeasure::EchoOfThisLife],
        fixed: true,
        seeds: 20,
        wanted: &["claims an age"],
    },
    Mutant {
        bug: Bug::RetryBeforeExpiry,
        // Only the leap of a clock lets the second one matter.
        countermeasures: &[Countermeasure::RetryBeforeExpiry, Countermeasure::MajorityClock],
        fixed: true,
        seeds: 20,
        wanted: &["INV-6"],
    },
    Mutant {
        bug: Bug::LostReplicaIds,
        countermeasures: &[Countermeasure::LostReplicaIds],
        fixed: true,
        seeds: 10,
        wanted: &["liveness: not ready"],
    },
    Mutant {
        bug: Bug::ShortLog,
        countermeasures: &[Countermeasure::ShortenedLog],
        fixed: true,
        seeds: 20,
        wanted: &["liveness", "panic", "not linearizable", "INV-"],
    },
    Mutant {
        bug: Bug::MajorityClock,
        countermeasures: &[Countermeasure::MajorityClock],
        fixed: false,
        seeds: 20,
        wanted: &["ended too early", "before its time was over"],
    },
];

impl Bug {
    /// Its row.
    pub fn mutant(self) -> Option<&'static Mutant> {
        MUTANTS.iter().find(|mutant| mutant.bug == self)
    }

    /// Whether a run with `self` put back looks for `other`: brings its faults and judges what they
    /// do.
    pub fn looks_for(self, other: Bug) -> bool {
        self == other || self == Bug::None && other.mutant().is_some_and(|mutant| mutant.fixed)
    }

    /// What a run takes out of the product.
    pub fn takes_out(self) -> &'static [Countermeasure] {
        let mutant = self.mutant().filter(|mutant| mutant.fixed);
        mutant.map_or(&[], |mutant| mutant.countermeasures)
    }

    /// Whether the cluster is to be whole again at the end; else what was seen before is enough.
    pub fn is_healed(self) -> bool {
        matches!(self, Bug::None | Bug::ShortLog)
    }

    /// Faults of a run.
    pub fn faults(self) -> u32 {
        match self {
            Bug::LostReplicaIds => 1,
            Bug::EchoLife | Bug::RetryBeforeExpiry | Bug::MajorityClock | Bug::ShortLog => 3,
            _ => 5,
        }
    }

    pub fn skips_fsync(self) -> bool {
        self == Bug::SkipFsync
    }
}
