//! Log time: a majority clock that counts elapsed time.
//!
//! Log time `L` counts elapsed time since the group began and only grows. Each replica keeps its own
//! estimate of it in memory (`Estimate`). The leader takes the estimate that a majority of the
//! voters has reached (`Majority`), sends it with each append, and stamps entries with it. So no
//! minority of clocks, whatever they show, can move log time.
//!
//! Wall time is `L + off`. `off` is replicated, or unknown. It follows what a majority of the nodes'
//! wall clocks agree on ([`PeerClocks`], `Discipline`); log time itself never leaps to a wall clock
//! while a majority of the replicas counted on.
//!
//! Nothing here reads a clock. Times are microseconds of the node's boot clock, of log time, or of the
//! wall; whole milliseconds would lose a slew of 1/1000 between two appends. What was decided, what
//! stays impossible, and the figures of the simulation are in `docs/adr/0015-log-time.md`.

mod discipline;
mod estimate;
mod group_clock;
mod majority;
mod pace;
mod peer_clocks;
mod report;
#[cfg(test)]
mod tests;
mod wall;

pub use group_clock::{GroupClock, Leading, NewOff, Reading};
pub use majority::Opening;
pub use pace::{Pace, RoundTrips};
pub use peer_clocks::{Own, PeerClocks, Pong};
pub use report::Deviation;

/// Microseconds of a millisecond.
pub const MS: u64 = 1_000;
/// Microseconds of a second.
pub const SECOND: u64 = 1_000 * MS;

/// Wall clocks within this of one another agree. `D` of the rules.
pub const AGREE_US: u64 = 500 * MS;
/// How far the rate of a sound clock may be from that of time, parts of a million.
pub const DRIFT_PPM: u64 = 1_000;
/// How much faster or slower an estimate runs towards the cluster's wall, parts of a million.
pub const SLEW_PPM: u64 = 1_000;
/// How far the leader's own clock goes on beyond what a majority answered last. `X` of the rules.
pub const AHEAD_US_MIN: u64 = 250 * MS;
/// How far an estimate may be ahead of the majority's, between two nodes close to one another.
pub const BAND_US_MIN: u64 = 250 * MS;
/// The same between nodes far from one another.
pub const BAND_US_MAX: u64 = SECOND;
/// A new leader waits so long for more answers where those it has differ, or are not enough to know
/// how much time passed.
pub const WAIT_US: u64 = SECOND;

const _: () = assert!(BAND_US_MIN <= BAND_US_MAX && AHEAD_US_MIN <= AGREE_US);

/// Voters that are a majority.
pub(crate) fn majority_of(voters: usize) -> usize {
    voters / 2 + 1
}

/// `parts` of a million of `us`.
fn parts(us: u64, parts_per_million: u64) -> u64 {
    let product = u128::from(us) * u128::from(parts_per_million) / 1_000_000;
    u64::try_from(product).unwrap_or(u64::MAX)
}
