//! What comes from disks and peers: log records, forward frames, snapshots, the controller's records.

use bytes::{Bytes, BytesMut};
use raftcache::codec::{cluster_record, forward, log_record};
use raftcache::core::cluster::{ClusterCommand, Form, Founder, RegisterNode};
use raftcache::core::machine::{Machine, MachineConfig};
use raftcache::core::reply_record::{get_answer, get_found, get_reply, put_reply};
use raftcache::core::restore::MachineRestorer;
use raftcache::core::slot_set::SlotSet;
use raftcache::core::table::NodeInfo;
use raftcache::types::{
    Answer, Append, Batch, Command, Condition, Consistency, Delete, Expire, ExpireCondition,
    Expiry, Found, Freshness, Increment, IncrementFloat, NodeId, Query, Reply, RequestId,
    RoutingEpoch, Scan, Set, SetRange, Slot, Step, Transaction, Value, ValueKind, Version, Watch,
    Write,
};

use crate::fuzz;

fn value(text: &'static str) -> Value {
    Value { data: Bytes::from_static(text.as_bytes()), kind: ValueKind::Text }
}

fn set(key: &'static str) -> Set {
    Set {
        key: Bytes::from_static(key.as_bytes()),
        value: value("a value"),
        expiry: Expiry::AfterMs(1_500),
        condition: Condition::IfVersion(Version(300)),
    }
}

/// One command of each kind.
fn commands() -> Vec<Command> {
    let key = || Bytes::from_static(b"key");
    let expire = |expiry| Expire { key: key(), expiry, condition: ExpireCondition::IfLater };
    let delete = || Delete { key: key(), condition: Condition::IfPresent };
    let watches =
        vec![Watch { key: key(), version: Some(Version(7)) }, Watch { key: key(), version: None }];
    let steps = vec![
        Step::Read(Query::Get { key: key() }),
        Step::Write(Command::Set(set("key"))),
        Step::Read(Query::GetRange { key: key(), start: -3, end: 9 }),
        Step::Read(Query::Inspect { key: key() }),
    ];
    vec![
        Command::Set(set("key")),
        Command::Delete(delete()),
        Command::Tick,
        Command::SetLimit { bytes_max: 1 << 20 },
        Command::GetSet(set("key")),
        Command::GetDelete(delete()),
        Command::Expire(expire(Expiry::AtMs(1_700_000_000_000))),
        Command::GetExpire(expire(Expiry::Keep)),
        Command::Increment(Increment { key: key(), delta: -5 }),
        Command::IncrementFloat(IncrementFloat {
            key: key(),
            delta: Bytes::from_static(b"-1.5e3"),
        }),
        Command::Append(Append { key: key(), value: value("more") }),
        Command::SetRange(SetRange { key: key(), offset: 300, value: value("over") }),
        Command::Transaction(Transaction { watches, steps }),
        Command::Flush,
    ]
}

fn writes() -> Vec<Write> {
    let ids = [None, Some(RequestId { session: u128::MAX / 3, sequence: 300 })];
    let pairs = commands().into_iter().zip(ids.into_iter().cycle());
    pairs.map(|(command, request_id)| Write { request_id, command }).collect()
}

fn batch() -> Batch {
    Batch { stamp_ms: 1_700_000_000_000, touches: vec![1, u32::MAX], writes: writes() }
}

fn queries() -> Vec<Query> {
    let key = || Bytes::from_static(b"key");
    let pattern = Some(Bytes::from_static(b"k*[a-z]"));
    vec![
        Query::Get { key: key() },
        Query::Inspect { key: key() },
        Query::GetRange { key: key(), start: 0, end: -1 },
        Query::Scan(Scan { first: 1, last: u32::MAX, keys_max: 100, pattern }),
        Query::Size { slot: Some(Slot(16_383)) },
    ]
}

