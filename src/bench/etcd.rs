//! The same load on etcd v3, over unary calls of its own gRPC interface.

use std::sync::Arc;

use bytes::Bytes;
use tonic::Status;
use tonic::transport::Channel;

use self::pb::kv_client::KvClient;
use super::load::{Shared, Tally, key_bytes};
use crate::types::clock::now;
use crate::types::random::Random;

/// What `proto/etcd.proto` generates.
#[allow(missing_docs, reason = "generated")]
mod pb {
    tonic::include_proto!("etcdserverpb");
}

/// Calls in flight on each connection while keys are filled in.
const FILL_DEPTH: u64 = 32;

async fn put(client: &mut KvClient<Channel>, key: u64, value: Bytes) -> Result<(), Status> {
    client.put(pb::PutRequest { key: key_bytes(key), value }).await.map(|_| ())
}

/// Calls until told to stop: `Put`, and `Range` of one key, which is linearizable.
pub async fn caller(channel: Channel, shared: Arc<Shared>, seed: u64) -> anyhow::Result<Tally> {
    let mut client = KvClient::new(channel);
    let (mut tally, mut keys) = (Tally::new(), Random::new(seed));
    while !shared.stopped() {
        let random = keys.bits();
        let key = random % shared.options.keys;
        let start = now();
        let failed = if shared.is_set(random) {
            put(&mut client, key, shared.value.clone()).await.err()
        } else {
            client.range(pb::RangeRequest { key: key_bytes(key) }).await.err()
        };
        shared.count(&mut tally, now() - start, failed.map(|status| status.to_string()));
    }
    Ok(tally)
}

/// Puts every key once.
pub async fn fill(channels: &[Channel], shared: &Shared) -> anyhow::Result<()> {
    let lanes = channels.len() as u64 * FILL_DEPTH;
    let fills = (0..lanes).map(|lane| async move {
        let mut client = KvClient::new(channels[(lane / FILL_DEPTH) as usize].clone());
        for key in (lane..shared.options.keys).step_by(lanes as usize) {
            put(&mut client, key, shared.value.clone()).await?;
        }
        Ok::<(), Status>(())
    });
    futures_util::future::try_join_all(fills).await?;
    Ok(())
}
