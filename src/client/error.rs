//! What a caller is told of an operation that failed, and what one attempt of it failed with.

use std::time::Duration;

use prost::Message as _;
use tonic::{Code, Status};

use super::answers::duration;
use crate::pb;
use crate::types::Outcome;

/// A failed operation.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}: {message} ({})", self.words())]
pub struct Error {
    /// Whether it may have been applied, now or later (INV-5). A failed read never was.
    pub outcome: Outcome,
    /// Short stable name: one of `docs/errors.md`, or `deadline`, `unreachable`, `lost`,
    /// `bad_answer` or `too_many_in_flight` of the client itself.
    pub reason: String,
    /// In words.
    pub message: String,
    /// Field of the request that is at fault, if one is.
    pub field: String,
    /// When it makes sense to try again, if a node said so.
    pub retry_after: Option<Duration>,
    /// Attempts that were made.
    pub attempts: u32,
}

impl Error {
    fn words(&self) -> &'static str {
        match self.outcome {
            Outcome::Rejected => "not applied",
            Outcome::Unknown => "may have been applied",
        }
    }

    /// A failure of the client itself before anything was sent.
    pub(super) fn rejected(reason: &str, message: impl Into<String>) -> Self {
        Error {
            outcome: Outcome::Rejected,
            reason: reason.to_owned(),
            message: message.into(),
            field: String::new(),
            retry_after: None,
            attempts: 0,
        }
    }
}

/// What one attempt failed with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Failure {
    /// Of this attempt alone.
    pub outcome: Outcome,
    /// As in [`Error`].
    pub reason: String,
    /// As in [`Error`].
    pub message: String,
    /// As in [`Error`].
    pub field: String,
    /// As in [`Error`].
    pub retry_after: Option<Duration>,
    /// The same can succeed later, or elsewhere.
    pub retryable: bool,
    /// Who leads, by node id and address, if the answering node knew.
    pub leader: Option<(u64, String)>,
    /// No answer came: the connection, or the node, is at fault.
    pub silent: bool,
    /// Nobody was asked: it says nothing of the node.
    pub unasked: bool,
}

/// Reason of a failure to reach a node at all.
pub(super) const UNREACHABLE: &str = "unreachable";

/// Longest pause that a node may ask for; also keeps any number from overflowing the clock.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3_600);

impl Failure {
    /// Nothing came back. `sent` says whether the node may have got it.
    pub fn silent(sent: bool, message: impl Into<String>) -> Self {
        let (outcome, reason) =
            if sent { (Outcome::Unknown, "lost") } else { (Outcome::Rejected, UNREACHABLE) };
        Failure {
            outcome,
            reason: reason.to_owned(),
            message: message.into(),
            field: String::new(),
            retry_after: None,
            retryable: true,
            leader: None,
            silent: true,
            unasked: false,
        }
    }

    /// The stream ended before the operation was on it: the next attempt opens another, to the same
    /// node as well.
    pub fn ended() -> Self {
        let lost = Failure::silent(false, "the stream has ended");
        Failure { silent: false, unasked: true, ..lost }
    }

    /// The time was over before the operation was handed to the connection.
    pub fn too_late(message: impl Into<String>) -> Self {
        let lost = Failure::silent(false, message);
        Failure { silent: false, unasked: true, ..lost }
    }

    /// An answer that is none. It came from a node, so something may have been done.
    pub fn bad_answer(message: impl Into<String>) -> Self {
        let lost = Failure::silent(true, message);
        Failure { reason: "bad_answer".to_owned(), retryable: false, silent: false, ..lost }
    }

    /// The client has more in flight than it takes; nothing was sent.
    pub fn too_many(message: impl Into<String>) -> Self {
        let lost = Failure::silent(false, message);
        let reason = "too_many_in_flight".to_owned();
        Failure { reason, silent: false, unasked: true, ..lost }
    }

