//! Several operations, scans, sizes and flushes over two shards.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::future::join_all;

use super::machine_fake::*;
use super::*;
use crate::core::keyspace::{slot_position, slot_position_last};
use crate::core::slot::slot_of;
use crate::types::limits::FRAME_BYTES_MAX;
use crate::types::*;

fn set(key: &str, value: impl Into<Bytes>) -> Command {
    let value = Value { data: value.into(), kind: ValueKind::Bytes };
    let (key, expiry) = (Bytes::from(key.to_owned()), Expiry::Never);
    Command::Set(Set { key, value, expiry, condition: Condition::Always })
}

fn write(command: Command) -> Step {
    Step::Write(command)
}

fn read(key: &str) -> Step {
    Step::Read(Query::Get { key: Bytes::from(key.to_owned()) })
}

fn increment(key: &str) -> Step {
    Step::Write(Command::Increment(Increment { key: Bytes::from(key.to_owned()), delta: 1 }))
}

fn multi(steps: Vec<Step>) -> Operation {
    Operation::Multi(Multi { steps, ..Multi::default() })
}

fn atomic(steps: Vec<Step>, watches: Vec<Watch>) -> Operation {
    Operation::Multi(Multi { steps, watches, atomic: true, ..Multi::default() })
}

fn results(response: Response) -> Vec<Result<Response, Error>> {
    match response {
        Response::Multi(results) => results,
        other => panic!("{other:?}"),
    }
}

fn value(result: &Result<Response, Error>) -> Option<Bytes> {
    match result {
        Ok(Response::Read { answer, .. }) => answer.clone().into_found().map(|f| f.value.data),
        other => panic!("{other:?}"),
    }
}

fn integer(result: &Result<Response, Error>) -> i64 {
    match result {
        Ok(Response::Written(Reply::Integer { value, .. })) => *value,
        other => panic!("{other:?}"),
    }
}

/// One key of each shard.
fn keys() -> [String; 2] {
    [0, 1].map(|shard| {
        let of_shard = |key: &String| slot_of(key.as_bytes()).0 % 2 == shard;
        (0..).map(|n| format!("key-{n}")).find(of_shard).expect("half of the keys are")
    })
}

#[tokio::test(start_paused = true)]
async fn a_request_is_split_by_shard_and_each_operation_has_its_own_result() {
    let pair = Pair::new();
    let [a, b] = keys();
    for node in [0, 1] {
        pair.ask(node, Operation::Flush).await.unwrap();
        let before = pair.writes();
        let steps = vec![
            write(set(&a, "1")),
            increment(&b),
            increment(&a),
            read(&a),
            write(set(&b, "no number")),
            increment(&b),
            read(&b),
        ];
        let results = results(pair.ask(node, multi(steps)).await.unwrap());
        assert_eq!(results.len(), 7);
        assert_eq!(integer(&results[1]), 1);
        assert_eq!(integer(&results[2]), 2, "in order within a shard");
        assert_eq!(value(&results[3]).as_deref(), Some(&b"2"[..]));
        assert_eq!(results[5], Err(Reason::NotInteger.into()), "the others go on");
        assert_eq!(value(&results[6]).as_deref(), Some(&b"no number"[..]));
        assert_eq!(pair.writes() - before, 2, "one unit a shard");
    }
}

#[tokio::test(start_paused = true)]
async fn reads_alone_do_not_go_through_the_log() {
    let pair = Pair::new();
    let [a, b] = keys();
    pair.ask(0, Operation::Write(set(&a, "1"))).await.unwrap();
    let before = pair.writes();
    let results =
        results(pair.ask(1, multi(vec![read(&b), read(&a), read("none")])).await.unwrap());
    assert_eq!(value(&results[0]), None);
    assert_eq!(value(&results[1]).as_deref(), Some(&b"1"[..]));
    assert_eq!((value(&results[2]), pair.writes()), (None, before));
    assert_eq!(results_of_nothing(&pair).await, 0);
}

