//! The limit of open files: every connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// Files a node opens beside connections: logs, snapshots, peers, its listening sockets.
const OWN_FILES: u64 = 512;

/// Raises the process's limit of open files to what the system allows, and says so. Nodes whose
/// `limits.connections_max` it still does not cover are told: they would run out of descriptors
/// first, and newcomers would wait instead of being refused.
pub fn raise(configs: &[Config]) {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    if before.current != before.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    let now = getrlimit(Resource::Nofile).current;
    tracing::info!(before = before.current, now, "limit of open files");
    let wanted = wanted(configs);
    if now.is_some_and(|now| now < wanted) {
        tracing::warn!(
            now,
            wanted,
            "limits.connections_max of the gRPC door is more than the limit of open files allows"
        );
    }
}

/// Most clients come through the gRPC door; the HTTP door has few.
fn wanted(configs: &[Config]) -> u64 {
    let one = |config: &Config| config.limits.connections_max as u64 + OWN_FILES;
    configs.iter().map(one).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn afterwards_the_limit_is_the_highest_allowed() {
        raise(&[Config::default()]);
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert_eq!(wanted(&[Config::default(), Config::default()]), 2 * (10_000 + OWN_FILES));
    }
}
