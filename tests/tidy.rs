//! Keeps the house tidy: direction of imports, purity of `core`, length of files and functions,
//! leftovers, the list of decisions. The rules are in CONTRIBUTING.md.

mod source;

use source::{Source, repository, sources};

/// Floors from the bottom up; a module may use those of lower floors and itself. Those of F8
/// (80 and above) build on each other in this order.
const FLOORS: [(&str, u32); 16] = [
    ("types", 0),
    ("core", 10),
    ("codec", 20),
    ("pb", 20),
    ("storage", 30),
    ("transport", 30),
    ("raft", 40),
    ("service", 50),
    ("controller", 60),
    ("client", 70),
    ("front", 70),
    ("config", 80),
    ("bench", 80),
    ("telemetry", 81),
    ("node", 82),
    ("cli", 90),
];

/// All that the client may use: it is a library for other programs, which are no nodes.
const CLIENT_USES: [&str; 4] = ["client", "core", "pb", "types"];

/// What `core` must not know of.
const BANNED_IN_CORE: [&str; 12] = [
    "tokio",
    "std::time",
    "std::thread",
    "SystemTime",
    "Instant",
    "rand::",
    "std::fs",
    "std::net",
    "std::env",
    "println",
    "eprintln",
    "async",
];

const FILE_LINES_MAX: usize = 600;
const FILE_LINES_MAX_WITHOUT_TESTS: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;

/// Files that may be longer, and why.
const LONG_FILES: [(&str, &str); 0] = [];

/// Functions that may be longer, as file and name, and why.
const LONG_FUNCTIONS: [(&str, &str, &str); 1] =
    [("src/types/metrics.rs", "new", "one flat list of metrics, nothing to follow")];

/// Fails with every finding at once.
fn none(findings: Vec<String>, rule: &str) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

fn floor(module: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

#[test]
fn imports_point_down() {
    let mut findings = Vec::new();
    for source in sources() {
        let Some(module) = source.module() else { continue };
        let Some(own) = floor(module) else {
            findings.push(format!("{}: module {module} has no floor", source.path));
            continue;
        };
        for (line, target) in source.crate_paths() {
            let up = floor(&target).is_some_and(|floor| floor >= own) && target != module;
            if up {
                findings.push(format!("{}:{line}: {module} must not use {target}", source.path));
            }
        }
        for (line, _) in source.code_lines().filter(|(_, text)| text.contains("super::super::")) {
            findings
                .push(format!("{}:{line}: write crate:: instead of super::super::", source.path));
        }
    }
    none(findings, "imports point down the floors only");
}

#[test]
fn the_client_knows_no_node() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| source.module() == Some("client")) {
        for (line, target) in source.crate_paths() {
            if !CLIENT_USES.contains(&target.as_str()) {
                findings.push(format!("{}:{line}: {target}", source.path));
            }
        }
    }
    none(findings, "the client uses slots, types and messages only");
}

#[test]
fn core_is_pure() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| source.module() == Some("core")) {
        for (line, text) in source.code_lines() {
            for word in BANNED_IN_CORE.iter().filter(|word| has_word(text, word)) {
                findings.push(format!("{}:{line}: {word}", source.path));
            }
        }
    }
    none(findings, "core is synchronous and deterministic");
}

/// True if `word` stands in `text`, not as a part of a longer name.
fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(part);
        let after = text[at + word.len()..].chars().next().is_some_and(part);
        !before && (word.ends_with("::") || !after)
    })
}

#[test]
fn files_are_short() {
    let mut findings = Vec::new();
    let mut lengths = Vec::new();
    for source in sources() {
        let allowed = LONG_FILES.iter().any(|(path, _)| *path == source.path);
        let (all, code) = (source.lines(), source.code_lines().count());
        lengths.push(all);
        if !allowed && (all > FILE_LINES_MAX || code > FILE_LINES_MAX_WITHOUT_TESTS) {
            findings.push(format!("{}: {all} lines, {code} without tests", source.path));
        }
    }
    lengths.sort_unstable();
    println!("{} files, median {} lines", lengths.len(), lengths[lengths.len() / 2]);
    none(
        findings,
        &format!("at most {FILE_LINES_MAX} lines, {FILE_LINES_MAX_WITHOUT_TESTS} without tests"),
    );
}

#[test]
fn functions_fit_a_screen() {
    let mut findings = Vec::new();
    let mut used = Vec::new();
    for source in sources() {
        for function in source.functions() {
            if function.lines <= FUNCTION_LINES_MAX {
                continue;
            }
            let entry = LONG_FUNCTIONS
                .iter()
                .position(|(path, name, _)| *path == source.path && *name == function.name);
            match entry {
                Some(i) => used.push(i),
                None => findings.push(format!(
                    "{}:{}: fn {} has {} lines",
                    source.path, function.line, function.name, function.lines
                )),
            }
        }
    }
    for (i, (path, name, _)) in LONG_FUNCTIONS.iter().enumerate() {
        if !used.contains(&i) {
            findings.push(format!("{path}: fn {name} needs no exception any more"));
        }
    }
    none(findings, &format!("a function has at most {FUNCTION_LINES_MAX} lines"));
}

#[test]
fn nothing_is_left_over() {
    let mut findings = Vec::new();
    for source in sources() {
        for (i, text) in source.stripped.lines().enumerate() {
            for word in ["todo!", "unimplemented!", "dbg!"] {
                if text.match_indices(word).any(|(at, _)| has_word(&text[at..], word)) {
                    findings.push(format!("{}:{}: {word}", source.path, i + 1));
                }
            }
        }
    }
    none(findings, "no unfinished code");
}

