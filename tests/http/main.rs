//! The HTTP door: over one real node, over a scripted service where errors are wanted, and through
//! nginx over three processes. Every call that is made here is held to `docs/openapi.json`.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod alarms;
mod batch;
mod caller;
mod conditions;
mod errors;
#[allow(dead_code, reason = "shared with the tests of clusters")]
#[path = "../cluster/harness.rs"]
mod harness;
mod keys;
mod limits;
#[allow(dead_code, reason = "shared with the tests of clusters")]
#[path = "../cluster/mount.rs"]
mod mount;
mod nginx;
mod node;
mod once;
mod openapi;
mod pages;
#[allow(dead_code, reason = "shared with the tests of clusters")]
#[path = "../support/ports.rs"]
mod ports;
#[allow(dead_code, reason = "shared with the tests of clusters")]
#[path = "../cluster/process.rs"]
mod process;
mod readme;
mod scripted;
mod values;

use node::OneNode;

/// One node for all of it: what is served is what is documented, and all that is documented was
/// asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_node_does_what_the_document_says() {
    let node = OneNode::start().await;
    values::all(&node).await;
    conditions::all(&node).await;
    batch::all(&node).await;
    once::all(&node).await;
    keys::all(&node).await;
    pages::all(&node).await;
    alarms::all(&node).await;
    openapi::nothing_else_is_served(&node.http).await;
    openapi::all_was_asked_for();
    node.stop().await;
}
