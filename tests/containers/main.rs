//! The image and the compose file, on a Docker engine: `make image`, `make up`, a kill, `make down`.
//!
//! Runs where an engine, a Compose and make answer, and says why where it does not. It pulls nothing.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

#[path = "../cluster/client.rs"]
mod client;
#[path = "../support/commands.rs"]
mod commands;
#[path = "../support/grpc_json.rs"]
mod grpc_json;
#[path = "../support/ports.rs"]
mod ports;
mod stack;

use std::io::Write as _;
use std::time::Duration;

use raftcache::types::clock::now;

use crate::client::{Client, client, get, set, value, within};
use crate::commands::readme;
use crate::grpc_json::Reflection;
use crate::stack::{Stack, missing};

const KEYS: usize = 200;
/// From the kill of a node until the others serve every key: what never happens is a fault, however
/// busy the machine is.
const SERVED: Duration = Duration::from_secs(120);
const CALL: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_containers_survive_a_kill_and_keep_their_data() {
    if let Some(reason) = missing() {
        // Past the capture of the test's output: a test that did nothing must not look like one
        // that passed.
        let said = format!("SKIPPED, containers: {reason}\n");
        std::io::stderr().write_all(said.as_bytes()).unwrap();
        return;
    }
    let stack = Stack::build();
    up(&stack, "first");
    stack.is_confined();
    readme(&stack.grpc, Reflection::V1).await;
    write(&stack, &[0, 1, 2], "before").await;

    stack.kill(1);
    let killed = now();
    serve(&stack, &[0, 2], "before", SERVED).await;
    println!("node 2 killed: the others serve all {KEYS} keys after {:?}", now() - killed);
    write(&stack, &[0, 2], "meanwhile").await;
    up(&stack, "after the kill");
    serve(&stack, &[1, 0, 2], "meanwhile", CALL).await;

    let started = now();
    let state = stack.stop(2);
    let took = now() - started;
    println!("node 3 stopped in {took:?}: {state}");
    // Hand-over, drain and flush, before the engine would kill: then it were 137.
    assert_eq!(state, "exited 0 false", "SIGTERM ends process 1 in order");
    stack.down();
    up(&stack, "new containers on the old volumes");
    serve(&stack, &[0, 1, 2], "meanwhile", CALL).await;
}

fn up(stack: &Stack, when: &str) {
    let started = now();
    // It fails where a container does not become healthy.
    stack.up();
    println!("make up, {when}: healthy after {:?}", now() - started);
}

fn clients(stack: &Stack, nodes: &[usize]) -> Vec<Client> {
    nodes.iter().map(|at| client(&stack.grpc[*at])).collect()
}

/// Sets every key, at these nodes in turn.
async fn write(stack: &Stack, nodes: &[usize], word: &str) {
    let clients = clients(stack, nodes);
    for i in 0..KEYS {
        let message = set(&format!("key:{i}"), format!("{word} {i}"));
        clients[i % nodes.len()].clone().set(within(message, CALL)).await.unwrap();
    }
}

/// Reads every key at each of these nodes; a read that fails is tried again for so long.
async fn serve(stack: &Stack, nodes: &[usize], word: &str, patience: Duration) {
    let began = now();
    for mut client in clients(stack, nodes) {
        for i in 0..KEYS {
            let key = format!("key:{i}");
            let reply = loop {
                match client.get(within(get(&key), CALL)).await {
                    Ok(reply) => break reply.into_inner(),
                    Err(status) => assert!(now() - began < patience, "{key}: {status}"),
                }
            };
            assert_eq!(value(reply).unwrap(), format!("{word} {i}"), "{key}");
        }
    }
}
