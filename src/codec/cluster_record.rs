//! Record of the controller's log: commands and replies. Tags are append only, bytes are golden.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::core::cluster::alarms::{AckAlarms, AlarmKind, RaiseAlarm};
use crate::core::cluster::{ClusterCommand, ClusterReply, Form, Founder, RegisterNode, ReportLost};
use crate::core::table::{NodeInfo, ReplicaPlacement};
use crate::types::limits::{ALARMS_MAX, CONTROLLER_REPLICAS_MAX, LOST_REPORTED_MAX};
use crate::types::wire::{self, get_bytes, get_u8, get_u64, get_varint, put_bytes, put_varint};
use crate::types::{NodeId, ReplicaId, RoutingEpoch, ShardId};

const REGISTER_NODE: u8 = 1;
const FORM: u8 = 2;
const REPORT_LOST: u8 = 3;
const RAISE_ALARM: u8 = 4;
const ACK_ALARMS: u8 = 5;

const DONE: u8 = 1;
const NOT_FORMED: u8 = 2;
const STORE_CONFLICT: u8 = 3;
const SUPERSEDED: u8 = 4;
const OTHER_CLUSTER: u8 = 5;
const INVALID: u8 = 6;

/// Longest address or zone, bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// What the log holds: a command and what its leader's clock showed when it proposed it.
pub fn encode_entry(unix_ms: u64, command: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(10 + command.len());
    put_varint(&mut out, unix_ms);
    out.put_slice(command);
    out.freeze()
}

/// Decodes what the log holds.
pub fn decode_entry(mut input: Bytes) -> Result<(u64, ClusterCommand), wire::Error> {
    let unix_ms = get_varint(&mut input, "time of a cluster command")?;
    Ok((unix_ms, decode_command(input)?))
}

/// Encodes a command.
pub fn encode_command(command: &ClusterCommand) -> Bytes {
    let mut out = BytesMut::with_capacity(256);
    match command {
        ClusterCommand::RegisterNode(register) => {
            out.put_u8(REGISTER_NODE);
            put_varint(&mut out, register.node.0);
            put_info(&mut out, &register.info);
            put_varint(&mut out, register.incarnation);
            put_replicas(&mut out, &register.lost);
        }
        ClusterCommand::Form(form) => {
            out.put_u8(FORM);
            out.put_u128_le(form.cluster_id);
            put_varint(&mut out, form.founders.len() as u64);
            for founder in &form.founders {
                put_varint(&mut out, founder.node.0);
                out.put_u128_le(founder.store_id);
            }
            put_varint(&mut out, u64::from(form.nodes_min));
            put_varint(&mut out, u64::from(form.shards));
            put_varint(&mut out, u64::from(form.replicas));
            put_varint(&mut out, form.bytes_max);
            out.put_u64_le(form.seed);
        }
        ClusterCommand::ReportLost(report) => {
            out.put_u8(REPORT_LOST);
            put_varint(&mut out, report.node.0);
            put_varint(&mut out, report.incarnation);
            put_replicas(&mut out, &report.replicas);
        }
        ClusterCommand::RaiseAlarm(raise) => {
            out.put_u8(RAISE_ALARM);
            out.put_u8(raise.kind.tag());
            put_varint(&mut out, u64::from(raise.shard.0));
            put_varint(&mut out, raise.replica.replica.0);
            put_varint(&mut out, raise.replica.node.0);
        }
        ClusterCommand::AckAlarms(which) => {
            out.put_u8(ACK_ALARMS);
            let ids = match which {
                AckAlarms::All => None,
                AckAlarms::Ids(ids) => Some(ids),
            };
            out.put_u8(u8::from(ids.is_some()));
            if let Some(ids) = ids {
                put_varint(&mut out, ids.len() as u64);
                ids.iter().for_each(|id| put_varint(&mut out, *id));
            }
        }
    }
    out.freeze()
}

