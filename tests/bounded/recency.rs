//! Reads never pass through the log; hints do. How close that comes to an exact LRU.

use bytes::Bytes;
use lru::LruCache;
use raftcache::core::keyspace::logical_bytes;
use raftcache::raft::shard_group::ShardGroup;
use raftcache::types::{Consistency, Expiry};

use crate::shard::{Cluster, Plan, Random, read, set, within};

const LIMIT: u64 = 1 << 18;
const UNIVERSE: usize = 8_000;
const CHUNK: usize = 50;
const SEED: u64 = 42;

/// One step of a trace: keys read at once, those that miss are set; and keys set outright.
struct Step {
    reads: Vec<usize>,
    writes: Vec<usize>,
}

/// Zipf: the k-th key comes in proportion to 1 / k^s. One operation in ten is a write.
fn zipf(steps: usize, s: f64) -> Vec<Step> {
    let mut random = Random(SEED);
    let mut sum = 0.0;
    let cumulated: Vec<f64> = (1..=UNIVERSE)
        .map(|k| {
            sum += (k as f64).powf(-s);
            sum
        })
        .collect();
    let mut draw = |count: usize| -> Vec<usize> {
        let mut one = || {
            let at = random.unit() * sum;
            cumulated.partition_point(|c| *c < at).min(UNIVERSE - 1)
        };
        (0..count).map(|_| one()).collect()
    };
    (0..steps).map(|_| Step { reads: draw(CHUNK), writes: draw(CHUNK / 10) }).collect()
}

fn key(id: usize) -> Bytes {
    Bytes::from(format!("key-{id:06}"))
}

fn value_len(id: usize) -> usize {
    50 + (id * 7_919) % 200
}

/// The same bytes as the machine's, an exact order, room made for each insert and no more.
struct ExactLru {
    entries: LruCache<usize, u64>,
    bytes: u64,
}

impl ExactLru {
    fn new() -> Self {
        ExactLru { entries: LruCache::unbounded(), bytes: 0 }
    }

    fn set(&mut self, id: usize) {
        let bytes = logical_bytes(key(id).len() + value_len(id));
        self.bytes += bytes;
        self.bytes -= self.entries.put(id, bytes).unwrap_or(0);
        while self.bytes > LIMIT {
            self.bytes -= self.entries.pop_lru().expect("something is held").1;
        }
    }

    /// Hits of a step.
    fn step(&mut self, step: &Step) -> usize {
        let missed: Vec<usize> =
            step.reads.iter().copied().filter(|id| self.entries.get(id).is_none()).collect();
        missed.iter().chain(&step.writes).for_each(|id| self.set(*id));
        step.reads.len() - missed.len()
    }
}

/// Hits of a step at the leader.
async fn step(leader: &ShardGroup, step: &Step) -> usize {
    let keys: Vec<Bytes> = step.reads.iter().map(|id| key(*id)).collect();
    let found = read(leader, &keys, Consistency::Linearizable).await.unwrap();
    let missed: Vec<usize> =
        step.reads.iter().zip(&found).filter(|(_, f)| f.is_none()).map(|(id, _)| *id).collect();
    let writes = missed.iter().chain(&step.writes);
    let writes = writes.map(|id| set(key(*id), vec![1; value_len(*id)], Expiry::Never)).collect();
    leader.write(writes, within(5)).await.unwrap();
    step.reads.len() - missed.len()
}

struct Outcome {
    percent: f64,
    writes: u64,
    touches: u64,
    touch_bytes: u64,
    batch_bytes: u64,
}

