//! What controllers tell each other: hello, control, table. Fields and variants are append only.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::founders::Founders;
use crate::core::table::{NodeInfo, RoutingTable};
use crate::transport::Refusal;
use crate::types::{NodeId, RoutingEpoch};

/// Who I am and what I know; both the question and the answer of a hello.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The sender.
    pub node: NodeId,
    /// Its store, addresses and zone.
    pub info: NodeInfo,
    /// The cluster it belongs to, once it knows.
    pub founders: Option<Founders>,
    /// Epoch of its routing table.
    pub epoch: RoutingEpoch,
}

/// Asks the controller's leader to apply a command.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ControlRequest {
    /// How long the sender waits, milliseconds.
    pub timeout_ms: u64,
    /// As `codec::cluster_record` encodes it.
    pub command: Bytes,
}

/// What became of a command.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ControlAnswer {
    /// Applied; the reply as `codec::cluster_record` encodes it.
    Reply(Bytes),
    /// Not applied: another node leads.
    NotLeader(Option<NodeId>),
    /// Not answered.
    Failed {
        /// True if it may have been applied.
        unknown: bool,
        /// What was seen.
        detail: String,
    },
}

/// Asks for a table newer than `epoch`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TableRequest {
    /// Epoch the sender has.
    pub epoch: RoutingEpoch,
    /// How long the answering side may wait for a newer one, milliseconds.
    pub wait_ms: u64,
}

/// The table, if it is newer than asked for. Encoded by itself: `RoutingTable::resp_addrs` follows
/// where any is known, which is younger than the message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TableAnswer {
    /// The table.
    pub newer: Option<RoutingTable>,
}

impl TableAnswer {
    /// Encodes it.
    pub fn encode(&self) -> Bytes {
        let addrs = self.newer.as_ref().map(RoutingTable::resp_addrs).unwrap_or_default();
        if addrs.is_empty() {
            return encode(self);
        }
        encode(&(self, addrs))
    }

    /// Decodes the message of a peer; of an older one without the addresses.
    pub fn decode(bytes: &[u8]) -> Result<TableAnswer, Refusal> {
        let malformed = |_| Refusal("table: malformed".to_owned());
        let (mut answer, rest) =
            postcard::take_from_bytes::<TableAnswer>(bytes).map_err(malformed)?;
        if !rest.is_empty() {
            let addrs = decode(rest, "table")?;
            answer.newer.iter_mut().for_each(|table| table.set_resp_addrs(BTreeMap::clone(&addrs)));
        }
        Ok(answer)
    }
}

/// Encodes a message.
pub fn encode<T: Serialize>(message: &T) -> Bytes {
    postcard::to_stdvec(message).expect("plain data into a vector cannot fail").into()
}

/// Decodes a message of a peer.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, Refusal> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok(_) | Err(_) => Err(Refusal(format!("{what}: malformed"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::cluster::Founder;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn hello() -> Hello {
        let info = NodeInfo {
            store_id: 3,
            peer_addr: "p".to_owned(),
            grpc_addr: "g".to_owned(),
            http_addr: "h".to_owned(),
            zone: "z".to_owned(),
            resp_addr: "not in a hello".to_owned(),
        };
        let founders = Founders::of(vec![Founder { node: NodeId(1), store_id: 3 }]);
        Hello { node: NodeId(1), info, founders, epoch: RoutingEpoch(300) }
    }

    /// Nodes of different releases talk to each other: never change a line, only add.
    #[test]
    fn bytes_are_golden() {
        let without = Hello { founders: None, ..hello() };
        assert_eq!(hex(&encode(&without)), "0103017001670168017a00ac02");
        let request = ControlRequest { timeout_ms: 5, command: Bytes::from_static(&[7]) };
        assert_eq!(hex(&encode(&request)), "050107");
        let answers = [
            (ControlAnswer::Reply(Bytes::from_static(&[7])), "000107"),
            (ControlAnswer::NotLeader(None), "0100"),
            (ControlAnswer::NotLeader(Some(NodeId(2))), "010102"),
            (ControlAnswer::Failed { unknown: true, detail: "d".to_owned() }, "02010164"),
        ];
        for (answer, bytes) in answers {
            assert_eq!(hex(&encode(&answer)), bytes);
        }
        let request = TableRequest { epoch: RoutingEpoch(3), wait_ms: 4 };
        assert_eq!(hex(&encode(&request)), "0304");
        assert_eq!(hex(&TableAnswer { newer: None }.encode()), "00");
    }

    #[test]
    fn a_table_carries_the_addresses_for_clients_of_redis() {
        let mut table = RoutingTable::default();
        table.nodes.insert(NodeId(1), hello().info);
        let with = TableAnswer { newer: Some(table.clone()) };
        assert_eq!(TableAnswer::decode(&with.encode()), Ok(with.clone()));
        table.nodes.insert(NodeId(1), NodeInfo { resp_addr: String::new(), ..hello().info });
        let without = TableAnswer { newer: Some(table) };
        assert_eq!(without.encode(), encode(&with), "as nodes of the release before read it");
        assert_eq!(TableAnswer::decode(&without.encode()), Ok(without));
        for len in 0..with.encode().len() - 1 {
            let _ = TableAnswer::decode(&with.encode()[..len]);
        }
        let longer = [&with.encode()[..], &[0]].concat();
        assert!(TableAnswer::decode(&longer).is_err());
    }

    #[test]
    fn cut_or_longer_input_is_refused() {
        let bytes = encode(&hello());
        let mut expected = hello();
        expected.info.resp_addr = String::new();
        assert_eq!(decode::<Hello>(&bytes, "hello"), Ok(expected));
        for len in 0..bytes.len() {
            assert!(decode::<Hello>(&bytes[..len], "hello").is_err());
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(decode::<Hello>(&longer, "hello").is_err());
    }
}
