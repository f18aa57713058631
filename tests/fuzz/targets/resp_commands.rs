//! The whole door for clients of Redis before one shard: whatever is asked, each request is answered
//! once, in RESP2 and RESP3, and the connection is as good afterwards as it was before.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use raftcache::codec::resp::parse::{Parser, RequestLimits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::Target;
use super::one_shard::{Ours, serve};

/// Requests fed at once; the keys are removed before each input.
const REQUESTS_MAX: usize = 64;
/// Longest wait for all answers to an input.
const PATIENCE: Duration = Duration::from_secs(30);
const LIMITS: RequestLimits = RequestLimits {
    arguments_max: 64,
    bulk_bytes_max: 4_096,
    request_bytes_max: 8_192,
    inline_bytes_max: 1_024,
};

/// Bytes of the reply at the start of `input`; `None` if it is not whole.
fn reply_bytes(input: &[u8]) -> Option<usize> {
    let end = input.windows(2).position(|pair| pair == b"\r\n")?;
    let (line, mut at) = (&input[1..end], end + 2);
    assert!(!line.iter().any(|byte| *byte == b'\n' || *byte == b'\r'), "a line has one end");
    let number = || std::str::from_utf8(line).unwrap().parse::<i64>().unwrap();
    let parts = match input[0] {
        b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => 0,
        b'$' | b'=' => {
            let Ok(bytes) = usize::try_from(number()) else { return Some(at) };
            let end = input.get(at + bytes..at + bytes + 2)?;
            assert_eq!(end, b"\r\n", "a bulk string ends where it says");
            return Some(at + bytes + 2);
        }
        b'*' | b'~' | b'>' => number(),
        b'%' => number() * 2,
        other => panic!("a reply that begins with {:?}", char::from(other)),
    };
    for _ in 0..parts {
        at += reply_bytes(input.get(at..).filter(|rest| !rest.is_empty())?)?;
    }
    Some(at)
}

struct Door {
    runtime: Runtime,
    ours: Ours,
    socket: TcpStream,
    /// Answers that have come and are not read.
    input: Vec<u8>,
}

impl Door {
    fn open() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (ours, socket) = runtime.block_on(async {
            let ours = serve().await;
            let socket = TcpStream::connect(("127.0.0.1", ours.port)).await.unwrap();
            socket.set_nodelay(true).unwrap();
            (ours, socket)
        });
        Door { runtime, ours, socket, input: Vec::new() }
    }

    /// Reads one reply; `None` if the connection ended.
    async fn reply(socket: &mut TcpStream, input: &mut Vec<u8>) -> Option<Vec<u8>> {
        loop {
            if let Some(bytes) = (!input.is_empty()).then(|| reply_bytes(input)).flatten() {
                return Some(input.drain(..bytes).collect());
            }
            if socket.read_buf(input).await.unwrap_or(0) == 0 {
                assert!(
                    input.is_empty(),
                    "half an answer before the end: {}",
                    input.escape_ascii()
                );
                return None;
            }
        }
    }

    /// Sends requests, takes as many answers; then a farewell that must come back as it should.
    fn ask(&mut self, requests: &[Vec<Bytes>]) {
        let mut out = b"*1\r\n$8\r\nFLUSHALL\r\n".to_vec();
        for request in requests {
            out.extend(format!("*{}\r\n", request.len()).into_bytes());
            for word in request {
                out.extend(format!("${}\r\n", word.len()).into_bytes());
                out.extend_from_slice(word);
                out.extend(b"\r\n");
            }
        }
        out.extend(b"*1\r\n$5\r\nRESET\r\n*2\r\n$4\r\nECHO\r\n$3\r\nend\r\n");
        let Door { runtime, ours, socket, input } = self;
        let ended = runtime.block_on(async {
            let all = async {
                // A client that was told to go may not be read from any more.
                let _ = socket.write_all(&out).await;
                let mut replies = Vec::new();
                while replies.len() < requests.len() + 3 {
                    let Some(reply) = Door::reply(socket, input).await else { break };
                    replies.push(reply);
                }
                replies
            };
            let replies = tokio::time::timeout(PATIENCE, all).await.expect("answers in time");
            assert_eq!(replies[0], b"+OK\r\n", "FLUSHALL");
            // QUIT and what a browser sends end a connection, with an answer.
            let ended = replies.len() < requests.len() + 3;
            if ended {
                assert!(replies.len() > 1, "nothing was answered");
                let last = &requests[replies.len() - 2][0].to_ascii_lowercase();
                assert!(
                    [&b"quit"[..], b"post", b"host:"].contains(&&last[..]),
                    "ended by {last:?}"
                );
            } else {
                let farewell = &replies[replies.len() - 2..];
                assert_eq!(farewell, [&b"+RESET\r\n"[..], b"$3\r\nend\r\n"], "in its place");
                assert!(input.is_empty(), "more answers than requests: {}", input.escape_ascii());
            }
            if ended {
                *socket = TcpStream::connect(("127.0.0.1", ours.port)).await.unwrap();
                socket.set_nodelay(true).unwrap();
            }
            ended
        });
        if ended {
            self.input.clear();
        }
    }
}

