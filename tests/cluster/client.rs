//! Typed calls of the gRPC door.

use std::time::Duration;

use raftcache::front::pb;
use raftcache::front::pb::cache_service_client::CacheServiceClient;
use tonic::transport::{Channel, Endpoint};

pub type Client = CacheServiceClient<Channel>;

/// A client that connects when it is first used, and again after a failure.
pub fn client(addr: &str) -> Client {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).unwrap();
    let endpoint = endpoint.connect_timeout(Duration::from_secs(5)).tcp_nodelay(true);
    CacheServiceClient::new(endpoint.connect_lazy())
        .max_decoding_message_size(8 << 20)
        .max_encoding_message_size(8 << 20)
}

pub fn set(key: &str, value: impl Into<bytes::Bytes>) -> pb::SetRequest {
    pb::SetRequest {
        key_form: Some(pb::set_request::KeyForm::Key(key.to_owned())),
        value_form: Some(pb::set_request::ValueForm::ValueBytes(value.into())),
        ..pb::SetRequest::default()
    }
}

pub fn get(key: &str) -> pb::GetRequest {
    pb::GetRequest {
        key_form: Some(pb::get_request::KeyForm::Key(key.to_owned())),
        ..pb::GetRequest::default()
    }
}

/// The bytes of an answer, if the key was there.
pub fn value(reply: pb::GetResponse) -> Option<bytes::Bytes> {
    match reply.value_form? {
        pb::get_response::ValueForm::Value(text) => Some(text.into()),
        pb::get_response::ValueForm::ValueBytes(bytes) => Some(bytes),
    }
}

/// A request with a time limit.
pub fn within<T>(message: T, timeout: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(timeout);
    request
}
