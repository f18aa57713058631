//! Takes replicas out of service whose log is shorter than what they acknowledged: stops them, and
//! notes it in the data directory, so that they stay out after a restart as well.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::host::Host;
use crate::controller::HostError;
use crate::types::{GroupId, LogKey};

/// Between two attempts to stop a replica and to note it.
const RETRY: Duration = Duration::from_millis(500);

/// Acts on what the replicas found out. Runs until cancelled.
pub(super) async fn run(host: Arc<Host>, cancel: CancellationToken) {
    let mut list = host.shortened.subscribe();
    let mut done = BTreeSet::new();
    loop {
        let own: Vec<LogKey> = {
            let list = list.borrow_and_update();
            host.metrics.replicas_shortened.set(i64::try_from(list.len()).unwrap_or(i64::MAX));
            let own = list.iter().filter(|(_, replica)| replica.node == host.node);
            own.map(|(key, _)| *key).filter(|key| !done.contains(key)).collect()
        };
        for key in own {
            let out = async {
                while let Err(error) = host.take_out(key).await {
                    tracing::warn!(replica = %key, %error, "not taken out of service: tried again");
                    sleep(RETRY).await;
                }
            };
            if cancel.run_until_cancelled(out).await.is_none() {
                return;
            }
            done.insert(key);
        }
        match cancel.run_until_cancelled(list.changed()).await {
            Some(Ok(())) => {}
            // Cancelled; the list lives as long as the host.
            Some(Err(_)) | None => return,
        }
    }
}

impl Host {
    /// Stops a replica of this node and notes it. The controller's is stopped by who runs it
    /// (`ControlHost::over`).
    async fn take_out(&self, key: LogKey) -> Result<(), HostError> {
        if key.group != GroupId::CONTROLLER {
            self.stop(key).await?;
        }
        let noted = Arc::clone(&self.noted);
        let note = self.shard_files.offload(move || noted.lock().insert(key)).await;
        note.map_err(|error| HostError::Failed(super::host::disk_failed(&error)))
    }

    /// True if this replica must not run any more.
    pub(super) fn is_shortened(&self, key: LogKey) -> bool {
        self.shortened.subscribe().borrow().contains_key(&key)
    }

    /// Ends when the controller's replica of this node is found to be one of them.
    pub(super) async fn controller_shortened(&self) {
        let mut list = self.shortened.subscribe();
        let own = |key: &LogKey, node| key.group == GroupId::CONTROLLER && node == self.node;
        // Cannot fail: the host keeps the list.
        let _listed = list.wait_for(|list| list.iter().any(|(key, at)| own(key, at.node))).await;
    }
}
