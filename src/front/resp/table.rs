//! All commands of the door, as `COMMAND INFO` and `COMMAND DOCS` of Redis 7.0 tell of them.

use bytes::Bytes;

use crate::codec::resp::value::RespValue;

/// One command, or one subcommand of a container. See
/// <https://redis.io/docs/latest/commands/command/>.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command {
    /// In lower case; `object|encoding` for a subcommand.
    pub name: &'static str,
    /// Arguments with the name (and the subcommand's); at least so many if negative.
    pub arity: i32,
    /// As `COMMAND` lists them.
    pub flags: &'static [&'static str],
    /// Where the first key stands; 0 without keys.
    pub first_key: i32,
    /// Where the last one stands; counted from the end if negative.
    pub last_key: i32,
    /// From one key to the next.
    pub step: i32,
    /// Its group in `COMMAND DOCS`.
    pub group: &'static str,
    /// What it does, one line.
    pub summary: &'static str,
}

/// Longest name there is room for when one is looked up, bytes.
const NAME_BYTES_MAX: usize = 32;
/// Most of an unknown word that an error repeats, bytes (`%.128s` in Redis).
const SHOWN_BYTES_MAX: usize = 128;

impl Command {
    /// Redis's error if a command with `args` arguments (its name counted) has too few or too many.
    ///
    /// # Errors
    /// `ERR wrong number of arguments for '...' command`.
    pub fn check_arity(&self, args: usize) -> Result<(), RespValue> {
        let args = i64::try_from(args).unwrap_or(i64::MAX);
        let arity = i64::from(self.arity);
        if (arity >= 0 && args == arity) || (arity < 0 && args >= -arity) {
            return Ok(());
        }
        let name = self.name;
        Err(RespValue::error(format!("ERR wrong number of arguments for '{name}' command")))
    }

    /// The keys among its arguments; none if their number is wrong.
    pub fn keys<'a>(&self, args: &'a [Bytes]) -> Vec<&'a Bytes> {
        let count = i64::try_from(args.len()).unwrap_or(i64::MAX);
        let last = i64::from(self.last_key);
        let last = if last < 0 { count + last } else { last };
        if self.first_key <= 0 || self.check_arity(args.len()).is_err() {
            return Vec::new();
        }
        let at = |at: i64| usize::try_from(at).ok().and_then(|at| args.get(at));
        let step = usize::try_from(self.step).unwrap_or(1).max(1);
        (i64::from(self.first_key)..=last).step_by(step).filter_map(at).collect()
    }

    /// Its subcommands, in the order of their names; none if it is no container.
    pub fn subcommands(&self) -> impl Iterator<Item = &'static Command> {
        let container = self.name;
        SUBCOMMANDS.iter().filter(move |sub| {
            sub.name.strip_prefix(container).is_some_and(|rest| rest.starts_with('|'))
        })
    }
}

/// Where the command of this name stands in `COMMANDS`; the case does not matter.
pub fn position(name: &[u8]) -> Option<usize> {
    let mut lower = [0; NAME_BYTES_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    COMMANDS.binary_search_by(|command| command.name.as_bytes().cmp(lower)).ok()
}

/// The command of this name; the case does not matter.
pub fn find(name: &[u8]) -> Option<&'static Command> {
    position(name).map(|at| &COMMANDS[at])
}

/// The command that these words ask for: the subcommand, where they name a container. `None` if there is
/// no command of this name.
///
/// # Errors
/// As Redis says it, if there is no such subcommand or the number of arguments is wrong.
pub fn resolve(args: &[Bytes]) -> Option<Result<&'static Command, RespValue>> {
    find(args.first()?).map(|command| command.resolve(args))
}

