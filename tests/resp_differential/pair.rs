//! The two servers under the same commands.

use crate::client::{Client, Words, words};
use crate::exempt;
use crate::reply::{Reply, show};

/// A difference that the document does not name.
#[derive(Debug)]
pub struct Difference {
    pub command: Words,
    pub ours: Reply,
    pub theirs: Reply,
}

/// A command as a person would type it.
pub fn typed(command: &Words) -> String {
    let words: Vec<String> = command.iter().map(|word| format!("\"{}\"", show(word))).collect();
    words.join(" ")
}

/// A connection to each.
pub struct Pair {
    pub ours: Client,
    pub theirs: Client,
    /// Commands that wait for `EXEC`.
    queued: Vec<Words>,
    /// How many answers differed as the document says.
    pub named: usize,
}

impl Pair {
    pub async fn connect(ours: u16, theirs: u16) -> Pair {
        let ours = Client::connect(ours).await.unwrap();
        let theirs = Client::connect(theirs).await.unwrap();
        Pair { ours, theirs, queued: Vec::new(), named: 0 }
    }

    /// Both without keys and outside of a transaction.
    pub async fn reset(&mut self) {
        for client in [&mut self.ours, &mut self.theirs] {
            client.ask(&words("DISCARD")).await;
            client.ask(&words("UNWATCH")).await;
            assert_eq!(format!("{:?}", client.ask(&words("FLUSHALL")).await), "+OK");
        }
        self.queued.clear();
    }

    /// Asks both.
    pub async fn run(&mut self, command: &Words) -> Result<(), Difference> {
        let (ours, theirs) = self.ask(command).await;
        if self.same(command, &ours, &theirs).await {
            Ok(())
        } else {
            Err(Difference { command: command.clone(), ours, theirs })
        }
    }

    async fn ask(&mut self, command: &Words) -> (Reply, Reply) {
        if command[0].eq_ignore_ascii_case(b"scan") && command.get(1).is_some_and(|c| c == b"0") {
            return (scan(&mut self.ours, command).await, scan(&mut self.theirs, command).await);
        }
        self.theirs.send(command).await;
        let ours = self.ours.ask(command).await;
        (ours, self.theirs.read().await)
    }

    async fn same(&mut self, command: &Words, ours: &Reply, theirs: &Reply) -> bool {
        let queued = Reply::Simple(b"QUEUED".to_vec());
        if *ours == queued && *theirs == queued {
            self.queued.push(command.clone());
            return true;
        }
        if !command[0].eq_ignore_ascii_case(b"exec") {
            if command[0].eq_ignore_ascii_case(b"discard") {
                self.queued.clear();
            }
            return self.same_one(command, ours, theirs).await;
        }
        let commands = std::mem::take(&mut self.queued);
        let (Some(ours), Some(theirs)) = (ours.array(), theirs.array()) else {
            return ours == theirs;
        };
        let mut same = ours.len() == commands.len() && theirs.len() == commands.len();
        for (command, (ours, theirs)) in commands.iter().zip(ours.iter().zip(theirs)) {
            same = same && self.same_one(command, ours, theirs).await;
        }
        same
    }

    async fn same_one(&mut self, command: &Words, ours: &Reply, theirs: &Reply) -> bool {
        if ours == theirs {
            return true;
        }
        if exempt::float_sum(command, ours, theirs) {
            self.named += 1;
            // What follows would differ: ours gets their sum, if it is still there.
            let sum = theirs.bulk().expect("a sum").to_vec();
            let xx = |word: &str| word.as_bytes().to_vec();
            let set = vec![xx("SET"), command[1].clone(), sum, xx("XX"), xx("KEEPTTL")];
            self.ours.ask(&set).await;
            self.theirs.ask(&set).await;
            return true;
        }
        let named = exempt::named(command, ours, theirs).is_some();
        self.named += usize::from(named);
        named
    }
}

/// A whole walk: every key once, in order, or the error.
async fn scan(client: &mut Client, command: &Words) -> Reply {
    let (mut found, mut command) = (Vec::new(), command.clone());
    for _ in 0..10_000 {
        let reply = client.ask(&command).await;
        let Some([cursor, keys]) = reply.array() else { return reply };
        found.extend(keys.array().expect("keys").iter().cloned());
        command[1] = cursor.bulk().expect("a cursor").to_vec();
        if command[1] == b"0" {
            found.sort();
            found.dedup();
            return Reply::Array(Some(found));
        }
    }
    panic!("a walk without an end: {command:?}")
}
