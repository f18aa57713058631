//! Keys in paths, and what stands behind the question mark: percent-decoded, any bytes.

use axum::http::Uri;
use bytes::Bytes;

use crate::front::{FrontLimits, validate};
use crate::types::Error;

/// The key of `/cache/{key}` and `/cache/{key}/increment`: one segment of the path, decoded. `%2F` is a
/// slash of the key.
///
/// # Errors
/// If an escape is malformed, or the key is too long.
pub(super) fn key(limits: &FrontLimits, uri: &Uri) -> Result<Bytes, Error> {
    let path = uri.path();
    let segment = path.strip_prefix("/cache/").unwrap_or(path);
    let segment = segment.split_once('/').map_or(segment, |(key, _)| key);
    let key = decoded(segment.as_bytes(), false)
        .ok_or_else(|| validate::invalid("key", "has a % without two hexadecimal digits"))?;
    validate::key(limits, key)
}

/// `%XX` as the byte it stands for, and if `plus`, `+` as a space; `None` if an escape is malformed.
fn decoded(text: &[u8], plus: bool) -> Option<Bytes> {
    if !text.iter().any(|byte| *byte == b'%' || (plus && *byte == b'+')) {
        return Some(Bytes::copy_from_slice(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            b'+' if plus => b' ',
            byte => *byte,
        });
    }
    Some(out.into())
}

fn hex(digit: &u8) -> Option<u8> {
    char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The parameters of a query, each at most once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Parameters {
    /// Invariant: no name twice, all of them allowed.
    given: Vec<(&'static str, Bytes)>,
}

impl Parameters {
    /// Those of `uri`, which must be among `allowed`.
    ///
    /// # Errors
    /// If one is not, comes twice, or has a malformed escape.
    pub(super) fn of(uri: &Uri, allowed: &[&'static str]) -> Result<Self, Error> {
        let mut given: Vec<(&'static str, Bytes)> = Vec::new();
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = allowed.iter().find(|allowed| **allowed == name) else {
                let name: String = name.chars().take(50).collect();
                let allowed = match allowed {
                    [] => "none is allowed here".to_owned(),
                    some => format!("{} are allowed here", some.join(", ")),
                };
                let problem = format!("has the unknown parameter {name}; {allowed}");
                return Err(validate::invalid("query", problem));
            };
            if given.iter().any(|(other, _)| other == name) {
                return Err(validate::invalid(name, "is given twice"));
            }
            let value = decoded(value.as_bytes(), true)
                .ok_or_else(|| validate::invalid(name, "has a % without two hexadecimal digits"))?;
            given.push((name, value));
        }
        Ok(Parameters { given })
    }

    /// The value of a parameter, if it is given.
    pub(super) fn get(&self, name: &str) -> Option<&Bytes> {
        self.given.iter().find(|(given, _)| *given == name).map(|(_, value)| value)
    }

    /// The same, as text.
    ///
    /// # Errors
    /// If it is not UTF-8.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<&str>, Error> {
        let text = self.get(name).map(|value| std::str::from_utf8(value)).transpose();
        text.map_err(|_| validate::invalid(name, "is not UTF-8"))
    }

    /// The same, as a whole number.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn number<T: std::str::FromStr>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, Error> {
        let number = self.text(name)?.map(str::parse).transpose();
        number.map_err(|_| validate::invalid(name, "is not a whole number, or too large"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(path: &str) -> Result<Bytes, Error> {
        key(&FrontLimits::default(), &path.parse().unwrap())
    }

    #[test]
    fn a_key_is_one_segment_and_may_be_any_bytes() {
        assert_eq!(key_of("/cache/user:1").unwrap(), "user:1");
        assert_eq!(key_of("/cache/a%2Fb%2f").unwrap(), "a/b/");
        assert_eq!(key_of("/cache/a%2Fb/increment").unwrap(), "a/b");
        assert_eq!(key_of("/cache/a+b").unwrap(), "a+b", "a plus is a plus in a path");
        assert_eq!(key_of("/cache/%00%ff%25").unwrap(), &[0, 255, b'%'][..]);
        assert_eq!(key_of("/cache/%2E%2E?x=y").unwrap(), "..");
        for bad in ["/cache/%", "/cache/%2", "/cache/%zz", "/cache/a%+1", "/cache/%%41"] {
            assert!(key_of(bad).is_err(), "{bad}");
        }
        let limits = FrontLimits { key_bytes_max: 3, ..FrontLimits::default() };
        let long = |path: &str| key(&limits, &path.parse().unwrap());
        assert!(long("/cache/%41%42%43").is_ok(), "decoded bytes count");
        assert!(long("/cache/ABCD").is_err());
    }

    #[test]
    fn parameters_are_known_and_given_once() {
        let of = |query: &str| {
            let uri: Uri = format!("/cache?{query}").parse().unwrap();
            Parameters::of(&uri, &["count", "match"])
        };
        let found = of("count=7&match=a%2A+b").unwrap();
        assert_eq!(found.number::<u32>("count").unwrap(), Some(7));
        assert_eq!(found.text("match").unwrap(), Some("a* b"));
        assert_eq!(of("&&count").unwrap().get("count"), Some(&Bytes::new()));
        for bad in ["count=1&count=1", "other=1", "count=%", "COUNT=1"] {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert!(of("count=-1").unwrap().number::<u32>("count").is_err());
        assert!(of("match=%ff").unwrap().text("match").is_err());
    }
}
