//! A request written as one line, as a person types it: words, with quotes where they have spaces.

use bytes::{BufMut, Bytes, BytesMut};

/// Splits a line into its words, by the rules of Redis (`sdssplitargs` in its `sds.c`): words are
/// separated by white space; `"..."` knows `\n \r \t \b \a \xHH` and takes any other escaped byte as
/// itself; `'...'` knows only `\'`. Behind a closing quote a word must end. `None` if a quote is not
/// closed.
pub(super) fn split(line: &[u8]) -> Option<Vec<Bytes>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Some(words);
        }
        let mut word = BytesMut::new();
        rest = take_word(rest, &mut word)?;
        words.push(word.freeze());
    }
}

/// Moves the next word to `word` and returns what follows it.
fn take_word<'a>(mut rest: &'a [u8], word: &mut BytesMut) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] | [0, ..] => return Some(&[]),
            [b'"', inside @ ..] => return ended(double_quoted(inside, word)?),
            [b'\'', inside @ ..] => return ended(single_quoted(inside, word)?),
            [byte, ..] if byte.is_ascii_whitespace() => return Some(rest),
            [byte, after @ ..] => {
                word.put_u8(*byte);
                rest = after;
            }
        }
    }
}

/// A closing quote ends the word.
fn ended(rest: &[u8]) -> Option<&[u8]> {
    rest.first().is_none_or(u8::is_ascii_whitespace).then_some(rest)
}

fn double_quoted<'a>(mut rest: &'a [u8], word: &mut BytesMut) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return None,
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.put_u8((nibble(*high) << 4) | nibble(*low));
                rest = after;
            }
            [b'\\', escaped, after @ ..] => {
                word.put_u8(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                rest = after;
            }
            [byte, after @ ..] => {
                word.put_u8(*byte);
                rest = after;
            }
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], word: &mut BytesMut) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return None,
            [b'\'', after @ ..] => return Some(after),
            [b'\\', b'\'', after @ ..] => {
                word.put_u8(b'\'');
                rest = after;
            }
            [byte, after @ ..] => {
                word.put_u8(*byte);
                rest = after;
            }
        }
    }
}

/// Value of a hexadecimal digit.
fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Option<Vec<String>> {
        let text = |word: Bytes| String::from_utf8_lossy(&word).into_owned();
        split(line.as_bytes()).map(|words| words.into_iter().map(text).collect())
    }

    #[test]
    fn words_are_split_as_redis_does() {
        let owned =
            |words: &[&str]| Some(words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(words("  SET  k\tv  "), owned(&["SET", "k", "v"]));
        assert_eq!(words(r#"SET k "a b\n\x41\q""#), owned(&["SET", "k", "a b\nAq"]));
        assert_eq!(words(r"SET k 'a \' \n'"), owned(&["SET", "k", "a ' \\n"]));
        assert_eq!(words(r#"SET k """#), owned(&["SET", "k", ""]));
        assert_eq!(words(""), owned(&[]));
        for unbalanced in [r#"SET "k"#, "SET 'k", r#"SET "a"b"#, "'", r#""\"#] {
            assert_eq!(words(unbalanced), None, "{unbalanced}");
        }
    }
}