/// Decodes a command.
pub fn decode_command(mut input: Bytes) -> Result<ClusterCommand, wire::Error> {
    let input = &mut input;
    let command = match get_u8(input, "cluster command")? {
        REGISTER_NODE => ClusterCommand::RegisterNode(RegisterNode {
            node: NodeId(get_varint(input, "node")?),
            info: get_info(input)?,
            incarnation: get_varint(input, "incarnation")?,
            lost: get_replicas(input)?,
        }),
        FORM => ClusterCommand::Form(Form {
            cluster_id: get_u128(input, "cluster_id")?,
            founders: get_founders(input)?,
            nodes_min: get_u16(input, "nodes_min")?,
            shards: get_u16(input, "shards")?,
            replicas: get_u16(input, "replicas")?,
            bytes_max: get_varint(input, "bytes_max")?,
            seed: get_u64(input, "seed")?,
        }),
        REPORT_LOST => ClusterCommand::ReportLost(ReportLost {
            node: NodeId(get_varint(input, "node")?),
            incarnation: get_varint(input, "incarnation")?,
            replicas: get_replicas(input)?,
        }),
        RAISE_ALARM => ClusterCommand::RaiseAlarm(get_raise(input)?),
        ACK_ALARMS => ClusterCommand::AckAlarms(get_ack(input)?),
        tag => return Err(wire::Error::Tag { what: "cluster command", tag: u64::from(tag) }),
    };
    wire::finish(input, "cluster command")?;
    Ok(command)
}

/// Encodes a reply.
pub fn encode_reply(reply: &ClusterReply) -> Bytes {
    let mut out = BytesMut::with_capacity(32);
    match reply {
        ClusterReply::Done { epoch } => {
            out.put_u8(DONE);
            put_varint(&mut out, epoch.0);
        }
        ClusterReply::NotFormed => out.put_u8(NOT_FORMED),
        ClusterReply::StoreConflict { known } => {
            out.put_u8(STORE_CONFLICT);
            out.put_u128_le(*known);
        }
        ClusterReply::Superseded { incarnation } => {
            out.put_u8(SUPERSEDED);
            put_varint(&mut out, *incarnation);
        }
        ClusterReply::OtherCluster { cluster_id } => {
            out.put_u8(OTHER_CLUSTER);
            out.put_u128_le(*cluster_id);
        }
        ClusterReply::Invalid { problem } => {
            out.put_u8(INVALID);
            put_bytes(&mut out, problem.as_bytes());
        }
    }
    out.freeze()
}

/// Decodes a reply.
pub fn decode_reply(mut input: Bytes) -> Result<ClusterReply, wire::Error> {
    let input = &mut input;
    let reply = match get_u8(input, "cluster reply")? {
        DONE => ClusterReply::Done { epoch: RoutingEpoch(get_varint(input, "epoch")?) },
        NOT_FORMED => ClusterReply::NotFormed,
        STORE_CONFLICT => ClusterReply::StoreConflict { known: get_u128(input, "known")? },
        SUPERSEDED => ClusterReply::Superseded { incarnation: get_varint(input, "incarnation")? },
        OTHER_CLUSTER => ClusterReply::OtherCluster { cluster_id: get_u128(input, "cluster_id")? },
        INVALID => ClusterReply::Invalid { problem: get_text(input, "problem")? },
        tag => return Err(wire::Error::Tag { what: "cluster reply", tag: u64::from(tag) }),
    };
    wire::finish(input, "cluster reply")?;
    Ok(reply)
}

fn put_info(out: &mut BytesMut, info: &NodeInfo) {
    out.put_u128_le(info.store_id);
    let texts = [&info.peer_addr, &info.grpc_addr, &info.http_addr, &info.zone, &info.resp_addr];
    for text in texts {
        put_bytes(out, text.as_bytes());
    }
}

fn put_replicas(out: &mut BytesMut, replicas: &[ReplicaId]) {
    put_varint(out, replicas.len() as u64);
    replicas.iter().for_each(|replica| put_varint(out, replica.0));
}

fn get_replicas(input: &mut Bytes) -> Result<Vec<ReplicaId>, wire::Error> {
    let count = get_varint(input, "replicas")?;
    if count > LOST_REPORTED_MAX as u64 {
        return Err(wire::Error::Malformed { what: "replicas" });
    }
    (0..count).map(|_| Ok(ReplicaId(get_varint(input, "replica")?))).collect()
}

