//! F3: disk (trait, real, simulated), write-ahead logs, snapshot files.
//!
//! `wal` is the seam; `memory_wal`, `sled_wal` and `sim_wal` are the engines behind it. `disk` is
//! the seam to plain files; `snapshot_files` and `identity` stand on it. `health` knows whether the
//! disk can be written, and `wal_slot` opens a failed log again.

pub mod disk;
mod flush_mark;
mod flusher;
pub mod health;
pub mod identity;
mod log_image;
mod log_state;
pub mod memory_wal;
pub mod replicas_started;
pub mod sim_files;
pub mod sim_wal;
mod sled_files;
mod sled_record;
pub mod sled_wal;
pub mod snapshot_files;
mod snapshot_format;
mod snapshot_writer;
pub mod wal;
pub mod wal_slot;

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod failing_tests;
#[cfg(test)]
mod kill_tests;
#[cfg(test)]
mod sim_tests;
#[cfg(test)]
mod snapshot_tests;
#[cfg(test)]
mod wal_suite;
