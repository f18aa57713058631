//! The load: many writers of mixed sizes, and readers of a hot set at the leader.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use raftcache::raft::shard_group::ShardGroup;
use raftcache::types::{Consistency, Expiry, Reason, Reply, task};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::shard::{Random, read, set, within};

const WRITERS: u64 = 64;
const HOT_VALUE: usize = 1024;

/// What a feed came to.
#[derive(Default)]
pub struct Fed {
    pub bytes: u64,
    pub writes: u64,
    /// Writes refused by a bound and sent again.
    pub again: u64,
    pub hot_reads: u64,
    pub hot_missed: u64,
    pub hot_alive: usize,
}

/// Writes hot keys once; from then on they are only read.
pub async fn hot_set(leader: &ShardGroup, count: usize) -> Vec<Bytes> {
    let keys: Vec<Bytes> = (0..count).map(|i| Bytes::from(format!("hot-{i}"))).collect();
    for some in keys.chunks(100) {
        let writes = some.iter().map(|k| set(k.clone(), vec![7; HOT_VALUE], Expiry::Never));
        leader.write(writes.collect(), within(30)).await.unwrap();
    }
    keys
}

/// How many of the keys are there.
pub async fn alive(leader: &ShardGroup, keys: &[Bytes]) -> usize {
    let found = read(leader, keys, Consistency::Linearizable).await.unwrap();
    found.iter().flatten().count()
}

/// Readers of the hot set.
pub struct Readers {
    cancel: CancellationToken,
    tasks: Vec<JoinHandle<Option<(u64, u64)>>>,
}

/// Four readers go round and round the keys.
pub fn read_hot(leader: ShardGroup, keys: Vec<Bytes>) -> Readers {
    let cancel = CancellationToken::new();
    let reader = |part: Vec<Bytes>| {
        let (leader, cancel) = (leader.clone(), cancel.clone());
        task::spawn("hot reader", async move {
            let (mut reads, mut missed) = (0, 0);
            while !cancel.is_cancelled() {
                for some in part.chunks(20) {
                    // A barrier under load may be late; the next round reads again.
                    if let Ok(found) = read(&leader, some, Consistency::Linearizable).await {
                        reads += found.len() as u64;
                        missed += found.iter().filter(|f| f.is_none()).count() as u64;
                    }
                }
            }
            (reads, missed)
        })
    };
    let tasks = keys.chunks(keys.len() / 4).map(|part| reader(part.to_vec())).collect();
    Readers { cancel, tasks }
}

impl Readers {
    pub async fn stop(self) -> (u64, u64) {
        self.cancel.cancel();
        let mut sum = (0, 0);
        for task in self.tasks {
            let (reads, missed) = task.await.unwrap().expect("a reader does not panic");
            sum = (sum.0 + reads, sum.1 + missed);
        }
        sum
    }
}

/// Bytes fed so far, to wait on.
#[derive(Clone)]
pub struct Progress(watch::Receiver<u64>);

impl Progress {
    pub async fn wait_for(&self, bytes: u64) {
        self.0.clone().wait_for(|fed| *fed >= bytes).await.unwrap();
    }
}

/// Writers that share one budget of bytes.
pub struct Feed {
    leader: ShardGroup,
    total: u64,
    fed: Arc<watch::Sender<u64>>,
    writes: Arc<AtomicU64>,
    again: Arc<AtomicU64>,
}

/// 100 B to 64 KiB, even in the logarithm; one in 400 is up to 1 MiB.
fn size(random: &mut Random) -> usize {
    if random.below(400) == 0 {
        return (64 * 1024 + random.below(960 * 1024)) as usize;
    }
    (100.0 * (655.36f64).powf(random.unit())) as usize
}

impl Feed {
    pub fn new(leader: ShardGroup, total: u64) -> Self {
        let fed = Arc::new(watch::channel(0).0);
        Feed { leader, total, fed, writes: Arc::default(), again: Arc::default() }
    }

    pub fn progress(&self) -> Progress {
        Progress(self.fed.subscribe())
    }

    pub async fn run(self) -> Fed {
        let feed = Arc::new(self);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| task::spawn("writer", Arc::clone(&feed).write(writer)))
            .collect();
        for writer in writers {
            writer.await.unwrap().expect("a writer does not panic");
        }
        Fed {
            bytes: *feed.fed.borrow(),
            writes: feed.writes.load(Ordering::Relaxed),
            again: feed.again.load(Ordering::Relaxed),
            ..Fed::default()
        }
    }

    async fn write(self: Arc<Self>, writer: u64) {
        let mut random = Random(writer);
        for i in 0u64.. {
            if *self.fed.borrow() >= self.total {
                return;
            }
            let bytes = size(&mut random);
            let key = Bytes::from(format!("key-{writer}-{}", i % 5_000));
            let write = set(key, vec![writer as u8; bytes], Expiry::Never);
            loop {
                match self.leader.write(vec![write.clone()], within(30)).await {
                    Ok(replies) => {
                        assert!(matches!(replies[..], [Reply::Set { .. }]), "{replies:?}");
                        break;
                    }
                    Err(error) if matches!(error.reason, Reason::ResourceExhausted { .. }) => {
                        self.again.fetch_add(1, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                    }
                    Err(error) => panic!("a steady leader takes every write: {error}"),
                }
            }
            self.writes.fetch_add(1, Ordering::Relaxed);
            self.fed.send_modify(|fed| *fed += bytes as u64);
        }
    }
}
