//! Holds the documents to the code: files and functions named in them exist, every error and every
//! configuration key is described as it is.
//!
//! Notation in documents: a path in backticks (`src/a/b.rs`, `src/a/`) must exist; behind a path on the
//! same line or the next, `fn name` (or struct, enum, trait, const, type) must be defined in that file.

mod source;

use std::collections::BTreeMap;
use std::time::Duration;

use raftcache::config::Config;
use raftcache::types::{Error, GroupId, NodeId, Outcome, Reason, RoutingEpoch};
use source::{Source, repository};

/// Documents whose marks are checked.
const DOCUMENTS: [&str; 19] = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/architecture.md",
    "docs/client.md",
    "docs/configuration.md",
    "docs/deploy.md",
    "docs/errors.md",
    "docs/fuzzing.md",
    "docs/http.md",
    "docs/memory.md",
    "docs/operations.md",
    "docs/overload.md",
    "docs/performance.md",
    "docs/resp.md",
    "docs/testing.md",
    "docs/glossary.md",
    "docs/locks.md",
    "docs/adr/README.md",
];

/// First parts of a path that is one of this repository.
const ROOTS: [&str; 9] =
    ["src/", "tests/", "docs/", "proto/", "benches/", "deploy/", "jepsen-like/", ".ci/", "Cargo."];

const KINDS: [&str; 6] = ["fn", "struct", "enum", "trait", "const", "type"];

fn read(path: &str) -> String {
    let full = repository().join(path);
    std::fs::read_to_string(&full).unwrap_or_else(|error| panic!("{}: {error}", full.display()))
}

/// Code spans of a document, with their lines; fenced blocks are left out.
fn spans(text: &str) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    let mut fenced = false;
    for (i, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let parts = line.split('`').skip(1).step_by(2);
            out.extend(parts.map(|span| (i + 1, span.to_owned())));
        }
    }
    out
}

/// What is wrong with the marks of a document; `exists` and `defines` ask the repository.
fn check_marks(
    document: &str,
    text: &str,
    exists: impl Fn(&str) -> bool,
    defines: impl Fn(&str, &str, &str) -> bool,
) -> Vec<String> {
    let mut findings = Vec::new();
    let mut last: Option<(usize, String)> = None;
    for (line, span) in spans(text) {
        let path = ROOTS.iter().any(|root| span.starts_with(root)) && !span.contains(' ');
        if path {
            if !exists(&span) {
                findings.push(format!("{document}:{line}: {span} does not exist"));
            }
            last = Some((line, span));
            continue;
        }
        let Some((kind, name)) = span.split_once(' ').filter(|(kind, _)| KINDS.contains(kind))
        else {
            continue;
        };
        match &last {
            Some((at, path)) if line - at <= 1 => {
                if !defines(path, kind, name) {
                    findings.push(format!("{document}:{line}: {path} has no {kind} {name}"));
                }
            }
            _ => findings.push(format!("{document}:{line}: {span} stands behind no file")),
        }
    }
    findings
}

#[test]
fn files_and_functions_named_in_documents_exist() {
    let root = repository();
    let exists = |path: &str| root.join(path).exists();
    let defines = |path: &str, kind: &str, name: &str| {
        root.join(path).is_file() && Source::new(path, &read(path)).defines(kind, name)
    };
    let mut findings = Vec::new();
    let mut marks = 0;
    for document in DOCUMENTS {
        let text = read(document);
        marks += spans(&text).len();
        findings.extend(check_marks(document, &text, exists, defines));
        for target in links(&text) {
            let dir = root.join(document);
            if !dir.parent().expect("a document is in a directory").join(&target).exists() {
                findings.push(format!("{document}: link to {target} leads nowhere"));
            }
        }
    }
    assert!(marks > 50, "only {marks} marks found: is the reader broken?");
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

/// Relative targets of Markdown links, without anchors.
fn links(text: &str) -> Vec<String> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.split('#').next().unwrap_or_default().to_owned())
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .collect()
}

#[test]
fn the_reader_of_documents_finds_what_is_wrong() {
    let text = "`src/a.rs` `fn good` `fn bad`\n`src/gone.rs`\n\n`fn lonely`\n```\n`src/x.rs`\n```\n\
                see [a](b.md#c) and [d](https://e)";
    let findings = check_marks(
        "d.md",
        text,
        |path| path == "src/a.rs",
        |path, kind, name| (path, kind, name) == ("src/a.rs", "fn", "good"),
    );
    assert_eq!(
        findings,
        [
            "d.md:1: src/a.rs has no fn bad",
            "d.md:2: src/gone.rs does not exist",
            "d.md:4: fn lonely stands behind no file",
        ]
    );
    assert_eq!(links(text), ["b.md"]);
}

