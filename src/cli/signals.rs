//! SIGTERM and SIGINT stop the process gracefully; a second one stops it at once.

use std::time::Duration;

use anyhow::Context;
use raftcache::config::Runtime;
use raftcache::types::watchdog;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a process that did not wait for its graceful stop.
const IMPATIENT: i32 = 130;

/// Runs `work` on a runtime of its own, which a watchdog watches, with a token that a signal cancels.
pub fn run_until_signal<F>(
    settings: &Runtime,
    work: impl FnOnce(CancellationToken) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if settings.worker_threads > 0 {
        builder.worker_threads(settings.worker_threads);
    }
    let runtime = builder.enable_all().build().context("cannot start the runtime")?;
    let abort_ms = settings.watchdog_abort_ms;
    let options = watchdog::Options {
        stall: Duration::from_millis(settings.watchdog_stall_ms),
        abort: (abort_ms > 0).then(|| Duration::from_millis(abort_ms)),
    };
    runtime.block_on(async {
        watchdog::watch_process(options).context("cannot start the watchdog")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        let cancel = CancellationToken::new();
        let watched = cancel.clone();
        raftcache::types::task::spawn("signals", async move {
            for again in [false, true] {
                let name = tokio::select! {
                    biased;
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if again {
                    tracing::warn!(signal = name, "stopping at once");
                    std::process::exit(IMPATIENT);
                }
                tracing::info!(signal = name, "stopping; once more to stop at once");
                watched.cancel();
            }
        });
        work(cancel).await
    })
}
