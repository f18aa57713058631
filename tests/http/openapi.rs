//! The document against what is served, both ways.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use parking_lot::Mutex;
use raftcache::front::http::OPENAPI;
use raftcache::front::http::problem::{Oddity, status_of};
use raftcache::types::Reason;
use serde_json::{Map, Value};

use crate::caller::{Answer, Caller};
use crate::errors::reasons;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(OPENAPI).unwrap());

/// Path, method and status of every answer so far.
static SEEN: Mutex<BTreeSet<(String, String, u16)>> = Mutex::new(BTreeSet::new());

const METHODS: [&str; 7] = ["get", "head", "put", "post", "delete", "patch", "options"];

fn paths() -> &'static Map<String, Value> {
    DOCUMENT["paths"].as_object().unwrap()
}

/// What a `$ref` points to, or the value itself.
fn resolved(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(pointer) => {
            let pointer = pointer.strip_prefix('#').unwrap();
            DOCUMENT.pointer(pointer).unwrap_or_else(|| panic!("{pointer} leads nowhere"))
        }
        None => value,
    }
}

/// The template that a path belongs to.
fn template(path: &str) -> Option<&'static str> {
    let path = path.split('?').next().unwrap();
    let parts = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
    let (given, mut found) = (parts(path), None);
    for known in paths().keys() {
        let wanted = parts(known);
        let fits = wanted.len() == given.len()
            && wanted.iter().zip(&given).all(|(w, g)| w == g || (w == "{key}" && !g.is_empty()));
        // What has no variable is more exact.
        if fits && (found.is_none() || !known.contains('{')) {
            found = Some(known.as_str());
        }
    }
    found
}

/// The operation of a path; `/cache/batch` may be a key as well.
fn operation(path: &str, method: &str) -> Option<(&'static str, &'static Value)> {
    let method = method.to_lowercase();
    let known = template(path)?;
    let own = paths()[known].get(&method).map(|operation| (known, operation));
    own.or_else(|| {
        let key = known == "/cache/batch";
        key.then(|| paths()["/cache/{key}"].get(&method).map(|o| ("/cache/{key}", o))).flatten()
    })
}

/// Panics unless the document says that this answer may come.
#[track_caller]
pub fn check(method: &str, path: &str, answer: &Answer) {
    let status = answer.status;
    let Some((known, operation)) = operation(path, method) else {
        let expected = if template(path).is_some() { 405 } else { 404 };
        assert_eq!(status, expected, "{method} {path} is not documented: {answer:?}");
        return;
    };
    SEEN.lock().insert((known.to_owned(), method.to_lowercase(), status));
    let responses = &operation["responses"];
    let documented = responses
        .get(status.to_string())
        .unwrap_or_else(|| panic!("{method} {path}: {status} is not documented: {answer:?}"));
    if method == "HEAD" {
        assert!(answer.body.is_empty());
        return;
    }
    let documented = resolved(documented);
    for (name, header) in documented["headers"].as_object().into_iter().flatten() {
        let optional = name == "Retry-After" || name == "ETag" && status >= 400;
        assert!(
            optional || answer.headers.contains_key(name),
            "{method} {path}: {name} is missing"
        );
        resolved(header);
    }
    let Some(content) = documented["content"].as_object() else {
        assert!(answer.body.is_empty(), "{method} {path}: a body that is not documented");
        return;
    };
    let kind = answer.header("content-type").split(';').next().unwrap();
    let schema = content.get(kind).unwrap_or_else(|| panic!("{method} {path}: {kind}"));
    if kind.ends_with("json") {
        conforms(&schema["schema"], &answer.json(), &format!("{method} {path} {status}"));
    }
}

/// The part of JSON Schema that the document uses for answers.
fn conforms(schema: &'static Value, value: &Value, at: &str) {
    assert!(matches(schema, value), "{at}: {value} is not {}", resolved(schema));
    let schema = resolved(schema);
    if let (Some(properties), Some(members)) = (schema["properties"].as_object(), value.as_object())
    {
        for (name, member) in members {
            match properties.get(name) {
                Some(schema) => conforms(schema, member, &format!("{at}.{name}")),
                None => assert_ne!(schema["additionalProperties"], false, "{at}: {name}"),
            }
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(members.contains_key(name.as_str().unwrap()), "{at}: {name} is missing");
        }
    }
    if let (Some(items), Some(elements)) = (schema.get("items"), value.as_array()) {
        elements.iter().for_each(|element| conforms(items, element, &format!("{at}[]")));
    }
}

