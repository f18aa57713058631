//! raftcache through the client of this crate.

use crate::bench::drive::Call;
use crate::bench::workload::Op;
use crate::client::Client;

/// A caller.
#[derive(Debug)]
pub struct Smart(pub Client);

impl Call for Smart {
    async fn call(&mut self, op: Op) -> Result<(), String> {
        let failed = match op.value {
            Some(value) => self.0.set(op.key, value).await.err(),
            None => self.0.get(op.key).await.err(),
        };
        failed.map_or(Ok(()), |error| Err(error.to_string()))
    }
}
