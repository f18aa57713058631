//! raftcache through the client of this crate.

use crate::bench::drive::{Call, Outcome};
use crate::bench::workload::Op;
use crate::client::Client;

/// A caller.
#[derive(Debug)]
pub struct Smart(pub Client);

impl Call for Smart {
    async fn call(&mut self, op: Op) -> Outcome {
        Outcome::of(match op.value {
            Some(value) => self.0.set(op.key, value).await.map(|_| true),
            None => self.0.get(op.key).await.map(|found| found.is_some()),
        })
    }
}
