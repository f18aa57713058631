//! RESP to one node, as a client that knows nothing of clusters speaks it.

use super::resp_connection::{Connection, failure};
use crate::bench::drive::{Answered, Lane};
use crate::bench::workload::Op;

/// See the module's text.
#[derive(Debug)]
pub struct Resp(pub Connection);

/// Puts an operation into a connection's buffer.
pub fn put(connection: &mut Connection, slot: usize, op: &Op) {
    match &op.value {
        Some(value) => connection.put(slot, &[b"SET", &op.key, value]),
        None => connection.put(slot, &[b"GET", &op.key]),
    }
}

impl Lane for Resp {
    async fn start(&mut self, slot: usize, op: Op) -> anyhow::Result<()> {
        put(&mut self.0, slot, &op);
        Ok(())
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        self.0.flush().await
    }

    async fn next(&mut self) -> anyhow::Result<Answered> {
        let (slot, frame) = std::future::poll_fn(|cx| self.0.poll(cx)).await?;
        Ok((slot, failure(&frame)))
    }

    fn ready(&mut self) -> anyhow::Result<Option<Answered>> {
        Ok(self.0.ready()?.map(|(slot, frame)| (slot, failure(&frame))))
    }
}