/// One request of each command, in the three ways that matter: with what it wants, queued, in RESP3.
const SOUND: &[&str] = &[
    "SET k v PX 1500 NX GET\nGET k\nGETEX k EX 10\nGETDEL k\n",
    "HELLO 3 SETNAME me\nMSET a 1 b 2\nMGET a b c\nINCRBYFLOAT a 1.5\nOBJECT ENCODING a\n",
    "MULTI\nSET a 1\nINCR a\nGET a\nEXEC\n",
    "WATCH a\nSET a 1\nMULTI\nGET a\nEXEC\nUNWATCH\n",
    "APPEND k abc\nSTRLEN k\nGETRANGE k 0 -1\nSETRANGE k 5 x\nSUBSTR k 1 2\n",
    "SET k 5\nEXPIRE k 100 GT\nPEXPIREAT k 99999999999999 NX\nTTL k\nEXPIRETIME k\nPERSIST k\n",
    "SCAN 0 MATCH a* COUNT 100 TYPE string\nKEYS *\nRANDOMKEY\nDBSIZE\nTYPE k\n",
    "SETNX a 1\nSETEX b 10 2\nPSETEX c 10 3\nGETSET a 4\nMSETNX {a}x 1 {a}y 2\n",
    "RENAME a b\nRENAMENX {k}a {k}b\nCOPY {k}a {k}b REPLACE\nTOUCH a b\nEXISTS a a\nUNLINK a b\n",
    "CLUSTER SLOTS\nCLUSTER SHARDS\nCLUSTER NODES\nCLUSTER INFO\nCLUSTER KEYSLOT k\nCLUSTER MYID\n",
    "CLIENT SETNAME me\nCLIENT GETNAME\nCLIENT ID\nCLIENT INFO\nCLIENT LIST\nCLIENT REDIRECT ON\n",
    "COMMAND COUNT\nCOMMAND INFO get set\nCOMMAND DOCS get\nCOMMAND GETKEYS mset a 1 b 2\n",
    "INFO\nCONFIG GET max*\nPING\nECHO hi\nSELECT 0\nWAIT 1 10\nTIME\nREADONLY\nREADWRITE\nASKING\n",
    "LPUSH k a\nEVAL x 0\nNOSUCH a b\nGET\nSET k v EX 0\nINCRBY k nine\nDISCARD\nEXEC\n",
    "AUTH default secret\nHELLO 2\nRESET\nLOLWUT\nDECRBY k 5\nINCRBY k 9223372036854775807\nQUIT\n",
];

pub fn commands() -> Target {
    let mut door = Door::open();
    Target::new(SOUND, move |input| {
        let (mut parser, mut held) = (Parser::new(LIMITS), BytesMut::from(input));
        let mut requests = Vec::new();
        while let Ok(Some(request)) = parser.next(&mut held) {
            requests.push(request);
            if requests.len() == REQUESTS_MAX {
                break;
            }
        }
        // Who switches answers off gets fewer than it sent requests.
        let switches =
            |request: &Vec<Bytes>| request.len() > 1 && request[1].eq_ignore_ascii_case(b"reply");
        requests.retain(|request| !switches(request));
        if requests.is_empty() {
            return false;
        }
        door.ask(&requests);
        true
    })
}
