//! F6: observe, drive actions, balance.

mod alarms;
mod answer;
pub mod balance;
pub mod driver;
mod follow;
pub mod formation;
pub mod founders;
pub mod handle;
mod membership;
pub mod messages;
mod standing;
mod waiting;

pub use driver::{Driver, HostError, ReplicaHost};
pub use founders::{Founders, FoundersFile, FoundersStore, MemoryFounders};
pub use handle::{Controller, ControllerHost, ControllerSettings, Standing};

#[cfg(test)]
mod cluster_tests;
