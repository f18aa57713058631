//! Random commands: well formed ones of every kind and with every option, and broken ones.
//!
//! Time must not matter: times to live are over already or last for minutes. Numbers that would make
//! Redis allocate hundreds of megabytes are left out.

use raftcache::front::resp::plan::keys;
use raftcache::types::limits::KEY_BYTES_MAX;
use raftcache::types::random::Random;

use crate::client::Words;

/// Keys of one slot, keys of others, and keys that are no text.
const KEYS: [&[u8]; 12] = [
    b"{t}a",
    b"{t}b",
    b"{t}c",
    b"{t}d",
    b"{t}e",
    b"key:1",
    b"key:2",
    b"k",
    b"12",
    b"\x00\xff\r\n",
    b"{}x",
    b"glob[a]*?",
];

const NUMBERS: [&str; 9] = ["0", "1", "-1", "7", "-12", "100", "255", "1000000", "-99999"];
/// Words that are no numbers, and numbers at the edges. Not those in hexadecimal, which `INCRBYFLOAT` of
/// Redis takes.
const JUNK: [&[u8]; 15] = [
    b"",
    b"abc",
    b"1.5",
    b" 1",
    b"1 ",
    b"+1",
    b"01",
    b"-0",
    b"1e3",
    b"\xff\x00",
    b"a\r\nb",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"nx",
];
const FLOATS: [&str; 14] = [
    "0.5", "-0.25", "3", "1.5e2", "10.75", "-3.125", "0.1", "3.14", "1e-3", ".5", "5.", "nan",
    "inf", "-1e30",
];
const PATTERNS: [&str; 9] = ["*", "{t}*", "k*", "*a*", "?", "[k1]*", "{t}[^a-c]", "key:?", "\\*"];

/// Draws commands. The same seed draws the same ones.
pub struct Generator {
    random: Random,
}

impl Generator {
    pub fn new(seed: u64) -> Self {
        Generator { random: Random::new(seed) }
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.random.bits() % n as u64).unwrap()
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    /// What comes next: a command, or a few that belong together.
    pub fn next(&mut self) -> Vec<Words> {
        if self.chance(3) {
            return self.transaction();
        }
        let command = if self.chance(6) { self.of_all_keys() } else { self.keyed() };
        self.finished(command)
    }

    /// Breaks it now and then. What has just expired is looked at: Redis counts it until then.
    fn finished(&mut self, mut command: Words) -> Vec<Words> {
        if self.chance(7) {
            self.break_up(&mut command);
        }
        let args: Vec<bytes::Bytes> = command.iter().map(|word| word.clone().into()).collect();
        // Those that Redis takes and this door does not.
        if keys(&args).iter().any(|key| key.is_empty() || key.len() > KEY_BYTES_MAX) {
            return Vec::new();
        }
        let name = command[0].to_ascii_lowercase();
        let set = command.get(1).filter(|_| name == b"set");
        let look = set.map(|key| vec![b"EXISTS".to_vec(), key.clone()]);
        let timed = command.len() > 4;
        command[0] = self.any_case(&name);
        std::iter::once(command).chain(look.filter(|_| timed)).collect()
    }

    fn break_up(&mut self, command: &mut Words) {
        let at = self.below(command.len());
        match self.below(5) {
            0 => command.truncate(at.max(1)),
            1 => command.push(self.pick(&JUNK).to_vec()),
            2 => command.push(self.option().into_bytes()),
            3 if command.len() > 1 => drop(command.remove(at.max(1))),
            // Offsets stay small, or so large that both refuse them.
            _ if at > 0 => command[at] = self.pick(&JUNK).to_vec(),
            _ => command.push(b"nx".to_vec()),
        }
    }

    fn any_case(&mut self, word: &[u8]) -> Vec<u8> {
        match self.below(3) {
            0 => word.to_ascii_uppercase(),
            1 => word.to_vec(),
            _ => {
                let mut word = word.to_vec();
                word[0] = word[0].to_ascii_uppercase();
                word
            }
        }
    }

    fn key(&mut self) -> Vec<u8> {
        self.pick(&KEYS).to_vec()
    }

    fn value(&mut self) -> Vec<u8> {
        match self.below(12) {
            0..=3 => self.pick(&NUMBERS).as_bytes().to_vec(),
            4 => self.pick(&["9223372036854775806", "-9223372036854775807"]).as_bytes().to_vec(),
            5 => self.pick(&FLOATS).as_bytes().to_vec(),
            6 => self.pick(&JUNK).to_vec(),
            7 => {
                let len = self.below(300);
                (0..len).map(|_| self.random.bits() as u8).collect()
            }
            8 => vec![b'v'; 40 + self.below(8)],
            9 => vec![b'x'; self.below(5_000)],
            _ => b"Hello World".to_vec(),
        }
    }

