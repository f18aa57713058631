//! The crate `redis` in cluster mode, as any program would use it: it learns the slots from one node, goes
//! to the leaders, follows `MOVED` and splits pipelines by node.

use redis::cluster::{ClusterClient, cluster_pipe};
use redis::{Commands, RedisResult};

use crate::nodes::Nodes;

const KEYS: i64 = 200;

fn uses_it(first: &str) -> RedisResult<()> {
    let mut connection = ClusterClient::new(vec![format!("redis://{first}")])?.get_connection()?;
    let mut pipeline = cluster_pipe();
    for i in 0..KEYS {
        let key = format!("library:{i}");
        let () = connection.set(&key, i)?;
        let next: i64 = connection.incr(&key, 1)?;
        assert_eq!(next, i + 1);
        pipeline.get(key);
    }
    let values: Vec<i64> = pipeline.query(&mut connection)?;
    assert_eq!(values, (1..=KEYS).collect::<Vec<i64>>());
    // Keys of one slot together, with a time to live, and a watched transaction.
    let () = connection.mset(&[("{cart}a", "1"), ("{cart}b", "2")])?;
    let both: Vec<String> = connection.mget(&["{cart}a", "{cart}b"])?;
    assert_eq!(both, ["1", "2"]);
    let () = connection.pset_ex("{cart}a", "3", 60_000)?;
    let left: i64 = connection.pttl("{cart}a")?;
    assert!((1..=60_000).contains(&left), "{left}");
    let set: Option<String> =
        redis::cmd("SET").arg("{cart}a").arg("4").arg("NX").query(&mut connection)?;
    assert_eq!(set, None, "it was there");
    let crossed: RedisResult<()> =
        redis::cmd("RENAME").arg("{a}x").arg("{b}x").query(&mut connection);
    assert!(crossed.is_err());
    let missing: Option<i64> = connection.get("library:none")?;
    assert_eq!(missing, None);
    let gone: i64 = connection.del("{cart}b")?;
    assert_eq!(gone, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_crate_redis_in_cluster_mode_needs_no_change() {
    let nodes = Nodes::start(3, |_| {}).await;
    nodes.leader_of_each_shard().await;
    let first = nodes.resp[0].clone();
    tokio::task::spawn_blocking(move || uses_it(&first)).await.unwrap().unwrap();
    nodes.stop().await;
}