async fn results_of_nothing(pair: &Pair) -> usize {
    results(pair.ask(0, multi(Vec::new())).await.unwrap()).len()
        + results(pair.ask(0, atomic(Vec::new(), Vec::new())).await.unwrap()).len()
}

#[tokio::test(start_paused = true)]
async fn an_atomic_request_needs_keys_of_one_shard() {
    let pair = Pair::new();
    let [a, b] = keys();
    let both = atomic(vec![increment(&a), increment(&b)], Vec::new());
    let error = pair.ask(0, both).await.unwrap_err();
    assert_eq!(error.reason, Reason::CrossShard { shards: 2 });
    assert_eq!(error.outcome(), Outcome::Rejected);
    let watch = Watch::of(b.into(), None);
    let error = pair.ask(0, atomic(vec![increment(&a)], vec![watch])).await.unwrap_err();
    assert_eq!(error.reason, Reason::CrossShard { shards: 2 });
    assert_eq!(pair.writes(), 0);
    for node in [0, 1] {
        let tagged = vec![increment("{t}a"), increment("{t}b"), read("{t}a")];
        let results = results(pair.ask(node, atomic(tagged, Vec::new())).await.unwrap());
        assert_eq!(integer(&results[0]), node as i64 + 1);
        assert_eq!(value(&results[2]), Some(Bytes::from((node + 1).to_string())));
    }
    assert_eq!(pair.writes(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_watched_key_that_changed_aborts() {
    let pair = Pair::new();
    pair.ask(0, Operation::Write(set("k", "1"))).await.unwrap();
    let watch = |version| vec![Watch::of(Bytes::from_static(b"k"), version)];
    for node in [0, 1] {
        let response = pair.ask(node, atomic(vec![increment("k")], watch(None))).await.unwrap();
        let Response::Written(Reply::Aborted { watch: 0, current: Some(version) }) = response
        else {
            panic!("{response:?}")
        };
        let response = pair.ask(node, atomic(vec![increment("k")], watch(Some(version)))).await;
        assert_eq!(integer(&results(response.unwrap())[0]), node as i64 + 2);
    }
}

/// INV-6: one id covers all parts.
#[tokio::test(start_paused = true)]
async fn a_retry_gets_the_first_answers_of_all_shards() {
    let pair = Pair::new();
    let [a, b] = keys();
    let asked_as = RequestId { session: 5, sequence: 1 };
    let id = Some(asked_as);
    let steps = || multi(vec![increment(&a), increment(&b), increment(&a)]);
    let first = pair.ask_as(0, steps(), id).await.unwrap();
    let second = pair.ask_as(1, steps(), id).await.unwrap();
    assert_eq!(first, second);
    let asked = |group: usize| pair.groups[group].state.lock().writes[0].request_id.unwrap();
    assert_eq!(
        [asked(0), asked(1)].map(|asked| (asked.id, asked.part)),
        [(asked_as, 0), (asked_as, 1)]
    );
    let third = results(pair.ask(0, steps()).await.unwrap());
    assert_eq!([0, 1, 2].map(|at| integer(&third[at])), [3, 2, 4]);
    // The id of another request: something was applied under it, nobody can say what.
    let other = multi(vec![increment(&a), increment(&a)]);
    let results = results(pair.ask_as(0, other, id).await.unwrap());
    assert_eq!(integer(&results[0]), 1, "the remembered reply of as many operations");
    let more = multi(vec![increment(&a), increment(&a), increment(&a)]);
    let results = self::results(pair.ask_as(0, more, id).await.unwrap());
    let outcome = |result: &Result<Response, Error>| result.as_ref().map_err(Error::outcome).err();
    assert!(results.iter().all(|result| outcome(result) == Some(Outcome::Unknown)), "INV-5");
}

/// INV-5: what fails in one shard says nothing of the other.
#[tokio::test(start_paused = true)]
async fn a_shard_that_fails_fails_its_own_operations() {
    let pair = Pair::new();
    let [a, b] = keys();
    let reason = Reason::ResourceExhausted { what: "group queue", limit: 1 };
    pair.groups[1].state.lock().failures.push(reason.clone());
    let steps = vec![increment(&a), increment(&b), increment(&b)];
    let results = results(pair.ask(0, multi(steps)).await.unwrap());
    assert_eq!(integer(&results[0]), 1);
    assert_eq!(results[1], Err(reason.clone().into()));
    assert_eq!(results[2], Err(reason.into()));
}

/// Values of 20 MiB cross the wire in answers that fit a frame, each operation done once.
#[tokio::test(start_paused = true)]
async fn old_values_larger_than_a_frame_come_in_several() {
    let pair = Pair::new();
    let keys: Vec<String> = (0..20).map(|n| format!("{{{}}}{n}", keys()[0])).collect();
    for key in &keys {
        pair.ask(0, Operation::Write(set(key, vec![7; 1 << 20]))).await.unwrap();
    }
    let take = |key: &String| {
        let (key, condition) = (Bytes::from(key.clone()), Condition::Always);
        pair.ask(1, Operation::Write(Command::GetDelete(Delete { key, condition })))
    };
    for taken in join_all(keys.iter().map(take)).await {
        let Ok(Response::Written(Reply::Taken(found))) = taken else { panic!("{taken:?}") };
        assert_eq!(found.value.data.len(), 1 << 20);
    }
    assert!(pair.largest_answer() < FRAME_BYTES_MAX, "{}", pair.largest_answer());
    assert_eq!(pair.writes(), 40, "each once");
}

async fn scan(pair: &Pair, cursor: u64, count: u32, pattern: Option<&str>) -> (u64, Vec<Bytes>) {
    let pattern = pattern.map(|pattern| Bytes::from(pattern.to_owned()));
    let request = ScanRequest { cursor, count, pattern, consistency: Consistency::Linearizable };
    match pair.ask((cursor % 2) as usize, Operation::Scan(request)).await.unwrap() {
        Response::Scanned { cursor, keys } => (cursor, keys),
        other => panic!("{other:?}"),
    }
}

async fn fill(pair: &Pair, count: usize) -> BTreeSet<Bytes> {
    let names: Vec<String> = (0..count).map(|n| format!("key-{n}")).collect();
    for part in names.chunks(500) {
        let steps = part.iter().map(|key| write(set(key, "v"))).collect();
        let results = results(pair.ask(0, multi(steps)).await.unwrap());
        assert!(results.iter().all(Result::is_ok));
    }
    names.into_iter().map(Bytes::from).collect()
}

#[tokio::test(start_paused = true)]
async fn a_scan_walks_all_shards_in_bounded_steps() {
    let pair = Pair::new();
    let all = fill(&pair, 3_000).await;
    for count in [1, 10, 1_000, 4_096] {
        let (mut cursor, mut found, mut calls) = (0, BTreeSet::new(), 0);
        loop {
            let (next, keys) = scan(&pair, cursor, count, None).await;
            assert!(keys.len() <= count as usize + 8, "{} keys for {count}", keys.len());
            for key in keys {
                assert!(found.insert(key), "nothing moved, so a key comes once");
            }
            (cursor, calls) = (next, calls + 1);
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(found, all);
        assert!(calls <= 3_000 / count as usize + 2, "{calls} calls for {count}");
    }
    let mut found = BTreeSet::new();
    let mut cursor = 0;
    loop {
        let (next, keys) = scan(&pair, cursor, 100, Some("key-1?[5-7]")).await;
        found.extend(keys);
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    let matching = all
        .iter()
        .filter(|key| key.len() == 7 && key[4] == b'1' && (b'5'..=b'7').contains(&key[6]));
    assert!(found.iter().eq(matching), "{found:?}");
    assert_eq!(found.len(), 30);
}

/// Keys that are there all the time are found whatever comes, goes and moves meanwhile.
#[tokio::test(start_paused = true)]
async fn a_scan_is_complete_while_keys_come_and_go_and_slots_move() {
    let pair = Pair::new();
    let all = fill(&pair, 600).await;
    let (mut cursor, mut found, mut calls) = (0, BTreeSet::new(), 0u64);
    loop {
        let (next, keys) = scan(&pair, cursor, 20, None).await;
        found.extend(keys);
        (cursor, calls) = (next, calls + 1);
        if cursor == 0 {
            break;
        }
        pair.ask(0, Operation::Write(set(&format!("new-{calls}"), "v"))).await.unwrap();
        let key = Bytes::from(format!("new-{}", calls / 2));
        let gone = Delete { key, condition: Condition::Always };
        pair.ask(0, Operation::Write(Command::Delete(gone))).await.unwrap();
        if calls == 10 {
            // As if a slot had moved; the machines still own what they did.
            let empty = (0..SLOTS).find(|slot| all.iter().all(|key| slot_of(key).0 != *slot));
            let empty = usize::from(empty.expect("600 keys leave slots empty"));
            pair.change_table(|table| table.slots[empty] = ShardId(1 - table.slots[empty].0));
        }
    }
    assert!(all.is_subset(&found), "{} of {}", found.len(), all.len());
    assert!(calls > 600 / 20 + 8, "it began again: {calls} calls");
}

#[tokio::test(start_paused = true)]
async fn sizes_are_sums_and_a_flush_reaches_every_shard() {
    let pair = Pair::new();
    let all = fill(&pair, 400).await;
    let size = || Operation::Size { consistency: Consistency::Linearizable };
    assert_eq!(pair.ask(0, size()).await, Ok(Response::Size(400)));
    let slot = slot_of(b"key-1");
    let in_slot: BTreeSet<Bytes> = all.into_iter().filter(|key| slot_of(key) == slot).collect();
    for node in [0, 1] {
        let consistency = Consistency::Linearizable;
        let query = Query::Size { slot: Some(slot) };
        let counted = pair.ask(node, Operation::Read { query, consistency }).await.unwrap();
        let Response::Read { answer, .. } = counted else { panic!("{counted:?}") };
        assert_eq!(answer, Answer::Size(in_slot.len() as u64));
        let (first, last) = (slot_position(slot), slot_position_last(slot));
        let query = Query::Scan(Scan { first, last, keys_max: 100, pattern: None });
        let found = pair.ask(node, Operation::Read { query, consistency }).await.unwrap();
        let Response::Read { answer: Answer::Keys(keys), .. } = found else { panic!("{found:?}") };
        assert_eq!(keys.keys.into_iter().collect::<BTreeSet<_>>(), in_slot);
        assert_eq!(keys.next, None);
    }
    assert_eq!(pair.ask(1, Operation::Flush).await, Ok(Response::Written(Reply::Done)));
    assert_eq!(pair.ask(0, size()).await, Ok(Response::Size(0)));
    let asked = |name: &str| pair.metrics[0].operations.with_label_values(&[name]).get();
    // Twice of all, once of a slot; the flush was asked of the other node.
    assert_eq!((asked("size"), asked("flush"), asked("multi")), (3, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_reached_some_shards_is_unknown() {
    let pair = Pair::new();
    let reason = Reason::ResourceExhausted { what: "group queue", limit: 1 };
    pair.groups[1].state.lock().failures.push(reason);
    let error = pair.ask(0, Operation::Flush).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
}

/// Two keys of one operation belong to one shard; what does not is refused alone.
#[tokio::test(start_paused = true)]
async fn a_rename_across_shards_is_refused_and_nothing_else() {
    let pair = Pair::new();
    let [a, b] = keys();
    let same = format!("{{{a}}}");
    let rename = |to: &str| {
        let (key, to) = (Bytes::from(a.clone()), Bytes::from(to.to_owned()));
        Command::Rename(CopyKey { key, to, condition: Condition::Always })
    };
    for node in [0, 1] {
        pair.ask(node, Operation::Write(set(&a, "1"))).await.unwrap();
        let writes = pair.writes();
        let across = pair.ask(node, Operation::Write(rename(&b))).await.unwrap_err();
        assert_eq!(across.reason, Reason::CrossShard { shards: 2 });
        let among = atomic(vec![read(&a), write(rename(&b))], Vec::new());
        let across = pair.ask(node, among).await.unwrap_err();
        assert_eq!(across.reason, Reason::CrossShard { shards: 2 });
        assert_eq!(pair.writes(), writes);
        let steps = vec![read(&a), write(rename(&b)), write(rename(&same)), read(&a), read(&same)];
        let results = results(pair.ask(node, multi(steps)).await.unwrap());
        assert_eq!(value(&results[0]).as_deref(), Some(&b"1"[..]));
        let refused = results[1].as_ref().unwrap_err();
        assert_eq!(refused.reason, Reason::CrossShard { shards: 2 });
        assert!(matches!(results[2], Ok(Response::Written(Reply::Set { .. }))));
        assert_eq!(value(&results[3]), None);
        assert_eq!(value(&results[4]).as_deref(), Some(&b"1"[..]));
    }
    let empty = pair.ask(0, Operation::Write(rename(""))).await.unwrap_err();
    assert!(matches!(empty.reason, Reason::InvalidArgument { field: "key", .. }));
}

#[tokio::test(start_paused = true)]
async fn what_is_past_a_limit_is_refused_by_the_name_of_its_field() {
    let pair = Pair::new();
    let scan = |count, pattern: usize| {
        let pattern = Some(vec![b'*'; pattern].into());
        Operation::Scan(ScanRequest { cursor: 0, count, pattern, consistency: Consistency::Stale })
    };
    let watch = vec![Watch::of(Bytes::from_static(b"k"), None)];
    let unwatched = Operation::Multi(Multi { watches: watch, ..Multi::default() });
    let range = |first, last| Operation::Read {
        query: Query::Scan(Scan { first, last, keys_max: 1, pattern: None }),
        consistency: Consistency::Stale,
    };
    let offset = SetRange {
        key: Bytes::from_static(b"k"),
        offset: 1 << 20,
        value: Value { data: Bytes::from_static(b"v"), kind: ValueKind::Bytes },
    };
    let delta = IncrementFloat { key: Bytes::from_static(b"k"), delta: vec![b'1'; 513].into() };
    let nested = Command::Transaction(Transaction::default());
    for (operation, field) in [
        (multi(vec![increment("k"); 1_025]), "operations"),
        (multi(vec![write(set("k", vec![0; 800 << 10])); 2]), "operations"),
        (multi(vec![write(nested.clone())]), "command"),
        (multi(vec![Step::Read(Query::Size { slot: None })]), "operations"),
        (multi(vec![increment("")]), "key"),
        (unwatched, "watches"),
        (scan(0, 1), "count"),
        (scan(4_097, 1), "count"),
        (scan(1, 1_025), "pattern"),
        (range(0, u32::MAX), "cursor"),
        (Operation::Write(Command::SetRange(offset)), "offset"),
        (Operation::Write(Command::IncrementFloat(delta)), "delta"),
        (Operation::Write(Command::Flush), "command"),
        (Operation::Write(Command::SetLimit { bytes_max: 1 }), "command"),
        (Operation::Write(nested), "command"),
    ] {
        let name = operation.name();
        match pair.ask(0, operation).await.unwrap_err().reason {
            Reason::InvalidArgument { field: found, .. } => assert_eq!(found, field, "{name}"),
            other => panic!("{name}: {other}"),
        }
    }
    assert_eq!(pair.writes(), 0);
}
