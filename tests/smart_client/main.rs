//! The smart client against real processes that are killed.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

#[allow(dead_code, reason = "shared with the tests of clusters")]
#[path = "../cluster/harness.rs"]
mod harness;
#[allow(dead_code, reason = "shared with the tests of clusters")]
#[path = "../cluster/mount.rs"]
mod mount;
#[allow(dead_code, reason = "shared with the tests of clusters")]
#[path = "../support/ports.rs"]
mod ports;
#[allow(dead_code, reason = "shared with the tests of clusters")]
#[path = "../cluster/process.rs"]
mod process;

mod counting;
mod leaders;
mod resp;
mod words;

use tokio::sync::{Mutex, MutexGuard};

static TURN: Mutex<()> = Mutex::const_new(());

/// Waits for its turn: each test has the machine to itself.
async fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().await
}
