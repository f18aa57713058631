//! `TTL`, `PTTL`, `EXPIRETIME`, `PEXPIRETIME`: when a key ends.

use bytes::Bytes;

use super::parse::key;
use super::{show, steps};
use crate::codec::resp::value::RespValue;
use crate::front::resp::plan::{Context, Plan};
use crate::front::resp::table;
use crate::types::Meta;

/// -2 without the key, -1 without a deadline; seconds are rounded to the nearest, as in Redis.
pub fn ttl(
    command: &'static table::Command,
    args: &[Bytes],
    context: &Context<'_>,
) -> Result<Plan, RespValue> {
    let show: fn(&Meta) -> Option<u64> = match command.name {
        "ttl" => |meta| meta.ttl_ms.map(seconds),
        "pttl" => |meta| meta.ttl_ms,
        "expiretime" => |meta| meta.deadline_ms.map(seconds),
        _ => |meta| meta.deadline_ms,
    };
    Ok(Plan::one(steps::inspect(key(&args[1], context)?), move |result| {
        show::meta(result, |meta| match meta.map(show) {
            None => RespValue::Integer(-2),
            Some(None) => RespValue::Integer(-1),
            Some(Some(time)) => show::integer(time),
        })
    }))
}

fn seconds(ms: u64) -> u64 {
    ms.saturating_add(500) / 1_000
}

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;
    use crate::types::{Answer, ValueKind, Version};

    #[test]
    fn times_are_shown_as_redis_does() {
        let (version, kind) = (Version(1), ValueKind::Bytes);
        let never = Meta { version, value_bytes: 1, kind, ttl_ms: None, deadline_ms: None };
        let ends = Meta { ttl_ms: Some(1_499), deadline_ms: Some(2_500), ..never };
        let expected = [("ttl", 1), ("pttl", 1_499), ("expiretime", 3), ("pexpiretime", 2_500)];
        for (name, time) in expected {
            let of = |meta| read(&[name, "k"], Answer::Meta(meta));
            assert_eq!(of(None), RespValue::Integer(-2));
            assert_eq!(of(Some(never)), RespValue::Integer(-1));
            assert_eq!(of(Some(ends)), RespValue::Integer(time), "{name}");
        }
    }
}
