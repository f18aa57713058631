//! How operations travel: one file a protocol.

pub mod etcd;
pub mod grpc;
pub mod http;
pub mod resp;
pub mod resp_cluster;
pub mod resp_connection;
pub mod smart;
