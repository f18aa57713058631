//! F1: PURE. Synchronous and deterministic: no tokio, clock, random source, IO, or iteration over
//! a hash map. Time and randomness are arguments.

pub mod clock_rate;
pub mod cluster;
pub mod digest;
pub mod eviction;
pub mod expiry;
pub mod glob;
pub mod keyspace;
pub mod log_time;
pub mod machine;
#[cfg(test)]
mod machine_model;
#[cfg(test)]
mod machine_model_locks;
#[cfg(test)]
mod machine_model_words;
#[cfg(test)]
mod machine_once_tests;
#[cfg(test)]
mod machine_snapshot_tests;
#[cfg(test)]
mod machine_tests;
#[cfg(test)]
mod machine_words_tests;
pub mod placement;
pub mod queue_delay;
#[cfg(test)]
mod recency_tests;
pub mod reconcile;
pub mod removals;
pub mod reply_record;
pub mod restore;
pub mod retry_memory;
pub mod ring;
pub mod session;
pub mod session_record;
pub mod sessions;
pub mod shape;
pub mod slot;
pub mod slot_set;
pub mod snapshot;
pub mod snapshot_record;
pub mod table;
pub mod watcher;
