//! F1: PURE. Synchronous and deterministic: no tokio, clock, random source, IO, or iteration over
//! a hash map. Time and randomness are arguments.

pub mod cluster;
pub mod placement;
pub mod reconcile;
pub mod ring;
pub mod table;
