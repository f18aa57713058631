//! What log time was before: the wall of the leader at its election, or the log time it finds if that
//! is later; then the leader's own time, half as fast or half again as fast where its wall has gone.
//! The simulation shows what that does.

use crate::core::log_time::MS;

#[derive(Debug, Default)]
pub struct Present {
    /// Term, the boot clock, and what was shown then, microseconds.
    running: Option<(u64, u64, u64)>,
}

impl Present {
    pub fn now_ms(&mut self, term: u64, boot_us: u64, wall_us: u64, log_time_ms: u64) -> u64 {
        let shown_us = match self.running {
            Some((led, at_us, shown_us)) if led == term => {
                let elapsed_us = boot_us.saturating_sub(at_us);
                let slowest_us = shown_us + elapsed_us / 2;
                wall_us.clamp(slowest_us, shown_us + elapsed_us + elapsed_us / 2)
            }
            _ => wall_us,
        };
        let shown_us = shown_us.max(log_time_ms * MS);
        self.running = Some((term, boot_us, shown_us));
        shown_us / MS
    }
}
