//! Decimal numbers of `IncrementFloat`: exact addition, then one rounding to 17 decimals.
//!
//! Redis adds in `long double` and prints 17 decimals without trailing zeros. What that gives
//! depends on the machine: 80 bits on x86, 128 or 64 elsewhere. Replicas must agree (INV-3), so here
//! the sum is computed digit by digit. It differs from Redis on x86 only where its 64 bits of
//! mantissa are too few: 0.1 + 0.2 is 0.3 in both, 1e30 + 1 is 1000000000000000000000000000001 here
//! and 1000000000000000019884624838656 there. Numbers of more than 309 digits before the point, and
//! those in hexadecimal, are not taken.

/// Decimals a sum is rounded to.
const DECIMALS: usize = 17;
/// Most digits before the point.
const WHOLE_DIGITS_MAX: i64 = 309;
/// Most zeros between the point and the first digit.
const LEADING_ZEROS_MAX: i64 = 400;

/// A number as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Number {
    Finite(Decimal),
    Infinite,
}

/// `digits * 10^exponent`, the digits without leading zeros; none for zero.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    exponent: i64,
}

impl Number {
    /// Reads `[+-]digits[.digits][e[+-]digits]`, or an infinity by its C names.
    pub(super) fn parse(text: &[u8]) -> Option<Number> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
            return Some(Number::Infinite);
        }
        let (mantissa, exponent) = match rest.iter().position(|b| matches!(b, b'e' | b'E')) {
            Some(at) => (&rest[..at], parse_exponent(&rest[at + 1..])?),
            None => (rest, 0),
        };
        let (whole, fraction) = match mantissa.iter().position(|b| *b == b'.') {
            Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
            None => (mantissa, &[][..]),
        };
        let mut digits: Vec<u8> =
            whole.iter().chain(fraction).map(|b| b.wrapping_sub(b'0')).collect();
        if digits.is_empty() || digits.iter().any(|digit| *digit > 9) {
            return None;
        }
        let leading = digits.iter().take_while(|digit| **digit == 0).count();
        digits.drain(..leading);
        let exponent = exponent - fraction.len() as i64;
        let before_point = digits.len() as i64 + exponent;
        let in_range = (-LEADING_ZEROS_MAX..=WHOLE_DIGITS_MAX).contains(&before_point);
        (digits.is_empty() || in_range).then_some(Number::Finite(Decimal {
            negative,
            digits,
            exponent,
        }))
    }
}

fn parse_exponent(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    // What does not fit is out of range anyway; that of zero does not matter.
    let exponent: i64 =
        if plain { std::str::from_utf8(text).ok()?.parse().ok()? } else { return None };
    (exponent.abs() < 1 << 40).then_some(exponent)
}

impl Decimal {
    /// The sum as text, rounded half to even; `None` if it has too many digits.
    pub(super) fn sum(&self, other: &Decimal) -> Option<String> {
        let exponent = match (self.digits.is_empty(), other.digits.is_empty()) {
            (true, true) => 0,
            (true, false) => other.exponent,
            (false, true) => self.exponent,
            (false, false) => self.exponent.min(other.exponent),
        };
        let (a, b) = (self.aligned(exponent), other.aligned(exponent));
        let (negative, digits) = if self.negative == other.negative {
            (self.negative, add(&a, &b))
        } else if less(&a, &b) {
            (other.negative, subtract(&b, &a))
        } else {
            (self.negative, subtract(&a, &b))
        };
        text_of(negative, digits, exponent)
    }

    /// Digits from the lowest up, the lowest standing for `10^exponent`.
    fn aligned(&self, exponent: i64) -> Vec<u8> {
        if self.digits.is_empty() {
            return Vec::new();
        }
        let zeros =
            usize::try_from(self.exponent - exponent).expect("the smaller exponent is taken");
        let mut digits = vec![0; zeros];
        digits.extend(self.digits.iter().rev());
        digits
    }
}

/// All numbers below are digits from the lowest up.
fn add(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut carry = 0;
    let mut sum: Vec<u8> = (0..a.len().max(b.len()))
        .map(|i| {
            let digit = digit(a, i) + digit(b, i) + carry;
            carry = digit / 10;
            digit % 10
        })
        .collect();
    sum.push(carry);
    sum
}

/// `a` is not less than `b`.
fn subtract(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    (0..a.len().max(b.len()))
        .map(|i| {
            let (from, taken) = (digit(a, i), digit(b, i) + borrow);
            borrow = u8::from(from < taken);
            from + 10 * borrow - taken
        })
        .collect()
}

fn less(a: &[u8], b: &[u8]) -> bool {
    let len = a.len().max(b.len());
    (0..len)
        .rev()
        .map(|i| (digit(a, i), digit(b, i)))
        .find(|(a, b)| a != b)
        .is_some_and(|(a, b)| a < b)
}

fn digit(digits: &[u8], at: usize) -> u8 {
    digits.get(at).copied().unwrap_or(0)
}