fn replies() -> Vec<Reply> {
    let found = || Box::new(Found { value: value("old"), version: Version(9), ttl_ms: Some(300) });
    let plain = vec![
        Reply::Set { version: Version(1 << 40) },
        Reply::Swapped { version: Version(3), old: Some(found()) },
        Reply::NotSwapped { current: None },
        Reply::Taken(found()),
        Reply::Got(found()),
        Reply::Expires { version: Version(3), deadline_ms: Some(1) },
        Reply::Integer { version: Version(3), value: i64::MIN },
        Reply::Float { version: Version(3), text: "1.5".into() },
        Reply::Length { version: Version(3), value_bytes: 300 },
        Reply::Aborted { watch: 1, current: None },
        Reply::Read(Box::new(Answer::Value(Some(*found())))),
    ];
    [plain.clone(), vec![Reply::Transaction(plain)]].concat()
}

#[test]
fn log_records() {
    let one_by_one = writes().into_iter().map(|write| Batch { writes: vec![write], ..batch() });
    let corpus = one_by_one.chain([batch()]);
    let corpus = corpus.map(|batch| log_record::encode_batch(&batch).to_vec()).collect();
    fuzz("log_records", corpus, |input| {
        match log_record::decode_batch(Bytes::copy_from_slice(input)) {
            Ok(batch) => {
                let again = log_record::encode_batch(&batch);
                assert_eq!(log_record::decode_batch(again), Ok(batch));
                true
            }
            Err(_) => false,
        }
    });
}

/// What decodes, applies: a machine takes any batch a leader may have made, and its replicas agree.
#[test]
fn applied_batches() {
    let config = || MachineConfig {
        bytes_max: 1 << 20,
        hash_seed: 7,
        versions_from: 0,
        owned: SlotSet::all(),
    };
    let one_by_one = writes().into_iter().map(|write| Batch { writes: vec![write], ..batch() });
    let corpus = one_by_one.map(|batch| log_record::encode_batch(&batch).to_vec()).collect();
    let mut machines = [Machine::new(config()), Machine::new(config())];
    let mut index = 0;
    fuzz("applied_batches", corpus, |input| {
        let Ok(mut batch) = log_record::decode_batch(Bytes::copy_from_slice(input)) else {
            return false;
        };
        // A leader's stamp is a clock's, and a limit has bounds.
        batch.stamp_ms %= 1 << 42;
        batch.writes.retain(|write| !matches!(write.command, Command::SetLimit { .. }));
        index += 1;
        let answers = machines.each_mut().map(|machine| {
            let mut replies = Vec::new();
            machine.apply(index, &batch, &mut replies);
            assert_eq!(replies.len(), batch.writes.len());
            (replies, machine.digest())
        });
        assert_eq!(answers[0], answers[1]);
        true
    });
}

#[test]
fn forward_frames() {
    let of = |operations| forward::Request {
        epoch: RoutingEpoch(300),
        batch: 1,
        deadline_ms: 5_000,
        operations,
        traces: vec![1, u128::MAX],
    };
    let reads = |consistency| forward::Operations::Reads { consistency, queries: queries() };
    let corpus = [
        of(forward::Operations::Writes(writes())),
        of(reads(Consistency::Bounded { staleness_ms_max: 300 })),
        of(reads(Consistency::Stale)),
    ];
    let corpus = corpus.iter().map(|frame| frame.encode().to_vec()).collect();
    fuzz("forward_frames", corpus, |input| {
        match forward::Request::decode(Bytes::copy_from_slice(input)) {
            Ok(frame) => {
                assert_eq!(forward::Request::decode(frame.encode()).as_ref(), Ok(&frame));
                true
            }
            Err(_) => false,
        }
    });
}

