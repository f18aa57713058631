//! The crate `redis` as a cluster client, unchanged.

use redis::cluster::ClusterClient;

use crate::nodes::Nodes;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_crate_redis_goes_straight_to_leaders() {
    let nodes = Nodes::start(3, |_| {}).await;
    let urls: Vec<String> = nodes.resp.iter().map(|address| format!("redis://{address}")).collect();
    tokio::task::spawn_blocking(move || work(&urls)).await.unwrap();
    nodes.stop().await;
}

fn work(urls: &[String]) {
    let client = ClusterClient::new(urls.to_vec()).unwrap();
    let mut connection = client.get_connection().unwrap();
    for i in 0..200 {
        let key = format!("key:{i}");
        let set: String = redis::cmd("SET").arg(&key).arg(i).query(&mut connection).unwrap();
        assert_eq!(set, "OK");
        let next: i64 = redis::cmd("INCR").arg(&key).query(&mut connection).unwrap();
        assert_eq!(next, i + 1);
    }
    let values: Vec<Option<i64>> =
        redis::cmd("MGET").arg("{t}a").arg("{t}b").query(&mut connection).unwrap();
    assert_eq!(values, [None, None]);
    let mut pipeline = redis::cluster::cluster_pipe();
    for i in 0..200 {
        pipeline.cmd("GET").arg(format!("key:{i}"));
    }
    let values: Vec<i64> = pipeline.query(&mut connection).unwrap();
    assert_eq!(values, (1..=200).collect::<Vec<i64>>());
}
