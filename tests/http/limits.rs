//! Every limit of the door: a clear error, and the door lives on (INV-8).

use std::time::Duration;

use raftcache::front::FrontLimits;
use raftcache::service::Response;
use raftcache::types::clock::now;
use raftcache::types::limits::{JSON_DEPTH_MAX, KEY_BYTES_MAX, TRANSACTION_OPERATIONS_MAX};
use raftcache::types::{Reply, Version};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::caller::JSON;
use crate::scripted::Door;

/// A door whose service sets whatever it is asked to.
async fn door(limits: FrontLimits) -> Door {
    let door = Door::open(limits).await;
    let set = Reply::Set { version: Version(1) };
    door.script(Some(Ok(Response::Written(set))));
    door
}

/// With a condition, so that one reply is the answer.
const NEW: (&str, &str) = ("if-none-match", "*");

#[tokio::test]
async fn sizes_have_limits() {
    let limits =
        FrontLimits { value_bytes_max: 1_000, message_bytes_max: 8_000, ..FrontLimits::default() };
    let door = door(limits).await;
    let http = &door.http;
    let raw = async |bytes: usize| http.call("PUT", "/cache/k", &[NEW], vec![7_u8; bytes]).await;
    assert_eq!(raw(1_000).await.status, 201);
    raw(1_001).await.is(413, "body_too_large");
    let text = async |bytes: usize| {
        let body = json!({ "value": "v".repeat(bytes) }).to_string();
        http.call("PUT", "/cache/k", &[JSON, NEW], body).await
    };
    assert_eq!(text(1_000).await.status, 201);
    text(1_001).await.names("value");
    text(8_000).await.is(413, "body_too_large");
    assert_eq!(door.refused("http_body_bytes"), 2);
    let key = |bytes: usize| format!("/cache/{}", "%41".repeat(bytes));
    assert_eq!(http.call("PUT", &key(KEY_BYTES_MAX), &[NEW], "").await.status, 201);
    http.call("PUT", &key(KEY_BYTES_MAX + 1), &[NEW], "").await.names("key");
    let nested = |depth: usize| format!("{{\"value\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let put = async |body: String| http.call("PUT", "/cache/k", &[JSON, NEW], body).await;
    assert_eq!(put(nested(JSON_DEPTH_MAX)).await.status, 201);
    put(nested(JSON_DEPTH_MAX + 1)).await.names("value");
    // No parser runs out of stack, whatever is nested where.
    for deep in ["[", "{\"value\":[", "{\"a\":", "{\"operations\":[", "{\"value\":{\"a\":"] {
        let body = deep.repeat(8_000 / deep.len());
        put(body.clone()).await.names("body");
        http.call("POST", "/cache/batch", &[JSON], body).await.names("body");
    }
    http.call("PUT", "/cache/k", &[NEW, ("content-encoding", "gzip")], "x")
        .await
        .is(415, "unsupported_media_type");
    for body in [
        "",
        "{",
        "{}",
        "[]",
        "\"x\"",
        "{\"value\":1,\"value\":2}",
        "{\"value\":01}",
        "{\"value\":1}x",
    ] {
        let answer = put(body.to_owned()).await;
        answer.is(400, "invalid_argument");
        assert!(["body", "value"].contains(&answer.json()["field"].as_str().unwrap()));
    }
    let words = format!("{{\"{}\":1}}", "x".repeat(7_000));
    assert!(put(words).await.body.len() < 1_000, "what was sent is not sent back");
    door.close().await;
}

#[tokio::test]
async fn a_batch_has_a_limit_of_operations() {
    let door = door(FrontLimits::default()).await;
    let batch = |count: usize| {
        let operation = "{\"op\":\"get\",\"key\":\"k\"}";
        format!("{{\"operations\":[{}]}}", vec![operation; count].join(","))
    };
    let missing = || Response::Written(Reply::NotFound);
    door.script(Some(Ok(Response::Multi(vec![Ok(missing()); TRANSACTION_OPERATIONS_MAX]))));
    let full =
        door.http.call("POST", "/cache/batch", &[JSON], batch(TRANSACTION_OPERATIONS_MAX)).await;
    assert_eq!(full.json()["results"].as_array().unwrap().len(), TRANSACTION_OPERATIONS_MAX);
    let over = door
        .http
        .call("POST", "/cache/batch", &[JSON], batch(TRANSACTION_OPERATIONS_MAX + 1))
        .await;
    over.names("body");
    assert!(over.json()["detail"].as_str().unwrap().contains("at most 1024"), "{over:?}");
    door.close().await;
}

/// Sends what is given, piece by piece, and reads the answer.
async fn slowly(door: &Door, pieces: &[&[u8]], pause: Duration) -> String {
    let mut socket = TcpStream::connect(&door.http.addr).await.unwrap();
    for piece in pieces {
        if socket.write_all(piece).await.is_err() {
            break;
        }
        tokio::time::sleep(pause).await;
    }
    let mut text = Vec::new();
    // Reset, if there was more to read.
    let _ = socket.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let limits =
        FrontLimits { stall_timeout_ms: 150, deadline_ms_max: 600, ..FrontLimits::default() };
    let door = door(limits).await;
    let head =
        b"PUT /cache/k HTTP/1.1\r\nHost: a\r\nIf-None-Match: *\r\nContent-Length: 100\r\n\r\n";
    let text = slowly(&door, &[&head[..], b"half"], Duration::ZERO).await;
    assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("body_too_slow"), "{text}");
    assert!(text.to_lowercase().contains("connection: close"), "{text}");
    // One byte after the other does not help.
    let drops = [&head[..]].into_iter().chain([&b"x"[..]; 99]).collect::<Vec<_>>();
    let text = slowly(&door, &drops, Duration::from_millis(50)).await;
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    assert_eq!(door.refused("http_body_time"), 2);
    // Chunked, and larger than it may be.
    let chunk = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
    let head = b"PUT /cache/k HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = [&head[..]].into_iter().chain([&chunk[..]; 17]).collect::<Vec<_>>();
    let text = slowly(&door, &chunks, Duration::ZERO).await;
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 413 "), "{text}");
    assert_eq!(door.refused("http_body_bytes"), 1);
    assert_eq!(door.http.call("PUT", "/cache/k", &[NEW], "x").await.status, 201, "it lives on");
    door.close().await;
}

