//! The grpcurl commands that documents show, run as grpcurl runs them.

use serde_json::{Value, json};

use crate::grpc_json::{JsonClient, Reflection};

/// A grpcurl command: the message, the address, the method.
fn parse(line: &str) -> (String, String, String) {
    let (message, rest) = match line.split_once("-d '") {
        Some((_, rest)) => rest.split_once('\'').expect("a closing quote"),
        None => ("", line.split_once("-plaintext").expect("-plaintext").1),
    };
    let mut words = rest.split_whitespace();
    let (addr, method) = (words.next().unwrap(), words.next().unwrap());
    (message.to_owned(), addr.to_owned(), method.to_owned())
}

/// Every grpcurl command of a text.
pub fn grpcurls(text: &str) -> Vec<(String, String, String)> {
    text.lines().map(str::trim).filter(|line| line.starts_with("grpcurl ")).map(parse).collect()
}

/// Runs the commands that a text shows and returns the answers, under the names of their methods.
pub async fn run(
    commands: Vec<(String, String, String)>,
    reflection: Reflection,
    place: impl Fn(&str) -> String,
) -> Vec<(String, Value)> {
    let mut answers = Vec::new();
    for (message, addr, method) in commands {
        let client = JsonClient::connect(&place(&addr), reflection).await.unwrap();
        let answer = client.call(&method, &message).await;
        let answer = answer.unwrap_or_else(|status| panic!("{method} {message}: {status}"));
        answers.push((method.replace("cache.CacheService/", ""), answer));
    }
    answers
}

/// The commands of the README, at the nodes of a cluster of three by their gRPC addresses.
pub async fn readme(grpc: &[String], reflection: Reflection) {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let place = |addr: &str| match addr {
        "localhost:8080" => grpc[0].clone(),
        "localhost:8082" => grpc[1].clone(),
        "localhost:8084" => grpc[2].clone(),
        other => panic!("no node is at {other}"),
    };
    let answers = run(grpcurls(&text), reflection, place).await;
    let names: Vec<&str> = answers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Set", "Get", "Set", "Health"]);
    assert_eq!(answers[1].1["value"], "hello");
    assert_eq!(answers[2].1["applied"], true);
    assert_eq!(answers[3].1["status"], "SERVING");
    assert_eq!((&answers[3].1["nodes"], &answers[3].1["shards"]), (&json!(3), &json!(16)));
}
