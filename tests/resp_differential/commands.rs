//! What `COMMAND` tells of the commands that both servers have.

use raftcache::front::resp::table::{COMMANDS, SUBCOMMANDS};

use crate::client::{Client, words};
use crate::ours;
use crate::redis::Redis;
use crate::reply::Reply;

/// Younger than Redis 7.0, or ours alone.
const NOT_THERE: [&str; 3] = ["client|no-touch", "client|redirect", "client|setinfo"];

fn sorted(reply: &Reply) -> Vec<String> {
    let mut words: Vec<String> =
        reply.array().expect("a list").iter().map(|word| format!("{word:?}")).collect();
    words.sort();
    words
}

/// Keys' positions, ACL categories, and how each key is used.
fn told(reply: &Reply) -> String {
    let Some([Reply::Array(Some(fields))]) = reply.array() else { panic!("{reply:?}") };
    let uses: Vec<Vec<String>> = fields[8]
        .array()
        .expect("key specifications")
        .iter()
        .map(|spec| {
            let fields = spec.array().expect("fields");
            let at = fields.iter().position(|field| field.bulk() == Some(b"flags"));
            sorted(&fields[at.expect("flags") + 1])
        })
        .collect();
    format!("{:?} {:?} {:?} {uses:?}", &fields[1], &fields[3..6], sorted(&fields[6]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_told_of_as_redis_does() {
    let Some(redis) = Redis::start().await else { return };
    let node = ours::serve().await;
    let mut ours = Client::connect(node.port).await.unwrap();
    let mut theirs = Client::connect(redis.port).await.unwrap();
    let all = COMMANDS.iter().chain(SUBCOMMANDS).map(|command| command.name);
    let mut differ = Vec::new();
    for name in all.filter(|name| !NOT_THERE.contains(name)) {
        let ask = words(&format!("COMMAND INFO {name}"));
        let (ours, theirs) = (told(&ours.ask(&ask).await), told(&theirs.ask(&ask).await));
        if ours != theirs {
            differ.push(format!("{name}\n  ours:  {ours}\n  Redis: {theirs}"));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    for call in [
        "set k v",
        "SET k v Get",
        "get k",
        "mset a 1 b 2",
        "del a b",
        "rename a b",
        "renamenx a b",
        "copy a b",
        "getex k",
        "getdel k",
        "getset k v",
        "incr k",
        "append k v",
        "setrange k 1 v",
        "expire k 1",
        "exists a b",
        "touch a",
        "strlen k",
        "msetnx a 1",
        "setnx a 1",
        "watch a",
        "object encoding k",
        "memory usage k",
        "persist k",
        "mget a b",
        "psetex a 1 v",
        "nope a",
        "object help",
        "config get x",
        "get a b",
        "ping a",
    ] {
        for sub in ["GETKEYS", "GETKEYSANDFLAGS"] {
            let ask = words(&format!("COMMAND {sub} {call}"));
            assert_eq!(ours.ask(&ask).await, theirs.ask(&ask).await, "COMMAND {sub} {call}");
        }
    }
}
