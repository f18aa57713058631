//! What one operation costs, layer by layer: `cargo bench --bench core`.
//!
//! Codec (one log record), apply (the state machine), snapshot (walk and restore), batcher (a group
//! of three replicas in one process over the simulated network: no sockets, no processes).

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "shared with tests, whose helpers may panic")]

#[path = "../tests/support/shard.rs"]
mod shard;

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use raftcache::codec::log_record::{decode_batch, encode_batch};
use raftcache::core::machine::{Machine, MachineConfig};
use raftcache::core::slot_set::SlotSet;
use raftcache::types::{Batch, Expiry, Write};
use shard::{Cluster, Plan, Random, set, within};

const VALUE_BYTES: usize = 64;
const KEYS: u64 = 100_000;
/// Room for all keys, and for half of them.
const ROOMY_BYTES: u64 = 64 << 20;
const TIGHT_BYTES: u64 = 8 << 20;

fn machine(bytes_max: u64) -> Machine {
    Machine::new(MachineConfig { bytes_max, hash_seed: 1, versions_from: 0, owned: SlotSet::all() })
}

fn writes(random: &mut Random, count: usize) -> Vec<Write> {
    let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
    let write = |_| set(format!("key-{:012}", random.below(KEYS)), value.clone(), Expiry::Never);
    (0..count).map(write).collect()
}

fn batch(random: &mut Random, count: usize) -> Batch {
    Batch { stamp_ms: 1, touches: Vec::new(), writes: writes(random, count) }
}

fn filled(bytes_max: u64) -> (Machine, u64) {
    let (mut machine, mut random, mut replies) = (machine(bytes_max), Random(1), Vec::new());
    for index in 1..=KEYS / 100 {
        replies.clear();
        machine.apply(index, &batch(&mut random, 200), &mut replies);
    }
    (machine, KEYS / 100)
}

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    for count in [1, 64] {
        let batch = batch(&mut Random(2), count);
        let bytes = encode_batch(&batch);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("encode {count} sets"), |b| b.iter(|| encode_batch(&batch)));
        group.bench_function(format!("decode {count} sets"), |b| {
            b.iter(|| decode_batch(bytes.clone()).expect("it was just encoded"))
        });
    }
    group.finish();
}

fn apply(c: &mut Criterion) {
    let mut group = c.benchmark_group("apply");
    for (name, bytes_max) in [("overwriting", ROOMY_BYTES), ("evicting", TIGHT_BYTES)] {
        let (mut machine, mut index) = filled(bytes_max);
        let (mut random, mut replies) = (Random(3), Vec::new());
        group.throughput(Throughput::Elements(64));
        group.bench_function(format!("64 sets, {name}"), |b| {
            b.iter_batched(
                || batch(&mut random, 64),
                |batch| {
                    index += 1;
                    replies.clear();
                    machine.apply(index, &batch, &mut replies);
                },
                BatchSize::SmallInput,
            )
        });
    }
    let (machine, _) = filled(ROOMY_BYTES);
    let mut random = Random(4);
    group.throughput(Throughput::Elements(1));
    group.bench_function("get", |b| {
        b.iter_batched(
            || format!("key-{:012}", random.below(KEYS)),
            |key| black_box(machine.get(key.as_bytes(), 0)),
            BatchSize::SmallInput,
        )
    });
    group.finish();
}

fn chunks(machine: &mut Machine) -> Vec<Bytes> {
    machine.snapshot_begin();
    let chunks = std::iter::from_fn(|| machine.snapshot_chunk(256 * 1024)).collect();
    machine.snapshot_end();
    chunks
}

fn snapshot(c: &mut Criterion) {
    let (mut machine, _) = filled(ROOMY_BYTES);
    let stored = chunks(&mut machine);
    let mut group = c.benchmark_group("snapshot");
    group.sample_size(10);
    group.throughput(Throughput::Elements(machine.stats().keys));
    group.bench_function("walk", |b| b.iter(|| chunks(&mut machine)));
    group.bench_function("restore", |b| {
        b.iter(|| {
            let mut restorer = machine.restorer();
            for chunk in &stored {
                restorer.push(chunk.clone()).expect("the chunks were just walked");
            }
            restorer.finish().expect("all chunks are there")
        })
    });
    group.finish();
}

fn batcher(c: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    let (cluster, leader) = runtime.block_on(async {
        let cluster = Cluster::start(Plan::simulated(1, ROOMY_BYTES)).await;
        let (_, leader) = cluster.leader(&[]).await;
        (cluster, leader)
    });
    let mut group = c.benchmark_group("batcher");
    group.measurement_time(Duration::from_secs(5)).sample_size(20);
    for callers in [1, 64, 1024] {
        let mut random = Random(5);
        group.throughput(Throughput::Elements(callers as u64));
        group.bench_function(format!("{callers} callers, one set each"), |b| {
            b.to_async(&runtime).iter_batched(
                || writes(&mut random, callers),
                async |writes| {
                    let calls = writes.into_iter().map(|w| leader.write(vec![w], within(10)));
                    let replies = futures_util::future::try_join_all(calls).await;
                    replies.expect("a healthy group takes writes");
                },
                BatchSize::SmallInput,
            )
        });
    }
    group.finish();
    runtime.block_on(cluster.shutdown());
}

criterion_group!(benches, codec, apply, snapshot, batcher);
criterion_main!(benches);
