//! Reads the repository's Rust files well enough for the rules of `tests/tidy.rs` and
//! `tests/docs.rs`: comments and literals blanked, braces counted.

// Each test binary uses its own part.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

/// Root of the repository.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `src`, sorted by path.
pub fn sources() -> Vec<Source> {
    let root = repository();
    let mut paths = Vec::new();
    collect(&root.join("src"), &mut paths);
    paths.sort();
    assert!(paths.len() > 10, "only {} files found", paths.len());
    paths
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path).expect("source file");
            let relative = path.strip_prefix(&root).expect("below the root");
            Source::new(relative.to_str().expect("path is UTF-8"), &text)
        })
        .collect()
}

fn collect(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("source directory") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            collect(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

/// One Rust file.
pub struct Source {
    /// Relative to the repository.
    pub path: String,
    /// The text with comments and the content of literals blanked, line by line as in the file.
    pub stripped: String,
    /// Line (from 0) at which the tests begin; the number of lines if there are none.
    tests_at: usize,
}

/// One function with a body.
pub struct Function {
    pub name: String,
    /// From 1.
    pub line: usize,
    pub lines: usize,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let stripped = strip(text);
        let lines: Vec<&str> = stripped.lines().collect();
        let all_tests =
            path.ends_with("tests.rs") || path.ends_with("_test.rs") || path.contains("/tests/");
        let inline = (0..lines.len()).find(|&i| {
            let next = lines.get(i + 1).map_or("", |line| line.trim_start());
            lines[i].trim() == "#[cfg(test)]" && next.starts_with("mod ") && next.ends_with('{')
        });
        let tests_at = if all_tests { 0 } else { inline.unwrap_or(lines.len()) };
        Source { path: path.to_owned(), stripped, tests_at }
    }

    /// Top-level module; `None` for `lib.rs` and `main.rs`.
    pub fn module(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("src/")?;
        let module = rest.split('/').next()?.trim_end_matches(".rs");
        (module != "lib" && module != "main").then_some(module)
    }

    pub fn lines(&self) -> usize {
        self.stripped.lines().count()
    }

    /// Lines outside the tests, numbered from 1.
    pub fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.stripped.lines().take(self.tests_at).enumerate().map(|(i, line)| (i + 1, line))
    }

    /// Top-level modules named after `crate::` outside the tests, with their lines.
    pub fn crate_paths(&self) -> Vec<(usize, String)> {
        let code: String = self.code_lines().flat_map(|(_, line)| [line, "\n"]).collect();
        let mut out = Vec::new();
        for (at, _) in code.match_indices("crate::") {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let rest = &code[at + "crate::".len()..];
            out.extend(heads(rest).into_iter().map(|name| (line, name)));
        }
        out
    }

    /// Every function with a body, tests included.
    pub fn functions(&self) -> Vec<Function> {
        let text = &self.stripped;
        let mut out = Vec::new();
        for (at, _) in text.match_indices("fn ") {
            if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let name: String = text[at + 3..].chars().take_while(|c| is_name(*c)).collect();
            if let (false, Some(end)) = (name.is_empty(), body_end(&text[at..])) {
                let line = text[..at].matches('\n').count() + 1;
                let lines = text[at..at + end].matches('\n').count() + 1;
                out.push(Function { name, line, lines });
            }
        }
        out
    }

    /// True if the file defines `kind name`, for example `fn propose`.
    pub fn defines(&self, kind: &str, name: &str) -> bool {
        let wanted = format!("{kind} {name}");
        self.stripped.match_indices(&wanted).any(|(at, _)| {
            let before = self.stripped[..at].chars().next_back().is_none_or(|c| !is_name(c));
            let after = self.stripped[at + wanted.len()..].chars().next();
            before && after.is_none_or(|c| !is_name(c))
        })
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// First names of a path or of a group of paths: `{a::b, c}` gives `a` and `c`.
fn heads(rest: &str) -> Vec<String> {
    let name = |text: &str| text.trim_start().chars().take_while(|c| is_name(*c)).collect();
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let mut out = Vec::new();
    let (mut depth, mut from) = (0, 0);
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' if depth == 0 => {
                out.push(name(&group[from..i]));
                from = i + 1;
            }
            '}' => {
                out.push(name(&group[from..i]));
                break;
            }
            _ => {}
        }
    }
    out.retain(|name: &String| !name.is_empty());
    out
}

/// Offset just after the body of the function that begins at 0; `None` if it has none.
fn body_end(text: &str) -> Option<usize> {
    let (mut braces, mut brackets) = (0usize, 0usize);
    for (i, c) in text.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.checked_sub(1)?,
            ';' if braces == 0 && brackets == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces = braces.checked_sub(1)?;
                if braces == 0 {
                    return Some(i + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Blanks comments and the content of string and character literals, keeping every line feed.
fn strip(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let end = skipped(&chars, i);
        if end > i {
            out.extend(chars[i..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            i = end;
        } else {
            out.push(chars[i]);
            i += 1;
        }
    }
    out
}

/// End of the comment or literal that begins at `i`; `i` itself if none does.
fn skipped(chars: &[char], i: usize) -> usize {
    let at = |k: usize| chars.get(i + k).copied().unwrap_or('\n');
    let after_name = i > 0 && is_name(chars[i - 1]);
    match (at(0), at(1)) {
        ('/', '/') => find(chars, i, |rest| rest[0] == '\n').unwrap_or(chars.len()),
        ('/', '*') => block_comment(chars, i),
        ('"', _) => string(chars, i),
        ('r', '"' | '#') if !after_name || chars[i - 1] == 'b' => raw_string(chars, i).unwrap_or(i),
        // A character, not a lifetime: '\n', '{'.
        ('\'', '\\') => find(chars, i + 3, |rest| rest[0] == '\'').map_or(i, |end| end + 1),
        ('\'', _) if at(2) == '\'' => i + 3,
        _ => i,
    }
}

fn find(chars: &[char], from: usize, is: impl Fn(&[char]) -> bool) -> Option<usize> {
    (from..chars.len()).find(|&i| is(&chars[i..]))
}

fn block_comment(chars: &[char], from: usize) -> usize {
    let (mut i, mut depth) = (from, 0);
    while i < chars.len() {
        if chars[i..].starts_with(&['/', '*']) {
            depth += 1;
            i += 2;
        } else if chars[i..].starts_with(&['*', '/']) {
            depth -= 1;
            i += 2;
            if depth == 0 {
                return i;
            }
        } else {
            i += 1;
        }
    }
    i
}

fn string(chars: &[char], from: usize) -> usize {
    let mut i = from + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

fn raw_string(chars: &[char], from: usize) -> Option<usize> {
    let hashes = chars[from + 1..].iter().take_while(|c| **c == '#').count();
    let open = from + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let mut close = vec!['"'];
    close.extend(std::iter::repeat_n('#', hashes));
    find(chars, open + 1, |rest| rest.starts_with(&close)).map(|at| at + close.len())
}
