//! F2: bytes <-> types, pure.

pub mod log_record;
pub mod cluster_record;