fn get_raise(input: &mut Bytes) -> Result<RaiseAlarm, wire::Error> {
    const WHAT: &str = "kind of alarm";
    let tag = get_u8(input, WHAT)?;
    let kind = AlarmKind::of_tag(tag);
    Ok(RaiseAlarm {
        kind: kind.ok_or(wire::Error::Tag { what: WHAT, tag: u64::from(tag) })?,
        shard: ShardId(get_u16(input, "shard")?),
        replica: ReplicaPlacement {
            replica: ReplicaId(get_varint(input, "replica")?),
            node: NodeId(get_varint(input, "node")?),
        },
    })
}

fn get_ack(input: &mut Bytes) -> Result<AckAlarms, wire::Error> {
    const WHAT: &str = "alarms";
    if !get_bool(input, WHAT)? {
        return Ok(AckAlarms::All);
    }
    let count = get_varint(input, WHAT)?;
    if count > ALARMS_MAX as u64 {
        return Err(wire::Error::Malformed { what: WHAT });
    }
    let ids = (0..count).map(|_| get_varint(input, WHAT));
    Ok(AckAlarms::Ids(ids.collect::<Result<_, _>>()?))
}

fn get_info(input: &mut Bytes) -> Result<NodeInfo, wire::Error> {
    Ok(NodeInfo {
        store_id: get_u128(input, "store_id")?,
        peer_addr: get_text(input, "peer_addr")?,
        grpc_addr: get_text(input, "grpc_addr")?,
        http_addr: get_text(input, "http_addr")?,
        zone: get_text(input, "zone")?,
        resp_addr: get_text(input, "resp_addr")?,
    })
}

fn get_founders(input: &mut Bytes) -> Result<Vec<Founder>, wire::Error> {
    let count = get_varint(input, "founders")?;
    if count > CONTROLLER_REPLICAS_MAX as u64 {
        return Err(wire::Error::Malformed { what: "founders" });
    }
    (0..count)
        .map(|_| {
            Ok(Founder {
                node: NodeId(get_varint(input, "founder")?),
                store_id: get_u128(input, "founder's store_id")?,
            })
        })
        .collect()
}

fn get_text(input: &mut Bytes, what: &'static str) -> Result<String, wire::Error> {
    let bytes = get_bytes(input, what)?;
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(wire::Error::Malformed { what });
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| wire::Error::Malformed { what })
}

fn get_u128(input: &mut Bytes, what: &'static str) -> Result<u128, wire::Error> {
    if input.remaining() >= 16 { Ok(input.get_u128_le()) } else { Err(wire::Error::Short { what }) }
}

fn get_bool(input: &mut Bytes, what: &'static str) -> Result<bool, wire::Error> {
    match get_u8(input, what)? {
        0 => Ok(false),
        1 => Ok(true),
        tag => Err(wire::Error::Tag { what, tag: u64::from(tag) }),
    }
}

