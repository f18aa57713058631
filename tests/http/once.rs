//! INV-6 over HTTP: the same request under the same `Idempotency-Key` is applied once.

use futures_util::future::join_all;
use serde_json::json;

use crate::caller::{Answer, JSON};
use crate::node::OneNode;

pub async fn all(node: &OneNode) {
    let http = &node.http;
    let increment = async |key: &str, by: u64| -> Answer {
        let body = json!({ "by": by }).to_string();
        http.call("POST", "/cache/once/increment", &[JSON, ("idempotency-key", key)], body).await
    };
    let first = increment("\"a\"", 5).await;
    // However often, and at the same time.
    let again = join_all((0..16).map(|_| increment("a", 5))).await;
    for answer in &again {
        assert_eq!((answer.status, answer.json()), (200, first.json()), "the first answer");
    }
    assert_eq!(http.get("/cache/once").await.json()["value"], 5);
    // Another key, and another operation under the same key, are requests of their own.
    assert_eq!(increment("b", 5).await.json()["value"], 10);
    assert_eq!(increment("a", 1).await.json()["value"], 11);

    // Its age, if it is told, says whether it is new.
    let aged = async |key: &str, age: &str| -> Answer {
        let headers = [("idempotency-key", key), ("idempotency-age", age)];
        http.call("POST", "/cache/once/increment", &headers, "").await
    };
    let first = aged("c", "0").await;
    assert_eq!(first.json()["value"], 12);
    assert_eq!(aged("c", "0.25").await.json(), first.json());
    assert_eq!(aged("d", "3").await.json()["value"], 13, "nothing was forgotten here");
    aged("e", "soon").await.names("idempotency-age");

    let put = async |value: u64| {
        let body = json!({ "value": value }).to_string();
        http.call("PUT", "/cache/once:put", &[JSON, ("idempotency-key", "p")], body).await
    };
    let created = put(1).await;
    assert_eq!(created.status, 201);
    http.put("/cache/once:put", &json!({ "value": 2 })).await;
    let retried = put(1).await;
    assert_eq!((retried.status, retried.json()), (201, created.json()));
    assert_eq!(http.get("/cache/once:put").await.json()["value"], 2, "not applied again");

    let delete =
        async || http.call("DELETE", "/cache/once:put", &[("idempotency-key", "d")], "").await;
    assert_eq!(delete().await.status, 204);
    http.put("/cache/once:put", &json!({ "value": 3 })).await;
    assert_eq!(delete().await.status, 204, "the first answer");
    assert_eq!(http.get("/cache/once:put").await.status, 200);

    let batch = json!({ "operations": [
        { "op": "increment", "key": "once:1" }, { "op": "increment", "key": "once:2" },
        { "op": "increment", "key": "once:3" }, { "op": "increment", "key": "once:3" },
    ] });
    let send = async || {
        let headers = [JSON, ("idempotency-key", "batch")];
        http.call("POST", "/cache/batch", &headers, batch.to_string()).await.json()
    };
    let first = send().await;
    assert_eq!(send().await, first);
    assert_eq!(http.get("/cache/once:3").await.json()["value"], 2);

    increment("", 1).await.names("idempotency-key");
    increment(&"x".repeat(256), 1).await.names("idempotency-key");
    let twice = [("idempotency-key", "a"), ("idempotency-key", "b")];
    http.call("POST", "/cache/once/increment", &twice, "").await.names("idempotency-key");
    assert_eq!(http.get("/cache/once").await.json()["value"], 13);
}
