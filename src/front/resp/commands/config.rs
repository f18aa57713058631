//! `CONFIG`: the settings of Redis that clients and tools ask for. The real ones are in the node's own
//! configuration.

use bytes::Bytes;

use crate::codec::resp::value::RespValue;
use crate::core::glob;
use crate::front::resp::fault::fault;
use crate::front::resp::serve::Resp;
use crate::front::resp::table::{Command, shown};
use crate::front::validate;
use crate::service::Execute;
use crate::types::limits::CONFIG_PATTERNS_MAX;

pub(super) fn run<S: Execute>(resp: &Resp<S>, command: &Command, args: &[Bytes]) -> RespValue {
    let words = args.get(2..).unwrap_or_default();
    match command.name {
        "config|get" => get(resp, words),
        "config|set" => set(resp, words),
        "config|resetstat" => RespValue::OK,
        name => RespValue::error(format!("ERR '{name}' is not served here")),
    }
}

/// What Redis would say, where this cache has something like it.
fn settings<S: Execute>(resp: &Resp<S>) -> Vec<(&'static str, String)> {
    let limits = &resp.door.limits;
    let durability = resp.door.service.status().durability;
    let (appendonly, appendfsync) = match durability.as_str() {
        "wal" => ("yes", "always"),
        "wal-async" => ("yes", "everysec"),
        _ => ("no", "no"),
    };
    vec![
        ("appendfsync", appendfsync.to_owned()),
        ("appendonly", appendonly.to_owned()),
        ("cluster-enabled", "yes".to_owned()),
        ("databases", "1".to_owned()),
        ("maxclients", limits.connections_max.to_string()),
        ("maxmemory-policy", "allkeys-lru".to_owned()),
        ("port", resp.port.to_string()),
        ("proto-max-bulk-len", limits.resp.bulk_bytes_max.to_string()),
        ("save", String::new()),
        ("timeout", (limits.idle_timeout_ms / 1_000).to_string()),
    ]
}

fn get<S: Execute>(resp: &Resp<S>, patterns: &[Bytes]) -> RespValue {
    let count = patterns.len();
    if count > CONFIG_PATTERNS_MAX {
        let problem = format!("are {count}; at most {CONFIG_PATTERNS_MAX} are allowed");
        return fault(&validate::invalid("patterns", problem));
    }
    if let Err(error) = patterns.iter().try_for_each(validate::pattern) {
        return fault(&error);
    }
    let asked = |name: &str| {
        patterns
            .iter()
            .any(|pattern| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes()).0)
    };
    let found = settings(resp).into_iter().filter(|(name, _)| asked(name));
    RespValue::Map(
        found.map(|(name, value)| (RespValue::text(name), RespValue::text(value))).collect(),
    )
}

fn set<S: Execute>(resp: &Resp<S>, words: &[Bytes]) -> RespValue {
    let name = words.first().map(|word| shown(word)).unwrap_or_default();
    let known = settings(resp).iter().any(|(known, _)| known.eq_ignore_ascii_case(&name));
    if !known || !words.len().is_multiple_of(2) {
        return RespValue::error(format!(
            "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
        ));
    }
    RespValue::error(format!(
        "ERR CONFIG SET failed (possibly related to argument '{name}') - can't set immutable config"
    ))
}
