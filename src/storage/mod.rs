//! F3: disk (trait, real, simulated), write-ahead logs, snapshot files.
//!
//! `wal` is the seam to the write-ahead log: `memory_wal` and `sim_wal` stand behind it, and
//! `engine_wal`, the one that keeps it on disk, over `sled_wal` or `raft_engine_wal` (`engine` is
//! what these two have in common). `disk` is the seam to plain files; `snapshot_files` and
//! `identity` stand on it. `health` knows whether the disk can be
//! written, and `wal_slot` opens a failed log again.

pub mod disk;
pub mod engine;
pub mod engine_wal;
mod flush_mark;
mod flusher;
#[doc(hidden)]
pub mod fuzzing;
pub mod health;
pub mod identity;
mod log_image;
mod log_state;
pub mod memory_wal;
mod raft_engine_directory;
mod raft_engine_files;
pub mod raft_engine_wal;
pub mod replicas_started;
pub mod set_aside;
pub mod shortened_replicas;
pub mod sim_files;
pub mod sim_wal;
mod sled_files;
pub mod sled_wal;
pub mod snapshot_files;
mod snapshot_format;
mod snapshot_writer;
mod store_record;
pub mod wal;
pub mod wal_slot;

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod disk_faults;
#[cfg(test)]
mod failing_tests;
#[cfg(test)]
mod kill_tests;
#[cfg(test)]
mod sim_tests;
#[cfg(test)]
mod snapshot_tests;
#[cfg(test)]
mod wal_model;
#[cfg(test)]
mod wal_suite;
