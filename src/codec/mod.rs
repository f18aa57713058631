//! F2: bytes <-> types, pure.

pub mod cluster_record;
pub mod forward;
mod forward_error;
pub mod log_record;
