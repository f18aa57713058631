//! A gRPC client that knows nothing of the service but its address: it asks for the descriptor by
//! reflection and speaks JSON, as grpcurl does.

use bytes::{Buf, BufMut, Bytes};
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// Which reflection service to ask; old grpcurls know only `V1Alpha`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(dead_code, reason = "not every test binary uses both")]
pub enum Reflection {
    V1,
    V1Alpha,
}

/// What reflection is asked.
enum Question {
    Services,
    FileOfSymbol(String),
    FileByName(String),
}

/// What reflection answers: names of services, or encoded file descriptors.
enum Answer {
    Services(Vec<String>),
    Files(Vec<Vec<u8>>),
}

macro_rules! ask {
    ($version:ident, $channel:expr, $question:expr) => {{
        use tonic_reflection::pb::$version as pb;
        let message_request = match $question {
            Question::Services => {
                pb::server_reflection_request::MessageRequest::ListServices("*".to_owned())
            }
            Question::FileOfSymbol(symbol) => {
                pb::server_reflection_request::MessageRequest::FileContainingSymbol(symbol)
            }
            Question::FileByName(name) => {
                pb::server_reflection_request::MessageRequest::FileByFilename(name)
            }
        };
        let request = pb::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message_request),
        };
        let mut client = pb::server_reflection_client::ServerReflectionClient::new($channel);
        let stream = tokio_stream::once(request);
        let mut replies = client.server_reflection_info(stream).await?.into_inner();
        let reply = replies.message().await?.ok_or_else(|| Status::internal("no answer"))?;
        match reply.message_response {
            Some(pb::server_reflection_response::MessageResponse::ListServicesResponse(list)) => {
                Ok(Answer::Services(list.service.into_iter().map(|s| s.name).collect()))
            }
            Some(pb::server_reflection_response::MessageResponse::FileDescriptorResponse(f)) => {
                Ok(Answer::Files(f.file_descriptor_proto))
            }
            other => Err(Status::internal(format!("reflection answered {other:?}"))),
        }
    }};
}

/// A connection to a server with reflection.
#[derive(Clone, Debug)]
pub struct JsonClient {
    channel: Channel,
    reflection: Reflection,
}

#[allow(dead_code, reason = "not every test binary uses everything")]
impl JsonClient {
    /// Connects to `host:port`.
    pub async fn connect(addr: &str, reflection: Reflection) -> Result<Self, Status> {
        let endpoint = Endpoint::from_shared(format!("http://{addr}"))
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let channel =
            endpoint.connect().await.map_err(|e| Status::unavailable(format!("{addr}: {e}")))?;
        Ok(JsonClient { channel, reflection })
    }

    /// `grpcurl list`.
    pub async fn services(&self) -> Result<Vec<String>, Status> {
        match self.ask(Question::Services).await? {
            Answer::Services(names) => Ok(names),
            Answer::Files(_) => Err(Status::internal("files were not asked for")),
        }
    }

    /// `grpcurl -d JSON ADDR METHOD`, with `method` as in `cache.CacheService/Set`.
    /// The answer has lowerCamelCase names and no fields at their default, as grpcurl prints it.
    pub async fn call(&self, method: &str, json: &str) -> Result<serde_json::Value, Status> {
        self.call_with(method, json, |_| {}).await
    }

    /// The same with metadata or a deadline.
    pub async fn call_with(
        &self,
        method: &str,
        json: &str,
        prepare: impl FnOnce(&mut Request<Bytes>),
    ) -> Result<serde_json::Value, Status> {
        let descriptor = self.method(method).await?;
        // Without -d, grpcurl sends an empty message.
        let json = if json.is_empty() { "{}" } else { json };
        let mut input = serde_json::Deserializer::from_str(json);
        let message = DynamicMessage::deserialize(descriptor.input(), &mut input)
            .map_err(|e| Status::invalid_argument(format!("request JSON: {e}")))?;
        let mut request = Request::new(Bytes::from(message.encode_to_vec()));
        prepare(&mut request);
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let path = http::uri::PathAndQuery::try_from(format!("/{method}"))
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let reply: Bytes = grpc.unary(request, path, RawCodec).await?.into_inner();
        let reply = DynamicMessage::decode(descriptor.output(), reply)
            .map_err(|e| Status::internal(format!("reply: {e}")))?;
        serde_json::to_value(&reply).map_err(|e| Status::internal(format!("reply JSON: {e}")))
    }

    async fn ask(&self, question: Question) -> Result<Answer, Status> {
        let channel = self.channel.clone();
        match self.reflection {
            Reflection::V1 => ask!(v1, channel, question),
            Reflection::V1Alpha => ask!(v1alpha, channel, question),
        }
    }

    async fn method(&self, method: &str) -> Result<MethodDescriptor, Status> {
        let unknown = || Status::new(Code::Unimplemented, format!("no method {method}"));
        let (service, name) = method.split_once('/').ok_or_else(unknown)?;
        let pool = self.pool(service).await?;
        let service = pool.get_service_by_name(service).ok_or_else(unknown)?;
        service.methods().find(|m| m.name() == name).ok_or_else(unknown)
    }

    /// The file of `symbol` and everything it imports.
    async fn pool(&self, symbol: &str) -> Result<DescriptorPool, Status> {
        let mut files: Vec<FileDescriptorProto> = Vec::new();
        let mut wanted = vec![Question::FileOfSymbol(symbol.to_owned())];
        while let Some(question) = wanted.pop() {
            let Answer::Files(encoded) = self.ask(question).await? else {
                return Err(Status::internal("a file was asked for"));
            };
            for bytes in encoded {
                let file = FileDescriptorProto::decode(bytes.as_slice())
                    .map_err(|e| Status::internal(format!("descriptor: {e}")))?;
                let known = |name: &str| files.iter().any(|f| f.name() == name);
                let missing = file.dependency.iter().filter(|name| !known(name));
                wanted.extend(missing.cloned().map(Question::FileByName));
                if !known(file.name()) {
                    files.push(file);
                }
            }
        }
        let mut pool = DescriptorPool::new();
        pool.add_file_descriptor_protos(files)
            .map_err(|e| Status::internal(format!("descriptors: {e}")))?;
        Ok(pool)
    }
}

/// Messages as they are on the wire.
#[derive(Clone, Copy, Debug)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = RawCodec;
    type Decoder = RawCodec;

    fn encoder(&mut self) -> RawCodec {
        RawCodec
    }

    fn decoder(&mut self) -> RawCodec {
        RawCodec
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(input.copy_to_bytes(input.remaining())))
    }
}