#[test]
fn forward_answers() {
    let of = |results| forward::Response { epoch: RoutingEpoch(300), results };
    let answers = vec![Answer::Value(None), Answer::Size(7), Answer::Meta(None)];
    let corpus = [
        of(forward::Results::Writes(replies())),
        of(forward::Results::Reads { answers, freshness: Freshness::default() }),
    ];
    let corpus = corpus.iter().map(|frame| frame.encode().to_vec()).collect();
    fuzz("forward_answers", corpus, |input| {
        match forward::Response::decode(Bytes::copy_from_slice(input)) {
            Ok(frame) => {
                assert_eq!(forward::Response::decode(frame.encode()).as_ref(), Ok(&frame));
                true
            }
            Err(_) => false,
        }
    });
}

#[test]
fn remembered_replies() {
    let encode = |reply: &Reply| {
        let mut out = BytesMut::new();
        put_reply(&mut out, reply);
        out
    };
    let corpus = replies().iter().map(|reply| encode(reply).to_vec()).collect();
    fuzz("remembered_replies", corpus, |input| {
        let bytes = || Bytes::copy_from_slice(input);
        let _ = (get_answer(&mut bytes()), get_found(&mut bytes()));
        match get_reply(&mut bytes()) {
            Ok(reply) => {
                assert_eq!(get_reply(&mut encode(&reply).freeze()), Ok(reply));
                true
            }
            Err(_) => false,
        }
    });
}

/// Snapshots whose checksum is right, whatever is in them: a peer that is wrong, not a disk.
#[test]
fn snapshots() {
    let owned = SlotSet::all();
    let mut machine =
        Machine::new(MachineConfig { bytes_max: 1 << 20, hash_seed: 7, versions_from: 0, owned });
    let mut many: Vec<Write> = (0..20_u8)
        .map(|n| {
            let key = Bytes::copy_from_slice(&[b'k', n]);
            let set = Set { key, condition: Condition::Always, ..set("k") };
            let id = RequestId { session: u128::from(n) + 1, sequence: 1 };
            Write { request_id: Some(id), command: Command::Set(set) }
        })
        .collect();
    many.extend(writes().into_iter().filter(|w| !matches!(w.command, Command::Flush)));
    machine.apply(1, &Batch { writes: many, ..batch() }, &mut Vec::new());
    machine.snapshot_begin();
    let mut chunks = Vec::new();
    while let Some(chunk) = machine.snapshot_chunk(1 << 20) {
        chunks.push(chunk.to_vec());
    }
    machine.snapshot_end();
    let corpus = chunks.into_iter().map(|chunk| chunk[..chunk.len() - 4].to_vec()).collect();
    fuzz("snapshots", corpus, |input| {
        let sealed = [input, &crc32c::crc32c(input).to_le_bytes()].concat();
        let mut restorer = MachineRestorer::new();
        restorer.push(sealed.into()).is_ok() && restorer.finish().is_ok()
    });
}

#[test]
fn cluster_records() {
    let info = NodeInfo {
        store_id: 9,
        peer_addr: "10.0.0.1:9001".to_owned(),
        grpc_addr: "10.0.0.1:8080".to_owned(),
        http_addr: "10.0.0.1:8081".to_owned(),
        resp_addr: "10.0.0.1:7001".to_owned(),
        zone: "a".to_owned(),
    };
    let register = RegisterNode { node: NodeId(300), info, incarnation: 2, logs_survive: true };
    let form = Form {
        cluster_id: u128::MAX / 5,
        founders: vec![Founder { node: NodeId(1), store_id: 9 }],
        nodes_min: 3,
        shards: 16,
        replicas: 3,
        bytes_max: 1 << 26,
        seed: 7,
    };
    let corpus = [ClusterCommand::RegisterNode(register), ClusterCommand::Form(form)];
    let corpus = corpus.iter().map(|c| cluster_record::encode_command(c).to_vec()).collect();
    fuzz("cluster_records", corpus, |input| {
        let bytes = || Bytes::copy_from_slice(input);
        let _ = cluster_record::decode_reply(bytes());
        match cluster_record::decode_command(bytes()) {
            Ok(command) => {
                let again = cluster_record::encode_command(&command);
                assert_eq!(cluster_record::decode_command(again), Ok(command));
                true
            }
            Err(_) => false,
        }
    });
}
