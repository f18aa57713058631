//! Entity tags and preconditions (RFC 9110, section 13), against a real node.

use serde_json::json;

use crate::caller::{Answer, JSON};
use crate::node::OneNode;

pub async fn all(node: &OneNode) {
    let http = &node.http;
    let put = async |header: (&'static str, &str), value: u64| -> Answer {
        let body = json!({ "value": value }).to_string();
        http.call("PUT", "/cache/tag", &[JSON, header], body).await
    };
    // Created once.
    let first = put(("if-none-match", "*"), 1).await;
    assert_eq!((first.status, first.json()["created"].clone()), (201, json!(true)));
    let again = put(("if-none-match", "*"), 2).await;
    again.is(412, "precondition_failed");
    assert_eq!(again.json()["current_version"], first.json()["version"]);
    // Replaced only as it was.
    let tag = |answer: &Answer| answer.header("etag").to_owned();
    let second = put(("if-match", &tag(&first)), 2).await;
    assert_eq!((second.status, second.json()["created"].clone()), (200, json!(false)));
    assert!(second.etag() > first.etag(), "versions grow");
    put(("if-match", &tag(&first)), 3).await.is(412, "precondition_failed");
    put(("if-match", &format!("W/{}", tag(&second))), 3).await.is(412, "precondition_failed");
    put(("if-match", "\"none of ours\""), 3).await.is(412, "precondition_failed");
    assert_eq!(put(("if-match", "*"), 3).await.status, 200);
    assert_eq!(http.get("/cache/tag").await.json()["value"], 3);
    put(("if-match", "7"), 3).await.names("if-match");
    put(("if-match", "\"1\", \"2\""), 3).await.names("if-match");
    put(("if-none-match", "\"1\""), 3).await.names("if-none-match");
    // Read only if it changed.
    let got = http.get("/cache/tag").await;
    let old = tag(&second);
    let if_none =
        async |tags: &str| http.call("GET", "/cache/tag", &[("if-none-match", tags)], "").await;
    let same = if_none(&format!("{old}, W/{}", tag(&got))).await;
    assert_eq!((same.status, same.etag()), (304, got.etag()));
    assert_eq!(if_none("*").await.status, 304);
    assert_eq!(if_none(&old).await.status, 200);
    http.call("GET", "/cache/tag", &[("if-match", &old)], "").await.is(412, "precondition_failed");
    assert_eq!(http.call("GET", "/cache/tag", &[("if-match", &tag(&got))], "").await.status, 200);
    // Deleted only as it was.
    let delete =
        async |tags: &str| http.call("DELETE", "/cache/tag", &[("if-match", tags)], "").await;
    delete(&old).await.is(412, "precondition_failed");
    http.call("DELETE", "/cache/tag", &[("if-none-match", "*")], "").await.names("if-none-match");
    assert_eq!(delete(&tag(&got)).await.status, 204);
    let gone = delete("*").await;
    gone.is(412, "precondition_failed");
    assert!(gone.json().get("current_version").is_none());
    delete("\"x\"").await.is(412, "precondition_failed");
    put(("if-match", "*"), 4).await.is(412, "precondition_failed");
    http.get("/cache/tag").await.is(404, "not_found");
    assert_eq!(if_none("*").await.status, 404);
    http.call("GET", "/cache/tag", &[("if-match", "*")], "").await.is(412, "precondition_failed");
}
