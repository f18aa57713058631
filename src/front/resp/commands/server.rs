//! `TIME`, `WAIT`, `DEBUG`.

use std::time::Duration;

use bytes::Bytes;

use super::{integer, is};
use crate::codec::resp::value::RespValue;
use crate::front::resp::dispatch::Turn;
use crate::front::resp::serve::Resp;
use crate::service::Execute;

/// Longest `DEBUG SLEEP`, seconds.
const SLEEP_S_MAX: f64 = 60.0;

/// Seconds and microseconds since the Unix epoch, by the wall clock of this node.
pub(super) fn time<S>(resp: &Resp<S>) -> RespValue {
    let now_ms = resp.clock.wall_ms();
    RespValue::Array(vec![
        RespValue::text((now_ms / 1_000).to_string()),
        RespValue::text((now_ms % 1_000 * 1_000).to_string()),
    ])
}

/// `WAIT`: on how many other replicas everything that was acknowledged surely is. A write is
/// acknowledged once a majority has it, so nothing is left to wait for.
pub(super) fn wait<S: Execute>(resp: &Resp<S>, args: &[Bytes]) -> RespValue {
    for word in args.get(1..3).unwrap_or_default() {
        if let Err(error) = integer(word) {
            return error;
        }
    }
    if args.get(2).is_some_and(|timeout| timeout.starts_with(b"-")) {
        return RespValue::error("ERR timeout is negative");
    }
    let table = resp.door.table();
    let replicas = table.shards.values().map(|placement| placement.replicas.len()).min();
    RespValue::Integer(i64::try_from(replicas.unwrap_or(0) / 2).unwrap_or(i64::MAX))
}

/// `DEBUG SLEEP`, where the configuration allows it: holds up this connection alone.
pub(super) fn debug<S>(resp: &Resp<S>, args: &[Bytes]) -> Turn {
    if !resp.options.debug {
        return Turn::error(
            "ERR DEBUG command not allowed: it is for tests, which set resp.debug_commands",
        );
    }
    let seconds = args.get(2).and_then(|word| std::str::from_utf8(word).ok()?.parse::<f64>().ok());
    match (args.get(1), seconds) {
        (Some(word), Some(seconds))
            if is(word, "sleep") && (0.0..=SLEEP_S_MAX).contains(&seconds) =>
        {
            Turn::Sleep(Duration::from_secs_f64(seconds))
        }
        _ => Turn::error(format!("ERR only DEBUG SLEEP 0 to {SLEEP_S_MAX} is served")),
    }
}
