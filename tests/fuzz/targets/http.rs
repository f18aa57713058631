//! The HTTP door: paths, heads and bodies. Behind it a service that says yes to everything.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use raftcache::core::table::RoutingTable;
use raftcache::front::FrontLimits;
use raftcache::front::http::router;
use raftcache::front::http::value::{Shown, of_json};
use raftcache::service::{Execute, NodeStatus, Operation, Request, Response};
use raftcache::types::metrics::Metrics;
use raftcache::types::{
    Answer, Command, Error, Found, Freshness, NodeId, Query, Reply, Step, Value, ValueKind, Version,
};
use tower::ServiceExt as _;

use super::Target;

/// Answers in the shape that is asked for.
struct Yes;

fn answer(query: &Query) -> Response {
    let value = Value { data: Bytes::from_static(b"{\"a\":1}"), kind: ValueKind::Bytes };
    let found = Found { value, version: Version(7), ttl_ms: Some(1_500) };
    let answer = match query {
        Query::Get { .. } | Query::GetRange { .. } => Answer::Value(Some(found)),
        _ => Answer::Meta(None),
    };
    Response::Read { answer, freshness: Freshness::default() }
}

fn reply(command: &Command) -> Response {
    let version = Version(7);
    Response::Written(match command {
        Command::Increment(increment) => Reply::Integer { version, value: increment.delta },
        Command::IncrementFloat(_) => Reply::Float { version, text: "1.5".into() },
        Command::Delete(_) => Reply::Deleted { version },
        Command::GetSet(_) => Reply::Swapped { version, old: None },
        Command::Append(_) => Reply::Length { version, value_bytes: 1 },
        _ => Reply::Set { version },
    })
}

impl Execute for Yes {
    async fn execute(&self, request: Request) -> Result<Response, Error> {
        Ok(match request.operation {
            Operation::Write(command) => reply(&command),
            Operation::Read { query, .. } => answer(&query),
            Operation::Multi(multi) => Response::Multi(
                multi
                    .steps
                    .iter()
                    .map(|step| match step {
                        Step::Write(command) => Ok(reply(command)),
                        Step::Read(query) => Ok(answer(query)),
                    })
                    .collect(),
            ),
            Operation::Scan(scan) => {
                let keys = vec![Bytes::from_static(b"\xff"), scan.pattern.unwrap_or_default()];
                Response::Scanned { cursor: scan.cursor, keys }
            }
            Operation::Size { .. } => Response::Size(1),
            Operation::Flush => Response::Written(Reply::Done),
            Operation::GetOrLease(_) => panic!("this door has no such operation"),
        })
    }

    fn status(&self) -> NodeStatus {
        NodeStatus { node: NodeId(1), ready: true, ..NodeStatus::default() }
    }

    fn table(&self) -> Arc<RoutingTable> {
        Arc::default()
    }
}

/// A request as text: method and target, headers, an empty line, the body.
fn request(input: &[u8]) -> Option<http::Request<Body>> {
    let end = input.windows(2).position(|two| two == b"\n\n")?;
    let (head, body) = (&input[..end], &input[end + 2..]);
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut first = lines.next()?.splitn(2, |byte| *byte == b' ');
    let (method, target) = (first.next()?, first.next()?);
    let mut request = http::Request::builder().method(method).uri(target);
    for line in lines {
        let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
        request = request.header(name, &value[1..]);
    }
    request.body(Body::from(body.to_vec())).ok()
}

const SOUND: [&str; 12] = [
    "PUT /cache/k?ttl=1.5\ncontent-type:text/plain\nif-match:\"7\", W/\"8\"\nidempotency-key:\"a\"\n\nraw",
    "PUT /cache/a%2Fb%ff\ncontent-type:application/json\n\n{\"value\":{\"a\":[1,\"\\u00e9\"]},\"ttl\":60.25}",
    "PUT /cache/k\ncontent-type:application/json\nif-none-match:*\n\n{\"value_base64\":\"/wA=\",\"ttl\":\"keep\"}",
    "PUT /cache/k\ncache-control:private, max-age=60\nrequest-timeout:0.5\ntraceparent:00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n\nx",
    "GET /cache/k?consistency=bounded&max_staleness=1.5\nif-none-match:\"7\", \"8\"\n\n",
    "GET /cache/k?raw\naccept:text/plain;q=0.5, image/png\n\n",
    "DELETE /cache/k\nif-match:*\n\n",
    "POST /cache/k/increment\ncontent-type:application/json\n\n{\"by\":-1.5e3}",
    "POST /cache/batch\ncontent-type:application/json\nidempotency-key:b\n\n{\"operations\":[{\"op\":\"set\",\"key\":\"a\",\"value\":null,\"ttl\":1,\"if_absent\":true},{\"op\":\"get_set\",\"key_base64\":\"/w==\",\"value_base64\":\"AA==\"},{\"op\":\"get\",\"key\":\"a\"},{\"op\":\"increment\",\"key\":\"a\",\"by\":5},{\"op\":\"append\",\"key\":\"a\",\"value\":\"x\"},{\"op\":\"expire\",\"key\":\"a\",\"ttl\":0.5},{\"op\":\"delete\",\"key\":\"a\",\"if_version\":7}]}",
    "POST /cache/batch\ncontent-type:application/json\n\n{\"atomic\":true,\"watches\":[{\"key\":\"a\",\"version\":null}],\"operations\":[{\"op\":\"exists\",\"key\":\"a\"},{\"op\":\"persist\",\"key\":\"a\"},{\"op\":\"get_delete\",\"key\":\"a\"}]}",
    "GET /cache?cursor=12&match=a*%5B&count=10&consistency=stale\n\n",
    "DELETE /cache?confirm=flush\n\n",
];

pub fn requests() -> Target {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let router: Router = router(Arc::new(Yes), FrontLimits::default(), &Metrics::new());
    Target::new(SOUND, move |input| {
        let Some(request) = request(input) else { return false };
        runtime.block_on(async {
            let response = router.clone().oneshot(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            // A fault of the node is a finding: its door has promised to check.
            assert!(parts.status.as_u16() < 500, "{parts:?} {body:?}");
            let kind = parts.headers.get("content-type").map(|kind| kind.to_str().unwrap());
            if kind.is_some_and(|kind| kind.ends_with("json")) && !body.is_empty() {
                serde_json::from_slice::<serde_json::Value>(&body).expect("JSON is answered");
            }
            parts.status.is_success() || parts.status == 304
        })
    })
}

/// Any JSON comes back the same, byte for byte but for the escapes of strings.
pub fn json_values() -> Target {
    let sound = [
        "5",
        "\"5\"",
        "\"a\\u00e9\\n\"",
        "{\"a\":[1,{\"b\":null}]}",
        "\" 1\"",
        "-0.0e-7",
        "\"\\ud800\"",
    ];
    Target::new(sound, |input| {
        let Ok(json) = serde_json::from_slice::<&serde_json::value::RawValue>(input) else {
            let _ = Shown::of(input);
            return false;
        };
        let Ok(kept) = of_json(json) else { return false };
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
        match Shown::of(&kept.data) {
            Shown::Json(back) => assert_eq!(parse(back.get()), parse(json.get())),
            Shown::Text(back) => assert_eq!(Some(back.into()), parse(json.get())),
            Shown::Bytes(back) => panic!("{back:?} was JSON"),
        }
        true
    })
}
