//! raftcache's gRPC door: unary calls, and `Pipeline` streams.

use anyhow::Context;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::bench::drive::{Answered, Call, Lane, Outcome};
use crate::bench::workload::Op;
use crate::pb::cache_service_client::CacheServiceClient;
use crate::pb::pipeline_request::Operation;
use crate::pb::pipeline_response::Result as Answer;
use crate::pb::{GetRequest, PipelineRequest, PipelineResponse, SetRequest};
use crate::pb::{get_request, set_request};
use crate::transport::cork;

/// Connects, as every gRPC lane does.
pub async fn connect(addr: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}"))?
        .connect_timeout(std::time::Duration::from_secs(5));
    cork::connect(&endpoint).await.with_context(|| format!("cannot reach {addr}"))
}

fn message(op: Op) -> Operation {
    match op.value {
        Some(value) => Operation::Set(SetRequest {
            key_form: Some(set_request::KeyForm::KeyBytes(op.key)),
            value_form: Some(set_request::ValueForm::ValueBytes(value)),
            ..SetRequest::default()
        }),
        None => Operation::Get(GetRequest {
            key_form: Some(get_request::KeyForm::KeyBytes(op.key)),
            ..GetRequest::default()
        }),
    }
}

/// Unary calls.
#[derive(Debug)]
pub struct Unary(pub CacheServiceClient<Channel>);

impl Call for Unary {
    async fn call(&mut self, op: Op) -> Outcome {
        Outcome::of(match message(op) {
            Operation::Get(get) => self.0.get(get).await.map(|answer| answer.get_ref().found),
            Operation::Set(set) => self.0.set(set).await.map(|_| true),
            _ => unreachable!("no other operation is made"),
        })
    }
}

/// One stream.
#[derive(Debug)]
pub struct Pipeline {
    channel: Channel,
    slots: usize,
    requests: mpsc::Sender<PipelineRequest>,
    answers: Streaming<PipelineResponse>,
}

impl Pipeline {
    /// Opens a stream of so many slots.
    pub async fn open(channel: Channel, slots: usize) -> anyhow::Result<Self> {
        let (requests, rx) = mpsc::channel(slots);
        let mut client = CacheServiceClient::new(channel.clone());
        let answers = client.pipeline(ReceiverStream::new(rx)).await?.into_inner();
        Ok(Pipeline { channel, slots, requests, answers })
    }
}

impl Lane for Pipeline {
    async fn start(&mut self, slot: usize, op: Op) -> anyhow::Result<()> {
        let (id, operation) = (slot as u64, Some(message(op)));
        let request = PipelineRequest { id, operation, ..PipelineRequest::default() };
        self.requests.send(request).await.context("the stream ended")
    }

    async fn next(&mut self) -> anyhow::Result<Answered> {
        let answer = self.answers.message().await?.context("the stream ended")?;
        let outcome = match answer.result {
            Some(Answer::Failure(error)) => {
                Outcome::Failed(format!("{}: {}", error.code, error.message))
            }
            Some(Answer::Get(get)) if !get.found => Outcome::Missed,
            Some(_) => Outcome::Done,
            None => Outcome::Failed("an answer without a result".to_owned()),
        };
        Ok((usize::try_from(answer.id)?, outcome))
    }

    async fn reopen(&mut self) -> anyhow::Result<()> {
        // The channel connects anew by itself.
        *self = Pipeline::open(self.channel.clone(), self.slots).await?;
        Ok(())
    }
}
