//! What a client may ask for, and the operation that asks it.

use bytes::Bytes;
use raftcache::service::{Multi, Operation};
use raftcache::types::{
    Command, Condition, Consistency, Delete, Expiry, Fill, GetOrLease, Increment, Lock, Query,
    Renew, Set, Step, Unlock, Value, ValueKind, Version, Watch,
};

use crate::model::If;

/// Locks that a group may hold.
const LOCKS_MAX: u32 = 64;

/// One thing to ask for. The key stands beside it.
#[derive(Clone, Debug)]
pub enum Intent {
    Get {
        consistency: Consistency,
    },
    Set {
        value: u64,
        ttl_ms: Option<u64>,
        condition: If,
    },
    Delete {
        condition: If,
    },
    /// A set of two keys of one shard to one value, if the first is as `condition` says.
    SetPair {
        value: u64,
        condition: If,
    },
    /// A look at both in one transaction.
    GetPair,
    /// Increment by one.
    Add,
    /// A read of the counter.
    Sum,
    Lock {
        ttl_ms: u64,
    },
    Renew {
        token: u64,
        ttl_ms: u64,
    },
    Unlock {
        token: u64,
    },
    GetOrLease {
        wait_ms: u64,
        stale_ok: bool,
    },
    Fill {
        value: u64,
        token: u64,
        soft_ms: Option<u64>,
    },
    /// A set that is to live for `lifetimes::LONG_MS`, and a read of it.
    SetLong {
        value: u64,
    },
    GetLong,
    /// Gets, sets and deletes of several keys, over all shards.
    Batch(Vec<(String, Intent)>),
}

impl Intent {
    /// Whether it may change something.
    pub fn writes(&self) -> bool {
        match self {
            Intent::Get { .. } | Intent::Sum | Intent::GetLong | Intent::GetOrLease { .. } => false,
            Intent::Batch(parts) => parts.iter().any(|(_, part)| part.writes()),
            // A transaction goes through the log, but a look changes nothing.
            Intent::GetPair => false,
            Intent::Set { .. }
            | Intent::Delete { .. }
            | Intent::SetPair { .. }
            | Intent::Add
            | Intent::Lock { .. }
            | Intent::Renew { .. }
            | Intent::Unlock { .. }
            | Intent::Fill { .. }
            | Intent::SetLong { .. } => true,
        }
    }

    /// Whether a retry of it surely gets the first answer, or none.
    pub fn repeats(&self) -> bool {
        self.writes() && !matches!(self, Intent::Batch(_))
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn number(value: u64) -> Value {
    Value { data: Bytes::copy_from_slice(&value.to_be_bytes()), kind: ValueKind::Bytes }
}

/// The two keys of a pair: one shard has both.
pub fn pair_of(key: &str) -> [String; 2] {
    [format!("{{{key}}}a"), format!("{{{key}}}b")]
}

fn condition(of: If) -> Condition {
    match of {
        If::Always => Condition::Always,
        If::Absent => Condition::IfAbsent,
        If::Present => Condition::IfPresent,
        If::Version(version) => Condition::IfVersion(Version(version)),
    }
}

fn watch(key: Bytes, of: If) -> Vec<Watch> {
    match of {
        If::Version(version) => vec![Watch::of(key, Some(Version(version)))],
        If::Absent => vec![Watch::of(key, None)],
        If::Always | If::Present => Vec::new(),
    }
}

fn set(key: &str, value: u64, expiry: Expiry, of: If) -> Command {
    Command::Set(Set { key: bytes(key), value: number(value), expiry, condition: condition(of) })
}

fn owner(client: u32) -> Bytes {
    bytes(&format!("client {client}"))
}

fn atomic(steps: Vec<Step>, watches: Vec<Watch>) -> Operation {
    Operation::Multi(Multi { steps, atomic: true, watches, ..Multi::default() })
}

/// What a client asks a node for.
pub fn operation(client: u32, key: &str, intent: &Intent) -> Operation {
    let read = |consistency| Operation::Read { query: Query::Get { key: bytes(key) }, consistency };
    match intent {
        Intent::Get { consistency } => read(*consistency),
        Intent::Sum | Intent::GetLong => read(Consistency::Linearizable),
        Intent::GetOrLease { wait_ms, stale_ok } => Operation::GetOrLease(GetOrLease {
            key: bytes(key),
            wait_ms: *wait_ms,
            stale_ok: *stale_ok,
            beta_milli: 0,
        }),
        Intent::SetPair { value, condition } => {
            let keys = pair_of(key);
            let set = |key: &String| Step::Write(set(key, *value, Expiry::Never, If::Always));
            atomic(keys.iter().map(set).collect(), watch(bytes(&keys[0]), *condition))
        }
        Intent::GetPair => {
            let get = |key: &String| Step::Read(Query::Get { key: bytes(key) });
            atomic(pair_of(key).iter().map(get).collect(), Vec::new())
        }
        Intent::Batch(parts) => {
            let step = |(key, part): &(String, Intent)| match operation(client, key, part) {
                Operation::Write(command) => Step::Write(command),
                Operation::Read { query, .. } => Step::Read(query),
                other => panic!("no part of a batch: {other:?}"),
            };
            let steps = parts.iter().map(step).collect();
            Operation::Multi(Multi { steps, ..Multi::default() })
        }
        write => Operation::Write(command(client, key, write)),
    }
}

fn command(client: u32, key: &str, intent: &Intent) -> Command {
    let owner = owner(client);
    match *intent {
        Intent::Set { value, ttl_ms, condition } => {
            set(key, value, ttl_ms.map_or(Expiry::Never, Expiry::AfterMs), condition)
        }
        Intent::SetLong { value } => {
            set(key, value, Expiry::AfterMs(crate::lifetimes::LONG_MS), If::Always)
        }
        Intent::Delete { condition: of } => {
            Command::Delete(Delete { key: bytes(key), condition: condition(of) })
        }
        Intent::Add => Command::Increment(Increment { key: bytes(key), delta: 1 }),
        Intent::Lock { ttl_ms } => {
            Command::Lock(Lock { key: bytes(key), owner, ttl_ms, locks_max: LOCKS_MAX })
        }
        Intent::Renew { token, ttl_ms } => {
            Command::Renew(Renew { key: bytes(key), owner, token: Version(token), ttl_ms })
        }
        Intent::Unlock { token } => {
            Command::Unlock(Unlock { key: bytes(key), owner, token: Version(token) })
        }
        Intent::Fill { value, token, soft_ms } => Command::Fill(Fill {
            key: bytes(key),
            value: number(value),
            soft_ms,
            expiry: Expiry::Never,
            cost_ms: 1,
            token,
            since: None,
        }),
        ref other => panic!("no write of one key: {other:?}"),
    }
}
