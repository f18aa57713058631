//! What comes from other nodes: forward frames, remembered replies, the controller's records and
//! messages, the frames of Raft.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use raftcache::codec::{cluster_record, forward};
use raftcache::controller::founders::Founders;
use raftcache::controller::messages::{
    ControlAnswer, ControlRequest, Hello, TableAnswer, TableRequest, decode, encode,
};
use raftcache::core::cluster::alarms::{AckAlarms, AlarmKind, RaiseAlarm};
use raftcache::core::cluster::{
    ClusterCommand, ClusterMachine, Form, Founder, RegisterNode, ReportLost,
};
use raftcache::core::reply_record::{get_answer, get_found, get_reply, put_reply};
use raftcache::core::table::{NodeInfo, ReplicaPlacement};
use raftcache::raft::fuzzing;
use raftcache::types::{
    Answer, Consistency, Freshness, GetOrLease, Leased, NodeId, ReplicaId, Reply, RoutingEpoch,
    ShardId,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Target;
use super::records::{found, queries, replies, writes};

/// The first byte of the body, of even value for a request.
pub fn forward_frames() -> Target {
    let epoch = RoutingEpoch(300);
    let asks = |operations| {
        let traces = vec![1, u128::MAX];
        let frame = forward::Request { epoch, batch: 1, deadline_ms: 5_000, operations, traces };
        [&[0][..], &frame.encode()].concat()
    };
    let answers = |results| [&[1][..], &forward::Response { epoch, results }.encode()].concat();
    let reads = |consistency| forward::Operations::Reads { consistency, queries: queries() };
    let key = Bytes::from_static(b"key");
    let lease = GetOrLease { key, wait_ms: 300, stale_ok: true, beta_milli: 1_000 };
    let read = vec![Answer::Value(None), Answer::Size(7), Answer::Meta(None)];
    let leased = [
        Leased::Hit(found()),
        Leased::Stale { found: found(), age_ms: 300 },
        Leased::Fill { token: 1 << 40, token_ms: 300, found: Some(found()) },
        Leased::Busy,
    ];
    let mut sound = vec![
        asks(forward::Operations::Writes(writes())),
        asks(reads(Consistency::Bounded { staleness_ms_max: 300 })),
        asks(reads(Consistency::Stale)),
        asks(forward::Operations::Lease(lease)),
        answers(forward::Results::Writes(replies())),
        answers(forward::Results::Reads { answers: read, freshness: Freshness::default() }),
    ];
    sound.extend(leased.map(|leased| answers(forward::Results::Leased(Box::new(leased)))));
    Target::new(sound, |input| {
        let Some((kind, body)) = input.split_first() else { return false };
        let body = Bytes::copy_from_slice(body);
        if kind % 2 == 0 {
            let Ok(frame) = forward::Request::decode(body) else { return false };
            assert_eq!(forward::Request::decode(frame.encode()).as_ref(), Ok(&frame));
        } else {
            let Ok(frame) = forward::Response::decode(body) else { return false };
            assert_eq!(forward::Response::decode(frame.encode()).as_ref(), Ok(&frame));
        }
        true
    })
}

pub fn remembered_replies() -> Target {
    let encode = |reply: &Reply| {
        let mut out = BytesMut::new();
        put_reply(&mut out, reply);
        out
    };
    Target::new(replies().iter().map(encode), move |input| {
        let bytes = || Bytes::copy_from_slice(input);
        let _ = (get_answer(&mut bytes()), get_found(&mut bytes()));
        match get_reply(&mut bytes()) {
            Ok(reply) => {
                assert_eq!(get_reply(&mut encode(&reply).freeze()), Ok(reply));
                true
            }
            Err(_) => false,
        }
    })
}

fn info() -> NodeInfo {
    NodeInfo {
        store_id: 9,
        peer_addr: "10.0.0.1:9001".to_owned(),
        grpc_addr: "10.0.0.1:8080".to_owned(),
        http_addr: "10.0.0.1:8081".to_owned(),
        resp_addr: "10.0.0.1:7001".to_owned(),
        zone: "a".to_owned(),
    }
}

fn cluster_commands() -> [ClusterCommand; 6] {
    let node = NodeId(300);
    let register = RegisterNode { node, info: info(), incarnation: 2, lost: Vec::new() };
    let form = Form {
        cluster_id: u128::MAX / 5,
        founders: vec![Founder { node, store_id: 9 }],
        nodes_min: 1,
        shards: 16,
        replicas: 3,
        bytes_max: 1 << 26,
        seed: 7,
    };
    let report = ReportLost { node, incarnation: 2, replicas: vec![ReplicaId(300)] };
    let replica = ReplicaPlacement { replica: ReplicaId(300), node };
    let raise = |kind| RaiseAlarm { kind, shard: ShardId(3), replica };
    [
        ClusterCommand::Form(form),
        ClusterCommand::RegisterNode(register),
        ClusterCommand::ReportLost(report),
        ClusterCommand::RaiseAlarm(raise(AlarmKind::ReplicaLost)),
        ClusterCommand::RaiseAlarm(raise(AlarmKind::DigestDiffers)),
        ClusterCommand::AckAlarms(AckAlarms::Ids(vec![1, 300])),
    ]
}

/// A message that is understood is understood the same way again.
fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) -> bool {
    let Ok(message) = decode::<T>(body, "a message") else { return false };
    assert_eq!(decode::<T>(&encode(&message), "a message").ok().as_ref(), Some(&message));
    true
}