/// Type, constant, enumeration and alternatives.
fn matches(schema: &'static Value, value: &Value) -> bool {
    let schema = resolved(schema);
    let of_type = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type {other}"),
    };
    let typed = match &schema["type"] {
        Value::Null => true,
        Value::String(name) => of_type(name),
        Value::Array(names) => names.iter().any(|name| of_type(name.as_str().unwrap())),
        other => panic!("{other}"),
    };
    let constant = schema.get("const").is_none_or(|constant| constant == value);
    let listed = schema["enum"].as_array().is_none_or(|all| all.contains(value));
    let has = |schema: &'static Value| {
        let required = resolved(schema)["required"].as_array().into_iter().flatten();
        let mut required = required.map(|name| name.as_str().unwrap());
        required.all(|name| value.get(name).is_some()) && matches(schema, value)
    };
    let any = schema["anyOf"].as_array().is_none_or(|all| all.iter().any(has));
    let one =
        schema["oneOf"].as_array().is_none_or(|all| all.iter().filter(|s| has(s)).count() == 1);
    typed && constant && listed && any && one
}

#[test]
fn the_document_is_sound() {
    assert_eq!(DOCUMENT["openapi"], "3.1.0");
    assert_eq!(DOCUMENT["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut ids = BTreeSet::new();
    for (path, item) in paths() {
        for (method, operation) in item.as_object().unwrap() {
            if method == "parameters" || method == "description" {
                continue;
            }
            let at = format!("{method} {path}");
            assert!(METHODS.contains(&method.as_str()), "{at}");
            let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{at}: no id"));
            assert!(ids.insert(id), "{id} twice");
            assert!(!operation["responses"].as_object().unwrap().is_empty(), "{at}");
            let parameters = [&item["parameters"], &operation["parameters"]];
            for parameter in parameters.iter().filter_map(|p| p.as_array()).flatten() {
                let parameter = resolved(parameter);
                assert!(parameter["name"].is_string() && parameter["schema"].is_object(), "{at}");
            }
            let named = path.contains("{key}");
            assert_eq!(item["parameters"].is_array(), named, "{at}: parameters of the path");
        }
    }
    references(&DOCUMENT);
}

/// Every reference leads somewhere.
fn references(value: &'static Value) {
    match value {
        Value::Object(members) => {
            if members.contains_key("$ref") {
                resolved(value);
            }
            members.values().for_each(references);
        }
        Value::Array(elements) => elements.iter().for_each(references),
        _ => {}
    }
}

#[test]
fn every_problem_has_its_place_in_the_document() {
    let listed = DOCUMENT["x-problems"].as_object().unwrap();
    let mut names = BTreeSet::new();
    let mut is = |name: &'static str, status: u16, outcome: &str, retryable: bool| {
        let expected =
            serde_json::json!({ "status": status, "outcome": outcome, "retryable": retryable });
        assert_eq!(listed.get(name), Some(&expected), "{name}");
        names.insert(name);
    };
    for reason in reasons() {
        let outcome = format!("{:?}", reason.outcome()).to_lowercase();
        is(reason.name(), status_of(&reason).as_u16(), &outcome, reason.retryable());
        assert!(Reason::retryable(&reason) || status_of(&reason) != 429, "429 says: try again");
    }
    for oddity in Oddity::ALL {
        let problem = oddity.problem("");
        is(problem.reason, problem.status, problem.outcome, problem.retryable);
    }
    assert_eq!(names.len(), listed.len(), "none that does not exist");
}

/// Every method on every path, and on some others: what is not documented is refused.
pub async fn nothing_else_is_served(http: &Caller) {
    for path in paths().keys() {
        let path = path.replace("{key}", "probe");
        for method in METHODS {
            if operation(&path, method).is_some() {
                continue;
            }
            let answer = http.call(&method.to_uppercase(), &path, &[], "").await;
            answer.is(405, "method_not_allowed");
            for allowed in answer.header("allow").split(',') {
                assert!(operation(&path, allowed.trim()).is_some(), "{path} allows {allowed}");
            }
        }
    }
    let others =
        ["/", "/cache/", "/cache/a/", "/cache/a/b", "/cache/a/increment/b", "/admin", "/metrics/"];
    for path in others {
        http.get(path).await.is(404, "no_such_path");
    }
    // Those that the source names are all there.
    let source = include_str!("../../src/front/http.rs");
    let routes: BTreeSet<&str> =
        source.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let documented: BTreeSet<&str> = paths().keys().map(String::as_str).collect();
    assert_eq!(routes, documented);
}

/// Every path and method of the document was asked for, successfully.
pub fn all_was_asked_for() {
    let seen = SEEN.lock();
    for (path, item) in paths() {
        for method in item.as_object().unwrap().keys().filter(|m| METHODS.contains(&m.as_str())) {
            let good = seen.iter().any(|(p, m, status)| p == path && m == method && *status < 400);
            assert!(good, "{method} {path} was never asked for with success");
        }
    }
}
