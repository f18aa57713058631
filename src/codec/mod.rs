//! F2: bytes <-> types, pure.

pub mod forward;
mod forward_error;
pub mod log_record;
pub mod cluster_record;
