//! What comes from disks: log records, what they do when they are applied, snapshots, stores.

use bytes::Bytes;
use raftcache::codec::log_record;
use raftcache::core::machine::{Machine, MachineConfig};
use raftcache::core::restore::MachineRestorer;
use raftcache::core::slot_set::SlotSet;
use raftcache::storage::fuzzing;
use raftcache::types::{
    Answer, Append, Asker, Batch, Command, Condition, CopyKey, Delete, Expire, ExpireCondition,
    Expiry, Fill, Found, Increment, IncrementFloat, Lock, Once, Query, Renew, Reply, RequestId,
    Scan, Set, SetRange, Slot, Step, Transaction, Unlock, Value, ValueKind, Version, Watch, Write,
};

use super::Target;

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
    let copy =
        || CopyKey { key: key(), to: Bytes::from_static(b"other"), condition: Condition::IfAbsent };
    let fill = Fill {
        key: key(),
        value: value("filled"),
        soft_ms: Some(300),
        expiry: Expiry::AfterMs(1_500),
        cost_ms: 7,
        token: 1 << 40,
        since: Some(Version(9)),
    };
    let delete = || Delete { key: key(), condition: Condition::IfPresent };
    let watches =
        vec![Watch::of(key(), Some(Version(7))), Watch::absent_since(key(), Version(1023))];
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
        Command::Copy(copy()),
        Command::Rename(copy()),
        Command::Lock(Lock { key: key(), owner: key(), ttl_ms: 300, locks_max: 9 }),
        Command::Renew(Renew { key: key(), owner: key(), token: Version(7), ttl_ms: 300 }),
        Command::Unlock(Unlock { key: key(), owner: key(), token: Version(7) }),
        Command::Fill(fill),
        Command::Flush,
    ]
}

pub fn writes() -> Vec<Write> {
    let id = RequestId { session: u128::MAX / 3, sequence: 300 };
    let (asker, age_ms_max) = (Asker::Caller, Some(120_000));
    let ids = [None, Some(id.into()), Some(Once { id, part: 3, asker, age_ms_max })];
    let pairs = commands().into_iter().zip(ids.into_iter().cycle());
    pairs.map(|(command, request_id)| Write { request_id, command }).collect()
}

fn batch() -> Batch {
    Batch { stamp_ms: 1_700_000_000_000, touches: vec![1, u32::MAX], writes: writes() }
}

pub fn queries() -> Vec<Query> {
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

pub fn found() -> Found {
    Found { value: value("old"), version: Version(9), ttl_ms: Some(300) }
}

pub fn replies() -> Vec<Reply> {
    let found = || Box::new(found());
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

pub fn log_records() -> Target {
    let one_by_one = writes().into_iter().map(|write| Batch { writes: vec![write], ..batch() });
    let corpus = one_by_one.chain([batch()]);
    let sound = corpus.map(|batch| log_record::encode_batch(&batch));
    Target::new(sound, |input| match log_record::decode_batch(Bytes::copy_from_slice(input)) {
        Ok(batch) => {
            let again = log_record::encode_batch(&batch);
            assert_eq!(log_record::decode_batch(again), Ok(batch));
            true
        }
        Err(_) => false,
    })
}

/// What decodes, applies: a machine takes any batch a leader may have made, and its replicas agree.
pub fn applied_batches() -> Target {
    let config = || MachineConfig {
        bytes_max: 1 << 20,
        hash_seed: 7,
        versions_from: 0,
        owned: SlotSet::all(),
    };
    let one_by_one = writes().into_iter().map(|write| Batch { writes: vec![write], ..batch() });
    let sound = one_by_one.map(|batch| log_record::encode_batch(&batch));
    let mut machines = [Machine::new(config()), Machine::new(config())];
    let mut index = 0;
    Target::new(sound, move |input| {
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
    })
}

/// Snapshots whose checksum is right, whatever is in them: a peer that is wrong, not a disk.
pub fn snapshots() -> Target {
    let owned = SlotSet::all();
    let mut machine =
        Machine::new(MachineConfig { bytes_max: 1 << 20, hash_seed: 7, versions_from: 0, owned });
    let mut many: Vec<Write> = (0..20_u8)
        .map(|n| {
            let key = Bytes::copy_from_slice(&[b'k', n]);
            let set = Set { key, condition: Condition::Always, ..set("k") };
            let id = RequestId { session: u128::from(n) + 1, sequence: 1 };
            Write { request_id: Some(id.into()), command: Command::Set(set) }
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
    let sound = chunks.iter().map(|chunk| &chunk[..chunk.len() - 4]);
    Target::new(sound, |input| {
        let sealed = [input, &crc32c::crc32c(input).to_le_bytes()].concat();
        let mut restorer = MachineRestorer::new();
        restorer.push(sealed.into()).is_ok() && restorer.finish().is_ok()
    })
}

/// What the log stores, the snapshot files and the small files of a data directory keep.
pub fn store_records() -> Target {
    Target::new(fuzzing::sound(), fuzzing::take)
}