fn get_u16(input: &mut Bytes, what: &'static str) -> Result<u16, wire::Error> {
    u16::try_from(get_varint(input, what)?).map_err(|_| wire::Error::Malformed { what })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn commands() -> Vec<ClusterCommand> {
        let info = NodeInfo {
            store_id: 0x0102,
            peer_addr: "p:1".to_owned(),
            grpc_addr: "g:2".to_owned(),
            http_addr: "h:3".to_owned(),
            zone: "z".to_owned(),
            resp_addr: String::new(),
        };
        let with_resp = NodeInfo { resp_addr: "r:4".to_owned(), ..info.clone() };
        vec![
            ClusterCommand::RegisterNode(RegisterNode {
                node: NodeId(300),
                info,
                incarnation: 4,
                lost: Vec::new(),
            }),
            ClusterCommand::Form(Form {
                cluster_id: 0x0a0b,
                founders: vec![
                    Founder { node: NodeId(1), store_id: 5 },
                    Founder { node: NodeId(2), store_id: 6 },
                ],
                nodes_min: 2,
                shards: 16,
                replicas: 3,
                bytes_max: 1 << 20,
                seed: 0x1122_3344_5566_7788,
            }),
            ClusterCommand::RegisterNode(RegisterNode {
                node: NodeId(300),
                info: with_resp,
                incarnation: 4,
                lost: vec![ReplicaId(5), ReplicaId(300)],
            }),
            ClusterCommand::ReportLost(ReportLost {
                node: NodeId(300),
                incarnation: 4,
                replicas: vec![ReplicaId(7)],
            }),
            ClusterCommand::RaiseAlarm(RaiseAlarm {
                kind: AlarmKind::ReplicaLost,
                shard: ShardId(3),
                replica: ReplicaPlacement { replica: ReplicaId(300), node: NodeId(5) },
            }),
            ClusterCommand::AckAlarms(AckAlarms::All),
            ClusterCommand::AckAlarms(AckAlarms::Ids(vec![1, 300])),
        ]
    }

    fn replies() -> Vec<ClusterReply> {
        vec![
            ClusterReply::Done { epoch: RoutingEpoch(300) },
            ClusterReply::NotFormed,
            ClusterReply::StoreConflict { known: 0x0102 },
            ClusterReply::Superseded { incarnation: 9 },
            ClusterReply::OtherCluster { cluster_id: 3 },
            ClusterReply::Invalid { problem: "no".to_owned() },
        ]
    }

    /// What was written once is read for ever: never change a line, only add.
    #[test]
    fn bytes_are_golden() {
        let zeros = "0000000000000000000000000000";
        let commands: Vec<String> = commands().iter().map(|c| hex(&encode_command(c))).collect();
        let expected = [
            format!("01ac020201{zeros}03703a3103673a3203683a33017a000400"),
            format!("020b0a{zeros}02010500{zeros}020600{zeros}0210038080408877665544332211"),
            format!("01ac020201{zeros}03703a3103673a3203683a33017a03723a34040205ac02"),
            "03ac02040107".to_owned(),
            "040203ac0205".to_owned(),
            "0500".to_owned(),
            "05010201ac02".to_owned(),
        ];
        assert_eq!(commands, expected);
        let replies: Vec<String> = replies().iter().map(|r| hex(&encode_reply(r))).collect();
        let expected = [
            "01ac02".to_owned(),
            "02".to_owned(),
            format!("030201{zeros}"),
            "0409".to_owned(),
            format!("050300{zeros}"),
            "06026e6f".to_owned(),
        ];
        assert_eq!(replies, expected);
    }

    #[test]
    fn round_trips_and_every_cut_is_an_error() {
        for command in commands() {
            let bytes = encode_command(&command);
            assert_eq!(decode_command(bytes.clone()), Ok(command));
            for len in 0..bytes.len() {
                assert!(decode_command(bytes.slice(..len)).is_err(), "{len}");
            }
            let mut longer = BytesMut::from(&bytes[..]);
            longer.put_u8(0);
            assert!(decode_command(longer.freeze()).is_err());
        }
        for reply in replies() {
            let bytes = encode_reply(&reply);
            assert_eq!(decode_reply(bytes.clone()), Ok(reply));
            for len in 0..bytes.len() {
                assert!(decode_reply(bytes.slice(..len)).is_err());
            }
        }
    }

    #[test]
    fn an_entry_is_a_command_behind_a_time() {
        for command in commands() {
            let entry = encode_entry(300, &encode_command(&command));
            assert_eq!(hex(&entry), format!("ac02{}", hex(&encode_command(&command))));
            assert_eq!(decode_entry(entry), Ok((300, command)));
        }
        assert!(decode_entry(Bytes::from_static(&[0xff])).is_err());
    }

    #[test]
    fn unknown_kinds_and_too_many_ids_are_refused() {
        for bytes in [&[RAISE_ALARM, 0, 1, 1, 1][..], &[RAISE_ALARM, 4, 1, 1, 1], &[ACK_ALARMS, 2]]
        {
            assert!(decode_command(Bytes::copy_from_slice(bytes)).is_err(), "{bytes:?}");
        }
        let many = AckAlarms::Ids((0..=ALARMS_MAX as u64).collect());
        assert!(decode_command(encode_command(&ClusterCommand::AckAlarms(many))).is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let bytes = Bytes::from(bytes);
            if let Ok(command) = decode_command(bytes.clone()) {
                prop_assert_eq!(decode_command(encode_command(&command)), Ok(command));
            }
            let _ = decode_reply(bytes);
        }
    }
}
