//! What asks all shards: scan, size, flush.

use bytes::Bytes;
use futures_util::future::join_all;
use xxhash_rust::xxh3::xxh3_64;

use super::api::{Response, ScanRequest};
use super::execute::Inner;
use super::forward::Served;
use super::local_group::LocalGroup;
use super::unit::{Caller, Route, Unit, Work};
use crate::core::table::RoutingTable;
use crate::types::limits::SCAN_BYTES_MAX;
use crate::types::{
    Answer, Command, Consistency, Error, Keys, Outcome, Query, Reason, Reply, Scan, ShardId,
};

/// Shards that one call of a scan asks, one after the other, while it has found too little.
const SCAN_SHARDS_MAX: usize = 16;

/// Where a scan stands: 15 bits that name who owns which slot, 16 of shard, 32 of position in it.
/// 0 is the beginning, and the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cursor {
    owners: u16,
    shard: ShardId,
    position: u32,
}

impl Cursor {
    fn of_number(number: u64) -> Self {
        Cursor {
            owners: (number >> 48) as u16,
            shard: ShardId((number >> 32) as u16),
            position: number as u32,
        }
    }

    fn number(self) -> u64 {
        u64::from(self.owners) << 48 | u64::from(self.shard.0) << 32 | u64::from(self.position)
    }
}

/// 15 bits that are others when a slot has another owner, but for one case in 32,768.
fn owners_of(table: &RoutingTable) -> u16 {
    let owners: Vec<u8> = table.slots.iter().flat_map(|shard| shard.0.to_le_bytes()).collect();
    (xxh3_64(&owners) >> 49) as u16
}

/// A cursor from which a scan begins in the middle: at this position of this shard.
pub fn cursor_at(table: &RoutingTable, shard: ShardId, position: u32) -> u64 {
    Cursor { owners: owners_of(table), shard, position }.number()
}

impl<G: LocalGroup> Inner<G> {
    /// Shard after shard, in each by position. When slots have moved since the last call it begins
    /// again: a key that moved must not be missed, and may be found twice.
    pub(super) async fn scan(
        &self,
        request: ScanRequest,
        caller: Caller,
    ) -> Result<Response, Error> {
        let table = self.placed(caller.deadline).await?;
        let owners = owners_of(&table);
        let from = Cursor::of_number(request.cursor);
        let begin = request.cursor == 0 || from.owners != owners;
        let start = Cursor { owners, shard: ShardId(0), position: 0 };
        let from = if begin { start } else { from };
        let (mut keys, mut bytes): (Vec<Bytes>, usize) = (Vec::new(), 0);
        let shards = table.shards.keys().copied().filter(|shard| *shard >= from.shard);
        for (asked, shard) in shards.enumerate() {
            let first = if shard == from.shard { from.position } else { 0 };
            let found = keys.len();
            if asked == SCAN_SHARDS_MAX
                || found >= request.count as usize
                || bytes >= SCAN_BYTES_MAX
            {
                let cursor = Cursor { owners, shard, position: first }.number();
                return Ok(Response::Scanned { cursor, keys });
            }
            let keys_max = request.count - found as u32;
            let pattern = request.pattern.clone();
            let scan = Scan { first, last: u32::MAX, keys_max, pattern };
            let part = self.scan_shard(shard, scan, request.consistency, caller).await?;
            bytes += part.keys.iter().map(Bytes::len).sum::<usize>();
            keys.extend(part.keys);
            if let Some(position) = part.next {
                let cursor = Cursor { owners, shard, position }.number();
                return Ok(Response::Scanned { cursor, keys });
            }
        }
        Ok(Response::Scanned { cursor: 0, keys })
    }

    async fn scan_shard(
        &self,
        shard: ShardId,
        scan: Scan,
        consistency: Consistency,
        caller: Caller,
    ) -> Result<Keys, Error> {
        match self.ask_shard(shard, Work::Read(Query::Scan(scan), consistency), caller).await? {
            Served::Read(Answer::Keys(keys), _) => Ok(keys),
            other => Err(odd(&other)),
        }
    }

    /// The sum over all shards.
    pub(super) async fn size(
        &self,
        consistency: Consistency,
        caller: Caller,
    ) -> Result<Response, Error> {
        let table = self.placed(caller.deadline).await?;
        let sizes = table.shards.keys().map(|shard| {
            let work = Work::Read(Query::Size { slot: None }, consistency);
            self.ask_shard(*shard, work, caller)
        });
        let mut sum = 0;
        for served in join_all(sizes).await {
            match served? {
                Served::Read(Answer::Size(keys), _) => sum += keys,
                other => return Err(odd(&other)),
            }
        }
        Ok(Response::Size(sum))
    }

    /// All shards, or an error that says how many: `Rejected` only if surely none was flushed.
    pub(super) async fn flush(&self, caller: Caller) -> Result<Response, Error> {
        let table = self.placed(caller.deadline).await?;
        let flushes = table
            .shards
            .keys()
            .map(|shard| self.ask_shard(*shard, Work::Write(Command::Flush), caller));
        let results = join_all(flushes).await;
        let shards = results.len();
        let mut errors: Vec<Error> = Vec::new();
        for result in results {
            match result {
                Ok(Served::Reply(Reply::Done)) => {}
                Ok(other) => errors.push(odd(&other)),
                Err(error) => errors.push(error),
            }
        }
        match errors.first() {
            None => Ok(Response::Written(Reply::Done)),
            Some(first) => Err(partly(first, &errors, shards)),
        }
    }

    async fn ask_shard(&self, shard: ShardId, work: Work, caller: Caller) -> Result<Served, Error> {
        self.run(&Unit { work, route: Route::Shard(shard), caller }).await
    }
}

/// What becomes of a whole some parts of which failed (INV-5).
fn partly(first: &Error, errors: &[Error], shards: usize) -> Error {
    let none_applied = errors.iter().all(|error| error.outcome() == Outcome::Rejected);
    if errors.len() == shards && none_applied {
        return first.clone();
    }
    let done = shards - errors.len();
    Reason::Lost { detail: format!("{done} of {shards} shards surely flushed; {first}") }.into()
}

fn odd(served: &Served) -> Error {
    Reason::Internal { detail: format!("answer of another operation: {served:?}") }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_its_number() {
        let cursor = Cursor { owners: 0x7fff, shard: ShardId(1023), position: u32::MAX };
        assert_eq!(Cursor::of_number(cursor.number()), cursor);
        assert!(i64::try_from(cursor.number()).is_ok(), "clients read it as a signed number");
        let start = Cursor { owners: 0, shard: ShardId(0), position: 0 };
        assert_eq!(start.number(), 0);
    }

    #[test]
    fn a_flush_is_rejected_only_if_surely_nothing_was_flushed() {
        let rejected = Error::from(Reason::Stopping);
        let unknown = Error::from(Reason::DeadlineAfterPropose);
        let of = |errors: &[&Error], shards| {
            let errors: Vec<Error> = errors.iter().map(|error| (*error).clone()).collect();
            partly(&errors[0], &errors, shards).outcome()
        };
        assert_eq!(of(&[&rejected, &rejected], 2), Outcome::Rejected);
        assert_eq!(of(&[&rejected], 2), Outcome::Unknown);
        assert_eq!(of(&[&rejected, &unknown], 2), Outcome::Unknown);
        assert_eq!(of(&[&unknown], 1), Outcome::Unknown);
    }
}