    /// Whether another attempt may succeed. That the time was over before anything was proposed is
    /// the end of the attempt as the node saw it, not of the operation.
    pub fn again(&self) -> bool {
        self.retryable || self.reason == "deadline_before_propose"
    }

    /// A node's word.
    pub fn told(message: String, detail: pb::ErrorDetail) -> Self {
        use pb::error_detail::Outcome as Wire;
        // What is not surely rejected is unknown.
        let outcome = match detail.outcome() {
            Wire::Rejected => Outcome::Rejected,
            Wire::Unknown | Wire::Unspecified => Outcome::Unknown,
        };
        Failure {
            outcome,
            reason: detail.reason,
            message,
            field: detail.field,
            retry_after: detail.retry_after.map(duration).map(|pause| pause.min(RETRY_AFTER_MAX)),
            retryable: detail.retryable,
            leader: detail.leader.map(|hint| (hint.node_id, hint.grpc_address)),
            silent: false,
            unasked: false,
        }
    }

    /// The failure of a `Pipeline` operation.
    pub fn of_failure(failure: pb::Failure) -> Self {
        match failure.detail {
            Some(detail) => Failure::told(failure.message, detail),
            None => Failure::bad_answer(failure.message),
        }
    }

    /// The failure of a call. A status without our detail came from something between us and the
    /// node, or from this side of the connection.
    pub fn of_status(status: &Status) -> Self {
        if let Some(detail) = detail_of(status) {
            return Failure::told(status.message().to_owned(), detail);
        }
        let sent = !never_sent(status);
        match status.code() {
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded => {
                Failure::silent(sent, describe(status))
            }
            Code::Internal => Failure::silent(true, describe(status)),
            Code::Unimplemented => {
                let refused = Failure::bad_answer(describe(status));
                Failure { outcome: Outcome::Rejected, ..refused }
            }
            _ => Failure::bad_answer(describe(status)),
        }
    }
}

/// The message of a status with what caused it: tonic's own says only "transport error".
fn describe(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Whether the connection could not even be made.
fn never_sent(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The detail of a status that came from a node; `None` if another program sent it.
fn detail_of(status: &Status) -> Option<pb::ErrorDetail> {
    let details = pb::RpcStatus::decode(status.details()).ok()?;
    let any = details.details.into_iter().find(|any| any.type_url == pb::ERROR_DETAIL_URL)?;
    pb::ErrorDetail::decode(any.value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_node_called_rejected_is_unknown() {
        let told = |outcome: i32| {
            let detail = pb::ErrorDetail { outcome, ..pb::ErrorDetail::default() };
            Failure::told(String::new(), detail).outcome
        };
        assert_eq!(told(pb::error_detail::Outcome::Rejected.into()), Outcome::Rejected);
        for outcome in [0, 2, 7] {
            assert_eq!(told(outcome), Outcome::Unknown, "{outcome}");
        }
        for code in [Code::Unavailable, Code::Internal, Code::DeadlineExceeded, Code::Aborted] {
            let failure = Failure::of_status(&Status::new(code, "a proxy's word"));
            assert_eq!(failure.outcome, Outcome::Unknown, "{code:?}");
        }
        let unknown_call = Failure::of_status(&Status::unimplemented("no such call"));
        assert_eq!((unknown_call.outcome, unknown_call.retryable), (Outcome::Rejected, false));
    }

    #[tokio::test]
    async fn a_connection_that_was_never_made_sent_nothing() {
        let endpoint = tonic::transport::Endpoint::from_static("http://127.0.0.1:1");
        let mut client = pb::cache_service_client::CacheServiceClient::new(endpoint.connect_lazy());
        let status = client.get(pb::GetRequest::default()).await.unwrap_err();
        let failure = Failure::of_status(&status);
        assert_eq!((failure.outcome, failure.silent), (Outcome::Rejected, true), "{status:?}");
        assert!(failure.message.contains("refused"), "{}", failure.message);
    }
}
