//! F2: bytes <-> types, pure.

pub mod cluster_record;
mod command_record;
mod fields;
pub mod forward;
mod forward_error;
mod lease_record;
pub mod log_record;
pub mod message;
mod query_record;
pub mod resp;
