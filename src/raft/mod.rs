//! F4: every openraft type lives here.

mod acknowledged;
mod append_pipeline;
mod barrier;
mod batcher;
mod builds;
mod cache_machine;
pub mod cluster_machine;
mod compactor;
pub mod delay;
mod digests;
mod entry_codec;
mod frame_codec;
mod freshness;
#[doc(hidden)]
pub mod fuzzing;
mod garbage;
pub mod heartbeat;
pub mod leases;
mod log_clock;
mod log_state;
mod log_store;
pub mod lost_replicas;
pub mod machine;
mod network;
mod ordered_watch;
pub mod quorum;
pub mod replica;
pub mod runtime;
pub mod settings;
pub mod shard_group;
mod snapshot_checks;
mod snapshot_receive;
mod snapshot_send;
mod state_store;
mod touches;
mod types;

use crate::types::countermeasure;

#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod lease_tests;
#[cfg(test)]
mod overload_tests;
#[cfg(test)]
mod quorum_tests;
#[cfg(test)]
mod suite_tests;
#[cfg(test)]
mod testkit;
#[cfg(test)]
mod trap_tests;
#[cfg(test)]
mod word_tests;
