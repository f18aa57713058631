//! Values in and out, by this door and by others; times to live; freshness.

use raftcache::front::pb;
use serde_json::{Value, json};

use crate::caller::JSON;
use crate::node::OneNode;

pub async fn all(node: &OneNode) {
    any_json_comes_back(node).await;
    raw_bytes_come_back(node).await;
    other_doors_see_what_one_expects(node).await;
    keys_are_any_bytes(node).await;
    times_to_live(node).await;
    reads_say_how_fresh(node).await;
}

async fn any_json_comes_back(node: &OneNode) {
    let http = &node.http;
    let values = [
        "null",
        "true",
        "0",
        "-1.5e300",
        "\"\"",
        "\"5\"",
        "\"null\"",
        "\"\\\"quoted\\\"\"",
        "\"caf\u{e9} \u{1f980} \\u0000\"",
        "[]",
        "{\"b\":[1,{\"c\":null}],\"a\":\"x\"}",
        "123456789012345678901234567890.123456789",
    ];
    for text in values {
        let body = format!("{{\"value\":{text}}}");
        let put = http.call("PUT", "/cache/json", &[JSON], body).await;
        assert!(put.status == 200 || put.status == 201, "{put:?}");
        let got = http.get("/cache/json").await;
        assert_eq!(got.status, 200);
        let expected: Value = serde_json::from_str(text).unwrap();
        assert_eq!(got.json()["value"], expected, "{text}");
        assert_eq!(got.json()["version"], put.json()["version"]);
        assert_eq!(got.etag(), put.etag());
        assert_eq!(got.header("cache-control"), "no-cache");
        assert!(got.json().get("ttl").is_none());
    }
    // All digits, though a number of JavaScript has fewer.
    let text = String::from_utf8(http.get("/cache/json").await.body.to_vec()).unwrap();
    assert!(text.contains("123456789012345678901234567890.123456789"), "{text}");
    let bytes = http.put("/cache/json", &json!({ "value_base64": "/wAB" })).await;
    assert_eq!(bytes.status, 200);
    assert_eq!(http.get("/cache/json").await.json()["value_base64"], "/wAB");
    let raw = http.call("GET", "/cache/json?raw", &[], "").await;
    assert_eq!(
        (&raw.body[..], raw.header("content-type")),
        (&[255, 0, 1][..], "application/octet-stream")
    );
    // Two representations have two tags.
    let tag = bytes.header("etag").trim_matches('"').to_owned();
    assert_eq!(raw.header("etag"), format!("\"{tag}-raw\""));
    let has = [("if-none-match", raw.header("etag"))];
    assert_eq!(http.call("GET", "/cache/json?raw", &has, "").await.status, 304);
    assert_eq!(http.call("GET", "/cache/json", &has, "").await.status, 200);
    let replaced = [JSON, ("if-match", raw.header("etag"))];
    assert_eq!(http.call("PUT", "/cache/json", &replaced, "{\"value\":1}").await.status, 200);
}

async fn raw_bytes_come_back(node: &OneNode) {
    let http = &node.http;
    let data: Vec<u8> = (0..=255).collect();
    let put = http.call("PUT", "/cache/raw", &[("content-type", "image/png")], data.clone()).await;
    assert_eq!((put.status, put.json()["created"].clone()), (201, json!(true)));
    for (path, accept) in [("/cache/raw?raw=1", "*/*"), ("/cache/raw", "image/png, text/*;q=0.5")] {
        let got = http.call("GET", path, &[("accept", accept)], "").await;
        assert_eq!((got.status, &got.body[..]), (200, &data[..]));
        assert_eq!(got.header("x-content-type-options"), "nosniff");
        assert_eq!(got.header("vary"), "Accept");
    }
    let shown = http.call("GET", "/cache/raw", &[("accept", "text/html, */*;q=0.1")], "").await;
    assert!(shown.json()["value_base64"].is_string());
    let refused = [("accept", "application/json; Q=0.0, image/png")];
    assert_eq!(http.call("GET", "/cache/raw", &refused, "").await.body, data);
    let head = http.call("HEAD", "/cache/raw?raw", &[], "").await;
    assert_eq!((head.status, head.header("content-length")), (200, "256"));
    // Nothing at all is a value as well.
    http.call("PUT", "/cache/raw", &[], "").await;
    let empty = http.call("GET", "/cache/raw?raw", &[], "").await;
    assert_eq!((empty.status, empty.body.len()), (200, 0));
    assert_eq!(http.get("/cache/raw").await.json()["value"], "");
    let text = [("content-type", "text/plain; charset=utf-8")];
    http.call("PUT", "/cache/raw", &text, "{\"a\": 1}").await;
    let got = http.call("GET", "/cache/raw", &[("accept", "text/plain")], "").await;
    assert_eq!((&got.body[..], got.header("content-type")), (&b"{\"a\": 1}"[..], text[0].1));
    assert_eq!(http.get("/cache/raw").await.json()["value"], json!({ "a": 1 }));
}

