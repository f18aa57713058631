//! Operations that may be answered late, each in a frame of its own: in a lane it would hold up those
//! that share its frame.

use std::sync::atomic::Ordering;

use super::forward::{Forwarder, Held, Served, exhausted};
use super::forward_lane::left_ms;
use crate::codec::forward::{Operations, Request, Response, Results};
use crate::transport::{self, FrameKind};
use crate::types::clock::Instant;
use crate::types::limits::WHAT_FORWARD_WAITING;
use crate::types::{Error, GetOrLease, GroupId, NodeId, Reason, ShardId};

impl Forwarder {
    /// Has `to` read or lease a key. It changes nothing that is replicated, so every failure is one of
    /// a read.
    pub(super) async fn alone(
        &self,
        to: NodeId,
        (group, shard): (GroupId, ShardId),
        ask: GetOrLease,
        deadline: Instant,
        trace: u128,
    ) -> Result<Served, Error> {
        let links = &self.links;
        let waiting_max = links.limits.waiting_max;
        let place = Held::new(&self.waiting, 1);
        if self.waiting.load(Ordering::Relaxed) > waiting_max {
            return Err(exhausted(WHAT_FORWARD_WAITING, waiting_max));
        }
        let request = Request {
            epoch: links.table.borrow().epoch,
            batch: links.batches.fetch_add(1, Ordering::Relaxed),
            deadline_ms: left_ms(deadline),
            operations: Operations::Lease(ask),
            traces: if trace == 0 { Vec::new() } else { vec![trace] },
        };
        links.forwarded.inc();
        let call = links.transport.call(to, group, FrameKind::Forward, request.encode(), deadline);
        let answer = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(Reason::Stopping.into()),
            answer = call => answer,
        };
        drop(place);
        let failed = |detail: String| Error::from(Reason::ReadFailed { detail });
        let bytes = answer.map_err(|error| match error {
            transport::Error::Unreachable { .. } | transport::Error::Refused { .. } => {
                Reason::NoLeader { group: GroupId::of_shard(shard) }.into()
            }
            transport::Error::NoAnswer { .. } => failed(error.to_string()),
        })?;
        let response = Response::decode(bytes).map_err(|error| failed(error.to_string()))?;
        (links.learn_epoch)(response.epoch);
        match response.results {
            Results::Leased(leased) => Ok(Served::Leased(leased)),
            Results::Failed(error) => Err(error),
            Results::Writes(_) | Results::Reads { .. } => Err(failed("an odd answer".to_owned())),
        }
    }
}
