//! `MULTI`, `EXEC`, `WATCH`.

use crate::client::{Reply, bulk, error, ok};
use crate::nodes::Nodes;

fn queued() -> Reply {
    Reply::Simple("QUEUED".to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_applied_as_one_and_answers_in_order() {
    let nodes = Nodes::one().await;
    let mut client = nodes.client(0).await;
    assert_eq!(client.ask("MULTI").await, ok());
    assert_eq!(client.ask("SET {t}a x").await, queued());
    assert_eq!(client.ask("INCR {t}a").await, queued());
    assert_eq!(client.ask("GET {t}a").await, queued());
    assert_eq!(client.ask("PING").await, queued());
    assert_eq!(client.ask("MGET {t}a {t}none").await, queued());
    let Reply::Many('*', replies) = client.ask("EXEC").await else { panic!("an array") };
    assert_eq!(replies[0], ok());
    assert_eq!(replies[1], error("ERR value is not an integer or out of range"));
    assert_eq!(replies[2], bulk("x"));
    assert_eq!(replies[3], Reply::Simple("PONG".to_owned()));
    assert_eq!(replies[4].items(), [bulk("x"), Reply::Nil]);
    // The same in one piece.
    client.send(b"MULTI\r\nSET {t}a 1\r\nINCR {t}a\r\nEXEC\r\nGET {t}a\r\n").await;
    for reply in [ok(), queued(), queued(), Reply::Many('*', vec![ok(), Reply::Integer(2)])] {
        assert_eq!(client.reply().await, reply);
    }
    assert_eq!(client.reply().await, bulk("2"));
    assert_eq!(client.ask("MULTI").await, ok());
    assert_eq!(client.ask("EXEC").await, Reply::Many('*', Vec::new()));
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watched_key_that_changed_stops_the_transaction() {
    let nodes = Nodes::one().await;
    let (mut client, mut other) = (nodes.client(0).await, nodes.client(0).await);
    for change in ["SET {t}k 2", "DEL {t}k", "EXPIRE {t}k 100", "FLUSHALL"] {
        assert_eq!(client.ask("SET {t}k 1").await, ok());
        assert_eq!(client.ask("WATCH {t}k {t}absent").await, ok());
        let (Reply::Simple(_) | Reply::Integer(1)) = other.ask(change).await else {
            panic!("{change}")
        };
        assert_eq!(client.ask("MULTI").await, ok());
        assert_eq!(client.ask("SET {t}k mine").await, queued());
        assert_eq!(client.ask("EXEC").await, Reply::Nil, "{change}");
        assert_ne!(client.ask("GET {t}k").await, bulk("mine"));
    }
    // An absent key that comes to be.
    assert_eq!(client.ask("WATCH {t}absent").await, ok());
    assert_eq!(other.ask("SET {t}absent 1").await, ok());
    client.send(b"MULTI\r\nEXEC\r\n").await;
    assert_eq!(client.reply().await, ok());
    assert_eq!(client.reply().await, Reply::Nil);
    // Nothing is watched after EXEC, UNWATCH or DISCARD, nor is a key that did not change.
    for forget in ["UNWATCH", "MULTI;DISCARD", "GET {t}k"] {
        assert_eq!(client.ask("WATCH {t}k").await, ok());
        for line in forget.split(';') {
            client.ask(line).await;
        }
        if !forget.starts_with("GET") {
            assert_eq!(other.ask("SET {t}k 3").await, ok());
        }
        client.send(b"MULTI\r\nSET {t}k mine\r\nEXEC\r\n").await;
        assert_eq!((client.reply().await, client.reply().await), (ok(), queued()));
        assert_eq!(client.reply().await, Reply::Many('*', vec![ok()]), "{forget}");
    }
    nodes.stop().await;
}

/// A key that was absent when it was watched, came and went is not as it was: another client may have
/// acted on it. What became of other keys does not matter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watched_key_that_was_absent_came_and_went_stops_the_transaction() {
    let nodes = Nodes::one().await;
    let (mut client, mut other) = (nodes.client(0).await, nodes.client(0).await);
    let transaction = b"MULTI\r\nSET {t}done 1\r\nEXEC\r\n";
    let ways = [
        &["SET {t}k 1", "DEL {t}k"][..],
        &["SET {t}k 1", "GETDEL {t}k"],
        &["SET {t}k 1", "RENAME {t}k {t}other"],
        &["SET {t}k 1", "EXPIRE {t}k -1"],
        &["INCR {t}k", "FLUSHALL"],
    ];
    for way in ways {
        for read_between in [false, true] {
            assert_eq!(client.ask("WATCH {t}k").await, ok());
            for command in way {
                let (Reply::Simple(_) | Reply::Integer(1) | Reply::Bulk(_)) =
                    other.ask(command).await
                else {
                    panic!("{command}")
                };
                if read_between {
                    client.ask("GET {t}k").await;
                }
            }
            client.send(transaction).await;
            assert_eq!((client.reply().await, client.reply().await), (ok(), queued()));
            assert_eq!(client.reply().await, Reply::Nil, "{way:?}, read between: {read_between}");
        }
    }
    assert_eq!(client.ask("GET {t}done").await, Reply::Nil);
    // Gone before it was watched, and another key that comes and stays.
    assert_eq!(client.ask("WATCH {t}k").await, ok());
    assert_eq!(other.ask("SET {t}another 1").await, ok());
    client.send(transaction).await;
    assert_eq!((client.reply().await, client.reply().await), (ok(), queued()));
    assert_eq!(client.reply().await, Reply::Many('*', vec![ok()]));
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_one_is_refused_as_a_whole() {
    let nodes = Nodes::one().await;
    let mut client = nodes.client(0).await;
    let abort = error("EXECABORT Transaction discarded because of previous errors.");
    for bad in ["NOPE", "GET", "DBSIZE", "KEYS *", "HELLO 3"] {
        assert_eq!(client.ask("MULTI").await, ok());
        assert_eq!(client.ask("SET {t}k bad").await, queued());
        let Reply::Error(_) = client.ask(bad).await else { panic!("{bad}") };
        assert_eq!(client.ask("EXEC").await, abort, "{bad}");
    }
    assert_eq!(client.ask("GET {t}k").await, Reply::Nil);
    assert_eq!(client.ask("MULTI").await, ok());
    assert_eq!(client.ask("MULTI").await, error("ERR MULTI calls can not be nested"));
    assert_eq!(client.ask("WATCH k").await, error("ERR WATCH inside MULTI is not allowed"));
    assert_eq!(client.ask("DISCARD").await, ok());
    // Keys of several shards: four shards share the slots, so some of these differ.
    assert_eq!(client.ask("MULTI").await, ok());
    for key in 0..16 {
        assert_eq!(client.call(&["SET", &format!("cross{key}"), "1"]).await, queued());
    }
    let crossed = error("CROSSSLOT Keys in request don't hash to the same slot");
    assert_eq!(client.ask("EXEC").await, crossed);
    assert_eq!(client.ask("GET cross0").await, Reply::Nil);
    nodes.stop().await;
}
