//! One caller of the unary calls.

use std::sync::Arc;

use tonic::transport::Channel;

use super::load::{Shared, Tally};
use crate::front::pb::cache_service_client::CacheServiceClient;
use crate::types::clock::now;
use crate::types::random::Random;

/// Calls until told to stop.
pub async fn caller(
    mut client: CacheServiceClient<Channel>,
    shared: Arc<Shared>,
    seed: u64,
) -> anyhow::Result<Tally> {
    let (mut tally, mut keys) = (Tally::new(), Random::new(seed));
    while !shared.stopped() {
        let random = keys.bits();
        let key = random % shared.options.keys;
        let start = now();
        let failed = if shared.is_set(random) {
            client.set(shared.set(key)).await.err()
        } else {
            client.get(Shared::get(key)).await.err()
        };
        shared.count(&mut tally, now() - start, failed.map(|status| status.to_string()));
    }
    Ok(tally)
}
