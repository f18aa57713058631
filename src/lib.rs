//! raftcache: a Raft-backed, strongly consistent, sharded cache.
//!
//! # The floors
//!
//! Imports point downward only (`tests/tidy.rs` checks it).
//!
//! ```text
//! F8  node, config,         the only place that wires; what an operator sets; the load generator.
//!     telemetry, bench      The command line stands above them
//! F7  front, client        doors: gRPC, HTTP, Redis. No semantics. Beside them, for programs that are no
//!                          nodes: the client that knows the leaders
//! F6  controller           observe, plan, drive one action at a time
//! F5  service              the one entry of all doors: route, forward, admit
//! F4  raft                 every openraft type: replica, batcher, read barrier
//! F3  storage, transport   write-ahead log and snapshot files; connections to peers
//! F2  codec, pb            bytes <-> types, pure; what the public protocol file generates
//! F1  core                 slots, routing table, keyspace, expiry, eviction, apply: pure
//! F0  types                ids, commands (the log format), replies, errors, limits, clock
//! ```
//!
//! # The way of a Set
//!
//! A door ([`front`]) checks the message and builds a [`service::Request`]. [`service::Execute`]
//! finds the slot of the key and its shard in the [routing table](crate::core::table::RoutingTable).
//! If another node leads the shard's group, the operation is forwarded there as a frame
//! ([`transport::FrameKind::Forward`]). At the leader, the group's batcher
//! ([`raft::shard_group::ShardGroup`]) makes one Raft entry of all that is queued
//! ([`types::Batch`]) and proposes it ([`raft::replica::Replica`]). The entry is appended and
//! flushed here and at the followers ([`storage::wal::Wal`]); once a majority has it, every replica
//! applies it to its state machine ([`raft::machine::StateMachine`]), and the reply goes back up.
//!
//! A Get takes the same way to the group, and instead of an entry waits for one read barrier with
//! every other read that was queued before the barrier began.
//!
//! `docs/architecture.md` follows both ways by file and function, and says in which order to read.
#![warn(missing_docs)]

pub mod bench;
pub mod client;
pub mod codec;
pub mod config;
pub mod controller;
pub mod core;
pub mod front;
pub mod node;
pub mod pb;
pub mod raft;
pub mod service;
pub mod storage;
pub mod telemetry;
pub mod transport;
pub mod types;
