//! One heartbeat timer a node: all groups led here beat at the same moment, so that the heartbeats
//! of all groups to one peer leave in one message (the transport sends what is queued together).
//! Each is still answered by its own group.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::types::task;

/// Something that beats while it leads.
pub trait Beat: Send + Sync {
    /// True while it leads.
    fn leads(&self) -> bool;
    /// Sends a heartbeat to every follower; must not wait for answers.
    fn beat(&self) -> futures_util::future::BoxFuture<'_, ()>;
}

/// The node's heartbeat timer.
#[derive(Clone, Default)]
pub struct Heartbeats {
    /// Held for moments. Replicas that are gone are dropped at the next beat.
    groups: Arc<Mutex<Vec<Weak<dyn Beat>>>>,
}

impl std::fmt::Debug for Heartbeats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Heartbeats").field("groups", &self.groups.lock().len()).finish()
    }
}

impl Heartbeats {
    /// Starts the timer; it ends with `cancel`.
    pub fn start(interval: Duration, cancel: CancellationToken) -> Self {
        let beats = Heartbeats::default();
        let this = beats.clone();
        // Beats that meet are fine late, never in a burst.
        task::spawn("heartbeats", async move {
            let beat = || this.run(interval, &cancel);
            task::restarted("heartbeats", beat).await;
        });
        beats
    }

    async fn run(&self, interval: Duration, cancel: &CancellationToken) {
        let mut timer = tokio::time::interval(interval);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                _ = timer.tick() => self.beat_all().await,
            }
        }
    }

    /// Adds a group; it leaves by being dropped.
    pub fn join(&self, group: Weak<dyn Beat>) {
        self.groups.lock().push(group);
    }

    async fn beat_all(&self) {
        let leaders: Vec<Arc<dyn Beat>> = {
            let mut groups = self.groups.lock();
            groups.retain(|group| group.strong_count() > 0);
            groups.iter().filter_map(Weak::upgrade).filter(|group| group.leads()).collect()
        };
        for group in leaders {
            group.beat().await;
        }
    }
}
