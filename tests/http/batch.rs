//! Batches and counters, against a real node of four shards.

use serde_json::{Value, json};

use crate::caller::{Answer, JSON};
use crate::node::OneNode;

pub async fn all(node: &OneNode) {
    every_operation(node).await;
    atomic(node).await;
    counters(node).await;
    refused_as_a_whole(node).await;
}

async fn send(node: &OneNode, operations: Value) -> Vec<Value> {
    let answer = node.http.post("/cache/batch", &json!({ "operations": operations })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["results"].as_array().unwrap().clone()
}

async fn every_operation(node: &OneNode) {
    // One hash tag: in order, each sees the ones before it.
    let results = send(
        node,
        json!([
            { "op": "set", "key": "{b}1", "value": { "n": [1] }, "ttl": 60.5 },
            { "op": "get", "key": "{b}1" },
            { "op": "set", "key": "{b}1", "value": 2, "if_absent": true },
            { "op": "set", "key": "{b}1", "value": 2, "if_present": true },
            { "op": "get_set", "key": "{b}1", "value": "3", "ttl": "keep" },
            { "op": "get_set", "key": "{b}2", "value": "4" },
            { "op": "increment", "key": "{b}n" },
            { "op": "increment", "key": "{b}n", "by": -3 },
            { "op": "increment", "key": "{b}n", "by": 0.5 },
            { "op": "increment", "key": "{b}2" },
            { "op": "append", "key": "{b}2", "value": "5" },
            { "op": "append", "key": "{b}3", "value": "5" },
            { "op": "exists", "key": "{b}2" },
            { "op": "exists", "key": "{b}none" },
            { "op": "expire", "key": "{b}2", "ttl": 100 },
            { "op": "persist", "key": "{b}2" },
            { "op": "expire", "key": "{b}none", "ttl": 100 },
            { "op": "get_delete", "key": "{b}1" },
            { "op": "delete", "key": "{b}1" },
            { "op": "delete", "key": "{b}2", "if_version": 1 },
            { "op": "delete", "key": "{b}2" },
            { "op": "get", "key": "{b}none" },
            { "op": "set", "key_base64": "e2J9/w==", "value_base64": "/w==" },
            { "op": "get", "key_base64": "e2J9/w==" },
        ]),
    )
    .await;
    let statuses: Vec<u64> = results.iter().map(|r| r["status"].as_u64().unwrap()).collect();
    assert_eq!(
        statuses,
        [
            200, 200, 412, 200, 200, 200, 200, 200, 200, 409, 200, 200, 200, 404, 200, 200, 404,
            200, 404, 412, 200, 404, 200, 200
        ],
        "{results:#?}"
    );
    assert_eq!(results[1]["value"], json!({ "n": [1] }));
    assert!(results[1]["ttl"].as_f64().unwrap() <= 60.5);
    assert_eq!(results[2]["current_version"], results[0]["version"]);
    assert_eq!(results[4]["old"]["value"], 2);
    assert_eq!(results[5]["old"], Value::Null);
    assert_eq!(
        [&results[6]["value"], &results[7]["value"], &results[8]["value"]],
        [&json!(1), &json!(-2), &json!(-1.5)]
    );
    assert_eq!(results[9]["reason"], "not_integer");
    assert_eq!(results[11]["value_bytes"], 1);
    assert_eq!(results[12]["value_bytes"], 4, "the string 4 in its quotes, and 5");
    assert!(results[14]["expires_at_ms"].is_u64() && results[15].get("expires_at_ms").is_none());
    assert_eq!(results[17]["old"]["value"], "3");
    assert_eq!(results[23]["value_base64"], "/w==");
    for failed in results.iter().filter(|result| result["status"] != 200) {
        assert_eq!(failed["outcome"], "rejected", "{failed}");
        assert!(failed["type"].is_string() && failed["detail"].is_string());
    }
    // Keys of all shards.
    let many: Vec<Value> =
        (0..100).map(|i| json!({ "op": "set", "key": format!("b{i}"), "value": i })).collect();
    assert!(send(node, many.into()).await.iter().all(|result| result["status"] == 200));
    let many: Vec<Value> =
        (0..100).map(|i| json!({ "op": "get", "key": format!("b{i}") })).collect();
    let found = send(node, many.into()).await;
    assert!(found.iter().enumerate().all(|(i, result)| result["value"] == i), "{found:?}");
    let stale = json!({ "operations": [{ "op": "get", "key": "b1" }], "consistency": "bounded", "max_staleness": 60 });
    assert_eq!(node.http.post("/cache/batch", &stale).await.json()["results"][0]["value"], 1);
}

async fn atomic(node: &OneNode) {
    let post = async |body: Value| -> Answer { node.http.post("/cache/batch", &body).await };
    let version =
        send(node, json!([{ "op": "set", "key": "{t}a", "value": 1 }])).await[0]["version"].clone();
    let body = |version: &Value| {
        json!({
            "atomic": true,
            "watches": [{ "key": "{t}a", "version": version }, { "key": "{t}none", "version": null }],
            "operations": [
                { "op": "set", "key": "{t}a", "value": 2 },
                { "op": "get", "key": "{t}a" },
            ],
        })
    };
    let done = post(body(&version)).await;
    assert_eq!((done.status, done.json()["results"][1]["value"].clone()), (200, json!(2)));
    let late = post(body(&version)).await;
    late.is(412, "precondition_failed");
    assert!(late.json()["detail"].as_str().unwrap().starts_with("watches[0]"), "{late:?}");
    assert_eq!(late.json()["current_version"], done.json()["results"][0]["version"]);
    // A key that was absent when it was read, came and went.
    let seen = node.http.get("/cache/%7Bt%7Dgone").await;
    let since: u64 = seen.header("raftcache-state-version").parse().unwrap();
    let unless_it_came = || {
        json!({
            "atomic": true,
            "watches": [{ "key": "{t}gone", "version": null, "absent_since": since }],
            "operations": [{ "op": "exists", "key": "{t}gone" }],
        })
    };
    assert_eq!(post(unless_it_came()).await.status, 200);
    send(node, json!([{ "op": "set", "key": "{t}gone", "value": 1 }])).await;
    send(node, json!([{ "op": "delete", "key": "{t}gone" }])).await;
    post(unless_it_came()).await.is(412, "precondition_failed");
    let operations: Vec<Value> =
        (0..20).map(|i| json!({ "op": "set", "key": format!("t{i}"), "value": 1 })).collect();
    let apart = post(json!({ "atomic": true, "operations": operations })).await;
    apart.is(422, "cross_shard");
    assert!(apart.json()["detail"].as_str().unwrap().contains("hash tag"));
    node.http.get("/cache/t0").await.is(404, "not_found");
}

async fn counters(node: &OneNode) {
    let http = &node.http;
    let sum = http.call("POST", "/cache/count/increment", &[], "").await;
    assert_eq!((sum.status, sum.json()["value"].clone()), (200, json!(1)));
    assert_eq!(sum.etag(), sum.json()["version"].as_u64().unwrap());
    assert_eq!(http.post("/cache/count/increment", &json!({ "by": 41 })).await.json()["value"], 42);
    assert_eq!(
        http.post("/cache/count/increment", &json!({ "by": 0.5 })).await.json()["value"],
        42.5
    );
    assert_eq!(http.get("/cache/count").await.json()["value"], 42.5);
    http.post("/cache/count/increment", &json!({ "by": 1 })).await.is(409, "not_integer");
    http.put("/cache/count", &json!({ "value": i64::MAX })).await;
    http.post("/cache/count/increment", &json!({ "by": 1 })).await.is(409, "overflow");
    http.put("/cache/count", &json!({ "value": "many" })).await;
    http.post("/cache/count/increment", &json!({ "by": 1.5 })).await.is(409, "not_float");
    let sent = |by: &str| format!("{{\"by\":{by}}}");
    for by in ["\"1\"", "9223372036854775808", "true", "[]"] {
        http.call("POST", "/cache/count/increment", &[JSON], sent(by)).await.names("by");
    }
    let long = format!("0.{}", "1".repeat(600));
    http.call("POST", "/cache/count/increment", &[JSON], sent(&long)).await.names("by");
    http.post("/cache/count/increment", &json!({ "to": 1 })).await.names("body");
    http.call("POST", "/cache/count/increment", &[], "{}").await.is(415, "unsupported_media_type");
    http.post("/cache/count/increment?by=1", &json!({})).await.names("query");
}

/// What is wrong with one operation is wrong with all: nothing is done.
async fn refused_as_a_whole(node: &OneNode) {
    let good = json!({ "op": "set", "key": "whole", "value": 1 });
    for (bad, words) in [
        (json!({ "op": "set", "key": "k" }), "[1].value "),
        (json!({ "op": "set", "value": 1 }), "[1].key "),
        (json!({ "op": "set", "key": "k", "key_base64": "aw==", "value": 1 }), "[1].key "),
        (json!({ "op": "set", "key": "", "value": 1 }), "[1].key "),
        (json!({ "op": "set", "key_base64": "!", "value": 1 }), "[1].key_base64 "),
        (json!({ "op": "set", "key": "k", "value_base64": "!" }), "[1].value_base64 "),
        (json!({ "op": "set", "key": "k", "value": 1, "ttl": 0 }), "[1].ttl "),
        (json!({ "op": "set", "key": "k", "value": 1, "ttl": "1" }), "[1].ttl "),
        (json!({ "op": "set", "key": "k", "value": 1, "if_version": 0 }), "[1].if_version "),
        (
            json!({ "op": "set", "key": "k", "value": 1, "if_version": 1, "if_absent": true }),
            "[1].if_version ",
        ),
        (json!({ "op": "get", "key": "k", "ttl": 1 }), "[1].ttl "),
        (json!({ "op": "get", "key": "k", "value": null }), "[1].value "),
        (json!({ "op": "delete", "key": "k", "if_absent": true }), "[1].if_absent "),
        (json!({ "op": "expire", "key": "k" }), "[1].ttl "),
        (json!({ "op": "increment", "key": "k", "by": "1" }), "[1].by "),
        (json!({ "op": "append", "key": "k", "value": 1 }), "[1].value "),
    ] {
        let refused = node.http.post("/cache/batch", &json!({ "operations": [good, bad] })).await;
        refused.names("operations");
        assert!(refused.json()["detail"].as_str().unwrap().contains(words), "{refused:?}");
    }
    let op = json!({ "op": "get", "key": "k" });
    for (body, field) in [
        (json!({ "operations": [] }), "operations"),
        (json!({}), "body"),
        (json!([]), "body"),
        (json!({ "operations": [{ "op": "fly", "key": "k" }] }), "body"),
        (json!({ "operations": [op], "other": 1 }), "body"),
        (json!({ "operations": [op], "watches": [{ "key": "k", "version": 1 }] }), "watches"),
        (json!({ "operations": [op], "consistency": "none" }), "consistency"),
        (json!({ "operations": [op], "consistency": "stale", "atomic": true }), "consistency"),
    ] {
        node.http.post("/cache/batch", &body).await.names(field);
    }
    node.http.call("POST", "/cache/batch", &[JSON], "{\"operations\":[").await.names("body");
    node.http.call("POST", "/cache/batch", &[], "{}").await.is(415, "unsupported_media_type");
    node.http.get("/cache/whole").await.is(404, "not_found");
}
