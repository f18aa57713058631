//! Each limit of the door, from outside (INV-8).

use std::time::Duration;

use raftcache::types::clock::now;
use raftcache::types::task::spawn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{Reply, bulk, command, error, ok};
use crate::nodes::Nodes;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_is_told_and_the_connection_ends() {
    let nodes = Nodes::one().await;
    let long = "x".repeat(70_000);
    let cases = [
        ("*1\r\n$536870913\r\n".to_owned(), "invalid bulk length"),
        ("*1\r\n$99999999999999999999\r\n".to_owned(), "invalid bulk length"),
        ("*65537\r\n".to_owned(), "invalid multibulk length"),
        ("*2147483648\r\n".to_owned(), "invalid multibulk length"),
        ("*1\r\n".repeat(100_000), "expected '$', got '*'"),
        (format!("*{long}"), "too big mbulk count string"),
        (format!("*1\r\n${long}"), "too big bulk count string"),
        (long.clone(), "too big inline request"),
        ("GET \"k\r\n".to_owned(), "unbalanced quotes in request"),
    ];
    for (bytes, text) in cases {
        let mut client = nodes.client(0).await;
        // The node may close before it has read everything.
        drop(client.writer.write_all(b"PING\r\n").await);
        drop(client.writer.write_all(bytes.as_bytes()).await);
        let shown = &bytes[..bytes.len().min(20)];
        assert_eq!(client.reply().await, Reply::Simple("PONG".to_owned()), "{shown}");
        let expected = format!("-ERR Protocol error: {text}\r\n");
        assert_eq!(client.rest().await, expected, "{shown}");
    }
    let mut client = nodes.client(0).await;
    assert_eq!(client.ask("PING").await, Reply::Simple("PONG".to_owned()), "the node lives");
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_is_too_long_costs_the_command_and_not_the_connection() {
    let nodes = Nodes::one().await;
    let mut client = nodes.client(0).await;
    let value = "v".repeat(1024 * 1024 + 1);
    let refused = client.call(&["SET", "k", &value]).await;
    assert!(
        refused.text().starts_with("ERR ") && refused.text().contains("1048576"),
        "{refused:?}"
    );
    let key = "k".repeat(4097);
    let refused = client.call(&["SET", &key, "v"]).await;
    assert!(refused.text().starts_with("ERR ") && refused.text().contains("4096"), "{refused:?}");
    assert_eq!(client.ask("SET k v").await, ok());
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_ends_a_command_is_not_waited_for() {
    let nodes = Nodes::start(1, |config| config.limits.handshake_timeout_ms = 300).await;
    let mut client = nodes.client(0).await;
    let started = now();
    // A byte at a time, without an end.
    let mut taken = 0;
    for byte in b"*1\r\n$1000\r\n".iter().chain(std::iter::repeat(&b'x')) {
        if client.writer.write_all(&[*byte]).await.is_err() {
            break;
        }
        taken += 1;
        assert!(now() - started < Duration::from_secs(120), "still open after {taken} bytes");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(now() - started >= Duration::from_millis(250));
    nodes.stop().await;
}

/// Neither does one who was understood before: half a command is held in what all connections share.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_command_is_not_held_for_long() {
    let nodes = Nodes::start(1, |config| config.limits.stall_timeout_ms = 300).await;
    let mut silent = nodes.client(0).await;
    assert_eq!(silent.ask("PING").await.text(), "PONG");
    let started = now();
    silent.writer.write_all(b"*2\r\n$4\r\nECHO\r\n$1000\r\nhalf").await.unwrap();
    let mut rest = Vec::new();
    let ended =
        tokio::time::timeout(Duration::from_secs(120), silent.reader.read_to_end(&mut rest));
    drop(ended.await.expect("it is closed"));
    assert!(rest.is_empty(), "{rest:?}");
    assert!(now() - started >= Duration::from_millis(250));
    // Who asks for nothing is left alone.
    let mut idle = nodes.client(0).await;
    assert_eq!(idle.ask("PING").await.text(), "PONG");
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(idle.ask("PING").await.text(), "PONG");
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_of_a_million_commands_is_answered_in_order() {
    const COMMANDS: usize = 1_000_000;
    let nodes = Nodes::one().await;
    let client = nodes.client(0).await;
    let (mut reader, mut writer) = (client.reader, client.writer);
    let writing = spawn("writer", async move {
        let increment = command(&["INCR", "counter"]);
        let piece = increment.repeat(1_000);
        for _ in 0..COMMANDS / 1_000 {
            writer.write_all(&piece).await.unwrap();
        }
        writer
    });
    let started = now();
    let mut line = String::new();
    for expected in 1..=COMMANDS {
        use tokio::io::AsyncBufReadExt as _;
        line.clear();
        reader.read_line(&mut line).await.unwrap();
        assert_eq!(line, format!(":{expected}\r\n"));
    }
    println!("{COMMANDS} commands in one pipeline: {:?}", now() - started);
    drop(writing.await.unwrap().expect("it does not panic"));
    nodes.stop().await;
}

/// Everything is sent before anything is read, as `redis-py` sends a pipeline: the answers wait at the
/// node, which has room for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_send_all_before_it_reads() {
    const COMMANDS: usize = 200_000;
    let nodes = Nodes::one().await;
    let mut client = nodes.client(0).await;
    client.send(&command(&["SET", "k", &"v".repeat(40)]).repeat(COMMANDS)).await;
    for _ in 0..COMMANDS {
        assert_eq!(client.reply().await, ok());
    }
    nodes.stop().await;
}

/// Who never reads is read from no more, and closed in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_reads_is_closed() {
    let nodes = Nodes::start(1, |config| {
        config.limits.resp_output_bytes_max = 1024 * 1024;
        config.limits.stall_timeout_ms = 500;
    })
    .await;
    let mut client = nodes.client(0).await;
    let value = "v".repeat(60_000);
    assert_eq!(client.call(&["SET", "k", &value]).await, ok());
    let get = command(&["GET", "k"]).repeat(1_000);
    let started = now();
    // 60 MB of answers for every round; the sockets' own buffers hold a few.
    while client.writer.write_all(&get).await.is_ok() {
        assert!(now() - started < Duration::from_secs(120), "still open");
    }
    let mut other = nodes.client(0).await;
    assert_eq!(other.ask("STRLEN k").await, Reply::Integer(60_000));
    nodes.stop().await;
}

/// Half commands of all connections together are bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_commands_share_one_limit() {
    let nodes = Nodes::start(1, |config| {
        config.limits.resp_bulk_bytes_max = 2 * 1024 * 1024;
        config.limits.resp_request_bytes_max = 2 * 1024 * 1024;
        config.limits.resp_output_bytes_max = 1024 * 1024;
        config.limits.resp_buffers_bytes_max = 2 * 1024 * 1024;
    })
    .await;
    let half =
        [b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1500000\r\n".to_vec(), vec![b'v'; 1_400_000]].concat();
    let mut first = nodes.client(0).await;
    first.send(&half).await;
    first.writer.flush().await.unwrap();
    // Whichever comes last is refused: one of the two.
    let mut second = nodes.client(0).await;
    drop(second.writer.write_all(&half).await);
    let refused = tokio::select! {
        text = first.rest() => text,
        text = second.rest() => text,
    };
    assert!(
        refused.starts_with("-TRYAGAIN ") && refused.contains("resp_buffers_bytes_max"),
        "{refused}"
    );
    let mut other = nodes.client(0).await;
    assert_eq!(other.ask("SET k v").await, ok());
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_past_its_own_limits_is_refused_by_name() {
    let nodes = Nodes::start(1, |config| {
        config.limits.resp_arguments_max = 10;
        config.limits.transaction_operations_max = 4;
        config.limits.resp_inline_bytes_max = 64;
        config.resp.debug_commands = true;
    })
    .await;
    let mut client = nodes.client(0).await;
    // More steps than one request takes are split.
    assert_eq!(client.ask("MSET a 1 b 2 c 3 d 4").await, ok());
    assert_eq!(client.ask("DEL a b c d e f g").await, Reply::Integer(4));
    assert_eq!(client.ask("MULTI").await, ok());
    for _ in 0..4 {
        assert_eq!(client.ask("SET {t}k v").await, Reply::Simple("QUEUED".to_owned()));
    }
    let refused = client.ask("SET {t}k v").await;
    assert_eq!(refused, error("ERR a transaction has at most 4 commands"));
    assert!(client.ask("EXEC").await.text().starts_with("EXECABORT"));
    assert!(client.ask("WATCH a b c d e").await.text().contains("at most 4 keys"));
    assert_eq!(client.ask("DEBUG SLEEP 0.01").await, ok());
    assert!(client.ask("DEBUG SLEEP 1e9").await.text().starts_with("ERR "));
    assert_eq!(client.ask("ECHO x").await, bulk("x"));
    let refused = client.ask("DEL 1 2 3 4 5 6 7 8 9 10").await;
    assert_eq!(refused, error("ERR Protocol error: invalid multibulk length"));
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_answers_of_short_commands_are_refused_and_counted() {
    let nodes = Nodes::start(1, |config| {
        config.limits.resp_keys_bytes_max = 100;
        config.limits.reads_reply_bytes_max = 100;
    })
    .await;
    let mut client = nodes.client(0).await;
    for key in ["a", "b", "c"] {
        assert_eq!(client.call(&["SET", key, &"v".repeat(60)]).await, ok());
    }
    assert_eq!(client.ask("KEYS a").await.items(), [bulk("a")]);
    let all = "x".repeat(60);
    assert_eq!(client.ask(&format!("KEYS {all}")).await.items(), []);
    assert_eq!(client.ask("DEL b").await, Reply::Integer(1));
    assert_eq!(client.ask("KEYS *").await.items().len(), 2, "66 bytes");
    for key in 0..3_000 {
        client.send(&command(&["SET", &format!("many{key}"), &"v".repeat(60)])).await;
    }
    for _ in 0..3_000 {
        assert_eq!(client.reply().await, ok());
    }
    let refused = client.ask("KEYS *").await;
    let text = "ERR pattern: matches more than 100 bytes of keys (limits.resp_keys_bytes_max); use \
                SCAN";
    assert_eq!(refused, error(text));
    let many: String = (0..3_000).map(|key| format!(" many{key}")).collect();
    let refused = client.ask(&format!("MGET{many}")).await;
    assert!(refused.text().starts_with("ERR ") && refused.text().ends_with("at most 100"));
    for limit in ["resp_keys", "reads_reply"] {
        let refused = &nodes.served[0].node().metrics().refused;
        assert!(refused.with_label_values(&[limit]).get() > 0, "{limit}");
    }
    nodes.stop().await;
}
