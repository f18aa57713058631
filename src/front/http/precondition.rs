//! Versions as entity tags, and the conditions of RFC 9110, section 13.
//!
//! The tag of a key is its version in quotes, a strong one: equal versions are equal values. Its bytes
//! alone are another representation than JSON, so they have a tag of their own (section 8.8.3.3); a
//! write that names either means the version.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::problem::Problem;
use crate::front::validate::invalid;
use crate::types::{Condition, Error, Version};

/// Ends the tag of the bytes alone.
const RAW: &str = "-raw";

/// The tag of a version.
pub(super) fn etag(version: Version) -> HeaderValue {
    etag_as(version, false)
}

/// The tag of a version as JSON, or of its bytes alone.
pub(super) fn etag_as(version: Version, raw: bool) -> HeaderValue {
    let suffix = if raw { RAW } else { "" };
    HeaderValue::try_from(format!("\"{}{suffix}\"", version.0)).expect("ASCII in quotes")
}

/// What one of the two headers asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Tags {
    /// `*`.
    Any,
    Some(Vec<Tag>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Tag {
    weak: bool,
    /// `None`: a tag this server never gave.
    version: Option<Version>,
    /// Of the bytes alone.
    raw: bool,
}

fn tags(
    headers: &HeaderMap,
    name: &HeaderName,
    field: &'static str,
) -> Result<Option<Tags>, Error> {
    let malformed = || invalid(field, "is neither * nor a list of tags in quotes");
    let mut found: Option<Vec<Tag>> = None;
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| malformed())?.trim();
        if text == "*" {
            let alone = headers.get_all(name).iter().count() == 1;
            return if alone { Ok(Some(Tags::Any)) } else { Err(malformed()) };
        }
        let parsed = list(text).ok_or_else(malformed)?;
        found.get_or_insert_default().extend(parsed);
    }
    Ok(found.map(Tags::Some))
}

/// `"1", W/"2"`.
fn list(mut text: &str) -> Option<Vec<Tag>> {
    let mut tags = Vec::new();
    loop {
        text = text.trim_start_matches([' ', '\t']);
        let unmarked = text.strip_prefix("W/");
        let (tag, rest) = unmarked.unwrap_or(text).strip_prefix('"')?.split_once('"')?;
        let digits = tag.strip_suffix(RAW);
        let (weak, raw, digits) = (unmarked.is_some(), digits.is_some(), digits.unwrap_or(tag));
        let canonical = !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
        let version = if canonical { digits.parse().ok().map(Version) } else { None };
        tags.push(Tag { weak, version, raw });
        text = rest.trim_start_matches([' ', '\t']);
        match text.strip_prefix(',') {
            Some(rest) => text = rest,
            None => return text.is_empty().then_some(tags),
        }
    }
}

/// What a write is asked to hold, or that it surely does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    /// To be checked where the write is applied.
    If(Condition),
    /// No key has such a tag: nothing needs to be asked.
    Never,
}

/// The condition of a PUT.
///
/// # Errors
/// If a header is malformed, or asks for what cannot be checked as one with the write.
pub(super) fn of_put(headers: &HeaderMap) -> Result<Asked, Error> {
    let if_match = tags(headers, &header::IF_MATCH, "if-match")?;
    let if_none_match = tags(headers, &header::IF_NONE_MATCH, "if-none-match")?;
    match (if_match, if_none_match) {
        (None, None) => Ok(Asked::If(Condition::Always)),
        (Some(tags), None) => of_match(&tags),
        (None, Some(Tags::Any)) => Ok(Asked::If(Condition::IfAbsent)),
        (None, Some(Tags::Some(_))) => Err(invalid("if-none-match", "only * is allowed here")),
        (Some(_), Some(_)) => Err(invalid("if-none-match", "is not allowed beside if-match")),
    }
}

/// The condition of a DELETE.
///
/// # Errors
/// As [`of_put`]; `If-None-Match` has no meaning here.
pub(super) fn of_delete(headers: &HeaderMap) -> Result<Asked, Error> {
    if headers.contains_key(header::IF_NONE_MATCH) {
        return Err(invalid("if-none-match", "is not allowed for DELETE"));
    }
    let if_match = tags(headers, &header::IF_MATCH, "if-match")?;
    if_match.map_or(Ok(Asked::If(Condition::Always)), |tags| of_match(&tags))
}

/// By strong comparison: a weak tag matches nothing.
fn of_match(tags: &Tags) -> Result<Asked, Error> {
    let Tags::Some(tags) = tags else { return Ok(Asked::If(Condition::IfPresent)) };
    let strong = tags.iter().filter(|tag| !tag.weak).filter_map(|tag| tag.version);
    let mut versions: Vec<Version> = strong.collect();
    versions.dedup();
    match versions[..] {
        [] => Ok(Asked::Never),
        [version] => Ok(Asked::If(Condition::IfVersion(version))),
        _ => Err(invalid("if-match", "has several tags; one is allowed")),
    }
}

