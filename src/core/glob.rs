//! Glob patterns as `SCAN` and `KEYS` of Redis have them: `*`, `?`, `[a-z]`, `[^a-z]`, and `\` for
//! the next byte as it is. Bytes, not characters.
//!
//! Redis tries every length for every `*`, which takes exponential time for patterns like
//! `a*a*a*b` (CVE-2022-36021). Here only the last `*` seen is ever tried again, which is enough: what
//! an earlier one could still take, the last one can. So at most `pattern * text` steps.

/// Whether `pattern` matches all of `text`, and how many steps it took to tell.
pub fn matches(pattern: &[u8], text: &[u8]) -> (bool, usize) {
    let (mut p, mut t, mut steps) = (0, 0, 0);
    // Behind the last `*`, and up to where it takes the text.
    let mut star: Option<(usize, usize)> = None;
    loop {
        steps += 1;
        if p < pattern.len() && pattern[p] == b'*' {
            p += 1;
            star = Some((p, t));
            continue;
        }
        if t == text.len() {
            // Only stars match nothing.
            return (p == pattern.len(), steps);
        }
        match one(&pattern[p..], text[t]) {
            Some(taken) => {
                p += taken;
                t += 1;
            }
            None => match &mut star {
                Some((behind, upto)) => {
                    *upto += 1;
                    (p, t) = (*behind, *upto);
                }
                None => return (false, steps),
            },
        }
    }
}

/// Bytes of the pattern that stand for `byte`; `None` if its front does not match. The front is no `*`.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', class @ ..] => {
            let (matched, len) = in_class(class, byte);
            matched.then_some(1 + len)
        }
        [b'\\', literal, ..] => (*literal == byte).then_some(2),
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

/// Whether the class matches, and its length with the closing bracket. A class that is not closed
/// ends with the pattern, as in Redis.
fn in_class(class: &[u8], byte: u8) -> (bool, usize) {
    let not = class.first() == Some(&b'^');
    let mut at = usize::from(not);
    let mut matched = false;
    loop {
        match &class[at..] {
            [] => break,
            [b'\\', literal, ..] => {
                matched |= *literal == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [from, b'-', to, ..] => {
                let (low, high) = (*from.min(to), *from.max(to));
                matched |= (low..=high).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                matched |= *literal == byte;
                at += 1;
            }
        }
    }
    (matched != not, at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes()).0
    }

    #[test]
    fn as_redis_has_it() {
        for (pattern, text) in [
            ("*", ""),
            ("**", "x"),
            ("", ""),
            ("h?llo", "hello"),
            ("h*llo", "heeeello"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hbllo"),
            ("h[a-b]llo", "hbllo"),
            ("h[b-a]llo", "hallo"),
            ("user:*:name", "user:1:2:name"),
            ("\\*", "*"),
            ("a\\", "a\\"),
            ("[\\]]", "]"),
            ("[abc", "c"),
            // A range up to the bracket, and not closed.
            ("[a-]", "^"),
        ] {
            assert!(is(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "x"),
            ("?", ""),
            ("h?llo", "hllo"),
            ("h[^e]llo", "hello"),
            ("h[a-b]llo", "hcllo"),
            ("\\*", "x"),
            ("*a", "ab"),
            ("a*b*c", "a_c_b"),
            ("[]", "]"),
            ("[a-]", "-"),
        ] {
            assert!(!is(pattern, text), "{pattern} {text}");
        }
    }

    /// The plain recursive definition.
    fn plain(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', rest @ ..] => (0..=text.len()).any(|taken| plain(rest, &text[taken..])),
            _ => match text {
                [] => false,
                [byte, rest @ ..] => {
                    one(pattern, *byte).is_some_and(|taken| plain(&pattern[taken..], rest))
                }
            },
        }
    }

    proptest! {
        #[test]
        fn trying_only_the_last_star_again_is_enough(
            pattern in "[ab*?\\[\\]^\\\\-]{0,8}",
            text in "[ab]{0,8}",
        ) {
            prop_assert_eq!(
                is(&pattern, &text), plain(pattern.as_bytes(), text.as_bytes()), "{} {}", pattern, text);
        }

        #[test]
        fn bytes_never_panic(
            pattern in proptest::collection::vec(any::<u8>(), 0..40),
            text in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let (_, steps) = matches(&pattern, &text);
            prop_assert!(steps <= 2 * (pattern.len() + 1) * (text.len() + 1));
        }
    }

    #[test]
    fn what_takes_redis_an_age_takes_few_steps() {
        let (pattern, text) = ("a*".repeat(30) + "b", "a".repeat(60));
        let (matched, steps) = matches(pattern.as_bytes(), text.as_bytes());
        assert!(!matched && steps < 500, "{steps}");
    }
}