#[tokio::test]
async fn bodies_together_have_a_limit() {
    let limits = FrontLimits { http_bodies_bytes_max: 5_000, ..FrontLimits::default() };
    let door = door(limits).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut socket = TcpStream::connect(&door.http.addr).await.unwrap();
        let head = "PUT /cache/k HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&[7; 2_000]).await.unwrap();
        held.push(socket);
    }
    let put = || door.http.call("PUT", "/cache/k", &[NEW], vec![7_u8; 2_000]);
    let deadline = now() + Duration::from_secs(60);
    while put().await.status != 429 {
        assert!(now() < deadline, "the third is refused");
    }
    assert!(door.refused("http_bodies_bytes") >= 1);
    drop(held);
    while put().await.status != 201 {
        assert!(now() < deadline, "there is room again");
    }
    door.close().await;
}

#[tokio::test]
async fn a_crowd_that_asks_for_the_cluster_is_refused() {
    let door = door(FrontLimits::default()).await;
    // The other node of the table is nowhere: each asks for two seconds.
    let calls = (0..24).map(|_| door.http.get("/admin/cluster/status"));
    let answers = futures_util::future::join_all(calls).await;
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    let refused = answers.iter().filter(|answer| answer.status == 429).count();
    assert!(served >= 8 && served + refused == 24, "{served} {refused}");
    assert_eq!(door.refused("cluster_status"), refused as u64);
    let page = answers.iter().find(|answer| answer.status == 200).unwrap().json();
    assert_eq!(page["healthy"], false);
    assert!(page["nodes"][0]["error"].is_string(), "{page:#}");
    door.close().await;
}
