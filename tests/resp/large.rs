//! Values that are large together, and clients that read them slowly.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Client, bulk, command, ok};
use crate::nodes::Nodes;

const VALUE_BYTES: usize = 900_000;

/// A node whose shards hold such values.
async fn roomy() -> Nodes {
    Nodes::start(1, |config| config.cluster.shard_bytes_max = 128 << 20).await
}

async fn set_large(client: &mut Client, keys: usize) -> Vec<String> {
    let values: Vec<String> =
        ('a'..).take(keys).map(|letter| letter.to_string().repeat(VALUE_BYTES)).collect();
    for (at, value) in values.iter().enumerate() {
        assert_eq!(client.call(&["SET", &format!("{{t}}{at}"), value]).await, ok());
    }
    values
}

/// A value that does not fit among the answers of an entry is read by itself, which is too late once the
/// same entry has written its key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_value_is_shown_though_its_key_is_written_next() {
    let nodes = roomy().await;
    let mut client = nodes.client(0).await;
    let values = set_large(&mut client, 6).await;
    let pairs: Vec<u8> = (0..6)
        .flat_map(|at| {
            let key = format!("{{t}}{at}");
            [command(&["GET", &key]), command(&["SET", &key, "small"])].concat()
        })
        .collect();
    client.send(&pairs).await;
    for value in &values {
        assert_eq!(client.reply().await, bulk(value));
        assert_eq!(client.reply().await, ok());
    }
    for (at, value) in set_large(&mut client, 6).await.iter().enumerate() {
        // What a step of the other kind tells of a key must not be of the time before.
        let key = format!("{{t}}{at}");
        let swap = [command(&["GETSET", &key, "small"]), command(&["STRLEN", &key])].concat();
        client.send(&swap).await;
        assert_eq!(client.reply().await, bulk(value));
        assert_eq!(client.reply().await, crate::client::Reply::Integer(5));
    }
    nodes.stop().await;
}

/// Reads to the end, some at a time.
async fn read_slowly(socket: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let (mut all, mut piece) = (Vec::new(), vec![0; 256 * 1024]);
    loop {
        let read = socket.read(&mut piece).await?;
        if read == 0 {
            return Ok(all);
        }
        all.extend_from_slice(&piece[..read]);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One answer to `GET` of a large value.
fn answer(value: &str) -> Vec<u8> {
    format!("${}\r\n{value}\r\n", value.len()).into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_slowly_gets_every_answer_before_quit() {
    const GETS: usize = 20;
    let nodes = roomy().await;
    let values = set_large(&mut nodes.client(0).await, 1).await;
    let mut socket = TcpStream::connect(&nodes.resp[0]).await.unwrap();
    socket.write_all(&command(&["GET", "{t}0"]).repeat(GETS)).await.unwrap();
    // What follows QUIT is not read as commands: it must not cost the answers before it.
    let behind = [command(&["QUIT"]), command(&["PING"]).repeat(20_000)].concat();
    socket.write_all(&behind).await.unwrap();
    let all = read_slowly(&mut socket).await.expect("an end, and no reset");
    let expected = [answer(&values[0]).repeat(GETS), b"+OK\r\n".to_vec()].concat();
    assert_eq!(all.len(), expected.len());
    assert!(all == expected);
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_slowly_gets_whole_answers_of_a_door_that_stops() {
    const GETS: usize = 40;
    let nodes = roomy().await;
    let values = set_large(&mut nodes.client(0).await, 1).await;
    let one = answer(&values[0]);
    let mut socket = TcpStream::connect(&nodes.resp[0]).await.unwrap();
    socket.write_all(&command(&["GET", "{t}0"]).repeat(GETS)).await.unwrap();
    socket.write_all(&command(&["PING"]).repeat(20_000)).await.unwrap();
    let mut begin = vec![0; one.len()];
    socket.read_exact(&mut begin).await.unwrap();
    assert!(begin == one);
    let reading = async {
        let rest = read_slowly(&mut socket).await.expect("an end, and no reset");
        drop(socket);
        rest
    };
    let (rest, ()) = tokio::join!(reading, nodes.stop());
    // As many as were worked on when it stopped; each of them whole.
    let gets = (rest.len() / one.len()).min(GETS - 1);
    assert!(gets > 0 && rest[..gets * one.len()] == one.repeat(gets));
    let pongs = &rest[gets * one.len()..];
    assert!(*pongs == *b"+PONG\r\n".repeat(pongs.len() / 7), "{} bytes", pongs.len());
}
