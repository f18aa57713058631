//! F8: what the process says, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{Log, LogFormat};
use crate::types::task::hook_panics;

/// Why nothing would be said.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a filter.
    #[error("log.filter: {0}")]
    Filter(#[from] ParseError),
    /// Something else has already set up logging in this process.
    #[error("logging is already set up: {0}")]
    AlreadySet(String),
}

/// True if lines are to be JSON.
fn json(format: LogFormat, on_terminal: bool) -> bool {
    match format {
        LogFormat::Auto => !on_terminal,
        LogFormat::Human => false,
        LogFormat::Json => true,
    }
}

/// Sets up logging for the process, of panics as well. To be called once, by `main`.
pub fn init(log: &Log) -> Result<(), Error> {
    hook_panics();
    let on_terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().parse(&log.filter)?)
        .with_writer(std::io::stderr)
        .with_ansi(on_terminal);
    let set = if json(log.format, on_terminal) {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.try_init()
    };
    set.map_err(|error| Error::AlreadySet(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_means_human_on_a_terminal_only() {
        assert!(!json(LogFormat::Auto, true));
        assert!(json(LogFormat::Auto, false));
        assert!(!json(LogFormat::Human, false));
        assert!(json(LogFormat::Json, true));
    }
}
