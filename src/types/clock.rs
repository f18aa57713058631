//! The only module that may ask the machine for the time (`clippy.toml` bans it elsewhere).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

pub use tokio::time::Instant;

/// Wall clock of a node. Simulated nodes each have their own, with offset and jumps.
pub trait Clock: Send + Sync + std::fmt::Debug + 'static {
    /// Milliseconds since the Unix epoch; may jump.
    fn wall_ms(&self) -> u64;
}

/// Shared handle.
pub type SharedClock = Arc<dyn Clock>;

/// Monotonic time; virtual under tokio's paused clock.
pub fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    Instant::now()
}

/// The operating system's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall_ms(&self) -> u64 {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
        let now = std::time::SystemTime::now();
        // A clock before 1970 reads as 0; log time is monotonic anyway.
        now.duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A clock that follows tokio's (virtual) time plus an offset that tests move.
#[derive(Debug)]
pub struct SimClock {
    epoch: Instant,
    base_ms: u64,
    offset_ms: AtomicI64,
}

impl SimClock {
    /// A clock that shows `base_ms` now.
    pub fn new(base_ms: u64) -> Arc<Self> {
        Arc::new(SimClock { epoch: now(), base_ms, offset_ms: AtomicI64::new(0) })
    }

    /// Makes the clock jump by `delta_ms`.
    pub fn jump(&self, delta_ms: i64) {
        self.offset_ms.fetch_add(delta_ms, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn wall_ms(&self) -> u64 {
        let elapsed =
            u64::try_from(now().duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX);
        self.base_ms
            .saturating_add(elapsed)
            .saturating_add_signed(self.offset_ms.load(Ordering::SeqCst))
    }
}