/// Runs a trace; the leadership moves on at each of `changes`, and hints waiting are lost.
async fn run(trace: &[Step], changes: &[usize]) -> Outcome {
    let cluster = Cluster::start(Plan::simulated(SEED, LIMIT)).await;
    let (mut node, mut leader) = cluster.leader(&[]).await;
    let (mut hits, mut reads) = (0, 0);
    for (i, one) in trace.iter().enumerate() {
        if changes.contains(&i) {
            let before = node;
            leader.replica().hand_over(within(5)).await.unwrap();
            (node, leader) = cluster.leader(&[]).await;
            assert_ne!(node, before, "another leads");
        }
        let hit = step(&leader, one).await;
        // The first third warms the cache.
        if i >= trace.len() / 3 {
            hits += hit;
            reads += one.reads.len();
        }
    }
    cluster.wait_equal().await;
    assert_eq!(cluster.digest_mismatches(), 0, "INV-3");
    let sum = |f: fn(&raftcache::types::metrics::Metrics) -> u64| -> u64 {
        cluster.metrics.values().map(|m| f(m)).sum()
    };
    Outcome {
        percent: 100.0 * hits as f64 / reads as f64,
        writes: cluster.metrics.values().map(|m| m.batch_writes.get_sample_sum() as u64).sum(),
        touches: sum(|m| m.touches.get()),
        touch_bytes: sum(|m| m.touch_bytes.get()),
        batch_bytes: sum(|m| m.batch_bytes.get()),
    }
}

fn exact(trace: &[Step]) -> f64 {
    let (mut lru, mut hits, mut reads) = (ExactLru::new(), 0, 0);
    for (i, one) in trace.iter().enumerate() {
        let hit = lru.step(one);
        if i >= trace.len() / 3 {
            hits += hit;
            reads += one.reads.len();
        }
    }
    100.0 * hits as f64 / reads as f64
}

#[tokio::test(start_paused = true)]
async fn hit_ratio_within_a_point_of_an_exact_lru() {
    for s in [0.7, 0.99] {
        let trace = zipf(450, s);
        let ideal = exact(&trace);
        let steady = run(&trace, &[]).await;
        let changed = run(&trace, &[200, 275, 350]).await;
        println!(
            "zipf {s}, seed {SEED}: exact LRU {ideal:.2} %, measured {:.2} %, with three leader \
             changes {:.2} %; {:.2} touches a write, {:.2} % of log bytes",
            steady.percent,
            changed.percent,
            steady.touches as f64 / steady.writes as f64,
            100.0 * steady.touch_bytes as f64 / steady.batch_bytes as f64,
        );
        assert!((ideal - steady.percent).abs() <= 1.0, "within a point of the exact LRU");
        assert!((ideal - changed.percent).abs() <= 1.0, "lost hints cost next to nothing");
        assert!(steady.touches <= 2 * steady.writes, "at most two touches a write");
        assert!(steady.touch_bytes * 20 <= steady.batch_bytes, "at most 5 % of the log");
        assert!(steady.touches > 0, "hints travel");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_hot_set_survives_a_stream_of_new_keys() {
    let cluster = Cluster::start(Plan::simulated(SEED, LIMIT)).await;
    let (_, leader) = cluster.leader(&[]).await;
    let hot: Vec<Bytes> = (0..250).map(|i| Bytes::from(format!("hot-{i}"))).collect();
    let writes = hot.iter().map(|k| set(k.clone(), vec![1; 100], Expiry::Never)).collect();
    leader.write(writes, within(5)).await.unwrap();
    let mut hits = 0;
    for round in 0..600usize {
        let some = &hot[(round % 5) * 50..][..50];
        let found = read(&leader, some, Consistency::Linearizable).await.unwrap();
        hits += found.iter().flatten().count();
        let news = (0..20).map(|i| set(key(round * 20 + i), vec![1; 200], Expiry::Never));
        leader.write(news.collect(), within(5)).await.unwrap();
    }
    let found = read(&leader, &hot, Consistency::Linearizable).await.unwrap();
    let alive = found.iter().flatten().count();
    let stats = leader.replica().with_machine(|m| m.stats());
    println!(
        "seed {SEED}: {alive} of {} hot keys alive after {} evictions ({} keys fit); {hits} of \
         30000 reads hit; {} touches applied",
        hot.len(),
        stats.evictions,
        stats.keys,
        stats.touches
    );
    assert!(stats.evictions > 5 * stats.keys, "the stream went through many times");
    assert_eq!(alive, hot.len());
    assert_eq!(hits, 30_000);
}
