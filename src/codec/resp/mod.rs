//! The protocol of Redis: values <-> bytes, pure.

pub mod value;
