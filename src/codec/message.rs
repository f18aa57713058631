//! Messages of gRPC to bytes and back, as `tonic_prost` does it, but for the size of the buffer.

use std::marker::PhantomData;

use tonic::Status;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder};

/// Encodes each message into a buffer of its size. One that grows as it is filled ends up with twice the
/// size of a large value, which nobody has counted (INV-8).
#[derive(Clone, Copy, Debug)]
pub struct ExactCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for ExactCodec<T, U> {
    fn default() -> Self {
        ExactCodec(PhantomData)
    }
}

impl<T, U> Codec for ExactCodec<T, U>
where
    T: prost::Message + Send + 'static,
    U: prost::Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ExactEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> ExactEncoder<T> {
        ExactEncoder(PhantomData)
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstCodec::<T, U>::default().decoder()
    }
}

/// The half that encodes.
#[derive(Clone, Copy, Debug)]
pub struct ExactEncoder<T>(PhantomData<T>);

impl<T: prost::Message> Encoder for ExactEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.reserve(message.encoded_len());
        message.encode_raw(buf);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::BodyExt;
    use tonic::codec::{EncodeBody, SingleMessageCompressionOverride};

    use super::*;
    use crate::pb;

    #[tokio::test]
    async fn a_large_value_is_encoded_into_a_buffer_of_its_size() {
        let value = vec![7u8; 512 * 1024].into();
        let message = pb::GetResponse {
            value_form: Some(pb::get_response::ValueForm::ValueBytes(value)),
            version: u64::MAX,
            ..pb::GetResponse::default()
        };
        let encoder = ExactCodec::<pb::GetResponse, pb::GetRequest>::default().encoder();
        let messages = stream::iter([Ok(message)]);
        let single = SingleMessageCompressionOverride::default();
        let body = EncodeBody::new_server(encoder, messages, None, single, None);
        let bytes = body.collect().await.unwrap().to_bytes();
        let len = bytes.len();
        let capacity = bytes.try_into_mut().expect("nobody else has it").capacity();
        assert!(capacity < len + 16 * 1024, "{len} bytes in a buffer of {capacity}");
    }
}