    /// Minutes to a day from now on, or over, in seconds.
    fn seconds(&mut self) -> i64 {
        match self.below(12) {
            0 => 0,
            1 => -1 - self.below(1_000) as i64,
            _ => 600 + 10 * self.below(8_000) as i64,
        }
    }

    fn time_of(&mut self, option: &str) -> String {
        let seconds = self.seconds();
        match option {
            "EX" => seconds.to_string(),
            "PX" => (seconds * 1_000).to_string(),
            // The year 2100 and later, or long ago.
            "EXAT" if seconds > 0 => (4_102_444_800 + seconds).to_string(),
            "PXAT" if seconds > 0 => ((4_102_444_800 + seconds) * 1_000).to_string(),
            _ => (seconds + 500).to_string(),
        }
    }

    fn option(&mut self) -> String {
        let options = ["NX", "XX", "GT", "LT", "GET", "KEEPTTL", "EX", "PX", "PERSIST", "REPLACE"];
        self.pick(&options).to_owned()
    }

    fn set_options(&mut self, words: &mut Words, options: &[&str]) {
        for _ in 0..self.below(3) {
            let option = self.pick(options);
            words.push(self.any_case(option.as_bytes()));
            if matches!(option, "EX" | "PX" | "EXAT" | "PXAT") && !self.chance(3) {
                words.push(self.time_of(option).into_bytes());
            }
        }
    }

    /// Words of text and the rest of the command.
    fn command<const N: usize>(name: &str, rest: [Vec<u8>; N]) -> Words {
        std::iter::once(name.as_bytes().to_vec()).chain(rest).collect()
    }

    fn number(&mut self) -> Vec<u8> {
        let edges = ["9223372036854775807", "-9223372036854775808"];
        let number = if self.chance(8) { self.pick(&edges) } else { self.pick(&NUMBERS) };
        number.as_bytes().to_vec()
    }

    /// A command of one or several keys that may stand in a transaction.
    pub fn keyed(&mut self) -> Words {
        match self.below(6) {
            0 | 1 => self.setting(),
            2 => self.changing(),
            3 => self.timing(),
            4 => self.reading(),
            _ => self.several(),
        }
    }

    fn setting(&mut self) -> Words {
        let (key, value) = (self.key(), self.value());
        match self.below(8) {
            0..=3 => {
                let mut words = Self::command("set", [key, value]);
                let options = ["NX", "XX", "GET", "KEEPTTL", "EX", "PX", "EXAT", "PXAT"];
                self.set_options(&mut words, &options);
                words
            }
            4 => Self::command("setnx", [key, value]),
            5 => Self::command("setex", [key, self.time_of("EX").into_bytes(), value]),
            6 => Self::command("psetex", [key, self.time_of("PX").into_bytes(), value]),
            _ => Self::command("getset", [key, value]),
        }
    }

    fn changing(&mut self) -> Words {
        let key = self.key();
        match self.below(9) {
            0 => Self::command("incr", [key]),
            1 => Self::command("decr", [key]),
            2 => Self::command("incrby", [key, self.number()]),
            3 => Self::command("decrby", [key, self.number()]),
            4 => {
                let float = self.pick(&FLOATS).as_bytes().to_vec();
                Self::command("incrbyfloat", [key, float])
            }
            5 => Self::command("append", [key, self.value()]),
            6 => {
                let offset = match self.below(10) {
                    0 => self.number(),
                    _ => self.below(400).to_string().into_bytes(),
                };
                // Not a million zeros each time.
                let offset = if offset == b"1000000" { b"536870912".to_vec() } else { offset };
                Self::command("setrange", [key, offset, self.value()])
            }
            7 => Self::command("getdel", [key]),
            _ => {
                let mut words = Self::command("getex", [key]);
                self.set_options(&mut words, &["EX", "PX", "EXAT", "PXAT", "PERSIST"]);
                words
            }
        }
    }

