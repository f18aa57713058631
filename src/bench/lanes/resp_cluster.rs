//! RESP to each key's own node, as a cluster-aware client speaks it: one connection a node, the
//! slots from `CLUSTER SLOTS`, asked for again where a node says that they have changed.

use std::task::Poll;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use redis_protocol::resp2::types::{BytesFrame, Resp2Frame as _};

use super::resp::put;
use super::resp_connection::{Connection, outcome};
use crate::bench::drive::{Answered, Lane, Outcome};
use crate::bench::workload::Op;
use crate::core::slot::slot_of;
use crate::types::SLOTS;

/// How long a node may take to tell the slots.
const LEARN_PATIENCE: Duration = Duration::from_secs(3);

/// See the module's text.
#[derive(Debug)]
pub struct RespCluster {
    nodes: Vec<(String, Connection)>,
    /// Place in `nodes` by slot.
    slots: Vec<usize>,
    /// The node whose replies are looked at first: each in turn.
    turn: usize,
    /// Whom to ask for the slots.
    seeds: Vec<String>,
    /// A node has said that a slot is elsewhere.
    moved: bool,
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
    /// Asks the first node that answers for the slots, and connects to all.
    pub async fn open(seeds: &[String]) -> anyhow::Result<RespCluster> {
        let mut lane = RespCluster {
            nodes: Vec::new(),
            slots: Vec::new(),
            turn: 0,
            seeds: seeds.to_vec(),
            moved: false,
        };
        lane.learn().await?;
        Ok(lane)
    }

    /// Learns the slots from whoever tells them. Nodes that are connected stay.
    async fn learn(&mut self) -> anyhow::Result<()> {
        let known = self.nodes.iter().map(|(addr, _)| addr.clone());
        let asked: Vec<String> = self.seeds.iter().cloned().chain(known).collect();
        let mut failed = anyhow::anyhow!("nobody to ask for the slots");
        for addr in asked {
            // Who hangs is not waited for: another may answer.
            match tokio::time::timeout(LEARN_PATIENCE, self.learn_from(&addr)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => failed = error,
                Err(_) => failed = anyhow::anyhow!("{addr} does not answer"),
            }
        }
        Err(failed)
    }

    async fn learn_from(&mut self, addr: &str) -> anyhow::Result<()> {
        let mut asked = Connection::open(addr).await?;
        let reply = asked.ask(&["CLUSTER", "SLOTS"]).await?;
        let mut slots = vec![usize::MAX; usize::from(SLOTS)];
        for (first, last, addr) in ranges(&reply, addr)? {
            let at = match self.nodes.iter().position(|(known, _)| *known == addr) {
                Some(at) => at,
                None => {
                    self.nodes.push((addr.clone(), Connection::open(&addr).await?));
                    self.nodes.len() - 1
                }
            };
            slots[first..=last].fill(at);
        }
        ensure!(slots.iter().all(|at| *at < self.nodes.len()), "{addr}: not every slot is served");
        (self.slots, self.moved) = (slots, false);
        Ok(())
    }

    fn outcome(&mut self, frame: &BytesFrame) -> Outcome {
        let outcome = outcome(frame);
        self.moved |= matches!(&outcome, Outcome::Failed(text) if text.starts_with("MOVED "));
        outcome
    }
}

impl Lane for RespCluster {
    async fn start(&mut self, slot: usize, op: Op) -> anyhow::Result<()> {
        if self.moved {
            self.learn().await?;
        }
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
        Ok((slot, self.outcome(&frame)))
    }

    fn ready(&mut self) -> anyhow::Result<Option<Answered>> {
        for at in 0..self.nodes.len() {
            if let Some((slot, frame)) = self.nodes[at].1.ready()? {
                return Ok(Some((slot, self.outcome(&frame))));
            }
        }
        Ok(None)
    }

    async fn reopen(&mut self) -> anyhow::Result<()> {
        for (addr, _) in &self.nodes {
            if !self.seeds.contains(addr) {
                self.seeds.push(addr.clone());
            }
        }
        *self = RespCluster::open(&self.seeds).await?;
        Ok(())
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
