//! F8: what an operator may set. Defaults < TOML file < environment < flags.
//!
//! Read `sections.rs` for the keys, `source.rs` for where values come from, `validate.rs` for what
//! must hold, `print.rs` for `--print-config`, and `dev.rs` for the nodes of `raftcache dev`.
//! `docs/configuration.md` lists every key; `tests/docs.rs` holds it to the defaults.

mod bounds;
pub mod dev;
mod print;
mod sections;
mod source;
#[cfg(test)]
mod tests;
mod validate;

pub use bounds::{Limits, Peer};
pub use sections::{
    Addresses, Cluster, Config, Durability, Listen, Log, LogFormat, Node, Raft, Redirect, Resp,
    Runtime, Shutdown, Wal, WalEngine,
};
pub use source::{Loaded, Override, Sources, environment, load};
pub use validate::Problem;

/// Why no configuration could be made. Nothing has been started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("configuration file {path}: {error}")]
    File {
        /// The file asked for.
        path: String,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// A key nobody knows, a value of the wrong type, or a file that is not TOML.
    #[error("configuration cannot be read:\n{}", bullets(.0))]
    Malformed(Vec<String>),
    /// Every value can be read, but not all may hold together.
    #[error("configuration is not valid:\n{}", bullets(.0))]
    Invalid(Vec<Problem>),
}

fn bullets<T: std::fmt::Display>(lines: &[T]) -> String {
    lines.iter().map(|line| format!("  - {line}")).collect::<Vec<_>>().join("\n")
}
