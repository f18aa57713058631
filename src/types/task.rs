//! The one spawn helper: a panic in a task is logged and counted, never silent.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use tokio::task::JoinHandle;

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Panics caught in tasks of this process so far.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Wraps a task's future: a panic is logged and counted, and yields `None`.
pub async fn guarded<F: Future>(name: &'static str, future: F) -> Option<F::Output> {
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(output) => Some(output),
        Err(panic) => {
            PANICS.fetch_add(1, Ordering::Relaxed);
            let message = panic
                .downcast_ref::<&str>()
                .map(|s| (*s).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "no message".to_owned());
            tracing::error!(task = name, message, "task panicked");
            None
        }
    }
}

/// Spawns `future` on the current runtime. The handle yields `None` if it panicked.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<Option<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    tokio::spawn(guarded(name, future))
}
