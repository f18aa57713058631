//! F6: observe, drive actions, balance.

pub mod balance;
pub mod driver;
pub mod formation;
pub mod founders;
pub mod handle;
mod membership;
pub mod messages;

pub use driver::{Driver, HostError, ReplicaHost};
pub use founders::{Founders, FoundersFile, FoundersStore, MemoryFounders};
pub use handle::{Controller, ControllerHost, ControllerSettings, Standing};

#[cfg(test)]
mod cluster_tests;
