//! Watches whether the runtime makes progress, from a thread of its own.
//!
//! A task of the runtime beats; the thread counts its own looks at which no beat had come. So time in
//! which the whole process stood still (stopped, or its machine asleep) does not count. After
//! `stall` the thread says so in the log and the process counts as not alive; after `abort` it ends
//! the process, so that a supervisor can start it again: a runtime that stands still answers no health
//! check by which anybody else could find out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use super::task;

/// How often the task beats.
const BEAT: Duration = Duration::from_millis(100);
/// How often the thread looks.
const LOOK: Duration = Duration::from_millis(250);

/// What an operator may change.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Without a beat for so long the process counts as not alive.
    pub stall: Duration,
    /// And after so long it is ended; `None`: never.
    pub abort: Option<Duration>,
}

/// What the thread saw.
#[derive(Debug, Default)]
pub struct Watchdog {
    beats: AtomicU64,
    /// For how long the runtime has been standing still, milliseconds; 0 while that is not long.
    still_ms: AtomicU64,
}

/// The one of this process.
static PROCESS: OnceLock<Arc<Watchdog>> = OnceLock::new();

/// For how long the runtime of this process has been standing still, if that is too long.
pub fn standstill() -> Option<Duration> {
    PROCESS.get().and_then(|watchdog| watchdog.standstill())
}

/// Watches the runtime that this is called in, for the rest of the process.
///
/// # Errors
/// No thread can be started.
pub fn watch_process(options: Options) -> std::io::Result<()> {
    let watchdog = Watchdog::start(options, || std::process::abort())?;
    // A second runtime of the process would not be watched; there is none.
    let _first = PROCESS.set(watchdog).is_ok();
    Ok(())
}

impl Watchdog {
    /// Watches the runtime that this is called in until the last handle is dropped.
    fn start(options: Options, end: impl FnOnce() + Send + 'static) -> std::io::Result<Arc<Self>> {
        let watchdog = Arc::new(Watchdog::default());
        let beating = Arc::downgrade(&watchdog);
        task::spawn("watchdog beat", async move {
            while let Some(watchdog) = beating.upgrade() {
                watchdog.beats.fetch_add(1, Ordering::Relaxed);
                drop(watchdog);
                tokio::time::sleep(BEAT).await;
            }
        });
        let watched = Arc::downgrade(&watchdog);
        std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watch(&watched, options, end))?;
        Ok(watchdog)
    }

    fn standstill(&self) -> Option<Duration> {
        let still_ms = self.still_ms.load(Ordering::Relaxed);
        (still_ms > 0).then(|| Duration::from_millis(still_ms))
    }
}

fn watch(watched: &Weak<Watchdog>, options: Options, end: impl FnOnce()) {
    let (mut seen, mut still) = (0, Duration::ZERO);
    loop {
        std::thread::sleep(LOOK);
        let Some(watchdog) = watched.upgrade() else { return };
        let beats = watchdog.beats.load(Ordering::Relaxed);
        let before = still;
        still = if beats == seen { still + LOOK } else { Duration::ZERO };
        seen = beats;
        let stalled = still >= options.stall;
        let still_ms = if stalled { still.as_millis() } else { 0 };
        watchdog.still_ms.store(u64::try_from(still_ms).unwrap_or(u64::MAX), Ordering::Relaxed);
        if stalled && before < options.stall {
            tracing::error!(?still, "the runtime stands still: no task runs, nothing is answered");
        } else if before >= options.stall && still.is_zero() {
            tracing::warn!(stood_still = ?before, "the runtime goes on");
        }
        if options.abort.is_some_and(|limit| still >= limit) {
            tracing::error!(?still, "the process is ended, so that it can be started again");
            return end();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::types::clock::now;

    #[test]
    fn a_runtime_that_stands_still_is_told_and_ended_and_one_that_is_busy_is_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (ended_tx, ended) = mpsc::channel();
        let stall = 2 * LOOK;
        let options = Options { stall, abort: Some(20 * LOOK) };
        let watchdog = runtime.block_on(async {
            let end = move || ended_tx.send(()).unwrap();
            let watchdog = Watchdog::start(options, end).unwrap();
            // Work in short pieces, for several times as long as it takes to be told.
            let until = now() + 4 * stall;
            while now() < until {
                tokio::task::yield_now().await;
            }
            watchdog
        });
        assert_eq!(watchdog.standstill(), None);
        assert!(ended.try_recv().is_err(), "it worked all the time");
        // Nobody drives the runtime any more.
        let (began, patience) = (now(), Duration::from_secs(30));
        while watchdog.standstill().is_none() {
            assert!(now() < began + patience, "it is not told");
            std::thread::yield_now();
        }
        assert!(now() - began >= stall - LOOK, "not before its time");
        // It goes on, and that is seen.
        runtime.block_on(async {
            let until = now() + patience;
            while watchdog.standstill().is_some() {
                assert!(now() < until, "it is not told that it goes on");
                tokio::task::yield_now().await;
            }
        });
        ended.recv_timeout(patience).expect("it is ended after a long standstill");
        assert!(watchdog.standstill() >= Some(20 * LOOK));
    }
}
