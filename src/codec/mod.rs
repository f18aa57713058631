//! F2: bytes <-> types, pure.

pub mod log_record;