async fn other_doors_see_what_one_expects(node: &OneNode) {
    let (http, mut grpc) = (&node.http, node.grpc.clone());
    let key_form = || Some(pb::get_request::KeyForm::Key("shared".to_owned()));
    let mut grpc_get = async || {
        let get = pb::GetRequest { key_form: key_form(), ..pb::GetRequest::default() };
        match grpc.get(get).await.unwrap().into_inner().value_form.unwrap() {
            pb::get_response::ValueForm::Value(text) => text,
            pb::get_response::ValueForm::ValueBytes(bytes) => format!("{bytes:?}"),
        }
    };
    for (value, seen) in [
        (json!("hello"), "hello"),
        (json!(5), "5"),
        (json!("5"), "\"5\""),
        (json!({ "a": [1] }), "{\"a\":[1]}"),
    ] {
        http.put("/cache/shared", &json!({ "value": value })).await;
        assert_eq!(grpc_get().await, seen, "{value}");
    }
    let mut grpc = node.grpc.clone();
    for (text, seen) in [("hello", json!("hello")), ("10", json!(10)), ("[1,", json!("[1,"))] {
        let set = pb::SetRequest {
            key_form: Some(pb::set_request::KeyForm::Key("shared".to_owned())),
            value_form: Some(pb::set_request::ValueForm::ValueBytes(
                text.as_bytes().to_vec().into(),
            )),
            ..pb::SetRequest::default()
        };
        grpc.set(set).await.unwrap();
        assert_eq!(http.get("/cache/shared").await.json()["value"], seen);
    }
}

async fn keys_are_any_bytes(node: &OneNode) {
    let (http, mut grpc) = (&node.http, node.grpc.clone());
    for (path, key) in [
        ("/cache/a%2Fb%00%ff", &b"a/b\0\xff"[..]),
        ("/cache/batch", b"batch"),
        ("/cache/%2E%2E", b".."),
        ("/cache/a+b%20c", b"a+b c"),
    ] {
        assert_eq!(http.put(path, &json!({ "value": path })).await.status, 201);
        let key_form = Some(pb::get_request::KeyForm::KeyBytes(key.to_vec().into()));
        let get = pb::GetRequest { key_form, ..pb::GetRequest::default() };
        assert!(grpc.get(get).await.unwrap().into_inner().found, "{path}");
        assert_eq!(http.get(path).await.json()["value"], path);
        assert_eq!(http.call("HEAD", path, &[], "").await.status, 200);
        assert_eq!(http.delete(path).await.status, 204);
        http.delete(path).await.is(404, "not_found");
    }
    let sum = http.post("/cache/batch/increment", &json!({})).await;
    assert_eq!(sum.json()["value"], 1, "the counter named batch");
    http.delete("/cache/batch").await;
    http.get("/cache/%zz").await.names("key");
    http.put("/cache/%", &json!({ "value": 1 })).await.names("key");
}