/// Cells of the table rows whose first cell is a code span: name to the other cells.
fn table(text: &str) -> BTreeMap<String, Vec<String>> {
    text.lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let mut cells = line.trim_matches('|').split(" | ").map(|c| c.trim().to_owned());
            let name = cells.next().expect("a row has a cell").trim_matches('`').to_owned();
            (name, cells.collect())
        })
        .collect()
}

/// One of each reason. `kinds_in_source` notices a missing one.
fn reasons() -> Vec<Reason> {
    let group = GroupId(1);
    let detail = || "x".to_owned();
    vec![
        Reason::InvalidArgument { field: "key", problem: detail() },
        Reason::NotLeader { group, leader: Some(NodeId(1)) },
        Reason::NotOwner { epoch: RoutingEpoch(1) },
        Reason::NoLeader { group },
        Reason::NoQuorum { group, silent_ms: 2_000 },
        Reason::NotReady,
        Reason::ResourceExhausted { what: "x", limit: 1 },
        Reason::Stopping,
        Reason::DeadlineBeforePropose,
        Reason::DeadlineAfterPropose,
        Reason::Lost { detail: detail() },
        Reason::ReadFailed { detail: detail() },
        Reason::TooStale { age_ms: 2, staleness_ms_max: 1 },
        Reason::SessionExpired,
        Reason::TooLarge { bytes: 2, bytes_max: 1 },
        Reason::StorageFailed { detail: detail() },
        Reason::NotInteger,
        Reason::Overflow,
        Reason::NotFloat,
        Reason::NotFinite,
        Reason::ReplyTooLarge { bytes: 2, bytes_max: 1 },
        Reason::CrossShard { shards: 2 },
        Reason::WrongKind,
        Reason::OutdatedToken,
        Reason::Internal { detail: detail() },
    ]
}

/// Names given by `Reason::name`, read from its source.
fn names_in_source() -> Vec<String> {
    let text = read("src/types/error.rs");
    let body = text.split("pub fn name(").nth(1).expect("Reason::name");
    let body = body.split("\n    }\n").next().expect("its body");
    body.split("=> \"")
        .skip(1)
        .map(|rest| rest.split('"').next().expect("a string").to_owned())
        .collect()
}

#[test]
fn every_error_is_documented_as_it_is() {
    let rows = table(&read("docs/errors.md"));
    let reasons = reasons();
    let mut names: Vec<String> = reasons.iter().map(|r| r.name().to_owned()).collect();
    assert_eq!(names, names_in_source(), "this test knows every reason, in order");
    for reason in reasons {
        let row = rows.get(reason.name()).unwrap_or_else(|| panic!("{} is missing", reason.name()));
        let outcome = match reason.outcome() {
            Outcome::Rejected => "Rejected",
            Outcome::Unknown => "Unknown",
        };
        let retry = if reason.retryable() { "yes" } else { "no" };
        assert_eq!(row.len(), 5, "{}: cells", reason.name());
        assert_eq!((row[0].as_str(), row[1].as_str()), (outcome, retry), "{}", reason.name());
        let code = format!("{:?}", raftcache::front::status::code(&reason)).to_uppercase();
        assert_eq!(row[2].replace('_', ""), code, "gRPC code of {}", reason.name());
        let status = raftcache::front::http::problem::status_of(&reason).as_u16();
        assert_eq!(row[3], status.to_string(), "HTTP status of {}", reason.name());
        assert!(row[4].len() > 10, "{}: says what to do", reason.name());
        let hinted = Error::from(reason.clone()).retry_after(Duration::from_millis(1));
        assert_eq!(hinted.outcome(), reason.outcome(), "a hint changes no outcome");
    }
    names.sort();
    assert_eq!(rows.into_keys().collect::<Vec<_>>(), names, "no error that does not exist");
}

#[test]
fn every_configuration_key_is_documented_with_its_default() {
    let rows = table(&read("docs/configuration.md"));
    let keys = Config::default().keys();
    for (key, default) in &keys {
        let row = rows.get(key).unwrap_or_else(|| panic!("{key} is missing"));
        assert_eq!(row[0], format!("`{default}`"), "default of {key}");
        assert!(row[1].len() > 5, "{key}: says what it means");
    }
    let documented: Vec<String> = rows.into_keys().collect();
    let known: Vec<String> = keys.into_iter().map(|(key, _)| key).collect();
    assert_eq!(documented, known, "no key that does not exist");
}
