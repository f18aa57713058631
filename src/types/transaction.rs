//! Several operations of one shard as one.

use bytes::Bytes;

use super::command::Command;
use super::ids::Version;
use super::query::Query;

/// Operations that are applied together, in order, with nothing between them, if every watched key
/// is as it was. All keys belong to one shard. An operation that is refused or whose condition does
/// not hold changes nothing and says so in its own reply; the others take effect all the same (as
/// `EXEC` of Redis has it): what must hold for all stands in `watches`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Transaction {
    /// What must hold when it is applied.
    pub watches: Vec<Watch>,
    /// What to do. Invariant: each is about one key (`Step::key`), at most
    /// `TRANSACTION_OPERATIONS_MAX`.
    pub steps: Vec<Step>,
}

/// A key that must not have changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watch {
    /// The key.
    pub key: Bytes,
    /// The version it must have; `None` if it must be absent.
    pub version: Option<Version>,
    /// Of a key that must be absent: since the state that has this version (`Freshness::version`).
    /// `None`: only now.
    pub since: Option<Version>,
}

impl Watch {
    /// A key that must have this version, or be absent whatever happened to it before.
    pub fn of(key: Bytes, version: Option<Version>) -> Self {
        Watch { key, version, since: None }
    }

    /// A key that must have been absent since the state of this version.
    pub fn absent_since(key: Bytes, since: Version) -> Self {
        Watch { key, version: None, since: Some(since) }
    }
}

/// One operation of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// A write of one key.
    Write(Command),
    /// A read of one key; it sees the steps before it.
    Read(Query),
}

impl Step {
    /// The key it works on, the first if there are two; `None` for what may not stand in a transaction.
    pub fn key(&self) -> Option<&Bytes> {
        match self {
            Step::Write(command) => command.key(),
            Step::Read(query) => query.key(),
        }
    }

    /// The other key it works on, if there are two.
    pub fn target(&self) -> Option<&Bytes> {
        match self {
            Step::Write(command) => command.target(),
            Step::Read(_) => None,
        }
    }

    /// Bytes of keys and value.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Step::Write(command) => command.payload_bytes(),
            Step::Read(query) => query.key().map_or(0, Bytes::len),
        }
    }

    /// The key whose value it answers, if it does.
    pub fn shown_key(&self) -> Option<&Bytes> {
        match self {
            Step::Write(command) => command.shown_key(),
            Step::Read(Query::Get { key } | Query::GetRange { key, .. }) => Some(key),
            Step::Read(_) => None,
        }
    }

    /// Name for metrics and spans.
    pub fn name(&self) -> &'static str {
        match self {
            Step::Write(command) => command.name(),
            Step::Read(query) => query.name(),
        }
    }
}
