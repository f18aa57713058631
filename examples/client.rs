//! A program that uses a cluster: `cargo run -- dev` in one terminal, then
//! `cargo run --example client` in another.

use std::time::Duration;

use raftcache::client::{Client, Consistency, Expiry, GetOptions, Only, Options, SetOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Any node will do as a seed; the client learns of the others.
    let options = Options {
        // A read that has no answer after 20 ms is asked for at a second node as well.
        hedge_after: Some(Duration::from_millis(20)),
        ..Options::new(["127.0.0.1:8080", "127.0.0.1:8082", "127.0.0.1:8084"])
    };
    let client = Client::connect(options).await?;

    let expiry = Expiry::After(Duration::from_secs(60));
    client.set_with("greeting", "hello", SetOptions { expiry, only: Only::Always }).await?;
    let found = client.get("greeting").await?.ok_or("it was just set")?;
    println!("greeting: {:?}, version {}", found.value, found.version);

    // Compare-and-set: the version says whether someone else was faster.
    let written = client.compare_and_set("greeting", found.version, "good day").await?;
    println!("replaced: {}", written.applied);
    let late = client.compare_and_set("greeting", found.version, "too late").await?;
    println!("replaced again: {} (it has version {} now)", late.applied, late.version);

    // Any replica may answer, if what it shows is at most a second old.
    let consistency = Consistency::Bounded(Duration::from_secs(1));
    let read = client.get_with("greeting", GetOptions { consistency }).await?;
    println!("a replica shows {:?}, at most {:?} old", read.found.map(|f| f.value), read.age);

    // An error says whether the write may have happened.
    match client.within(Duration::from_millis(1)).set("greeting", "in a hurry").await {
        Ok(written) => println!("in time: version {}", written.version),
        Err(error) => println!("{:?}: {error}", error.outcome),
    }
    println!("{:?}", client.stats());
    Ok(())
}
