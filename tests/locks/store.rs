//! A store outside of the cluster, one that checks fencing tokens or one that does not.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Takes writes as lines, each a token, and answers `ok` or `no`.
#[derive(Clone, Debug)]
pub struct Store {
    pub addr: SocketAddr,
    /// Tokens of the writes it took, in order.
    pub taken: Arc<Mutex<Vec<u64>>>,
    pub refused: Arc<Mutex<Vec<u64>>>,
}

impl Store {
    pub fn open(checks: bool) -> Store {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let store = Store { addr, taken: Arc::default(), refused: Arc::default() };
        let serve = store.clone();
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let store = serve.clone();
                thread::spawn(move || store.serve(checks, stream));
            }
        });
        store
    }

    fn serve(&self, checks: bool, stream: TcpStream) {
        let mut out = stream.try_clone().unwrap();
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let answer = if self.write(checks, line.parse().unwrap()) { "ok" } else { "no" };
            if writeln!(out, "{answer}").is_err() {
                return;
            }
        }
    }

    fn write(&self, checks: bool, token: u64) -> bool {
        let mut taken = self.taken.lock().unwrap();
        // The whole check: a token older than one that was seen is refused.
        if checks && taken.iter().max().is_some_and(|newest| token < *newest) {
            self.refused.lock().unwrap().push(token);
            return false;
        }
        taken.push(token);
        true
    }
}

/// A connection to a store.
pub struct Writer(BufReader<TcpStream>);

impl Writer {
    pub fn connect(addr: &str) -> Writer {
        Writer(BufReader::new(TcpStream::connect(addr).unwrap()))
    }

    /// Whether the store took a write under this token.
    pub fn write(&mut self, token: u64) -> bool {
        writeln!(self.0.get_mut(), "{token}").unwrap();
        let mut answer = String::new();
        self.0.read_line(&mut answer).unwrap();
        answer.trim() == "ok"
    }
}
