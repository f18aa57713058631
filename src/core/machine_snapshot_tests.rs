//! Snapshots of large machines, and damaged ones.

use bytes::Bytes;

use super::machine::Machine;
use super::machine_tests::{apply, at, config, delete, put, recency};
use super::restore::MachineRestorer;
use crate::types::{Condition, RequestId};

fn snapshot_of(machine: &mut Machine, chunk_bytes: usize) -> Vec<Bytes> {
    machine.snapshot_begin();
    let mut chunks = Vec::new();
    while let Some(chunk) = machine.snapshot_chunk(chunk_bytes) {
        chunks.push(chunk);
    }
    machine.snapshot_end();
    chunks
}

fn restore(chunks: &[Bytes]) -> Result<Machine, crate::types::wire::Error> {
    let mut restorer = MachineRestorer::new();
    for chunk in chunks {
        restorer.push(chunk.clone())?;
    }
    restorer.finish()
}

/// More entries than a chunk of the slab, holes in it, and every kind of change under the walk.
#[test]
fn a_large_snapshot_is_the_state_at_its_point() {
    let mut machine = Machine::new(config(900 * 1024));
    let one = |n: u64| put(&format!("k{n:05}"), "value");
    for index in 0..20 {
        let writes = (index * 500..(index + 1) * 500).map(one).collect();
        apply(&mut machine, index, &at(0, writes));
    }
    let holes = (0..1000).map(|n| delete(&format!("k{:05}", n * 7), Condition::Always)).collect();
    apply(&mut machine, 20, &at(0, holes));
    let (digest, order) = (machine.digest(), recency(&machine));
    machine.snapshot_begin();
    let mut chunks = Vec::new();
    for index in 21..60 {
        chunks.extend(machine.snapshot_chunk(8 * 1024));
        let n = index * 223;
        let mut writes: Vec<_> = (n..n + 100).map(one).collect();
        writes.extend((n..n + 50).map(|n| delete(&format!("k{n:05}"), Condition::Always)));
        apply(&mut machine, index, &at(0, writes));
    }
    chunks.extend(std::iter::from_fn(|| machine.snapshot_chunk(8 * 1024)));
    let restored = restore(&chunks).expect("whole");
    assert_eq!((restored.digest(), recency(&restored)), (digest, order));
    assert_ne!(machine.digest(), digest);
}

#[test]
fn a_damaged_snapshot_is_an_error() {
    let mut machine = Machine::new(config(1 << 20));
    let id = RequestId { session: 9, sequence: 1 };
    let mut writes: Vec<_> = (0..20).map(|n| put(&format!("k{n}"), "value")).collect();
    writes[3].request_id = Some(id.into());
    apply(&mut machine, 1, &at(0, writes));
    let chunks = snapshot_of(&mut machine, 100);
    assert!(chunks.len() > 4, "several chunks to mix up");
    assert_eq!(restore(&chunks).expect("whole").digest(), machine.digest());
    apply(&mut machine, 2, &at(0, vec![put("other", "state")]));
    let foreign = snapshot_of(&mut machine, 100);
    for at in 0..chunks.len() {
        let mut missing = chunks.clone();
        missing.remove(at);
        assert!(restore(&missing).is_err(), "missing {at}");
        let mut twice = chunks.clone();
        twice.insert(at, chunks[at].clone());
        assert!(restore(&twice).is_err(), "twice {at}");
        let mut mixed = chunks.clone();
        mixed[at] = foreign[at].clone();
        assert!(restore(&mixed).is_err(), "foreign {at}");
        if at > 0 {
            let mut swapped = chunks.clone();
            swapped.swap(at - 1, at);
            assert!(restore(&swapped).is_err(), "swapped {at}");
        }
        for byte in 0..chunks[at].len() {
            let mut flipped = chunks[at].to_vec();
            flipped[byte] ^= 1 << (byte % 8);
            let mut damaged = chunks.clone();
            damaged[at] = flipped.into();
            assert!(restore(&damaged).is_err(), "flipped byte {byte} of {at}");
            damaged[at] = chunks[at].slice(..byte);
            assert!(restore(&damaged).is_err(), "cut at {byte} of {at}");
        }
    }
}
