//! The door for clients of Redis, over real sockets to real nodes in this process.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod client;
mod large;
mod library;
mod limits;
mod nodes;
#[path = "../support/ports.rs"]
mod ports;
mod routing;
mod session;
mod transactions;