fn text_of(negative: bool, digits: Vec<u8>, exponent: i64) -> Option<String> {
    let (digits, decimals) = match usize::try_from(-exponent) {
        Ok(decimals) if decimals > DECIMALS => (rounded(&digits, decimals - DECIMALS), DECIMALS),
        Ok(decimals) => (digits, decimals),
        Err(_) => {
            let zeros = usize::try_from(exponent).expect("it is positive here");
            ([vec![0; zeros], digits].concat(), 0)
        }
    };
    let (fraction, whole) = digits.split_at(decimals.min(digits.len()));
    let whole_len = whole.iter().rposition(|digit| *digit != 0).map_or(0, |at| at + 1);
    if whole_len as i64 > WHOLE_DIGITS_MAX {
        return None;
    }
    let mut text = String::with_capacity(whole_len + decimals + 3);
    if negative && digits.iter().any(|digit| *digit != 0) {
        text.push('-');
    }
    let put = |text: &mut String, digit: u8| text.push(char::from(b'0' + digit));
    whole[..whole_len].iter().rev().for_each(|digit| put(&mut text, *digit));
    if whole_len == 0 {
        text.push('0');
    }
    let lowest = fraction.iter().position(|digit| *digit != 0);
    if let Some(lowest) = lowest {
        text.push('.');
        (lowest..decimals).rev().for_each(|at| put(&mut text, digit(fraction, at)));
    }
    Some(text)
}

/// Without its lowest `dropped` digits, rounded half to even.
fn rounded(digits: &[u8], dropped: usize) -> Vec<u8> {
    let kept = digits.get(dropped..).unwrap_or_default();
    let half = digit(digits, dropped - 1);
    let rest = digits.iter().take(dropped - 1).any(|digit| *digit != 0);
    let up = half > 5 || half == 5 && (rest || digit(kept, 0) % 2 == 1);
    if up { add(kept, &[1]) } else { kept.to_vec() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn finite(text: &str) -> Option<Decimal> {
        match Number::parse(text.as_bytes()) {
            Some(Number::Finite(decimal)) => Some(decimal),
            Some(Number::Infinite) | None => None,
        }
    }

    fn sum(a: &str, b: &str) -> String {
        finite(a).unwrap().sum(&finite(b).unwrap()).unwrap()
    }

    /// The first four are of the documentation and the tests of Redis.
    #[test]
    fn sums_are_exact_and_short() {
        for (a, b, expected) in [
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("17179869184", "1.5", "17179869185.5"),
            ("1", "-1.1", "-0.1"),
            ("0.1", "0.2", "0.3"),
            ("3", "-3.0", "0"),
            ("-0", "-0.0", "0"),
            (".5", "5.", "5.5"),
            ("+1e0", "1E+1", "11"),
            ("1e-17", "0", "0.00000000000000001"),
            ("1e-18", "0", "0"),
            ("-4e-18", "0", "0"),
            ("5e-18", "0", "0"),
            ("5.1e-18", "0", "0.00000000000000001"),
            ("1.5e-17", "0", "0.00000000000000002"),
            ("2.5e-17", "0", "0.00000000000000002"),
            ("0.999999999999999999", "0", "1"),
            ("1e-300", "1", "1"),
            ("1e30", "1", "1000000000000000000000000000001"),
            ("100", "-0.01", "99.99"),
            ("0e999999", "1", "1"),
        ] {
            assert_eq!(sum(a, b), expected, "{a} + {b}");
            assert_eq!(sum(b, a), expected, "{b} + {a}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            "-",
            ".",
            "e1",
            "1e",
            "1e+",
            "1e1.5",
            "1 ",
            " 1",
            "1,5",
            "0x10",
            "nan",
            "--1",
            "1e310",
            "1e-500",
            "1e99999999999999999999",
            "in",
            "1.2.3",
            "1e--1",
        ] {
            assert_eq!(Number::parse(text.as_bytes()), None, "{text}");
        }
        for text in ["inf", "-INF", "+Infinity"] {
            assert_eq!(Number::parse(text.as_bytes()), Some(Number::Infinite), "{text}");
        }
    }

    #[test]
    fn a_sum_of_too_many_digits_is_none() {
        let largest = finite(&"9".repeat(309)).unwrap();
        assert_eq!(largest.sum(&finite("1").unwrap()), None);
        assert_eq!(largest.sum(&finite("0").unwrap()), Some("9".repeat(309)));
    }

    proptest! {
        /// Against whole numbers: both scaled by the same power of ten.
        #[test]
        fn sums_are_those_of_scaled_whole_numbers(a in -(1i64 << 60)..1 << 60, b in -(1i64 << 60)..1 << 60) {
            let scaled = |n: i64| format!("{n}e-9");
            let sum_of = i128::from(a) + i128::from(b);
            let (whole, fraction) = (sum_of.abs() / 1_000_000_000, sum_of.abs() % 1_000_000_000);
            let sign = if sum_of < 0 { "-" } else { "" };
            let padded = format!("{sign}{whole}.{fraction:09}");
            let expected = padded.trim_end_matches('0').trim_end_matches('.');
            prop_assert_eq!(sum(&scaled(a), &scaled(b)), expected);
        }

        /// What was written can be read and is written the same.
        #[test]
        fn a_written_number_is_read_as_it_is(text in "-?[0-9]{1,40}(\\.[0-9]{1,30})?(e-?[0-9]{1,2})?") {
            let once = sum(&text, "0");
            prop_assert_eq!(sum(&once, "0"), once);
        }

        #[test]
        fn garbage_never_panics(
            a in proptest::collection::vec(any::<u8>(), 0..40),
            b in "[-+0-9.eE]{0,40}",
        ) {
            let parsed = (Number::parse(&a), Number::parse(b.as_bytes()));
            if let (Some(Number::Finite(a)), Some(Number::Finite(b))) = parsed {
                a.sum(&b);
            }
        }
    }
}