/// The conditions of a GET.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OfGet {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

impl OfGet {
    /// Those of a request.
    ///
    /// # Errors
    /// If a header is malformed.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Error> {
        let if_match = tags(headers, &header::IF_MATCH, "if-match")?;
        let if_none_match = tags(headers, &header::IF_NONE_MATCH, "if-none-match")?;
        Ok(OfGet { if_match, if_none_match })
    }

    /// Of a key that is at `current`: whether the caller has what it asks for, its bytes alone if
    /// `raw`, already.
    ///
    /// # Errors
    /// If `If-Match` does not hold.
    pub(super) fn not_modified(
        &self,
        current: Option<Version>,
        raw: bool,
    ) -> Result<bool, Problem> {
        let has = |tags: &Tags, fits: &dyn Fn(&Tag) -> bool| match tags {
            Tags::Any => current.is_some(),
            Tags::Some(tags) => tags
                .iter()
                .filter(|tag| fits(tag))
                .any(|tag| tag.version.is_some() && tag.version == current),
        };
        if self.if_match.as_ref().is_some_and(|tags| !has(tags, &|tag| !tag.weak)) {
            return Err(Problem::condition("If-Match", current));
        }
        // Who has the one representation does not have the other.
        Ok(self.if_none_match.as_ref().is_some_and(|tags| has(tags, &|tag| tag.raw == raw)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    fn put(pairs: &[(&'static str, &str)]) -> Option<Asked> {
        of_put(&headers(pairs)).ok()
    }

    #[test]
    fn a_write_is_asked_to_hold_one_thing() {
        let version = |n| Some(Asked::If(Condition::IfVersion(Version(n))));
        assert_eq!(put(&[]), Some(Asked::If(Condition::Always)));
        assert_eq!(put(&[("if-match", "\"7\"")]), version(7));
        assert_eq!(put(&[("if-match", " \"7\" , \"x\",W/\"8\"")]), version(7));
        assert_eq!(put(&[("if-match", "\"7\""), ("if-match", "\"7\"")]), version(7));
        assert_eq!(put(&[("if-match", "*")]), Some(Asked::If(Condition::IfPresent)));
        assert_eq!(put(&[("if-none-match", "*")]), Some(Asked::If(Condition::IfAbsent)));
        assert_eq!(put(&[("if-match", "\"7-raw\"")]), version(7), "either form means the version");
        assert_eq!(put(&[("if-match", "\"7\", \"7-raw\"")]), version(7));
        for never in [
            "W/\"7\"",
            "\"-raw\"",
            "\"7-RAW\"",
            "\"x\"",
            "\"\"",
            "\"07\"",
            "\"+7\"",
            "\"99999999999999999999\"",
        ] {
            assert_eq!(put(&[("if-match", never)]), Some(Asked::Never), "{never}");
        }
        for bad in
            ["7", "W/W/\"7\"", "", "\"7", "\"7\" \"8\"", "\"7\",", "*, \"7\"", "\"7\", \"8\""]
        {
            assert_eq!(put(&[("if-match", bad)]), None, "{bad}");
        }
        assert_eq!(put(&[("if-match", "*"), ("if-match", "*")]), None);
        assert_eq!(put(&[("if-none-match", "\"7\"")]), None);
        assert_eq!(put(&[("if-match", "\"7\""), ("if-none-match", "*")]), None);
        assert!(of_delete(&headers(&[("if-none-match", "*")])).is_err());
    }

    #[test]
    fn a_read_knows_what_its_caller_has() {
        let get = |pairs, current: Option<u64>| {
            OfGet::of(&headers(pairs)).unwrap().not_modified(current.map(Version), false).ok()
        };
        let raw = |tags| {
            OfGet::of(&headers(&[("if-none-match", tags)]))
                .unwrap()
                .not_modified(Some(Version(7)), true)
        };
        assert_eq!(raw("\"7\"").ok(), Some(false), "JSON is there, the bytes are not");
        assert_eq!(raw("\"7\", \"7-raw\"").ok(), Some(true));
        assert_eq!(get(&[("if-none-match", "\"7-raw\"")], Some(7)), Some(false));
        assert_eq!(get(&[("if-match", "\"7-raw\"")], Some(7)), Some(false));
        assert_eq!(get(&[], Some(7)), Some(false));
        assert_eq!(get(&[("if-none-match", "\"6\", W/\"7\"")], Some(7)), Some(true));
        assert_eq!(get(&[("if-none-match", "\"6\"")], Some(7)), Some(false));
        assert_eq!(get(&[("if-none-match", "*")], None), Some(false));
        assert_eq!(get(&[("if-none-match", "*")], Some(7)), Some(true));
        assert_eq!(get(&[("if-match", "\"7\"")], Some(7)), Some(false));
        assert_eq!(get(&[("if-match", "W/\"7\"")], Some(7)), None, "weak tags match nothing here");
        assert_eq!(get(&[("if-match", "*")], None), None);
    }
}
