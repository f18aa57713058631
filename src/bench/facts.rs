//! What a target says of how safe an answer of its is, and what follows for a comparison.

use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use redis_protocol::resp2::types::{BytesFrame, Resp2Frame as _};

use super::lanes::resp_connection::Connection;
use super::lanes::{etcd, grpc};
use super::options::{System, Target, Via};
use crate::front::cluster::http_get;
use crate::pb;
use crate::pb::cache_service_client::CacheServiceClient;

/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who has a write before it is acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Copies {
    /// One process.
    One,
    /// One process; so many others get it later, or never.
    OneThen(u64),
    /// A majority of so many.
    MajorityOf(u64),
    /// It does not say.
    Unknown,
}

impl fmt::Display for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Copies::One => f.write_str("1"),
            Copies::OneThen(others) => write!(f, "1, {others} later"),
            Copies::MajorityOf(all) => write!(f, "{} of {all}", all / 2 + 1),
            Copies::Unknown => f.write_str("unknown"),
        }
    }
}

/// What has become of a write before it is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// It is in memory.
    Memory,
    /// It is written, and flushed to the disk some time later.
    FlushedLater,
    /// It is flushed to the disk.
    Flushed,
    /// It does not say.
    Unknown,
}

impl Durability {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Durability::Memory => "memory",
            Durability::FlushedLater => "flushed later",
            Durability::Flushed => "flushed first",
            Durability::Unknown => "unknown",
        }
    }
}

/// What a target says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Of the program.
    pub version: String,
    /// See [`Copies`].
    pub copies: Copies,
    /// See [`Durability`].
    pub durability: Durability,
    /// What else must be known to read its figures.
    pub notes: Vec<String>,
}

impl Facts {
    fn unknown(why: String) -> Facts {
        let (copies, durability) = (Copies::Unknown, Durability::Unknown);
        Facts { version: "unknown".to_owned(), copies, durability, notes: vec![why] }
    }
}

/// Asks a target. What it does not tell is unknown, and why is a note.
pub async fn ask(target: &Target) -> Facts {
    let addr = target.addrs.first().map_or("", String::as_str);
    let asked = match (target.system, target.via) {
        (System::Etcd, _) => etcd_facts(addr).await,
        (System::Raftcache, Via::Http) => raftcache_facts(addr).await,
        (System::Raftcache, Via::Resp | Via::RespCluster) => raftcache_by_resp(addr).await,
        (System::Raftcache, _) => raftcache_by_grpc(addr).await,
        (System::Redis | System::RedisCluster, _) => redis_facts(addr).await,
    };
    asked.unwrap_or_else(|error| Facts::unknown(format!("{}: {error:#}", target.name())))
}

async fn etcd_facts(addr: &str) -> anyhow::Result<Facts> {
    let (version, members) = etcd::describe(grpc::connect(addr).await?).await?;
    Ok(Facts {
        version,
        copies: Copies::MajorityOf(members as u64),
        durability: Durability::Flushed,
        notes: vec![
            "etcd flushes before it acknowledges; where its data directory is, a disk or memory, \
             it does not tell"
                .to_owned(),
        ],
    })
}

async fn raftcache_by_grpc(addr: &str) -> anyhow::Result<Facts> {
    let mut client = CacheServiceClient::new(grpc::connect(addr).await?);
    let routing = client.routing(pb::RoutingRequest { known_epoch: 0 }).await?.into_inner();
    let me = routing.nodes.into_iter().find(|node| !node.http_address.is_empty());
    raftcache_facts(&me.context("the nodes have no HTTP address")?.http_address).await
}

async fn raftcache_by_resp(addr: &str) -> anyhow::Result<Facts> {
    let mut connection = Connection::open(addr).await?;
    raftcache_info(&text(&connection.ask(&["INFO"]).await?)).context("INFO does not tell")
}

/// Reads what raftcache answers to `INFO`.
fn raftcache_info(info: &str) -> Option<Facts> {
    Some(Facts {
        version: line(info, "raftcache_version")?.to_owned(),
        copies: copies_of(line(info, "raftcache_replicas")?.parse().ok()),
        durability: durability_of(line(info, "raftcache_durability")),
        notes: Vec::new(),
    })
}

