//! The one spawn helper: a panic in a task is logged and counted, never silent.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinHandle;

static PANICS: AtomicU64 = AtomicU64::new(0);
static HOOKED: AtomicBool = AtomicBool::new(false);

/// Pause before a task that panicked is started again: a fault that comes back at once must not
/// take a processor.
const AFTER_PANIC: Duration = Duration::from_millis(100);

/// Panics caught in tasks of this process so far.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// From now on every panic of the process is counted and logged where it happens, also those in
/// tasks that others spawn (the HTTP server's, openraft's).
pub fn hook_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            let at = info.location().map(ToString::to_string).unwrap_or_default();
            let message = message(info.payload());
            let backtrace = std::backtrace::Backtrace::capture();
            tracing::error!(at, message, %backtrace, "panicked");
        }));
        HOOKED.store(true, Ordering::Relaxed);
    });
}

fn message(payload: &(dyn std::any::Any + Send)) -> &str {
    let owned = || payload.downcast_ref::<String>().map(String::as_str);
    payload.downcast_ref::<&str>().copied().or_else(owned).unwrap_or("no message")
}

/// Waits until a task that panicked may go on.
pub async fn after_panic() {
    tokio::time::sleep(AFTER_PANIC).await;
}

/// Runs what `make` makes, and again after each panic, until it ends by itself.
pub async fn restarted<F: Future<Output = ()>>(name: &'static str, mut make: impl FnMut() -> F) {
    while guarded(name, make()).await.is_none() {
        after_panic().await;
    }
}

/// Wraps a task's future: a panic is logged and counted, and yields `None`.
pub async fn guarded<F: Future>(name: &'static str, future: F) -> Option<F::Output> {
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(output) => Some(output),
        Err(panic) => {
            // The hook, where there is one, has counted it.
            if !HOOKED.load(Ordering::Relaxed) {
                PANICS.fetch_add(1, Ordering::Relaxed);
            }
            let message = message(panic.as_ref());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_counted_and_runs_again() {
        let before = panics();
        let mut runs = 0;
        restarted("restarted in a test", || {
            runs += 1;
            let run = runs;
            async move { assert!(run == 3, "injected") }
        })
        .await;
        assert_eq!(runs, 3);
        // Other tests of this process may panic meanwhile.
        assert!(panics() >= before + 2);
    }
}