impl Command {
    /// Itself or the subcommand that the second word names.
    ///
    /// # Errors
    /// As Redis says it, if there is no such subcommand or the number of arguments is wrong.
    pub fn resolve(&'static self, args: &[Bytes]) -> Result<&'static Command, RespValue> {
        let mut found = self;
        if let Some(word) = args.get(1)
            && self.subcommands().next().is_some()
        {
            let named = |sub: &&Command| {
                sub.name.as_bytes()[self.name.len() + 1..].eq_ignore_ascii_case(word)
            };
            found = self.subcommands().find(named).ok_or_else(|| self.unknown(word))?;
        }
        found.check_arity(args.len()).map(|()| found)
    }

    /// Redis's error for a subcommand there is none of.
    fn unknown(&self, word: &[u8]) -> RespValue {
        let (word, name) = (shown(word), self.name.to_ascii_uppercase());
        RespValue::error(format!("ERR unknown subcommand '{word}'. Try {name} HELP."))
    }
}

/// A word of the client's within an error: cut short, on one line.
pub fn shown(word: &[u8]) -> String {
    let end = word.iter().position(|byte| *byte == 0).unwrap_or(word.len());
    let text = String::from_utf8_lossy(&word[..end.min(SHOWN_BYTES_MAX)]);
    text.replace(['\r', '\n'], " ")
}

/// Whether Redis has a command of this name that this door has not: one of another data type, of
/// scripts, of publish and subscribe, of replication. The case does not matter.
pub fn is_of_redis_alone(name: &[u8]) -> bool {
    NOT_HERE.iter().any(|other| other.as_bytes().eq_ignore_ascii_case(name))
}

macro_rules! commands {
    ($(
        $name:literal $arity:literal [$($flag:literal),*] $first_key:literal $last_key:literal
        $step:literal $group:literal $summary:literal;
    )+) => {
        &[$(Command {
            name: $name,
            arity: $arity,
            flags: &[$($flag),*],
            first_key: $first_key,
            last_key: $last_key,
            step: $step,
            group: $group,
            summary: $summary,
        }),+]
    };
}

/// All commands, in the order of their names.
pub const COMMANDS: &[Command] = commands! {
    "append" 3 ["write", "denyoom", "fast"] 1 1 1 "string" "Append a value to a key";
    "asking" 1 ["fast"] 0 0 0 "cluster" "Sent by cluster clients after an -ASK redirect";
    "auth" -2 ["noscript", "loading", "stale", "fast", "no_auth", "allow_busy"] 0 0 0 "connection" "Authenticate to the server";
    "client" -2 [] 0 0 0 "connection" "A container for client connection commands";
    "cluster" -2 [] 0 0 0 "cluster" "A container for cluster commands";
    "command" -1 ["loading", "stale"] 0 0 0 "server" "Get array of Redis command details";
    "config" -2 [] 0 0 0 "server" "A container for server configuration commands";
    "copy" -3 ["write", "denyoom"] 1 2 1 "generic" "Copy a key";
    "dbsize" 1 ["readonly", "fast"] 0 0 0 "server" "Return the number of keys in the selected database";
    "debug" -2 ["admin", "noscript", "loading", "stale"] 0 0 0 "server" "A container for debugging commands";
    "decr" 2 ["write", "denyoom", "fast"] 1 1 1 "string" "Decrement the integer value of a key by one";
    "decrby" 3 ["write", "denyoom", "fast"] 1 1 1 "string" "Decrement the integer value of a key by the given number";
    "del" -2 ["write"] 1 -1 1 "generic" "Delete a key";
    "discard" 1 ["noscript", "loading", "stale", "fast", "allow_busy"] 0 0 0 "transactions" "Discard all commands issued after MULTI";
    "echo" 2 ["loading", "stale", "fast"] 0 0 0 "connection" "Echo the given string";
    "exec" 1 ["noscript", "loading", "stale", "skip_slowlog"] 0 0 0 "transactions" "Execute all commands issued after MULTI";
    "exists" -2 ["readonly", "fast"] 1 -1 1 "generic" "Determine if a key exists";
    "expire" -3 ["write", "fast"] 1 1 1 "generic" "Set a key's time to live in seconds";
    "expireat" -3 ["write", "fast"] 1 1 1 "generic" "Set the expiration for a key as a UNIX timestamp";
    "expiretime" 2 ["readonly", "fast"] 1 1 1 "generic" "Get the expiration Unix timestamp for a key";
    "flushall" -1 ["write"] 0 0 0 "server" "Remove all keys from all databases";
    "flushdb" -1 ["write"] 0 0 0 "server" "Remove all keys from the current database";
    "get" 2 ["readonly", "fast"] 1 1 1 "string" "Get the value of a key";
    "getdel" 2 ["write", "fast"] 1 1 1 "string" "Get the value of a key and delete the key";
    "getex" -2 ["write", "fast"] 1 1 1 "string" "Get the value of a key and optionally set its expiration";
    "getrange" 4 ["readonly"] 1 1 1 "string" "Get a substring of the string stored at a key";
    "getset" 3 ["write", "denyoom", "fast"] 1 1 1 "string" "Set the string value of a key and return its old value";
    "hello" -1 ["noscript", "loading", "stale", "fast", "no_auth", "allow_busy"] 0 0 0 "connection" "Handshake with Redis";
    "incr" 2 ["write", "denyoom", "fast"] 1 1 1 "string" "Increment the integer value of a key by one";
    "incrby" 3 ["write", "denyoom", "fast"] 1 1 1 "string" "Increment the integer value of a key by the given amount";
    "incrbyfloat" 3 ["write", "denyoom", "fast"] 1 1 1 "string" "Increment the float value of a key by the given amount";
    "info" -1 ["loading", "stale"] 0 0 0 "server" "Get information and statistics about the server";
    "keys" 2 ["readonly"] 0 0 0 "generic" "Find all keys matching the given pattern";
    "memory" -2 [] 0 0 0 "server" "A container for memory diagnostics commands";
    "mget" -2 ["readonly", "fast"] 1 -1 1 "string" "Get the values of all the given keys";
    "mset" -3 ["write", "denyoom"] 1 -1 2 "string" "Set multiple keys to multiple values";
    "msetnx" -3 ["write", "denyoom"] 1 -1 2 "string" "Set multiple keys to multiple values, only if none of the keys exist";
    "multi" 1 ["noscript", "loading", "stale", "fast", "allow_busy"] 0 0 0 "transactions" "Mark the start of a transaction block";
    "object" -2 [] 0 0 0 "generic" "A container for object introspection commands";
    "persist" 2 ["write", "fast"] 1 1 1 "generic" "Remove the expiration from a key";
    "pexpire" -3 ["write", "fast"] 1 1 1 "generic" "Set a key's time to live in milliseconds";
    "pexpireat" -3 ["write", "fast"] 1 1 1 "generic" "Set the expiration for a key as a UNIX timestamp specified in milliseconds";
    "pexpiretime" 2 ["readonly", "fast"] 1 1 1 "generic" "Get the expiration Unix timestamp for a key in milliseconds";
    "ping" -1 ["fast"] 0 0 0 "connection" "Ping the server";
    "psetex" 4 ["write", "denyoom"] 1 1 1 "string" "Set the value and expiration in milliseconds of a key";
    "pttl" 2 ["readonly", "fast"] 1 1 1 "generic" "Get the time to live for a key in milliseconds";
    "quit" -1 ["noscript", "loading", "stale", "fast", "no_auth", "allow_busy"] 0 0 0 "connection" "Close the connection";
    "randomkey" 1 ["readonly"] 0 0 0 "generic" "Return a random key from the keyspace";
    "readonly" 1 ["loading", "stale", "fast"] 0 0 0 "cluster" "Enables read queries for a connection to a cluster replica node";
    "readwrite" 1 ["loading", "stale", "fast"] 0 0 0 "cluster" "Disables read queries for a connection to a cluster replica node";
    "rename" 3 ["write"] 1 2 1 "generic" "Rename a key";
    "renamenx" 3 ["write", "fast"] 1 2 1 "generic" "Rename a key, only if the new key does not exist";
    "reset" 1 ["noscript", "loading", "stale", "fast", "no_auth", "allow_busy"] 0 0 0 "connection" "Reset the connection";
    "scan" -2 ["readonly"] 0 0 0 "generic" "Incrementally iterate the keys space";
    "select" 2 ["loading", "stale", "fast"] 0 0 0 "connection" "Change the selected database for the current connection";
    "set" -3 ["write", "denyoom"] 1 1 1 "string" "Set the string value of a key";
    "setex" 4 ["write", "denyoom"] 1 1 1 "string" "Set the value and expiration of a key";
    "setnx" 3 ["write", "denyoom", "fast"] 1 1 1 "string" "Set the value of a key, only if the key does not exist";
    "setrange" 4 ["write", "denyoom"] 1 1 1 "string" "Overwrite part of a string at key starting at the specified offset";
    "strlen" 2 ["readonly", "fast"] 1 1 1 "string" "Get the length of the value stored in a key";
    "substr" 4 ["readonly"] 1 1 1 "string" "Get a substring of the string stored at a key";
    "time" 1 ["loading", "stale", "fast"] 0 0 0 "server" "Return the current server time";
    "touch" -2 ["readonly", "fast"] 1 -1 1 "generic" "Alters the last access time of a key(s). Returns the number of existing keys specified.";
    "ttl" 2 ["readonly", "fast"] 1 1 1 "generic" "Get the time to live for a key in seconds";
    "type" 2 ["readonly", "fast"] 1 1 1 "generic" "Determine the type stored at key";
    "unlink" -2 ["write", "fast"] 1 -1 1 "generic" "Delete a key asynchronously in another thread. Otherwise it is just as DEL, but non blocking.";
    "unwatch" 1 ["noscript", "loading", "stale", "fast", "allow_busy"] 0 0 0 "transactions" "Forget about all watched keys";
    "wait" 3 ["noscript"] 0 0 0 "generic" "Wait for the synchronous replication of all the write commands sent in the context of the current connection";
    "watch" -2 ["noscript", "loading", "stale", "fast", "allow_busy"] 1 -1 1 "transactions" "Watch the given keys to determine execution of the MULTI/EXEC block";
};

/// The subcommands of all containers, in the order of their names.
pub const SUBCOMMANDS: &[Command] = commands! {
    "client|getname" 2 ["noscript", "loading", "stale"] 0 0 0 "connection" "Get the current connection name";
    "client|getredir" 2 ["noscript", "loading", "stale"] 0 0 0 "connection" "Get tracking notifications redirection client ID if any";
    "client|help" 2 ["loading", "stale"] 0 0 0 "connection" "Show helpful text about the different subcommands";
    "client|id" 2 ["noscript", "loading", "stale"] 0 0 0 "connection" "Returns the client ID for the current connection";
    "client|info" 2 ["noscript", "loading", "stale"] 0 0 0 "connection" "Returns information about the current client connection.";
    "client|list" -2 ["admin", "noscript", "loading", "stale"] 0 0 0 "connection" "Get the list of client connections";
    "client|no-evict" 3 ["admin", "noscript", "loading", "stale"] 0 0 0 "connection" "Set client eviction mode for the current connection";
    "client|no-touch" 3 ["noscript", "loading", "stale"] 0 0 0 "connection" "Controls whether commands sent by the client affect the LRU/LFU of accessed keys";
    "client|redirect" 3 ["noscript", "loading", "stale"] 0 0 0 "connection" "Whether this connection is told which node leads a key: MOVED, FORWARD or AUTO";
    "client|reply" 3 ["noscript", "loading", "stale"] 0 0 0 "connection" "Instruct the server whether to reply to commands";
    "client|setinfo" 4 ["noscript", "loading", "stale"] 0 0 0 "connection" "Set client or connection specific info";
    "client|setname" 3 ["noscript", "loading", "stale"] 0 0 0 "connection" "Set the current connection name";
    "client|tracking" -3 ["noscript", "loading", "stale"] 0 0 0 "connection" "Enable or disable server assisted client side caching support";
    "cluster|countkeysinslot" 3 ["stale"] 0 0 0 "cluster" "Return the number of local keys in the specified hash slot";
    "cluster|getkeysinslot" 4 ["stale"] 0 0 0 "cluster" "Return local key names in the specified hash slot";
    "cluster|help" 2 ["loading", "stale"] 0 0 0 "cluster" "Show helpful text about the different subcommands";
    "cluster|info" 2 ["stale"] 0 0 0 "cluster" "Provides info about Redis Cluster node state";
    "cluster|keyslot" 3 ["stale"] 0 0 0 "cluster" "Returns the hash slot of the specified key";
    "cluster|myid" 2 ["stale"] 0 0 0 "cluster" "Return the node id";
    "cluster|nodes" 2 ["stale"] 0 0 0 "cluster" "Get Cluster config for the node";
    "cluster|shards" 2 ["stale"] 0 0 0 "cluster" "Get array of cluster slots to node mappings";
    "cluster|slots" 2 ["stale"] 0 0 0 "cluster" "Get array of Cluster slot to node mappings";
    "command|count" 2 ["loading", "stale"] 0 0 0 "server" "Get total number of Redis commands";
    "command|docs" -2 ["loading", "stale"] 0 0 0 "server" "Get array of specific Redis command documentation";
    "command|getkeys" -4 ["loading", "stale"] 0 0 0 "server" "Extract keys given a full Redis command";
    "command|getkeysandflags" -4 ["loading", "stale"] 0 0 0 "server" "Extract keys and access flags given a full Redis command";
    "command|help" 2 ["loading", "stale"] 0 0 0 "server" "Show helpful text about the different subcommands";
    "command|info" -2 ["loading", "stale"] 0 0 0 "server" "Get array of specific Redis command details, or all when no argument is given.";
    "command|list" -2 ["loading", "stale"] 0 0 0 "server" "Get an array of Redis command names";
    "config|get" -3 ["admin", "noscript", "loading", "stale"] 0 0 0 "server" "Get the values of configuration parameters";
    "config|help" 2 ["loading", "stale"] 0 0 0 "server" "Show helpful text about the different subcommands";
    "config|resetstat" 2 ["admin", "noscript", "loading", "stale"] 0 0 0 "server" "Reset the stats returned by INFO";
    "config|set" -4 ["admin", "noscript", "loading", "stale"] 0 0 0 "server" "Set configuration parameters to the given values";
    "memory|help" 2 ["loading", "stale"] 0 0 0 "server" "Show helpful text about the different subcommands";
    "memory|usage" -3 ["readonly"] 2 2 1 "server" "Estimate the memory usage of a key";
    "object|encoding" 3 ["readonly"] 2 2 1 "generic" "Inspect the internal encoding of a Redis object";
    "object|freq" 3 ["readonly"] 2 2 1 "generic" "Get the logarithmic access frequency counter of a Redis object";
    "object|help" 2 ["loading", "stale"] 0 0 0 "generic" "Show helpful text about the different subcommands";
    "object|idletime" 3 ["readonly"] 2 2 1 "generic" "Get the time since a Redis object was last accessed";
    "object|refcount" 3 ["readonly"] 2 2 1 "generic" "Get the number of references to the value of the key";
};

/// What Redis 7.0 has beside them.
#[rustfmt::skip]
pub const NOT_HERE: &[&str] = &[
    "acl", "bgrewriteaof", "bgsave", "bitcount", "bitfield", "bitfield_ro", "bitop", "bitpos",
    "blmove", "blmpop", "blpop", "brpop", "brpoplpush", "bzmpop", "bzpopmax", "bzpopmin", "dump",
    "eval", "eval_ro", "evalsha", "evalsha_ro", "failover", "fcall", "fcall_ro", "function",
    "geoadd", "geodist", "geohash", "geopos", "georadius", "georadius_ro", "georadiusbymember",
    "georadiusbymember_ro", "geosearch", "geosearchstore", "getbit", "hdel", "hexists", "hget",
    "hgetall", "hincrby", "hincrbyfloat", "hkeys", "hlen", "hmget", "hmset", "hrandfield", "hscan",
    "hset", "hsetnx", "hstrlen", "hvals", "lastsave", "latency", "lcs", "lindex", "linsert", "llen",
    "lmove", "lmpop", "lolwut", "lpop", "lpos", "lpush", "lpushx", "lrange", "lrem", "lset",
    "ltrim", "migrate", "module", "monitor", "move", "pfadd", "pfcount", "pfdebug", "pfmerge",
    "pfselftest", "psubscribe", "psync", "publish", "pubsub", "punsubscribe", "replconf",
    "replicaof", "restore", "restore-asking", "role", "rpop", "rpoplpush", "rpush", "rpushx",
    "sadd", "save", "scard", "script", "sdiff", "sdiffstore", "setbit", "shutdown", "sinter",
    "sintercard", "sinterstore", "sismember", "slaveof", "slowlog", "smembers", "smismember",
    "smove", "sort", "sort_ro", "spop", "spublish", "srandmember", "srem", "sscan", "ssubscribe",
    "subscribe", "sunion", "sunionstore", "sunsubscribe", "swapdb", "sync", "unsubscribe",
    "xack", "xadd", "xautoclaim", "xclaim", "xdel", "xgroup", "xinfo", "xlen", "xpending", "xrange",
    "xread", "xreadgroup", "xrevrange", "xsetid", "xtrim", "zadd", "zcard", "zcount", "zdiff",
    "zdiffstore", "zincrby", "zinter", "zintercard", "zinterstore", "zlexcount", "zmpop", "zmscore",
    "zpopmax", "zpopmin", "zrandmember", "zrange", "zrangebylex", "zrangebyscore", "zrangestore",
    "zrank", "zrem", "zremrangebylex", "zremrangebyrank", "zremrangebyscore", "zrevrange",
    "zrevrangebylex", "zrevrangebyscore", "zrevrank", "zscan", "zscore", "zunion", "zunionstore",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&'static str]) -> Vec<Bytes> {
        words.iter().map(|word| Bytes::from_static(word.as_bytes())).collect()
    }

