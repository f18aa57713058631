//! What is fuzzed, one target a parser: sound inputs to begin with, and what takes an input. It panics
//! where a promise is broken, and tells whether it understood. `tests/fuzz/main.rs` feeds them random
//! input in every run of the tests, `tests/fuzz/guided` lets libFuzzer look for new ways through them.

mod grpc;
mod http;
mod peers;
mod records;
mod resp;
mod resp_commands;
mod words;

#[path = "../../support/one_shard.rs"]
mod one_shard;

/// Takes an input; true if it understood.
pub type Take = Box<dyn FnMut(&[u8]) -> bool>;

/// One parser under random input.
pub struct Target {
    /// Inputs that are understood.
    pub sound: Vec<Vec<u8>>,
    /// The parser.
    pub take: Take,
}

impl Target {
    fn new(
        sound: impl IntoIterator<Item = impl AsRef<[u8]>>,
        take: impl FnMut(&[u8]) -> bool + 'static,
    ) -> Self {
        let sound = sound.into_iter().map(|input| input.as_ref().to_vec()).collect();
        Target { sound, take: Box::new(take) }
    }
}

macro_rules! targets {
    ($($name:ident: $make:path,)+) => {
        /// The names, in the order they run.
        pub const NAMES: &[&str] = &[$(stringify!($name)),+];

        /// The target of a name.
        pub fn of_name(name: &str) -> Option<Target> {
            match name {
                $(stringify!($name) => Some($make()),)+
                _ => None,
            }
        }
    };
}

targets! {
    resp_requests: resp::requests,
    resp_commands: resp_commands::commands,
    http_requests: http::requests,
    json_values: http::json_values,
    grpc_operations: grpc::operations_alone,
    grpc_many: grpc::many,
    log_records: records::log_records,
    applied_batches: records::applied_batches,
    snapshots: records::snapshots,
    store_records: records::store_records,
    forward_frames: peers::forward_frames,
    remembered_replies: peers::remembered_replies,
    cluster_records: peers::cluster_records,
    raft_frames: peers::raft_frames,
    globs: words::globs,
    decimals: words::decimals,
}
