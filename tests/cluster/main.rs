//! Real processes of the real binary, reached through the real doors, killed for real.
//!
//! The tests run one at a time: each has a whole cluster to itself, and measures it.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod alarms;
mod client;
#[path = "../support/commands.rs"]
mod commands;
mod dev;
mod directories;
mod disk;
mod formation;
#[path = "../support/grpc_json.rs"]
mod grpc_json;
mod harness;
mod health;
mod kill;
mod load;
mod mount;
mod pages;
#[path = "../support/ports.rs"]
mod ports;
mod process;
mod refusals;
mod restored;
mod rounds;
mod stop;
mod trace;

use tokio::sync::{Mutex, MutexGuard};

static TURN: Mutex<()> = Mutex::const_new(());

/// Waits for its turn. A test that panicked before does not matter to the next.
async fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().await
}
