//! The pages for operators.

use raftcache::front::http::OPENAPI;

use crate::node::OneNode;

pub async fn all(node: &OneNode) {
    let http = &node.http;
    for path in [
        "/health",
        "/live",
        "/ready",
        "/metrics",
        "/status",
        "/openapi.json",
        "/admin/cluster/status",
        "/admin/alarms",
    ] {
        assert_eq!(http.get(path).await.status, 200, "{path}");
        let head = http.call("HEAD", path, &[], "").await;
        assert_eq!(head.status, 200);
        http.post(path, &serde_json::json!({})).await.is(405, "method_not_allowed");
    }
    assert_eq!(http.get("/openapi.json").await.body, OPENAPI);
    let page = http.get("/admin/cluster/status").await.json();
    assert_eq!(page["healthy"], true, "{page:#}");
    assert_eq!(page["answered_by"], 1);
    assert_eq!(page["nodes"].as_array().unwrap().len(), 1);
    assert_eq!(page["nodes"][0]["http_addr"], http.addr);
    assert_eq!(page["nodes"][0]["leads"], 5, "four shards and the controller");
    assert_eq!(page["controller"]["leader"], 1);
    let shards = page["shards"].as_array().unwrap();
    assert_eq!(shards.len(), 4);
    assert_eq!(shards.iter().map(|shard| shard["slots"].as_u64().unwrap()).sum::<u64>(), 16_384);
    for shard in shards {
        assert_eq!(shard["leader"], 1);
        assert_eq!(shard["replicas"][0]["role"], "leader");
        assert_eq!(shard["replicas"][0]["lag"], 0);
    }
}
