//! A program that uses a cluster: `cargo run -- dev` in one terminal, then
//! `cargo run --example client` in another.

use std::time::Duration;

use raftcache::client::{
    Batch, Client, Consistency, Ends, Error, Expiry, FillOptions, GetOptions, LeaseOptions, Leased,
    Locked, Only, Options, ScanOptions, SetOptions, Transacted, Watch,
};

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

    several_keys(&client).await?;
    locks(&client).await?;
    one_fill_for_many_misses(&client).await?;

    // An error says whether the write may have happened.
    match client.within(Duration::from_millis(1)).set("greeting", "in a hurry").await {
        Ok(written) => println!("in time: version {}", written.version),
        Err(error) => println!("{:?}: {error}", error.outcome),
    }
    println!("{:?}", client.stats());
    Ok(())
}

async fn several_keys(client: &Client) -> Result<(), Error> {
    client.set("visits", "0").await?;
    let mut batch = Batch::new();
    batch.increment("visits", 1).set("last", "today").append("log", "a line\n").get("greeting");
    // Split by shard; each operation has its own result, and one that fails stops no other.
    for done in client.batch(&batch).await {
        println!("one of several: {:?}", done?);
    }
    client.expire("log", Ends::After(Duration::from_secs(3_600))).await?;
    if let Some(about) = client.inspect("log").await? {
        println!("log: {} bytes, ends in {:?}", about.value_length, about.ttl);
    }
    let mut scan =
        client.scan(ScanOptions { pattern: Some("l*".into()), ..ScanOptions::default() });
    while let Some(keys) = scan.page().await? {
        println!("keys with an l: {keys:?}");
    }
    Ok(())
}

async fn locks(client: &Client) -> Result<(), Error> {
    let (owner, time) = (format!("process {}", std::process::id()), Duration::from_secs(10));
    let token = match client.lock("{job}lock", &owner, time).await? {
        Locked::Held { token, .. } => token,
        other => {
            println!("somebody else is at it: {other:?}");
            return Ok(());
        }
    };
    // The write is done only if the lock is still ours when it is applied.
    let mut write = Batch::new();
    write.set("{job}data", "mine");
    match client.atomic(&write, &[Watch::new("{job}lock", token)]).await? {
        Transacted::Done(_) => println!("written under token {token}"),
        Transacted::Aborted { .. } => println!("the lock was lost meanwhile; nothing was written"),
    }
    let freed = client.unlock("{job}lock", &owner, token).await?;
    println!("unlocked: {}", freed.unlocked);
    Ok(())
}

async fn one_fill_for_many_misses(client: &Client) -> Result<(), Error> {
    // Whoever is not asked to fill waits so long for who is.
    let options = LeaseOptions { wait: Duration::from_secs(2), ..LeaseOptions::default() };
    match client.get_or_lease("report", options).await? {
        Leased::Hit(found) => println!("report: {:?}", found.value),
        Leased::Fill { token, .. } => {
            let ends = Some(Ends::After(Duration::from_secs(30)));
            let options = FillOptions { ends, ..FillOptions::default() };
            let filled = client.fill("report", token, "worked out", options).await?;
            println!("report filled: {}", filled.applied);
        }
        other => println!("report: {other:?}"),
    }
    Ok(())
}
