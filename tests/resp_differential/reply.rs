//! A reply of the Redis protocol as it came, and what it says.

use std::fmt;

/// What a reply says.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reply {
    Simple(Vec<u8>),
    Error(Vec<u8>),
    Integer(i64),
    Bulk(Option<Vec<u8>>),
    Array(Option<Vec<Reply>>),
}

impl Reply {
    /// The bytes of RESP2: two replies are equal exactly if their bytes are.
    pub fn parse(bytes: &[u8]) -> Option<(Reply, usize)> {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
        let (line, after) = (&bytes[1..end], end + 2);
        let number = || std::str::from_utf8(line).unwrap().parse::<i64>().unwrap();
        match bytes[0] {
            b'+' => Some((Reply::Simple(line.to_vec()), after)),
            b'-' => Some((Reply::Error(line.to_vec()), after)),
            b':' => Some((Reply::Integer(number()), after)),
            b'$' => {
                let Ok(len) = usize::try_from(number()) else {
                    return Some((Reply::Bulk(None), after));
                };
                let data = bytes.get(after..after + len)?;
                bytes.get(after + len..after + len + 2)?;
                Some((Reply::Bulk(Some(data.to_vec())), after + len + 2))
            }
            b'*' => {
                let Ok(len) = usize::try_from(number()) else {
                    return Some((Reply::Array(None), after));
                };
                let (mut items, mut at) = (Vec::new(), after);
                for _ in 0..len {
                    let (item, took) = Reply::parse(&bytes[at..]).filter(|_| at < bytes.len())?;
                    items.push(item);
                    at += took;
                }
                Some((Reply::Array(Some(items)), at))
            }
            other => panic!("a reply that begins with {:?}", char::from(other)),
        }
    }

    pub fn integer(&self) -> Option<i64> {
        match self {
            Reply::Integer(number) => Some(*number),
            _ => None,
        }
    }

    pub fn bulk(&self) -> Option<&[u8]> {
        match self {
            Reply::Bulk(bulk) => bulk.as_deref(),
            _ => None,
        }
    }

    pub fn array(&self) -> Option<&[Reply]> {
        match self {
            Reply::Array(array) => array.as_deref(),
            _ => None,
        }
    }

    pub fn error(&self) -> Option<&str> {
        match self {
            Reply::Error(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Simple(text) => write!(f, "+{}", show(text)),
            Reply::Error(text) => write!(f, "-{}", show(text)),
            Reply::Integer(number) => write!(f, ":{number}"),
            Reply::Bulk(None) => write!(f, "(nil)"),
            Reply::Bulk(Some(data)) => write!(f, "\"{}\"", show(data)),
            Reply::Array(None) => write!(f, "(nil array)"),
            Reply::Array(Some(items)) => f.debug_list().entries(items).finish(),
        }
    }
}

/// Bytes as text, long ones cut short.
pub fn show(bytes: &[u8]) -> String {
    let text = bytes[..bytes.len().min(200)].escape_ascii().to_string();
    if bytes.len() > 200 { format!("{text}... ({} bytes)", bytes.len()) } else { text }
}