    fn timing(&mut self) -> Words {
        let key = self.key();
        let (name, option) = [
            ("expire", "EX"),
            ("pexpire", "PX"),
            ("expireat", "EXAT"),
            ("pexpireat", "PXAT"),
            ("persist", ""),
            ("ttl", ""),
            ("pttl", ""),
            ("expiretime", ""),
            ("pexpiretime", ""),
        ][self.below(9)];
        let mut words = Self::command(name, [key]);
        if !option.is_empty() {
            words.push(self.time_of(option).into_bytes());
            for _ in 0..self.below(3) {
                let option = self.pick(&["NX", "XX", "GT", "LT"]);
                words.push(self.any_case(option.as_bytes()));
            }
        }
        words
    }

    fn reading(&mut self) -> Words {
        let key = self.key();
        match self.below(10) {
            0 => Self::command("strlen", [key]),
            1 => Self::command("getrange", [key, self.number(), self.number()]),
            2 => Self::command("substr", [key, self.number(), self.number()]),
            3 => Self::command("type", [key]),
            4 => {
                let what = self.pick(&["encoding", "refcount", "freq", "idletime", "help"]);
                match what {
                    "help" => Self::command("object", [what.into()]),
                    _ => Self::command("object", [what.into(), key]),
                }
            }
            5 if self.chance(20) => Self::command("memory", [b"usage".to_vec(), key]),
            _ => Self::command("get", [key]),
        }
    }

    fn several(&mut self) -> Words {
        let mut words = Words::new();
        match self.below(9) {
            0 => {
                words.push(b"mset".to_vec());
                for _ in 0..1 + self.below(4) {
                    words.extend([self.key(), self.value()]);
                }
            }
            at @ 1..=5 => {
                words.push(["mget", "exists", "del", "unlink", "touch"][at - 1].into());
                for _ in 0..1 + self.below(3) {
                    words.push(self.key());
                }
            }
            6 => words = Self::command("rename", [self.key(), self.key()]),
            7 => words = Self::command("renamenx", [self.key(), self.key()]),
            _ => {
                words = Self::command("copy", [self.key(), self.key()]);
                for _ in 0..self.below(3) {
                    let option = self.pick(&["REPLACE", "DB 0", "DB 1", "DB"]);
                    words.extend(option.split(' ').map(|word| word.as_bytes().to_vec()));
                }
            }
        }
        words
    }

    fn of_all_keys(&mut self) -> Words {
        let pattern = self.pick(&PATTERNS).as_bytes().to_vec();
        match self.below(8) {
            0 => Self::command("keys", [pattern]),
            1 | 2 => {
                let mut words = Self::command("scan", [b"0".to_vec()]);
                for _ in 0..self.below(3) {
                    let (option, argument) = match self.below(3) {
                        0 => ("MATCH", pattern.clone()),
                        1 => ("count", (1 + self.below(20)).to_string().into_bytes()),
                        _ => ("TYPE", self.pick(&["string", "hash"]).as_bytes().to_vec()),
                    };
                    words.extend([option.as_bytes().to_vec(), argument]);
                }
                words
            }
            3 => Self::command("randomkey", []),
            4 => Self::command("dbsize", []),
            5 if self.chance(10) => Self::command("flushall", []),
            5 if self.chance(10) => Self::command("flushdb", [b"ASYNC".to_vec()]),
            _ => {
                let mut words = Self::command("msetnx", []);
                for _ in 0..1 + self.below(2) {
                    words.extend([self.key(), self.value()]);
                }
                words
            }
        }
    }

    /// Perhaps watched keys and a change of one of them, then commands between `MULTI` and its end.
    fn transaction(&mut self) -> Vec<Words> {
        let mut block = Vec::new();
        let watched = self.key();
        if self.chance(50) {
            block.push(Self::command("watch", [watched.clone(), self.key()]));
            match self.below(5) {
                0 => block.push(Self::command("append", [watched, b"more".to_vec()])),
                1 => block.push(Self::command("persist", [watched])),
                2 => block.push(Self::command("getex", [watched, b"persist".to_vec()])),
                3 => block.push(Self::command("unwatch", [])),
                _ => {}
            }
        }
        block.push(Self::command("multi", []));
        for _ in 0..self.below(6) {
            let command = self.keyed();
            // Its last digits differ, and what follows in the block would see them.
            if command[0] != b"incrbyfloat" {
                block.extend(self.finished(command));
            }
        }
        if self.chance(5) {
            block.push(Self::command(self.pick(&["multi", "watch"]), []));
        }
        block.push(Self::command(self.pick(&["exec", "exec", "exec", "discard"]), []));
        if self.chance(5) {
            block.push(Self::command(self.pick(&["exec", "discard"]), []));
        }
        block
    }
}
