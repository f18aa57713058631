//! The read barrier of a group: one read index for every read that was queued before it began.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::machine::StateMachine;
use super::replica::Replica;
use crate::types::clock::{Instant, now};
use crate::types::metrics::Metrics;
use crate::types::{Error, Reason};

type Waiter = oneshot::Sender<Result<(), Error>>;

/// Queue of reads that wait for a barrier.
#[derive(Debug, Default)]
pub struct Barrier {
    /// Held for moments.
    waiting: Mutex<Vec<Waiter>>,
    queued: Notify,
}

impl Barrier {
    /// Waits for a barrier that begins after this call. At most `limit` reads wait.
    pub async fn pass(&self, deadline: Instant, limit: usize) -> Result<(), Error> {
        let (tx, rx) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock();
            if waiting.len() >= limit {
                let limit = limit as u64;
                return Err(
                    Reason::ResourceExhausted { what: "reads queued at the shard", limit }.into()
                );
            }
            waiting.push(tx);
        }
        self.queued.notify_one();
        match tokio::time::timeout_at(deadline, rx).await {
            Ok(Ok(result)) => result,
            Ok(Err(_dropped)) => Err(Reason::Stopping.into()),
            Err(_late) => Err(Reason::ReadFailed { detail: "deadline passed".to_owned() }.into()),
        }
    }

    /// Serves the queue until dropped.
    pub async fn run<M: StateMachine>(self: Arc<Self>, replica: Replica<M>, metrics: Arc<Metrics>) {
        // Longer than openraft lets a read wait for its quorum (one lease).
        let patience = std::time::Duration::from_millis(replica.settings().election_ms_max * 2);
        loop {
            self.queued.notified().await;
            let waiting = std::mem::take(&mut *self.waiting.lock());
            if waiting.is_empty() {
                continue;
            }
            metrics.barrier_reads.observe(waiting.len() as f64);
            let result = replica.barrier(now() + patience).await;
            for waiter in waiting {
                // A reader whose deadline passed is gone.
                let _ = waiter.send(result.clone());
            }
        }
    }
}
