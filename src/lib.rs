//! raftcache: a Raft-backed, strongly consistent, sharded cache.
#![warn(missing_docs)]

pub mod codec;
pub mod config;
pub mod controller;
pub mod core;
pub mod front;
pub mod raft;
pub mod service;
pub mod storage;
pub mod telemetry;
pub mod transport;
pub mod types;