fn copies_of(replicas: Option<usize>) -> Copies {
    match replicas {
        None | Some(0) => Copies::Unknown,
        Some(1) => Copies::One,
        Some(replicas) => Copies::MajorityOf(replicas as u64),
    }
}

fn durability_of(name: Option<&str>) -> Durability {
    match name {
        Some("memory") => Durability::Memory,
        Some("wal") => Durability::Flushed,
        Some("wal-async") => Durability::FlushedLater,
        _ => Durability::Unknown,
    }
}

async fn raftcache_facts(http_addr: &str) -> anyhow::Result<Facts> {
    let (code, body) = http_get(http_addr, "/status", PATIENCE).await?;
    anyhow::ensure!(code == 200, "{http_addr} answered {code}");
    raftcache_status(&serde_json::from_slice(&body)?).context("no status page")
}

/// Reads a status page.
fn raftcache_status(page: &serde_json::Value) -> Option<Facts> {
    let shards = page["table"]["shards"].as_array()?;
    let copies = shards.iter().filter_map(|shard| shard["replicas"].as_array()).map(Vec::len).min();
    Some(Facts {
        version: page["status"]["version"].as_str()?.to_owned(),
        copies: copies_of(copies),
        durability: durability_of(page["status"]["durability"].as_str()),
        notes: Vec::new(),
    })
}

async fn redis_facts(addr: &str) -> anyhow::Result<Facts> {
    let mut connection = Connection::open(addr).await?;
    let server = text(&connection.ask(&["INFO", "server"]).await?);
    let replication = text(&connection.ask(&["INFO", "replication"]).await?);
    // A server may refuse to show its configuration.
    let mut config = async |name: &str| match connection.ask(&["CONFIG", "GET", name]).await {
        Ok(BytesFrame::Array(pair)) => pair.get(1).map(text),
        _ => None,
    };
    let (appendonly, fsync) = (config("appendonly").await, config("appendfsync").await);
    Ok(redis_answers(&server, &replication, appendonly.as_deref(), fsync.as_deref()))
}

fn text(frame: &BytesFrame) -> String {
    String::from_utf8_lossy(frame.as_bytes().unwrap_or_default()).into_owned()
}

/// The value of a line `name:value`.
fn line<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn redis_answers(
    server: &str,
    replication: &str,
    appendonly: Option<&str>,
    fsync: Option<&str>,
) -> Facts {
    let replicas = line(replication, "connected_slaves").and_then(|count| count.parse().ok());
    Facts {
        version: line(server, "redis_version").unwrap_or("unknown").to_owned(),
        copies: match replicas {
            Some(0) => Copies::One,
            Some(replicas) => Copies::OneThen(replicas),
            None => Copies::Unknown,
        },
        durability: match (appendonly, fsync) {
            (Some("no"), _) => Durability::Memory,
            (Some("yes"), Some("always")) => Durability::Flushed,
            (Some("yes"), Some(_)) => Durability::FlushedLater,
            _ => Durability::Unknown,
        },
        notes: Vec::new(),
    }
}

