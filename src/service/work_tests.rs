//! Requests that are small and touch much (INV-8).

use bytes::Bytes;

use super::machine_fake::*;
use super::*;
use crate::types::limits::FIELD_WORK;
use crate::types::*;

const KEY: Bytes = Bytes::from_static(b"large");
const VALUE_BYTES: usize = 1_000_000;

fn appends(count: usize) -> Vec<Step> {
    let value = Value { data: Bytes::from_static(b"v"), kind: ValueKind::Bytes };
    vec![Step::Write(Command::Append(Append { key: KEY, value })); count]
}

async fn with_large_value() -> Pair {
    let pair = Pair::new();
    let value = Value { data: vec![b'v'; VALUE_BYTES].into(), kind: ValueKind::Bytes };
    let (expiry, condition) = (Expiry::Never, Condition::Always);
    let set = Command::Set(Set { key: KEY, value, expiry, condition });
    pair.ask(0, Operation::Write(set)).await.unwrap();
    pair
}

#[tokio::test(start_paused = true)]
async fn what_is_not_atomic_is_done_in_parts_and_in_order() {
    let pair = with_large_value().await;
    for node in [0, 1] {
        let before = pair.writes();
        let multi = Multi { steps: appends(200), ..Multi::default() };
        let Response::Multi(done) = pair.ask(node, Operation::Multi(multi)).await.unwrap() else {
            panic!("several were asked")
        };
        let lengths = (VALUE_BYTES + 200 * node + 1..).take(200);
        for (result, value_bytes) in done.iter().zip(lengths) {
            let Ok(Response::Written(Reply::Length { value_bytes: found, .. })) = result else {
                panic!("{result:?}")
            };
            assert_eq!(*found, value_bytes as u64);
        }
        // Halves are refused until they fit: 200, 100, then 50 each.
        assert_eq!(pair.writes() - before, 7);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_atomic_is_refused_as_a_whole_by_name() {
    let pair = with_large_value().await;
    let atomic = |steps| Operation::Multi(Multi { steps, atomic: true, ..Multi::default() });
    let refused = pair.ask(1, atomic(appends(70))).await.unwrap_err();
    let Reason::InvalidArgument { field: FIELD_WORK, problem } = &refused.reason else {
        panic!("{refused}")
    };
    assert!(problem.contains("67108864") && refused.outcome() == Outcome::Rejected, "{refused}");
    let counted = pair.refused("transaction_work");
    assert_eq!(counted, 1);
    let Response::Multi(done) = pair.ask(0, atomic(appends(60))).await.unwrap() else {
        panic!("several were asked")
    };
    let Ok(Response::Written(Reply::Length { value_bytes, .. })) = done[59] else {
        panic!("{done:?}")
    };
    assert_eq!(value_bytes, VALUE_BYTES as u64 + 60, "nothing of the other was done");
}
