//! Commands that take several operations one after the other.

use bytes::Bytes;

use super::fault::fault;
use super::serve::Resp;
use crate::codec::resp::value::RespValue;
use crate::core::keyspace::{slot_position, slot_position_last};
use crate::front::door::{Call, Door, Kind};
use crate::front::validate;
use crate::service::{Execute, Operation, Response, ScanRequest, cursor_at};
use crate::types::clock::now;
use crate::types::limits::SCAN_KEYS_MAX;
use crate::types::{Consistency, Error, Reason, SLOTS, Slot};

/// What a key counts for in an answer of `KEYS` besides its bytes.
const KEY_OVERHEAD_BYTES: usize = 32;

/// Keys among which `RANDOMKEY` chooses: those that follow a random position. A single one would come
/// up as often as the gap before it is wide.
const RANDOM_AMONG: u32 = 16;

/// Several operations one after the other. Other callers may come in between.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Procedure {
    /// `KEYS`: every key that matches. Each is there if it is from the first operation to the last.
    Keys {
        /// Glob pattern; `None` for all.
        pattern: Option<Bytes>,
        /// How fresh.
        consistency: Consistency,
    },
    /// `RANDOMKEY`: any key, or nothing if there is none.
    RandomKey {
        /// How fresh.
        consistency: Consistency,
    },
}

impl Procedure {
    /// Runs it to its end or to the deadline of the call.
    pub(super) async fn run<S: Execute>(self, resp: &Resp<S>, call: Call<'_>) -> RespValue {
        let done = match self {
            Procedure::Keys { pattern, consistency } => {
                keys(resp, call, pattern, consistency).await
            }
            Procedure::RandomKey { consistency } => random_key(&resp.door, call, consistency).await,
        };
        done.unwrap_or_else(|error| fault(&error))
    }
}

async fn keys<S: Execute>(
    resp: &Resp<S>,
    mut call: Call<'_>,
    pattern: Option<Bytes>,
    consistency: Consistency,
) -> Result<RespValue, Error> {
    let (mut found, mut bytes, mut cursor) = (Vec::new(), 0, 0);
    loop {
        let pattern = pattern.clone();
        let scan = ScanRequest { cursor, count: SCAN_KEYS_MAX, pattern, consistency };
        let (next, keys) = scanned(&resp.door, &mut call, scan).await?;
        bytes += keys.iter().map(|key| key.len() + KEY_OVERHEAD_BYTES).sum::<usize>();
        let bytes_max = resp.door.limits.resp.keys_bytes_max;
        if bytes > bytes_max {
            resp.metrics.refused.with_label_values(&["resp_keys"]).inc();
            let most = format!(
                "matches more than {bytes_max} bytes of keys (limits.resp_keys_bytes_max); use SCAN"
            );
            return Err(validate::invalid("pattern", most));
        }
        found.extend(keys);
        if next == 0 {
            break;
        }
        cursor = next;
    }
    // A key may be found twice when slots move meanwhile, and KEYS answers each once.
    found.sort_unstable();
    found.dedup();
    Ok(RespValue::Array(found.into_iter().map(RespValue::Bulk).collect()))
}

/// Begins at a random position and goes round once, so that it finds a key if there is one.
async fn random_key<S: Execute>(
    door: &Door<S>,
    mut call: Call<'_>,
    consistency: Consistency,
) -> Result<RespValue, Error> {
    let slot = Slot(rand::random_range(0..SLOTS));
    let position = rand::random_range(slot_position(slot)..=slot_position_last(slot));
    let table = door.table();
    let mut cursor = table.owner(slot).map_or(0, |shard| cursor_at(&table, shard, position));
    let mut rounds = usize::from(cursor == 0);
    while rounds < 2 {
        let scan = ScanRequest { cursor, count: RANDOM_AMONG, pattern: None, consistency };
        let (next, mut keys) = scanned(door, &mut call, scan).await?;
        if !keys.is_empty() {
            let key = keys.swap_remove(rand::random_range(0..keys.len()));
            return Ok(RespValue::Bulk(key));
        }
        cursor = next;
        rounds += usize::from(next == 0);
    }
    Ok(RespValue::Null)
}

async fn scanned<S: Execute>(
    door: &Door<S>,
    call: &mut Call<'_>,
    scan: ScanRequest,
) -> Result<(u64, Vec<Bytes>), Error> {
    let scanned = door.run(Kind::Scan, Ok((Operation::Scan(scan), None)), *call).await;
    // What follows has waited for this, not for the node. The deadline stays.
    call.arrived = now();
    match scanned? {
        Response::Scanned { cursor, keys } => Ok((cursor, keys)),
        other => {
            let detail = format!("answer of another operation: {other:?}");
            Err(Reason::Internal { detail }.into())
        }
    }
}
