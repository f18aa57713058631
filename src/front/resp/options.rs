//! How the door for clients of Redis behaves, and what it accepts.

use crate::codec::resp::parse::RequestLimits;
use crate::types::{NodeId, limits};

/// What a connection is answered for a key that another node leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Redirect {
    /// `MOVED` if it has asked for the slots of the cluster, else the answer from there.
    #[default]
    Auto,
    /// `MOVED`.
    Moved,
    /// The answer from there.
    Forward,
}

/// How the door behaves. Filled from the config.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RespOptions {
    /// This node.
    pub node: NodeId,
    /// What a connection is answered for a key that another node leads, unless it says otherwise.
    pub redirect: Redirect,
    /// How old what a connection in `READONLY` reads may be, milliseconds.
    pub readonly_staleness_ms: u64,
    /// `DEBUG SLEEP` is served.
    pub debug: bool,
}

/// What the door accepts beside what all doors do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RespLimits {
    /// Arguments of one command, its name among them.
    pub arguments_max: usize,
    /// Bytes of one argument.
    pub bulk_bytes_max: usize,
    /// Bytes of all arguments of one command.
    pub request_bytes_max: usize,
    /// Bytes of a command that is written as a line.
    pub inline_bytes_max: usize,
    /// Commands of one connection that are worked on together.
    pub pipeline_max: usize,
    /// Bytes of answers that wait to be taken on one connection before nothing more is read.
    pub output_bytes_max: usize,
    /// Bytes that half commands and answers not taken hold, over all connections.
    pub buffers_bytes_max: usize,
    /// Operations of one request of several, as the service accepts them.
    pub operations_max: usize,
    /// Their bytes.
    pub operations_bytes_max: usize,
    /// Bytes of values that reads done together answer before the rest is refused.
    pub reads_reply_bytes_max: usize,
    /// Bytes of keys in one answer of `KEYS`, counting 32 for each.
    pub keys_bytes_max: usize,
}

impl Default for RespLimits {
    fn default() -> Self {
        RespLimits {
            arguments_max: limits::RESP_ARGUMENTS_MAX,
            bulk_bytes_max: limits::RESP_BULK_BYTES_MAX,
            request_bytes_max: limits::RESP_REQUEST_BYTES_MAX,
            inline_bytes_max: limits::RESP_INLINE_BYTES_MAX,
            pipeline_max: limits::RESP_PIPELINE_MAX,
            output_bytes_max: limits::RESP_OUTPUT_BYTES_MAX,
            buffers_bytes_max: limits::RESP_BUFFERS_BYTES_MAX,
            operations_max: limits::TRANSACTION_OPERATIONS_MAX,
            operations_bytes_max: limits::TRANSACTION_BYTES_MAX,
            reads_reply_bytes_max: limits::READS_REPLY_BYTES_MAX,
            keys_bytes_max: limits::RESP_KEYS_BYTES_MAX,
        }
    }
}

impl RespLimits {
    /// What the parser accepts.
    pub fn request(&self) -> RequestLimits {
        RequestLimits {
            arguments_max: self.arguments_max,
            bulk_bytes_max: self.bulk_bytes_max,
            request_bytes_max: self.request_bytes_max,
            inline_bytes_max: self.inline_bytes_max,
        }
    }
}
