//! What `proto/cache.proto` generates, and the two messages of google.rpc that carry error details.

#![allow(missing_docs, reason = "generated from the comments of the proto file")]

use bytes::Bytes;

tonic::include_proto!("cache");

/// Encoded `google.protobuf.FileDescriptorSet` of the interface, imports included.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/cache_descriptor.bin"));

/// `google.rpc.Status`, what `grpc-status-details-bin` holds
/// (<https://github.com/googleapis/googleapis/blob/master/google/rpc/status.proto>).
#[derive(Clone, PartialEq, prost::Message)]
pub struct RpcStatus {
    /// gRPC status code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For developers.
    #[prost(string, tag = "2")]
    pub message: String,
    /// For programs.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    /// Names the message, after the last slash.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message, encoded.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// Type URL of [`ErrorDetail`] in an [`Any`].
pub const ERROR_DETAIL_URL: &str = "type.googleapis.com/cache.ErrorDetail";
