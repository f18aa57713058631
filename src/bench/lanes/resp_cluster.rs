//! RESP to each key's own node, as a cluster-aware client speaks it: one connection a node, the
//! slots from `CLUSTER SLOTS`.

use std::task::Poll;

use anyhow::{Context as _, ensure};
use redis_protocol::resp2::types::{BytesFrame, Resp2Frame as _};

use super::resp::put;
use super::resp_connection::{Connection, failure};
use crate::bench::drive::{Answered, Lane};
use crate::bench::workload::Op;
use crate::core::slot::slot_of;
use crate::types::SLOTS;

/// See the module's text.
#[derive(Debug)]
pub struct RespCluster {
    nodes: Vec<(String, Connection)>,
    /// Place in `nodes` by slot.
    slots: Vec<usize>,
    /// The node whose replies are looked at first: each in turn.
    turn: usize,
}

fn text(frame: &BytesFrame) -> anyhow::Result<String> {
    let bytes = frame.as_bytes().context("CLUSTER SLOTS: a string was expected")?;
    Ok(String::from_utf8(bytes.to_vec())?)
}

fn number(frame: &BytesFrame) -> anyhow::Result<usize> {
    match frame {
        BytesFrame::Integer(number) => Ok(usize::try_from(*number)?),
        _ => anyhow::bail!("CLUSTER SLOTS: a number was expected"),
    }
}

/// Ranges of slots, first and last, with the address of who serves them. `asked` stands for a node
/// that does not know its own host.
fn ranges(reply: &BytesFrame, asked: &str) -> anyhow::Result<Vec<(usize, usize, String)>> {
    let BytesFrame::Array(ranges) = reply else { anyhow::bail!("CLUSTER SLOTS: no list") };
    let mut found = Vec::new();
    for range in ranges {
        let BytesFrame::Array(parts) = range else { anyhow::bail!("CLUSTER SLOTS: no range") };
        let [first, last, BytesFrame::Array(node), ..] = parts.as_slice() else {
            anyhow::bail!("CLUSTER SLOTS: a range without a node")
        };
        let [host, port, ..] = node.as_slice() else {
            anyhow::bail!("CLUSTER SLOTS: a node without an address")
        };
        let host = match host {
            BytesFrame::Null => String::new(),
            host => text(host)?,
        };
        let host = if host.is_empty() {
            asked.rsplit_once(':').map_or(asked, |(host, _)| host).to_owned()
        } else {
            host
        };
        let (first, last) = (number(first)?, number(last)?);
        ensure!(first <= last && last < usize::from(SLOTS), "CLUSTER SLOTS: no such slots");
        found.push((first, last, format!("{host}:{}", number(port)?)));
    }
    Ok(found)
}

impl RespCluster {
    /// Asks one node for the slots and connects to all.
    pub async fn open(addr: &str) -> anyhow::Result<RespCluster> {
        let mut first = Connection::open(addr).await?;
        let reply = first.ask(&["CLUSTER", "SLOTS"]).await?;
        let mut slots = vec![usize::MAX; usize::from(SLOTS)];
        let mut nodes: Vec<(String, Connection)> = Vec::new();
        for (first, last, addr) in ranges(&reply, addr)? {
            let at = match nodes.iter().position(|(known, _)| *known == addr) {
                Some(at) => at,
                None => {
                    nodes.push((addr.clone(), Connection::open(&addr).await?));
                    nodes.len() - 1
                }
            };
            slots[first..=last].fill(at);
        }
        ensure!(slots.iter().all(|at| *at < nodes.len()), "{addr}: not every slot is served");
        Ok(RespCluster { nodes, slots, turn: 0 })
    }
}

impl Lane for RespCluster {
    async fn start(&mut self, slot: usize, op: Op) -> anyhow::Result<()> {
        let at = self.slots[usize::from(slot_of(&op.key).0)];
        put(&mut self.nodes[at].1, slot, &op);
        Ok(())
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        for (_, connection) in &mut self.nodes {
            connection.flush().await?;
        }
        Ok(())
    }

    async fn next(&mut self) -> anyhow::Result<Answered> {
        let (nodes, turn) = (&mut self.nodes, &mut self.turn);
        let (slot, frame) = std::future::poll_fn(|cx| {
            *turn += 1;
            let count = nodes.len();
            for i in 0..count {
                if let Poll::Ready(reply) = nodes[(*turn + i) % count].1.poll(cx) {
                    return Poll::Ready(reply);
                }
            }
            Poll::Pending
        })
        .await?;
        Ok((slot, failure(&frame)))
    }

    fn ready(&mut self) -> anyhow::Result<Option<Answered>> {
        for (_, connection) in &mut self.nodes {
            if let Some((slot, frame)) = connection.ready()? {
                return Ok(Some((slot, failure(&frame))));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &'static str) -> BytesFrame {
        BytesFrame::BulkString(bytes::Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn slots_are_read_as_redis_tells_them() {
        let range = |first, last, host: BytesFrame| {
            let node = vec![host, BytesFrame::Integer(7000), bulk("id")];
            let parts = vec![
                BytesFrame::Integer(first),
                BytesFrame::Integer(last),
                BytesFrame::Array(node),
            ];
            BytesFrame::Array(parts)
        };
        let reply = BytesFrame::Array(vec![
            range(0, 5_460, bulk("10.0.0.1")),
            range(5_461, 16_383, bulk("")),
        ]);
        let found = ranges(&reply, "10.0.0.9:7001").unwrap();
        assert_eq!(found[0], (0, 5_460, "10.0.0.1:7000".to_owned()));
        assert_eq!(found[1].2, "10.0.0.9:7000", "the host that was asked");
        for bad in [range(3, 2, bulk("a")), range(0, 16_384, bulk("a")), BytesFrame::Null] {
            assert!(ranges(&BytesFrame::Array(vec![bad]), "a:1").is_err());
        }
    }
}
