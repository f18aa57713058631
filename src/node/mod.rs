//! F8: the only place that wires.
//!
//! `core` puts a node together from what it stands on (`environment`): a transport, disks, a clock.
//! `serve` gives it the real ones and opens the doors; simulations give it theirs.

pub mod core;
pub mod dev;
pub mod environment;
mod handler;
mod host;
mod host_lost;
mod host_roles;
mod host_status;
mod leftovers;
pub mod open_files;
mod quorum_guard;
pub mod serve;
mod settings;
mod storage_guard;
pub mod store_list;

pub use self::core::{Node, NodeSettings, StopTimes};
pub use environment::Environment;