/// openraft's and tokio's watches lend their value under a lock that blocks the writer: a borrow
/// must end before the next await (clippy's `await_holding_lock` does not know these guards).
#[test]
fn no_borrow_of_a_watch_crosses_an_await() {
    let findings: Vec<String> = sources()
        .iter()
        .flat_map(|source| {
            let path = source.path.clone();
            borrows_across_await(&source.stripped)
                .into_iter()
                .map(move |line| format!("{path}:{line}"))
        })
        .collect();
    none(findings, "the borrow of a watch ends before the next await");
}

const BORROWS: [&str; 3] = [".borrow_watched()", ".borrow()", ".borrow_and_update()"];

/// Lines (from 1) of borrows that live at an await: in the same statement, or kept by a `let` of
/// the guard itself until an await in the same block or one within it.
fn borrows_across_await(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    for at in BORROWS.iter().flat_map(|word| text.match_indices(word).map(|(at, w)| at + w.len())) {
        let begin = text[..at].rfind([';', '{', '}']).map_or(0, |i| i + 1);
        let end = text[at..].find([';', '{', '}']).map_or(text.len(), |i| at + i);
        // `let x = watch.borrow();` keeps the guard; anything after the borrow lets it go.
        let kept = text[begin..at].trim_start().starts_with("let ")
            && !text[begin..at].contains("= *")
            && text[at..end].trim().is_empty();
        let until = if kept { end_of_block(text, at) } else { end };
        if text[begin..until].contains(".await") {
            found.push(text[..at].matches('\n').count() + 1);
        }
    }
    found.sort_unstable();
    found
}

/// Where the block around `at` closes.
fn end_of_block(text: &str, at: usize) -> usize {
    let mut depth = 0i32;
    for (i, c) in text[at..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return at + i,
            '}' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

#[test]
fn the_reader_sees_a_borrow_across_an_await() {
    let bad = [
        "{ send(watch.borrow().x).await; }",
        "{ let seen = raft.metrics().borrow_watched(); work().await; }",
        "{ let seen = watch.borrow_and_update(); if x { work().await; } }",
    ];
    let good = [
        "{ let seen = *watch.borrow(); work().await; }",
        "{ let seen = watch.borrow().clone(); work().await; }",
        "{ let x = { let seen = watch.borrow(); seen.x }; work().await; }",
        "{ let table = Arc::clone(&watch.borrow()); work().await; }",
    ];
    for text in bad {
        assert_eq!(borrows_across_await(text), [1], "{text}");
    }
    for text in good {
        assert!(borrows_across_await(text).is_empty(), "{text}");
    }
}

/// A blocking `add_learner` returns while the learner may still lag; whoever promotes looks at the
/// lag, so nothing here may wait for that call.
#[test]
fn add_learner_is_never_asked_to_block() {
    let mut findings = Vec::new();
    for source in sources() {
        for (at, _) in source.stripped.match_indices(".add_learner(") {
            let call = &source.stripped[at..];
            let end = call.find(';').unwrap_or(call.len());
            let arguments: String = call[..end].chars().filter(|c| !c.is_whitespace()).collect();
            if !arguments.contains(",false)") && !arguments.contains(",false,)") {
                let line = source.stripped[..at].matches('\n').count() + 1;
                findings.push(format!("{}:{line}", source.path));
            }
        }
    }
    none(findings, "add_learner does not block; the lag is looked at before promoting");
}

#[test]
fn every_decision_is_listed_once() {
    let dir = repository().join("docs/adr");
    let index = std::fs::read_to_string(dir.join("README.md")).expect("docs/adr/README.md");
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .expect("docs/adr")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("name is UTF-8"))
        .filter(|name| name.starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    names.sort();
    let mut findings = Vec::new();
    for (i, name) in names.iter().enumerate() {
        if !name.starts_with(&format!("{:04}-", i + 1)) || !name.ends_with(".md") {
            findings.push(format!("{name}: numbers start at 0001 and have no gap"));
        }
        if index.matches(&format!("]({name})")).count() != 1 {
            findings.push(format!("{name}: not listed exactly once in docs/adr/README.md"));
        }
        let text = std::fs::read_to_string(dir.join(name)).expect("decision");
        if !text.contains("\n- Status: ") {
            findings.push(format!("{name}: has no status"));
        }
    }
    assert!(!names.is_empty(), "no decisions found");
    none(findings, "decisions are listed");
}

/// The rules above are only as good as the reading of the source.
#[test]
fn the_reader_understands_the_source() {
    let text = r##"
use crate::{raft::machine, types::{Error, ids::NodeId}};
/* crate::front is a comment { */
fn short(a: [u8; 4]) -> &'static str { "crate::node { " }
trait T { fn declared(&self); }
fn raw() {
    let c = '{'; let s = r#"tokio "{" "#;
    crate::core::table();
}
#[cfg(test)]
mod tests {
    use crate::front;
    fn in_tests() {}
}
"##;
    let source = Source::new("src/x/y.rs", text);
    assert_eq!(source.module(), Some("x"));
    let paths: Vec<String> = source.crate_paths().into_iter().map(|(_, path)| path).collect();
    assert_eq!(paths, ["raft", "types", "core"]);
    let functions: Vec<(String, usize)> =
        source.functions().into_iter().map(|f| (f.name, f.lines)).collect();
    assert_eq!(
        functions,
        [("short".to_owned(), 1), ("raw".to_owned(), 4), ("in_tests".to_owned(), 1)]
    );
    assert!(!source.stripped.contains("tokio"));
    assert!(has_word("use tokio::x", "tokio") && !has_word("use tokio_util", "tokio"));
    assert!(has_word("rand::random()", "rand::") && !has_word("operand::x", "rand::"));
}
