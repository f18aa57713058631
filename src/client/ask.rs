//! What a node is asked for and what it answers, over either door.

use std::time::Duration;

use prost::Message as _;

use super::lane::ttl;
use crate::pb;
use crate::pb::pipeline_request::Operation;
use crate::pb::pipeline_response::Result as Reply;

/// What a node is asked for.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    /// An operation on one key.
    One(Operation),
    /// Several operations.
    Batch(pb::BatchRequest),
    /// Some of all keys.
    Scan(pb::ScanRequest),
    /// How many keys there are.
    Size(pb::SizeRequest),
    /// To remove all keys.
    Flush(pb::FlushRequest),
}

/// What it answers.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// To an operation on one key; never a failure.
    One(Reply),
    /// To several.
    Batch(pb::BatchResponse),
    /// Some keys.
    Scan(pb::ScanResponse),
    /// How many.
    Size(pb::SizeResponse),
    /// Done.
    Flush(pb::FlushResponse),
}

impl Ask {
    /// Length of its message.
    pub fn bytes(&self) -> usize {
        match self {
            Ask::One(operation) => operation.encoded_len(),
            Ask::Batch(batch) => batch.encoded_len(),
            Ask::Scan(scan) => scan.encoded_len(),
            Ask::Size(_) | Ask::Flush(_) => 0,
        }
    }

    /// It goes again, for the first time so long ago.
    pub fn sent_before(&mut self, time: Duration) {
        if let Some(id) = self.request_id() {
            let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
            id.sent = Some(pb::request_id::Sent::SentBeforeMs(ms));
        }
    }

    fn request_id(&mut self) -> Option<&mut pb::RequestId> {
        let id = match self {
            Ask::Batch(batch) => &mut batch.request_id,
            Ask::Flush(flush) => &mut flush.request_id,
            Ask::Scan(_) | Ask::Size(_) => return None,
            Ask::One(operation) => match operation {
                Operation::Set(message) => &mut message.request_id,
                Operation::Delete(message) => &mut message.request_id,
                Operation::Expire(message) => &mut message.request_id,
                Operation::Increment(message) => &mut message.request_id,
                Operation::IncrementFloat(message) => &mut message.request_id,
                Operation::Append(message) => &mut message.request_id,
                Operation::SetRange(message) => &mut message.request_id,
                Operation::Lock(message) => &mut message.request_id,
                Operation::Renew(message) => &mut message.request_id,
                Operation::Unlock(message) => &mut message.request_id,
                Operation::Fill(message) => &mut message.request_id,
                Operation::Get(_)
                | Operation::GetRange(_)
                | Operation::Inspect(_)
                | Operation::GetOrLease(_) => return None,
            },
        };
        id.as_mut()
    }

    /// Whether it waits at the node for another caller.
    pub fn waits(&self) -> bool {
        matches!(self, Ask::One(Operation::GetOrLease(ask)) if ask.wait.is_some())
    }

    /// An operation that waits at the node waits this long from now on; the others never do.
    pub fn wait(&mut self, left: Duration) {
        if let Ask::One(Operation::GetOrLease(ask)) = self {
            ask.wait = (!left.is_zero()).then(|| ttl(left));
        }
    }
}
