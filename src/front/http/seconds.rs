//! Lengths of time as seconds with fractions, in and out.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::front::{FrontLimits, validate};
use crate::types::{Error, Expiry};

/// What stands for a time to live that is kept as it is.
const KEEP: &str = "keep";

/// A number of seconds, `1.5`.
///
/// # Errors
/// If it is no decimal number, negative, or larger than any time.
pub(super) fn duration(field: &'static str, text: &str) -> Result<Duration, Error> {
    let bad = |problem: &str| validate::invalid(field, problem);
    // What Rust reads as a number beyond JSON's: "inf", "NaN", "+1".
    let plain = text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.');
    let seconds = plain.then(|| text.parse::<f64>().ok()).flatten();
    let seconds = seconds.ok_or_else(|| bad("is not a number of seconds"))?;
    if seconds < 0.0 {
        return Err(bad("is negative"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| bad("is too large"))
}

/// A time to live in seconds, or `keep`.
///
/// # Errors
/// As [`duration`]; or if it is zero or above the limit.
pub(super) fn expiry(limits: &FrontLimits, text: &str) -> Result<Expiry, Error> {
    if text == KEEP {
        return Ok(Expiry::Keep);
    }
    validate::ttl_ms(limits, duration("ttl", text)?).map(Expiry::AfterMs)
}

/// Milliseconds, written as seconds: 60, 1.5.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct OfMs(pub(super) u64);

impl Serialize for OfMs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 % 1_000 {
            0 => serializer.serialize_u64(self.0 / 1_000),
            _ => serializer.serialize_f64(self.0 as f64 / 1_000.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_read_and_written() {
        let ms = |text| duration("ttl", text).ok().map(validate::millis_up);
        assert_eq!(ms("60"), Some(60_000));
        assert_eq!(ms("1.1"), Some(1_100));
        assert_eq!(ms("0.3"), Some(300));
        assert_eq!(ms("1e-3"), Some(1));
        assert_eq!(ms("0.0001"), Some(1), "what is not zero stays so");
        for bad in ["", "-1", "inf", "NaN", "+1", " 1", "1s", "1e300", "0x1", "true"] {
            assert_eq!(ms(bad), None, "{bad}");
        }
        let text = |ms| serde_json::to_string(&OfMs(ms)).unwrap();
        assert_eq!(
            (text(60_000), text(1_500), text(1)),
            ("60".into(), "1.5".into(), "0.001".into())
        );
    }

    #[test]
    fn a_time_to_live_has_its_bounds() {
        let limits = FrontLimits::default();
        assert_eq!(expiry(&limits, "keep"), Ok(Expiry::Keep));
        assert_eq!(expiry(&limits, "2.5"), Ok(Expiry::AfterMs(2_500)));
        assert!(expiry(&limits, "0").is_err());
        assert!(expiry(&limits, &format!("{}", limits.ttl_ms_max / 1_000 + 1)).is_err());
    }
}
