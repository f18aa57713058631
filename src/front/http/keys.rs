//! `GET /cache`: some of all keys. `DELETE /cache`: none of them.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

use super::asked::{Asked, CONSISTENCY, MAX_STALENESS, consistency};
use super::cache::{answered, with_id};
use super::path::Parameters;
use super::problem::Problem;
use super::value::Base64;
use super::{Http, Shared, batch_results};
use crate::front::door::Kind;
use crate::front::validate::invalid;
use crate::service::{self, Execute, Operation, ScanRequest};
use crate::types::{Error, Reply};

const CURSOR: &str = "cursor";
const COUNT: &str = "count";
const MATCH: &str = "match";
const CONFIRM: &str = "confirm";
/// Keys to look at if the caller does not say.
const COUNT_DEFAULT: u32 = 100;

pub(super) async fn scan<S: Execute>(State(http): Shared<S>, request: Request) -> Response {
    answered(http.scan(Asked::new(request.into_parts().0)).await)
}

pub(super) async fn flush<S: Execute>(State(http): Shared<S>, request: Request) -> Response {
    answered(http.flush(Asked::new(request.into_parts().0)).await)
}

/// Some keys.
#[derive(Serialize)]
struct Page<'a> {
    /// What to go on with; `null` at the end. A string, because it has more bits than numbers of
    /// JavaScript.
    cursor: Option<String>,
    /// Those that are UTF-8.
    keys: Vec<&'a str>,
    /// The others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys_base64: Vec<Base64<'a>>,
}

impl<'a> Page<'a> {
    fn new(cursor: u64, found: &'a [Bytes]) -> Self {
        let (mut keys, mut keys_base64) = (Vec::new(), Vec::new());
        for key in found {
            match std::str::from_utf8(key) {
                Ok(text) => keys.push(text),
                Err(_) => keys_base64.push(Base64(key)),
            }
        }
        Page { cursor: (cursor != 0).then(|| cursor.to_string()), keys, keys_base64 }
    }
}

impl<S: Execute> Http<S> {
    async fn scan(&self, asked: Asked) -> Result<Response, Problem> {
        let checked = scan_of(&asked).map(|scan| (Operation::Scan(scan), None));
        match self.run(&asked, Kind::Scan, checked).await? {
            service::Response::Scanned { cursor, keys } => {
                Ok(axum::Json(Page::new(cursor, &keys)).into_response())
            }
            other => Err(self.problem(&batch_results::mismatch(&other))),
        }
    }

    async fn flush(&self, asked: Asked) -> Result<Response, Problem> {
        let checked = confirmed(&asked).and_then(|()| with_id(&asked, Operation::Flush));
        match self.run(&asked, Kind::Flush, checked).await? {
            service::Response::Written(Reply::Done) => Ok(StatusCode::NO_CONTENT.into_response()),
            other => Err(self.problem(&batch_results::mismatch(&other))),
        }
    }
}

fn scan_of(asked: &Asked) -> Result<ScanRequest, Error> {
    let allowed = [CURSOR, COUNT, MATCH, CONSISTENCY, MAX_STALENESS];
    let parameters = Parameters::of(asked.uri(), &allowed)?;
    Ok(ScanRequest {
        cursor: parameters.number(CURSOR)?.unwrap_or(0),
        count: parameters.number(COUNT)?.unwrap_or(COUNT_DEFAULT),
        pattern: parameters.get(MATCH).cloned(),
        consistency: consistency(&parameters)?,
    })
}

/// Nobody empties a cache by leaving out a key.
fn confirmed(asked: &Asked) -> Result<(), Error> {
    match Parameters::of(asked.uri(), &[CONFIRM])?.text(CONFIRM)? {
        Some("flush") => Ok(()),
        _ => Err(invalid(CONFIRM, "must be flush: every key of the cluster is removed")),
    }
}
