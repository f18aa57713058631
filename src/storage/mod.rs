//! F3: disk (trait, real, simulated), write-ahead logs, snapshot files.

pub mod wal;
