//! `HELP` of the containers, in the form of Redis 7.0, naming what is served here.

use crate::codec::resp::value::RespValue;

/// The lines before Redis's last ones. `None` for a container that answers its own.
fn lines(container: &str) -> Option<&'static [&'static str]> {
    Some(match container {
        "client" => CLIENT,
        "cluster" => CLUSTER,
        "command" => COMMAND,
        "config" => CONFIG,
        _ => return None,
    })
}

/// The answer to `container HELP`.
pub(super) fn help(container: &str) -> Option<RespValue> {
    let all = lines(container)?.iter().chain(&["HELP", "    Prints this help."]);
    Some(RespValue::Array(all.map(|line| RespValue::Simple(line)).collect()))
}

const CLIENT: &[&str] = &[
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GETREDIR",
    "    Return the client ID we are redirecting to when tracking is enabled.",
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "LIST",
    "    Return information about client connections of this node.",
    "REDIRECT (AUTO|MOVED|FORWARD)",
    "    Choose whether this connection is told which node leads a key.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETINFO (LIB-NAME|LIB-VER) <value>",
    "    Tell the name or the version of the client's library.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "TRACKING OFF",
    "    Accepted; tracking is never on.",
    "NO-EVICT (ON|OFF)",
    "    Accepted; no client connection is ever evicted.",
    "NO-TOUCH (ON|OFF)",
    "    Accepted; the reads of all clients count alike.",
];

const CLUSTER: &[&str] = &[
    "CLUSTER <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "COUNTKEYSINSLOT <slot>",
    "    Return the number of keys in <slot>.",
    "GETKEYSINSLOT <slot> <count>",
    "    Return key names in a slot, wherever it is led.",
    "INFO",
    "    Return information about the cluster.",
    "KEYSLOT <key>",
    "    Return the hash slot for <key>.",
    "MYID",
    "    Return the node id.",
    "NODES",
    "    Return cluster configuration seen by node. Output format:",
    "    <id> <ip:port> <flags> <master> <pings> <pongs> <epoch> <link> <slot> ...",
    "SLOTS",
    "    Return information about slots range mappings. Each range is made of:",
    "    start, end, master and replicas IP addresses, ports and ids",
    "SHARDS",
    "    Return information about slot range mappings and the nodes associated with them.",
];

const COMMAND: &[&str] = &[
    "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "(no subcommand)",
    "    Return details about all commands.",
    "COUNT",
    "    Return the total number of commands in this server.",
    "LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]",
    "    Return a list of all commands in this server.",
    "INFO [<command-name> ...]",
    "    Return details about multiple commands.",
    "    If no command names are given, details for all commands are returned.",
    "DOCS [<command-name> ...]",
    "    Return documentation details about multiple commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "GETKEYS <full-command>",
    "    Return the keys from a full command.",
    "GETKEYSANDFLAGS <full-command>",
    "    Return the keys and the access flags from a full command.",
];

const CONFIG: &[&str] = &[
    "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET <pattern> [<pattern> ...]",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "SET <directive> <value>",
    "    Refused: settings are in the node's configuration file.",
    "RESETSTAT",
    "    Accepted without effect: statistics are counters in /metrics.",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::resp::table::{self, SUBCOMMANDS};

    #[test]
    fn each_subcommand_is_named_and_no_other() {
        for container in ["client", "cluster", "command", "config"] {
            let named: Vec<String> = lines(container)
                .expect("it has help")
                .iter()
                .skip(1)
                .filter(|line| !line.starts_with([' ', '(']))
                .filter_map(|line| line.split(' ').next())
                .map(|word| format!("{container}|{}", word.to_ascii_lowercase()))
                .collect();
            let served = table::find(container.as_bytes()).expect("listed").subcommands();
            for sub in served.filter(|sub| !sub.name.ends_with("|help")) {
                assert!(named.iter().any(|name| name == sub.name), "{}", sub.name);
            }
            for name in &named {
                assert!(SUBCOMMANDS.iter().any(|sub| sub.name == name), "{name}");
            }
            let Some(RespValue::Array(answer)) = help(container) else { panic!("lines") };
            assert_eq!(answer.last(), Some(&RespValue::Simple("    Prints this help.")));
        }
        assert_eq!(help("object"), None);
    }
}
