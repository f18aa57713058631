//! The read barrier of a group: one read index for every read that was queued before it began.
//!
//! A barrier takes all that wait, so this queue empties with each and cannot stand: a read waits for
//! at most one barrier that has begun and its own, however many others do. Refusing some would make
//! the rest no faster (`core::queue_delay`), so only their number is limited.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::Histogram;
use tokio::sync::{Notify, oneshot};

use super::delay::RETRY_AFTER;
use super::machine::StateMachine;
use super::replica::Replica;
use super::settings::RaftSettings;
use crate::types::clock::{Instant, now};
use crate::types::metrics::Metrics;
use crate::types::{Error, Reason};

struct Waiter {
    queued_at: Instant,
    answer: oneshot::Sender<Result<(), Error>>,
}

/// Queue of reads that wait for a barrier.
pub struct Barrier {
    /// Held for moments.
    waiting: Mutex<Vec<Waiter>>,
    queued: Notify,
    limit: usize,
    waited_seconds: Histogram,
    #[cfg(test)]
    pub(super) panic_next: std::sync::atomic::AtomicBool,
}

impl std::fmt::Debug for Barrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Barrier").field("waiting", &self.waiting.lock().len()).finish()
    }
}

impl Barrier {
    /// Nobody waits.
    pub fn new(settings: &RaftSettings, metrics: &Metrics) -> Self {
        let waited_seconds = metrics.queue_delay.with_label_values(&["shard_reads"]);
        Barrier {
            waiting: Mutex::default(),
            queued: Notify::new(),
            limit: settings.group_queue_max,
            waited_seconds,
            #[cfg(test)]
            panic_next: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// Waits for a barrier that begins after this call. At most `group_queue_max` reads wait.
    pub async fn pass(&self, deadline: Instant) -> Result<(), Error> {
        let (answer, rx) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock();
            if waiting.len() >= self.limit {
                let (what, limit) = ("reads queued at the shard", self.limit as u64);
                let reason = Reason::ResourceExhausted { what, limit };
                return Err(Error::from(reason).retry_after(RETRY_AFTER));
            }
            waiting.push(Waiter { queued_at: now(), answer });
        }
        self.queued.notify_one();
        match tokio::time::timeout_at(deadline, rx).await {
            Ok(Ok(result)) => result,
            Ok(Err(_dropped)) => Err(Reason::Stopping.into()),
            Err(_late) => Err(Reason::ReadFailed { detail: "deadline passed".to_owned() }.into()),
        }
    }

    /// Takes all that wait.
    fn take(&self) -> Vec<Waiter> {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        // The first has waited longest; one sample a barrier is enough.
        if let Some(first) = waiting.first() {
            self.waited_seconds.observe((now() - first.queued_at).as_secs_f64());
        }
        waiting
    }

    /// Serves the queue until dropped.
    pub async fn run<M: StateMachine>(self: Arc<Self>, replica: Replica<M>, metrics: Arc<Metrics>) {
        // Longer than openraft lets a read wait for its quorum (one lease).
        let patience = std::time::Duration::from_millis(replica.settings().election_ms_max * 2);
        // What was queued when an earlier run of this task panicked.
        self.queued.notify_one();
        loop {
            self.queued.notified().await;
            let waiting = self.take();
            if waiting.is_empty() {
                continue;
            }
            #[cfg(test)]
            if self.panic_next.swap(false, std::sync::atomic::Ordering::SeqCst) {
                panic!("injected");
            }
            metrics.barrier_reads.observe(waiting.len() as f64);
            let result = replica.barrier(now() + patience).await;
            for waiter in waiting {
                // A reader whose deadline passed is gone.
                let _ = waiter.answer.send(result.clone());
            }
        }
    }
}
