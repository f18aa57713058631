//! INV-8 with real processes: crowds of idle connections, clients that misbehave, and ten times more
//! load than the cluster can take. What a well-behaved client sees meanwhile is measured and printed.
//!
//! `RAFTCACHE_OVERLOAD_S` is how long the storm lasts, 10 seconds unless set.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

#[allow(dead_code, reason = "shared with the tests of clusters")]
#[path = "../cluster/client.rs"]
mod client;
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

mod crowd;
mod raw;
mod storm;
mod untaken;
mod watch;

use tokio::sync::{Mutex, MutexGuard};

static TURN: Mutex<()> = Mutex::const_new(());

/// Waits for its turn: each test measures the whole machine.
async fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().await
}