    #[test]
    fn names_are_in_order_and_found_in_any_case() {
        for rows in [COMMANDS, SUBCOMMANDS] {
            assert!(rows.windows(2).all(|pair| pair[0].name < pair[1].name));
        }
        for command in COMMANDS {
            assert_eq!(find(command.name.to_uppercase().as_bytes()), Some(command));
            assert!(!is_of_redis_alone(command.name.as_bytes()));
        }
        assert_eq!(find(b"nothing"), None);
        assert_eq!(find(&[b'g'; NAME_BYTES_MAX + 1]), None);
        assert!(is_of_redis_alone(b"LPush"));
    }

    #[test]
    fn every_subcommand_has_its_container() {
        for sub in SUBCOMMANDS {
            let (container, _) = sub.name.split_once('|').expect("a subcommand");
            let container = find(container.as_bytes()).expect("listed");
            assert!(container.subcommands().any(|other| other == sub));
        }
    }

    #[test]
    fn keys_are_where_the_table_says() {
        let keys = |words: &[&'static str]| -> Vec<Bytes> {
            let args = args(words);
            resolve(&args)
                .expect("known")
                .expect("well formed")
                .keys(&args)
                .into_iter()
                .cloned()
                .collect()
        };
        assert_eq!(keys(&["get", "a"]), args(&["a"]));
        assert_eq!(keys(&["MSET", "a", "1", "b", "2"]), args(&["a", "b"]));
        assert_eq!(keys(&["del", "a", "b"]), args(&["a", "b"]));
        assert_eq!(keys(&["rename", "a", "b"]), args(&["a", "b"]));
        assert_eq!(keys(&["object", "encoding", "a"]), args(&["a"]));
        assert_eq!(keys(&["memory", "usage", "a", "samples", "1"]), args(&["a"]));
        assert_eq!(keys(&["dbsize"]), args(&[]));
    }

    #[test]
    fn wrong_words_are_told_as_redis_does() {
        let error = |words: &[&'static str]| resolve(&args(words)).expect("known").err();
        let text = |text: &str| Some(RespValue::error(text));
        assert_eq!(error(&["GET"]), text("ERR wrong number of arguments for 'get' command"));
        assert_eq!(
            error(&["object", "encoding"]),
            text("ERR wrong number of arguments for 'object|encoding' command")
        );
        assert_eq!(error(&["OBJECT"]), text("ERR wrong number of arguments for 'object' command"));
        assert_eq!(
            error(&["object", "fo\r\no"]),
            text("ERR unknown subcommand 'fo  o'. Try OBJECT HELP.")
        );
        assert_eq!(error(&["mget", "a"]), None);
        assert!(resolve(&args(&["nothing"])).is_none());
        assert!(resolve(&[]).is_none());
    }
}