async fn times_to_live(node: &OneNode) {
    let http = &node.http;
    let put = http.put("/cache/brief", &json!({ "value": 1, "ttl": 100.5 })).await;
    assert_eq!(put.status, 201);
    let got = http.get("/cache/brief").await;
    let left = got.json()["ttl"].as_f64().unwrap();
    assert!(left > 60.0 && left <= 100.5, "{left}");
    let max_age: f64 =
        got.header("cache-control").strip_prefix("no-cache, max-age=").unwrap().parse().unwrap();
    assert!(max_age <= 100.0 && max_age > 60.0 && max_age.fract() == 0.0);
    // The three ways to give it, and `keep`.
    let left = async || http.get("/cache/brief").await.json()["ttl"].as_f64();
    http.call("PUT", "/cache/brief?ttl=keep", &[], "x").await;
    assert!(left().await.is_some());
    http.call("PUT", "/cache/brief", &[], "x").await;
    assert_eq!(left().await, None);
    http.call("PUT", "/cache/brief?ttl=1000.25", &[], "x").await;
    assert!(left().await.unwrap() > 900.0);
    http.call("PUT", "/cache/brief", &[("cache-control", "private, Max-Age=50")], "x").await;
    assert!(left().await.unwrap() <= 50.0);
    http.call("PUT", "/cache/brief", &[("cache-control", "max-age=0")], "x").await;
    assert_eq!(left().await, None, "what a browser adds is no time to live");
    http.call("PUT", "/cache/brief", &[("cache-control", "max-age=50")], "x").await;
    http.put("/cache/brief", &json!({ "value": 1, "ttl": "keep" })).await;
    assert!(left().await.is_some());
    http.put("/cache/brief", &json!({ "value": 1, "ttl": null })).await;
    assert_eq!(left().await, None);
    // It ends.
    http.put("/cache/brief", &json!({ "value": 1, "ttl": 0.02 })).await;
    crate::process::until("it ends", std::time::Duration::from_secs(10), async || {
        (http.get("/cache/brief").await.status == 404).then_some(())
    })
    .await;
    for ttl in [json!(0), json!(-1), json!("60"), json!(1e300), json!(true), json!(315_360_001)] {
        http.put("/cache/brief", &json!({ "value": 1, "ttl": ttl })).await.names("ttl");
    }
    http.call("PUT", "/cache/brief?ttl=1", &[("cache-control", "max-age=1")], "x")
        .await
        .names("ttl");
    http.put("/cache/brief?ttl=1", &json!({ "value": 1, "ttl": 1 })).await.names("ttl");
    http.call("PUT", "/cache/brief", &[("cache-control", "max-age=x")], "")
        .await
        .names("cache-control");
}

async fn reads_say_how_fresh(node: &OneNode) {
    let http = &node.http;
    http.put("/cache/fresh", &json!({ "value": 1 })).await;
    let ways = ["linearizable", "lease", "stale", "bounded&max_staleness=10.5"];
    for way in ways {
        // A lease is there a moment after the leader.
        let path = format!("/cache/fresh?consistency={way}");
        let got = crate::process::until(way, std::time::Duration::from_secs(10), async || {
            let got = http.get(&path).await;
            (got.status == 200).then_some(got)
        })
        .await;
        assert_eq!((got.status, got.json()["value"].clone()), (200, json!(1)), "{way}");
        let (term, index) = got.header("raftcache-log-id").split_once('.').unwrap();
        assert!(term.parse::<u64>().unwrap() >= 1 && index.parse::<u64>().unwrap() >= 1);
        if way == "linearizable" {
            assert_eq!(got.header("raftcache-age-ms"), "0");
        }
    }
    for (query, field) in [
        ("consistency=none", "consistency"),
        ("consistency=bounded", "max_staleness"),
        ("max_staleness=1", "max_staleness"),
        ("consistency=bounded&max_staleness=x", "max_staleness"),
        ("raw=no", "raw"),
        ("other=1", "query"),
        ("raw&raw", "raw"),
    ] {
        http.get(&format!("/cache/fresh?{query}")).await.names(field);
    }
}
