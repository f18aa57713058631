//! Errors -> gRPC status with a detail that programs can read.

use std::time::Duration;

use prost::Message as _;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use super::{convert, pb, validate};
use crate::core::table::RoutingTable;
use crate::types::{Error, NodeId, Outcome, Reason, RoutingEpoch};

/// The gRPC code of a reason.
///
/// UNAVAILABLE is given only where the operation was surely not applied, because clients retry it
/// by themselves. A lost answer is UNKNOWN: ABORTED would say that nothing happened.
pub fn code(reason: &Reason) -> Code {
    match reason {
        Reason::InvalidArgument { .. } | Reason::TooLarge { .. } | Reason::CrossShard { .. } => {
            Code::InvalidArgument
        }
        Reason::NotLeader { .. }
        | Reason::NotOwner { .. }
        | Reason::NoLeader { .. }
        | Reason::NoQuorum { .. }
        | Reason::NotReady
        | Reason::Stopping
        | Reason::StorageFailed { .. }
        | Reason::ReadFailed { .. } => Code::Unavailable,
        Reason::ResourceExhausted { .. } => Code::ResourceExhausted,
        Reason::DeadlineBeforePropose | Reason::DeadlineAfterPropose => Code::DeadlineExceeded,
        Reason::Lost { .. } => Code::Unknown,
        Reason::TooStale { .. }
        | Reason::NotInteger
        | Reason::NotFloat
        | Reason::WrongKind
        | Reason::OutdatedToken => Code::FailedPrecondition,
        Reason::Overflow | Reason::NotFinite | Reason::ReplyTooLarge { .. } => Code::OutOfRange,
        Reason::SessionExpired => Code::Aborted,
        Reason::Internal { .. } => Code::Internal,
    }
}

/// Name of an outcome in metadata and metrics.
pub fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Rejected => "rejected",
        Outcome::Unknown => "unknown",
    }
}

/// What a program needs to know of an error.
pub fn detail(error: &Error, table: &RoutingTable) -> pb::ErrorDetail {
    use pb::error_detail::Outcome as Wire;
    let outcome = match error.outcome() {
        Outcome::Rejected => Wire::Rejected,
        Outcome::Unknown => Wire::Unknown,
    };
    let (field, leader) = match &error.reason {
        Reason::InvalidArgument { field, .. } => (*field, None),
        Reason::TooLarge { .. } => ("value", None),
        Reason::NotLeader { leader, .. } => ("", leader.map(|node| hint(node, table))),
        _ => ("", None),
    };
    pb::ErrorDetail {
        outcome: outcome.into(),
        reason: error.reason.name().to_owned(),
        retry_after: error.retry_after.map(|after| convert::ttl_of_ms(retry_ms(after))),
        leader,
        field: field.to_owned(),
        retryable: error.retryable(),
    }
}

/// Rounded up: a hint of less than a millisecond must not read as "at once".
fn retry_ms(after: Duration) -> u64 {
    validate::millis_up(after)
}

fn hint(node: NodeId, table: &RoutingTable) -> pb::LeaderHint {
    let grpc_address = table.nodes.get(&node).map(|info| info.grpc_addr.clone());
    pb::LeaderHint { node_id: node.0, grpc_address: grpc_address.unwrap_or_default() }
}

/// The status a caller gets: code, message, details and metadata.
pub fn status(error: &Error, table: &RoutingTable) -> Status {
    let code = code(&error.reason);
    let message = error.to_string();
    let any = pb::Any {
        type_url: pb::ERROR_DETAIL_URL.to_owned(),
        value: detail(error, table).encode_to_vec().into(),
    };
    let details = pb::RpcStatus { code: code.into(), message: message.clone(), details: vec![any] };
    Status::with_details_and_metadata(
        code,
        message,
        details.encode_to_vec().into(),
        metadata(error, table.epoch),
    )
}

/// Adds the epoch of the answering node's routing table.
pub fn put_epoch(map: &mut MetadataMap, epoch: RoutingEpoch) {
    map.insert("raftcache-epoch", MetadataValue::from(epoch.0));
}

fn metadata(error: &Error, epoch: RoutingEpoch) -> MetadataMap {
    let mut map = MetadataMap::new();
    put_epoch(&mut map, epoch);
    let outcome = outcome_name(error.outcome());
    map.insert("raftcache-outcome", MetadataValue::from_static(outcome));
    map.insert("raftcache-reason", MetadataValue::from_static(error.reason.name()));
    if let Some(after) = error.retry_after {
        map.insert("retry-after-ms", MetadataValue::from(retry_ms(after)));
    }
    map
}

/// A failed operation of a pipeline: the same as [`status`], in a message.
pub fn failure(error: &Error, table: &RoutingTable) -> pb::Failure {
    pb::Failure {
        code: code(&error.reason).into(),
        message: error.to_string(),
        detail: Some(detail(error, table)),
    }
}

/// The detail of a status that came from a node; `None` if another program sent it.
pub fn detail_of(status: &Status) -> Option<pb::ErrorDetail> {
    let details = pb::RpcStatus::decode(status.details()).ok()?;
    let any = details.details.into_iter().find(|any| any.type_url == pb::ERROR_DETAIL_URL)?;
    pb::ErrorDetail::decode(any.value).ok()
}
