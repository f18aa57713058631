//! F2: bytes <-> types, pure.

pub mod cluster_record;
