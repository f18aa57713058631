//! The smart client: a library for programs that use a cluster.
//!
//! It learns the routing table and sends each operation straight to the leader of its shard, so
//! that no node forwards it. It follows the hints of nodes that know better, asks for a newer table
//! when an answer carries a newer epoch, and tries another node when one does not answer.
//!
//! Every write carries a request id (session and sequence), so however often it is tried, it is
//! applied once and gets its first answer (INV-6). An operation that fails in the end says whether
//! it was surely not applied or may have been ([`Error::outcome`], INV-5): once an attempt got lost,
//! no later refusal makes it `Rejected`.
//!
//! ```no_run
//! use raftcache::client::{Client, Options};
//!
//! # async fn example() -> Result<(), raftcache::client::Error> {
//! let client = Client::connect(Options::new(["127.0.0.1:8080", "127.0.0.1:8082"])).await?;
//! let written = client.set("greeting", "hello").await?;
//! let found = client.get("greeting").await?.expect("it was just set");
//! assert_eq!(found.value.as_bytes(), b"hello");
//! assert_eq!(found.version, written.version);
//! # Ok(())
//! # }
//! ```
//!
//! `examples/client.rs` shows more. The rules of trying again are in `attempts`, the stream that
//! callers share in `lane`, what is known of the cluster in `table` and `router`.

mod answers;
mod ask;
mod attempts;
mod batch;
mod batches;
mod breaker;
mod calls;
mod error;
mod hedge;
mod lane;
mod locks;
mod messages;
mod node;
mod operations;
mod options;
mod requests;
mod router;
mod sessions;
pub mod shell;
mod table;
#[cfg(test)]
mod tests;
mod unary;
mod whole;
mod words;

pub use answers::{
    About, Counted, Deleted, Expired, Found, Inspected, Length, Read, Summed, Swapped, Taken,
    Value, Written,
};
pub use batch::{Batch, Done, Transacted, Watch};
pub use calls::{Client, Stats};
pub use error::Error;
pub use locks::{Leased, Locked, Unlocked};
pub use options::{Door, Options};
pub use requests::{
    Consistency, DeleteOptions, Ends, ExpireOptions, Expiry, FillOptions, GetOptions, LeaseOptions,
    Only, ScanOptions, SetOptions, When,
};
pub use whole::Scan;