/// What must be said before figures of these are put side by side.
pub fn warnings(facts: &[(String, &Facts)]) -> Vec<String> {
    let mut warnings = Vec::new();
    let list = |show: &dyn Fn(&Facts) -> String| {
        let each: Vec<String> =
            facts.iter().map(|(name, facts)| format!("{name} {}", show(facts))).collect();
        each.join(", ")
    };
    let differ = |same: &dyn Fn(&Facts, &Facts) -> bool| {
        facts.iter().any(|(_, other)| !same(facts[0].1, other))
    };
    if facts.is_empty() {
        return warnings;
    }
    if differ(&|a, b| a.copies == b.copies) {
        warnings.push(format!(
            "replication differs: copies that have a write before it is acknowledged: {}. Fewer \
             copies cost less and lose acknowledged writes when a machine is lost",
            list(&|facts| facts.copies.to_string())
        ));
    }
    if differ(&|a, b| a.durability == b.durability) {
        warnings.push(format!(
            "durability differs: a write is acknowledged when it is: {}",
            list(&|facts| match facts.durability {
                Durability::Memory => "in memory".to_owned(),
                other => other.name().to_owned(),
            })
        ));
    }
    for (name, facts) in facts {
        if facts.copies == Copies::Unknown || facts.durability == Durability::Unknown {
            warnings.push(format!("{name} does not tell its replication or durability"));
        }
        warnings.extend(facts.notes.iter().cloned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn redis_is_read_from_what_it_says() {
        let server = "# Server\r\nredis_version:7.0.15\r\n";
        let facts =
            redis_answers(server, "role:master\r\nconnected_slaves:0\r\n", Some("no"), None);
        assert_eq!(facts.version, "7.0.15");
        assert_eq!((facts.copies, facts.durability), (Copies::One, Durability::Memory));
        let replicated = "connected_slaves:2\r\n";
        let facts = redis_answers(server, replicated, Some("yes"), Some("everysec"));
        let expected = (Copies::OneThen(2), Durability::FlushedLater);
        assert_eq!((facts.copies, facts.durability), expected);
        let facts = redis_answers(server, "", Some("yes"), Some("always"));
        assert_eq!((facts.copies, facts.durability), (Copies::Unknown, Durability::Flushed));
        assert_eq!(redis_answers("", "", None, None).durability, Durability::Unknown);
    }

    #[test]
    fn raftcache_is_read_from_its_status_page() {
        let page = |replicas: usize, durability: &str| {
            let shard = json!({ "replicas": vec![1; replicas] });
            let status = json!({ "version": "0.1.0", "durability": durability });
            raftcache_status(&json!({ "status": status, "table": { "shards": [shard] } })).unwrap()
        };
        let facts = page(3, "wal");
        assert_eq!(facts.copies.to_string(), "2 of 3");
        assert_eq!(facts.durability, Durability::Flushed);
        assert_eq!(
            (page(1, "memory").copies, page(5, "").durability),
            (Copies::One, Durability::Unknown)
        );
        assert!(raftcache_status(&json!({})).is_none());
    }

    #[test]
    fn raftcache_is_read_from_its_info() {
        let info = "# Server\r\nredis_version:7.0.15\r\nraftcache_version:0.1.0\r\n\r\n# Persistence\r\n\
                    raftcache_durability:wal\r\n\r\n# Replication\r\nraftcache_replicas:3\r\n";
        let facts = raftcache_info(info).unwrap();
        assert_eq!((facts.version.as_str(), facts.copies), ("0.1.0", Copies::MajorityOf(3)));
        assert_eq!(facts.durability, Durability::Flushed);
        assert!(raftcache_info("redis_version:7.0.15\r\n").is_none());
    }

    #[test]
    fn differences_are_said_aloud_and_sameness_is_not() {
        let facts = |copies, durability| Facts {
            version: "1".to_owned(),
            copies,
            durability,
            notes: Vec::new(),
        };
        let safe = facts(Copies::MajorityOf(3), Durability::Memory);
        let lone = facts(Copies::One, Durability::Memory);
        let same = [("a".to_owned(), &safe), ("b".to_owned(), &safe)];
        assert!(warnings(&same).is_empty());
        assert!(warnings(&[]).is_empty());
        let differ = warnings(&[("raftcache".to_owned(), &safe), ("redis".to_owned(), &lone)]);
        assert_eq!(differ.len(), 1);
        assert!(differ[0].starts_with("replication differs"), "{}", differ[0]);
        assert!(differ[0].contains("raftcache 2 of 3, redis 1"), "{}", differ[0]);
        let flushed = facts(Copies::MajorityOf(3), Durability::Flushed);
        let differ = warnings(&[("raftcache".to_owned(), &safe), ("etcd".to_owned(), &flushed)]);
        assert!(differ[0].contains("raftcache in memory, etcd flushed first"), "{}", differ[0]);
        let silent = Facts::unknown("it is mute".to_owned());
        let told = warnings(&[("x".to_owned(), &silent)]);
        assert!(
            told.iter().any(|w| w.contains("does not tell"))
                && told.contains(&"it is mute".to_owned())
        );
    }
}
