//! Walking over keys, and removing all of them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::node::OneNode;

pub async fn all(node: &OneNode) {
    let http = &node.http;
    assert_eq!(http.call("DELETE", "/cache?confirm=flush", &[], "").await.status, 204);
    let empty = http.get("/cache").await.json();
    assert_eq!(empty, json!({ "cursor": null, "keys": [] }));
    let wanted: BTreeSet<String> = (0..300).map(|i| format!("walk/{i}")).collect();
    let sets: Vec<Value> =
        wanted.iter().map(|key| json!({ "op": "set", "key": key, "value": 1 })).collect();
    http.post("/cache/batch", &json!({ "operations": sets })).await;
    http.put("/cache/%ff", &json!({ "value": 1 })).await;
    let walk = async |more: &str| {
        let (mut keys, mut bytes, mut calls, mut cursor) = (BTreeSet::new(), 0, 0, String::new());
        loop {
            let page = http.get(&format!("/cache?{cursor}{more}")).await.json();
            for key in page["keys"].as_array().unwrap() {
                assert!(keys.insert(key.as_str().unwrap().to_owned()), "{key} twice");
            }
            bytes += page["keys_base64"].as_array().map_or(0, Vec::len);
            calls += 1;
            match page["cursor"].as_str() {
                Some(next) => cursor = format!("cursor={next}&"),
                None => return (keys, bytes, calls),
            }
        }
    };
    let (keys, bytes, calls) = walk("count=20").await;
    assert_eq!((keys, bytes), (wanted.clone(), 1));
    assert!(calls >= 10, "{calls} calls of 20");
    let (keys, ..) = walk("match=walk/1%3F").await;
    assert_eq!(keys.len(), 10, "{keys:?}");
    assert_eq!(http.call("HEAD", "/cache", &[], "").await.status, 200);
    for (query, field) in [
        ("cursor=x", "cursor"),
        ("cursor=-1", "cursor"),
        ("count=0", "count"),
        ("count=4097", "count"),
        ("limit=1", "query"),
    ] {
        http.get(&format!("/cache?{query}")).await.names(field);
    }
    let long = format!("/cache?match={}", "a".repeat(1025));
    http.get(&long).await.names("pattern");
    http.delete("/cache").await.names("confirm");
    http.delete("/cache?confirm=yes").await.names("confirm");
    assert_eq!(http.delete("/cache?confirm=flush").await.status, 204);
    http.get("/cache/walk%2F1").await.is(404, "not_found");
}
