//! Messages of several keys, or of all, <-> the one request type.

use bytes::Bytes;

use super::asked::{self, Answering, Asked};
use super::convert::{Checked, consistency, key_of, mismatch, request_id};
use super::validate::invalid;
use super::{FrontLimits, pb, status};
use crate::core::table::RoutingTable;
use crate::service::{Multi, Operation, Response, ScanRequest};
use crate::types::{Consistency, Error, Query, Reply, Step, Version, Watch};

/// Keys that a scan looks at where its caller does not say, as in Redis.
const SCAN_COUNT_DEFAULT: u32 = 10;

/// A request of several operations, and how each is answered.
pub type CheckedMany = (Checked, Vec<Answering>);

/// One operation of a batch as a step.
fn step(limits: &FrontLimits, asked: Asked) -> Result<(Step, Answering), Error> {
    let (_, checked, answering) = asked::read(limits, asked);
    let (operation, request_id) = checked?;
    if request_id.is_some() {
        return Err(invalid("request_id", "is given to the whole request, not to a part of it"));
    }
    match operation {
        Operation::Write(command) => Ok((Step::Write(command), answering)),
        Operation::Read { query, consistency: Consistency::Linearizable } => {
            Ok((Step::Read(query), answering))
        }
        Operation::Read { .. } => {
            Err(invalid("consistency", "is given to the whole request, not to a part of it"))
        }
        other => Err(invalid("operations", format!("{} goes alone", other.name()))),
    }
}

/// Checks a batch.
pub fn batch(limits: &FrontLimits, request: pb::BatchRequest) -> Result<CheckedMany, Error> {
    let mut multi = Multi {
        atomic: request.atomic,
        consistency: consistency(request.consistency, request.max_staleness)?,
        ..Multi::default()
    };
    let mut answerings = Vec::with_capacity(request.operations.len());
    for operation in request.operations {
        let asked = operation.operation.and_then(asked::of_batch).ok_or_else(|| {
            invalid("operations", "has one that is missing or of an unknown kind")
        })?;
        let (step, answering) = step(limits, asked)?;
        multi.steps.push(step);
        answerings.push(answering);
    }
    for watch in request.watches {
        let key = key_of!(limits, watch, watch.key_form);
        multi.watches.push(match (watch.version, watch.absent_since) {
            (0, 0) => Watch::of(key, None),
            (0, since) => Watch::absent_since(key, Version(since)),
            (version, 0) => Watch::of(key, Some(Version(version))),
            _ => return Err(invalid("watches.absent_since", "is only allowed with version 0")),
        });
    }
    Ok(((Operation::Multi(multi), request_id(request.request_id)?), answerings))
}

/// Checks a set of many keys.
pub fn multi_set(limits: &FrontLimits, request: pb::MultiSetRequest) -> Result<CheckedMany, Error> {
    let mut multi = Multi { atomic: request.atomic, ..Multi::default() };
    let mut answerings = Vec::with_capacity(request.entries.len());
    for set in request.entries {
        let (step, answering) = step(limits, Asked::Set(set))?;
        multi.steps.push(step);
        answerings.push(answering);
    }
    Ok(((Operation::Multi(multi), request_id(request.request_id)?), answerings))
}

/// Checks a read of many keys.
pub fn multi_get(limits: &FrontLimits, request: pb::MultiGetRequest) -> Result<CheckedMany, Error> {
    let consistency = consistency(request.consistency, request.max_staleness)?;
    let answering: Answering =
        |response| super::convert::get_response(response).map(asked::Answered::Get);
    let mut steps = Vec::with_capacity(request.keys.len());
    for key in request.keys {
        steps.push(Step::Read(Query::Get { key: key_of!(limits, key, key.key_form) }));
    }
    let answerings = vec![answering; steps.len()];
    let multi = Multi { steps, consistency, ..Multi::default() };
    Ok(((Operation::Multi(multi), None), answerings))
}

/// Answer to several operations. A failed one is a result as well.
pub fn batch_response(
    response: Response,
    answerings: &[Answering],
    table: &RoutingTable,
) -> Result<pb::BatchResponse, Error> {
    match response {
        Response::Multi(results) if results.len() == answerings.len() => {
            let results = results.into_iter().zip(answerings).map(|(result, answering)| {
                let answered = result.and_then(answering);
                let result = match answered {
                    Ok(answered) => asked::to_batch(answered),
                    Err(error) => {
                        let failure = status::failure(&error, table);
                        Some(pb::batch_result::Result::Failure(failure))
                    }
                };
                pb::BatchResult { result }
            });
            Ok(pb::BatchResponse { results: results.collect(), ..pb::BatchResponse::default() })
        }
        Response::Written(Reply::Aborted { watch, current }) => Ok(pb::BatchResponse {
            aborted: true,
            aborted_watch: watch,
            current_version: current.map_or(0, |version| version.0),
            results: Vec::new(),
        }),
        other => Err(mismatch(&other)),
    }
}

/// Checks a scan; the service knows how many keys it may look at.
pub fn scan(request: pb::ScanRequest) -> Result<Checked, Error> {
    use pb::scan_request::PatternForm;
    let pattern = request.pattern_form.map(|form| match form {
        PatternForm::Pattern(text) => Bytes::from(text),
        PatternForm::PatternBytes(bytes) => bytes,
    });
    let consistency = consistency(request.consistency, request.max_staleness)?;
    let count = if request.count == 0 { SCAN_COUNT_DEFAULT } else { request.count };
    let scan = ScanRequest { cursor: request.cursor, count, pattern, consistency };
    Ok((Operation::Scan(scan), None))
}

/// Answer to a scan.
pub fn scan_response(response: Response) -> Result<pb::ScanResponse, Error> {
    match response {
        Response::Scanned { cursor, keys } => Ok(pb::ScanResponse { cursor, keys }),
        other => Err(mismatch(&other)),
    }
}

/// Checks a question for the size.
pub fn size(request: pb::SizeRequest) -> Result<Checked, Error> {
    let consistency = consistency(request.consistency, request.max_staleness)?;
    Ok((Operation::Size { consistency }, None))
}

/// Answer to it.
pub fn size_response(response: Response) -> Result<pb::SizeResponse, Error> {
    match response {
        Response::Size(keys) => Ok(pb::SizeResponse { keys }),
        other => Err(mismatch(&other)),
    }
}

/// Checks a flush.
pub fn flush(request: pb::FlushRequest) -> Result<Checked, Error> {
    Ok((Operation::Flush, request_id(request.request_id)?))
}

/// Answer to a flush.
pub fn flush_response(response: Response) -> Result<pb::FlushResponse, Error> {
    match response {
        Response::Written(Reply::Done) => Ok(pb::FlushResponse {}),
        other => Err(mismatch(&other)),
    }
}
