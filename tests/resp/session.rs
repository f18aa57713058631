//! What a connection says about itself, in both versions of the protocol, and errors word for word.

use crate::client::{Reply, bulk, error, ok};
use crate::nodes::Nodes;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_goes_in_and_comes_out_in_order() {
    let nodes = Nodes::one().await;
    let mut client = nodes.client(0).await;
    assert_eq!(client.ask("PING").await, Reply::Simple("PONG".to_owned()));
    assert_eq!(client.ask("SET k v").await, ok());
    assert_eq!(client.ask("get k").await, bulk("v"));
    // Inline, and many at once: the answers come in the order of the commands.
    client.send(b"SET a 1\r\nINCR a\r\nPING x\r\nGET a\r\n*0\r\n\r\nECHO \"b c\"\r\nNOPE\r\nGET none\r\n").await;
    let expected = [
        ok(),
        Reply::Integer(2),
        bulk("x"),
        bulk("2"),
        bulk("b c"),
        error("ERR unknown command 'NOPE', with args beginning with: "),
        Reply::Nil,
    ];
    for reply in expected {
        assert_eq!(client.reply().await, reply);
    }
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_those_of_redis_and_ours_say_what_there_is() {
    let nodes = Nodes::one().await;
    let mut client = nodes.client(0).await;
    for (line, text) in [
        ("foo a b", "ERR unknown command 'foo', with args beginning with: 'a' 'b' "),
        ("GET", "ERR wrong number of arguments for 'get' command"),
        ("client nope", "ERR unknown subcommand 'nope'. Try CLIENT HELP."),
        ("SELECT 1", "ERR DB index is out of range"),
        ("SELECT x", "ERR value is not an integer or out of range"),
        ("EXEC", "ERR EXEC without MULTI"),
        ("DISCARD", "ERR DISCARD without MULTI"),
        ("HELLO 4", "NOPROTO unsupported protocol version"),
        ("HELLO x", "ERR Protocol version is not an integer or out of range"),
        ("HELLO 3 FOO", "ERR Syntax error in HELLO option 'FOO'"),
        ("AUTH a b", "WRONGPASS invalid username-password pair or user is disabled."),
        ("CLIENT REPLY x", "ERR syntax error"),
    ] {
        assert_eq!(client.ask(line).await, error(text), "{line}");
    }
    let lists = client.ask("LPUSH l 1").await;
    assert!(lists.text().contains("'LPUSH' is not served") && lists.text().contains("strings"));
    assert!(client.ask("AUTH x").await.text().starts_with("ERR AUTH <password> called without"));
    assert!(client.ask("DEBUG SLEEP 0").await.text().contains("not allowed"));
    assert_eq!(client.ask("AUTH default x").await, ok());
    assert_eq!(client.ask("SELECT 0").await, ok());
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hello_changes_the_protocol_from_its_own_reply_on() {
    let nodes = Nodes::one().await;
    let mut client = nodes.client(0).await;
    client.send(b"GET none\r\nHELLO 3 SETNAME me\r\nGET none\r\nRESET\r\nGET none\r\n").await;
    assert_eq!(client.reply().await, Reply::Nil);
    let Reply::Many('%', fields) = client.reply().await else { panic!("a map") };
    assert_eq!(fields[0], bulk("server"));
    assert_eq!(fields[5], Reply::Integer(3));
    // `_` and `$-1` read alike here: the bytes are compared where they differ.
    assert_eq!(client.reply().await, Reply::Nil);
    assert_eq!(client.reply().await, Reply::Simple("RESET".to_owned()));
    assert_eq!(client.reply().await, Reply::Nil);
    assert_eq!(client.ask("CLIENT GETNAME").await, Reply::Nil, "RESET takes the name");
    let Reply::Many('*', _) = client.ask("HELLO").await else { panic!("an array again") };
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_named_listed_and_may_want_no_replies() {
    let nodes = Nodes::one().await;
    let (mut one, mut other) = (nodes.client(0).await, nodes.client(0).await);
    assert_eq!(one.ask("CLIENT SETNAME first").await, ok());
    assert_eq!(one.ask("CLIENT SETINFO LIB-NAME lib").await, ok());
    assert_eq!(one.ask("CLIENT GETNAME").await, bulk("first"));
    let refused = one.call(&["CLIENT", "SETNAME", "a b"]).await;
    assert!(refused.text().starts_with("ERR Client names cannot contain spaces"));
    let list = other.ask("CLIENT LIST").await;
    assert_eq!(list.text().lines().count(), 2);
    assert!(list.text().contains("name=first") && list.text().contains("lib-name=lib"));
    let (Reply::Integer(a), Reply::Integer(b)) =
        (one.ask("CLIENT ID").await, other.ask("CLIENT ID").await)
    else {
        panic!("ids are integers")
    };
    assert_ne!(a, b);
    one.send(b"CLIENT REPLY SKIP\r\nPING skipped\r\nPING a\r\nCLIENT REPLY OFF\r\nPING b\r\nCLIENT REPLY ON\r\nPING c\r\n")
        .await;
    assert_eq!(one.reply().await, bulk("a"));
    assert_eq!(one.reply().await, ok());
    assert_eq!(one.reply().await, bulk("c"));
    one.send(b"QUIT\r\nPING\r\n").await;
    assert_eq!(one.rest().await, "+OK\r\n");
    nodes.until("the list is short again", || true).await;
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_tools_ask_first_is_answered() {
    let nodes = Nodes::one().await;
    let mut client = nodes.client(0).await;
    let Reply::Integer(count) = client.ask("COMMAND COUNT").await else { panic!("a number") };
    let all = client.ask("COMMAND").await;
    assert_eq!(i64::try_from(all.items().len()).unwrap(), count);
    assert!(all.items().iter().all(|command| command.items().len() == 10));
    let info = client.ask("COMMAND INFO get nope").await;
    assert_eq!(info.items()[0].items()[0], bulk("get"));
    assert_eq!(info.items()[0].items()[1], Reply::Integer(2));
    assert_eq!(info.items()[1], Reply::Nil);
    let many = client.ask(&format!("COMMAND INFO{}", " client".repeat(2_000))).await;
    assert!(many.text().contains("2000 names are more than"), "{many:?}");
    let keys = client.ask("COMMAND GETKEYS MSET a 1 b 2").await;
    assert_eq!(keys.items(), [bulk("a"), bulk("b")]);
    assert!(client.ask("COMMAND DOCS").await.items().len() > 100);
    assert_eq!(client.ask("CONFIG GET save").await.items(), [bulk("save"), bulk("")]);
    assert_eq!(client.ask("CONFIG GET appendonly").await.items(), [bulk("appendonly"), bulk("no")]);
    let info = client.ask("INFO").await;
    assert!(info.text().contains("redis_version:7.0.15\r\n"));
    assert!(info.text().contains("cluster_enabled:1\r\n"));
    let server = client.ask("INFO server").await;
    assert!(!server.text().contains("# Clients"));
    assert_eq!(client.ask("WAIT 1 0").await, Reply::Integer(0), "one replica has no others");
    // A page in a browser can send this to any port: what follows the head must not be done.
    client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\nSET from a-page\r\n").await;
    assert!(client.rest().await.starts_with("-ERR unknown command 'POST'"));
    assert_eq!(nodes.client(0).await.ask("GET from").await, Reply::Nil);
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn help_is_lines_of_what_is_served() {
    let nodes = Nodes::one().await;
    let mut client = nodes.client(0).await;
    for name in ["CLIENT", "CLUSTER", "COMMAND", "CONFIG", "MEMORY", "OBJECT"] {
        let help = client.call(&[name, "help"]).await;
        let simple = |line: &Reply| matches!(line, Reply::Simple(_));
        assert!(help.items().iter().all(simple), "{help:?}");
        let first = format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
        assert_eq!(help.items()[0], Reply::Simple(first));
    }
    // It may be queued, and takes no words.
    assert_eq!(client.ask("MULTI").await, ok());
    assert_eq!(client.ask("CLIENT HELP").await, Reply::Simple("QUEUED".to_owned()));
    assert!(client.ask("EXEC").await.items()[0].items().len() > 10);
    let more = client.ask("CONFIG HELP x").await;
    assert_eq!(more, error("ERR wrong number of arguments for 'config|help' command"));
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_listed_by_what_they_are() {
    let nodes = Nodes::one().await;
    let mut client = nodes.client(0).await;
    let mut list = async |line: &str| {
        let reply = client.ask(line).await;
        match reply {
            Reply::Many(_, names) => names.iter().map(|name| name.text().to_owned()).collect(),
            Reply::Error(text) => vec![text],
            other => panic!("{other:?}"),
        }
    };
    let all: Vec<String> = list("COMMAND LIST").await;
    assert!(all.contains(&"get".to_owned()) && all.contains(&"object|help".to_owned()));
    assert_eq!(list("COMMAND LIST FILTERBY MODULE json").await, Vec::<String>::new());
    let transactions = ["discard", "exec", "multi", "unwatch", "watch"];
    assert_eq!(list("command list filterby aclcat TRANSACTION").await, transactions);
    assert_eq!(list("COMMAND LIST FILTERBY ACLCAT @string").await, Vec::<String>::new());
    assert_eq!(list("COMMAND LIST FILTERBY PATTERN MSET*").await, ["mset", "msetnx"]);
    assert_eq!(list("COMMAND LIST FILTERBY PATTERN").await, ["ERR syntax error"]);
    assert_eq!(list("COMMAND LIST FILTERBY NAME get").await, ["ERR syntax error"]);
    let long = format!("COMMAND LIST FILTERBY PATTERN {}", "x".repeat(1_025));
    let refused = ["ERR pattern: has 1025 bytes; at most 1024 are allowed"];
    assert_eq!(list(&long).await, refused);
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patterns_of_settings_are_bounded() {
    let nodes = Nodes::one().await;
    let mut client = nodes.client(0).await;
    let most = "x".repeat(1_024);
    assert_eq!(client.ask(&format!("CONFIG GET {most} sav?")).await.items().len(), 2);
    let refused = client.ask(&format!("CONFIG GET save {most}x")).await;
    assert_eq!(refused, error("ERR pattern: has 1025 bytes; at most 1024 are allowed"));
    assert_eq!(client.ask(&format!("CONFIG GET{}", " save".repeat(64))).await.items().len(), 2);
    let refused = client.ask(&format!("CONFIG GET{}", " save".repeat(65))).await;
    assert_eq!(refused, error("ERR patterns: are 65; at most 64 are allowed"));
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_reset_is_listed_as_new() {
    let nodes = Nodes::one().await;
    let mut client = nodes.client(0).await;
    for line in ["READONLY", "WATCH k", "MULTI", "PING"] {
        client.ask(line).await;
    }
    let mut other = nodes.client(0).await;
    let listed = other.ask("CLIENT LIST").await;
    assert!(listed.text().contains(" flags=xr ") && listed.text().contains(" multi=1 watch=1 "));
    assert_eq!(client.ask("RESET").await, Reply::Simple("RESET".to_owned()));
    let own = client.ask("CLIENT INFO").await;
    assert!(
        own.text().contains(" flags=N ") && own.text().contains(" multi=-1 watch=0 "),
        "{own:?}"
    );
    nodes.stop().await;
}
