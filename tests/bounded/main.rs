//! Expiry (INV-4) and recency without logged reads (INV-8), end to end through a shard's group of
//! three under virtual time. A run is a function of its seed, which every test prints.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../support/shard.rs"]
mod shard;

mod expiry;
mod recency;
mod resurrection;
mod ticks;
