//! What takes long to drop is dropped where nobody waits.

use std::sync::Arc;

use crate::storage::snapshot_files::SnapshotFiles;
use crate::types::task;

/// Drops it on a thread that may block.
pub(super) fn drop_elsewhere(files: &Arc<SnapshotFiles>, garbage: Option<Box<dyn Send>>) {
    let Some(garbage) = garbage else { return };
    let files = Arc::clone(files);
    task::spawn("drop garbage", async move { files.offload(move || drop(garbage)).await });
}
