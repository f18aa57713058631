//! HTTP/2 by hand: what no client library would send (RFC 9113).

use raftcache::front::pb;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = length[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// The preface, settings with the largest window for each stream, and as much for the connection.
pub fn greeting() -> Vec<u8> {
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let window = (i32::MAX as u32).to_be_bytes();
    let settings = [&[0, 4][..], &window].concat();
    out.extend(frame(SETTINGS, 0, 0, &settings));
    out.extend(frame(WINDOW_UPDATE, 0, 0, &(i32::MAX as u32 - 65_535).to_be_bytes()));
    out
}

/// The greeting and the beginning of a frame that never ends.
pub fn half_a_frame() -> Vec<u8> {
    let mut out = greeting();
    let whole = frame(HEADERS, END_HEADERS, 1, &[0; 16_000]);
    out.extend(&whole[..8_000]);
    out
}

/// A call on a stream: header fields as literals without a table (RFC 7541, section 6.2.2), and its
/// messages.
fn call<M: prost::Message>(stream: u32, method: &str, messages: &[M]) -> Vec<u8> {
    let literal = |index: &[u8], value: &str| {
        [index, &[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat()
    };
    let named = |name: &str, value: &str| {
        let name = [&[u8::try_from(name.len()).unwrap()], name.as_bytes()].concat();
        [&[0][..], &name, &literal(&[], value)].concat()
    };
    // POST, http, :path, :authority.
    let mut fields = vec![0x83, 0x86];
    fields.extend(literal(&[0x04], &format!("/cache.CacheService/{method}")));
    fields.extend(literal(&[0x01], "node"));
    fields.extend(named("content-type", "application/grpc"));
    fields.extend(named("te", "trailers"));
    let mut out = frame(HEADERS, END_HEADERS, stream, &fields);
    for (at, message) in messages.iter().enumerate() {
        let message = message.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let data = [&[0][..], &length, &message].concat();
        let flags = if at + 1 == messages.len() { END_STREAM } else { 0 };
        out.extend(frame(DATA, flags, stream, &data));
    }
    out
}

fn get_request(key: &str) -> pb::GetRequest {
    pb::GetRequest {
        key_form: Some(pb::get_request::KeyForm::Key(key.to_owned())),
        ..pb::GetRequest::default()
    }
}

/// A `Get` on a stream.
pub fn get(stream: u32, key: &str) -> Vec<u8> {
    call(stream, "Get", &[get_request(key)])
}

/// A `MultiGet` of so many times the same key on a stream.
pub fn multi_get(stream: u32, key: &str, times: usize) -> Vec<u8> {
    let key = pb::Key { key_form: Some(pb::key::KeyForm::Key(key.to_owned())) };
    let keys = vec![key; times];
    call(stream, "MultiGet", &[pb::MultiGetRequest { keys, ..pb::MultiGetRequest::default() }])
}

/// A `Pipeline` of so many `Get` of the same key.
pub fn pipeline(stream: u32, key: &str, times: u64) -> Vec<u8> {
    let get = |id| pb::PipelineRequest {
        id,
        operation: Some(pb::pipeline_request::Operation::Get(get_request(key))),
        timeout: None,
    };
    call(stream, "Pipeline", &(0..times).map(get).collect::<Vec<_>>())
}

/// Connects and sends these bytes; `None` if the node closed first.
pub async fn send(addr: &str, bytes: &[u8]) -> Option<TcpStream> {
    let mut socket = TcpStream::connect(addr).await.ok()?;
    socket.write_all(bytes).await.ok()?;
    Some(socket)
}
