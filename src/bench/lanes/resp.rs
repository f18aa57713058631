//! RESP to one node, as a client that knows nothing of clusters speaks it.

use super::resp_connection::{Connection, outcome};
use crate::bench::drive::{Answered, Lane};
use crate::bench::workload::Op;

/// See the module's text.
#[derive(Debug)]
pub struct Resp {
    connection: Connection,
    addr: String,
}

impl Resp {
    /// Connects.
    pub async fn open(addr: &str) -> anyhow::Result<Resp> {
        Ok(Resp { connection: Connection::open(addr).await?, addr: addr.to_owned() })
    }
}

/// Puts an operation into a connection's buffer.
pub fn put(connection: &mut Connection, slot: usize, op: &Op) {
    match &op.value {
        Some(value) => connection.put(slot, &[b"SET", &op.key, value]),
        None => connection.put(slot, &[b"GET", &op.key]),
    }
}

impl Lane for Resp {
    async fn start(&mut self, slot: usize, op: Op) -> anyhow::Result<()> {
        put(&mut self.connection, slot, &op);
        Ok(())
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        self.connection.flush().await
    }

    async fn next(&mut self) -> anyhow::Result<Answered> {
        let (slot, frame) = std::future::poll_fn(|cx| self.connection.poll(cx)).await?;
        Ok((slot, outcome(&frame)))
    }

    fn ready(&mut self) -> anyhow::Result<Option<Answered>> {
        Ok(self.connection.ready()?.map(|(slot, frame)| (slot, outcome(&frame))))
    }

    async fn reopen(&mut self) -> anyhow::Result<()> {
        self.connection = Connection::open(&self.addr).await?;
        Ok(())
    }
}