/// What the controller's replicas log and keep, and what controllers tell each other.
pub fn cluster_records() -> Target {
    let mut machine = ClusterMachine::default();
    for (index, command) in (1..).zip(cluster_commands()) {
        machine.apply(index, 1_700_000_000_000, command);
    }
    let founders = Founders::of(vec![Founder { node: NodeId(1), store_id: 3 }]);
    let hello = Hello { node: NodeId(1), info: info(), founders, epoch: RoutingEpoch(300) };
    let [form, register, report, raise, _, ack] = cluster_commands();
    let command = cluster_record::encode_command(&form);
    let sound = [
        (0, command.clone()),
        (0, cluster_record::encode_command(&register)),
        (0, cluster_record::encode_command(&report)),
        (0, cluster_record::encode_command(&raise)),
        (0, cluster_record::encode_command(&ack)),
        (1, machine.encode_snapshot()),
        (2, encode(&hello)),
        (3, encode(&ControlRequest { timeout_ms: 300, command })),
        (4, encode(&ControlAnswer::Failed { unknown: true, detail: "late".to_owned() })),
        (5, encode(&TableRequest { epoch: RoutingEpoch(300), wait_ms: 5 })),
        (6, TableAnswer { newer: Some((*machine.table()).clone()) }.encode()),
    ];
    let sound = sound.map(|(kind, body)| [&[kind][..], &body].concat());
    Target::new(sound, |input| {
        let Some((kind, body)) = input.split_first() else { return false };
        let bytes = || Bytes::copy_from_slice(body);
        match kind % 7 {
            0 => {
                let _ = cluster_record::decode_reply(bytes());
                let Ok(command) = cluster_record::decode_command(bytes()) else { return false };
                let again = cluster_record::encode_command(&command);
                assert_eq!(cluster_record::decode_command(again).as_ref(), Ok(&command));
                // What decodes, applies.
                ClusterMachine::default().apply(1, 0, command);
                true
            }
            1 => {
                let Ok(machine) = ClusterMachine::decode_snapshot(body) else { return false };
                let again = ClusterMachine::decode_snapshot(&machine.encode_snapshot());
                assert_eq!(again.map(|again| again.digest()), Ok(machine.digest()));
                true
            }
            2 => message::<Hello>(body),
            3 => message::<ControlRequest>(body),
            4 => message::<ControlAnswer>(body),
            5 => message::<TableRequest>(body),
            _ => {
                let Ok(answer) = TableAnswer::decode(body) else { return false };
                assert_eq!(TableAnswer::decode(&answer.encode()).ok().as_ref(), Some(&answer));
                true
            }
        }
    })
}

pub fn raft_frames() -> Target {
    Target::new(fuzzing::sound(), fuzzing::take)
}
