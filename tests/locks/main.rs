//! Locks and fills with real processes: a holder that stands still for longer than its lock, a thousand
//! callers that miss one key, a leader that dies while callers wait.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]
#![allow(dead_code, reason = "the helpers are made for more than these tests")]

#[path = "../cluster/client.rs"]
mod client;
mod fences;
mod fills;
#[path = "../cluster/harness.rs"]
mod harness;
#[path = "../cluster/mount.rs"]
mod mount;
#[path = "../support/ports.rs"]
mod ports;
#[path = "../cluster/process.rs"]
mod process;
mod store;
mod words;

use tokio::sync::{Mutex, MutexGuard};

static TURN: Mutex<()> = Mutex::const_new(());

/// Waits for its turn: each test has a whole cluster to itself.
async fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().await
}
