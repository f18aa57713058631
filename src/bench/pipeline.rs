//! One `Pipeline` stream with a fixed number of operations in flight.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, ensure};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::load::{Shared, Tally};
use crate::front::pb::cache_service_client::CacheServiceClient;
use crate::front::pb::pipeline_request::Operation;
use crate::front::pb::pipeline_response::Result as Answer;
use crate::front::pb::{PipelineRequest, PipelineResponse};
use crate::types::clock::{Instant, now};
use crate::types::random::Random;

/// Operations in flight while keys are filled in.
const FILL_DEPTH: usize = 256;

struct Stream {
    requests: mpsc::Sender<PipelineRequest>,
    answers: Streaming<PipelineResponse>,
}

async fn open(mut client: CacheServiceClient<Channel>, depth: usize) -> anyhow::Result<Stream> {
    let (requests, rx) = mpsc::channel(depth.max(1));
    let answers = client.pipeline(ReceiverStream::new(rx)).await?.into_inner();
    Ok(Stream { requests, answers })
}

fn failure(answer: &PipelineResponse) -> Option<String> {
    match &answer.result {
        Some(Answer::Failure(error)) => Some(format!("{}: {}", error.code, error.message)),
        Some(_) => None,
        None => Some("an answer without a result".to_owned()),
    }
}

/// Keeps `depth` operations in flight until told to stop.
pub async fn stream(
    client: CacheServiceClient<Channel>,
    shared: Arc<Shared>,
    seed: u64,
    depth: usize,
) -> anyhow::Result<Tally> {
    let mut stream = open(client, depth).await?;
    let (mut tally, mut keys) = (Tally::new(), Random::new(seed));
    let mut started: Vec<Instant> = vec![now(); depth];
    let request = |keys: &mut Random, id: usize| {
        let random = keys.bits();
        let key = random % shared.options.keys;
        let operation = if shared.is_set(random) {
            Operation::Set(shared.set(key))
        } else {
            Operation::Get(Shared::get(key))
        };
        PipelineRequest { id: id as u64, operation: Some(operation), ..Default::default() }
    };
    for id in 0..depth {
        stream.requests.send(request(&mut keys, id)).await?;
    }
    while let Some(answer) = stream.answers.message().await? {
        let id = usize::try_from(answer.id).context("an id nobody sent")?;
        ensure!(id < depth, "an id nobody sent");
        shared.count(&mut tally, now() - started[id], failure(&answer));
        if shared.stopped() {
            break;
        }
        started[id] = now();
        stream.requests.send(request(&mut keys, id)).await?;
    }
    Ok(tally)
}

/// Sets each of `keys` once.
pub async fn fill(
    client: CacheServiceClient<Channel>,
    shared: Arc<Shared>,
    mut keys: Range<u64>,
) -> anyhow::Result<()> {
    let mut stream = open(client, FILL_DEPTH).await?;
    let mut in_flight = 0;
    loop {
        while in_flight < FILL_DEPTH
            && let Some(key) = keys.next()
        {
            let operation = Some(Operation::Set(shared.set(key)));
            stream
                .requests
                .send(PipelineRequest { id: key, operation, ..Default::default() })
                .await?;
            in_flight += 1;
        }
        if in_flight == 0 {
            return Ok(());
        }
        let answer = stream.answers.message().await?.context("the stream ended")?;
        if let Some(failure) = failure(&answer) {
            anyhow::bail!("cannot fill the keys: {failure}");
        }
        in_flight -= 1;
    }
}
