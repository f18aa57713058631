//! Calls of their own, one for each operation.

use tonic::Request;
use tonic::Status;
use tonic::transport::Channel;

use super::ask::{Answer, Ask};
use super::error::Failure;
use super::node::Answered;
use crate::pb::cache_service_client::CacheServiceClient;
use crate::pb::pipeline_request::Operation;
use crate::pb::pipeline_response::Result as Reply;
use crate::types::clock::{Instant, now};

/// One call, until `until` at most.
pub(super) async fn call(
    mut client: CacheServiceClient<Channel>,
    ask: Ask,
    until: Instant,
) -> Result<Answered, Failure> {
    let call = async {
        match ask {
            Ask::One(operation) => one(&mut client, operation, until).await,
            Ask::Batch(message) => {
                Ok(answered(client.batch(within(message, until)).await?, Answer::Batch))
            }
            Ask::Scan(message) => {
                Ok(answered(client.scan(within(message, until)).await?, Answer::Scan))
            }
            Ask::Size(message) => {
                Ok(answered(client.size(within(message, until)).await?, Answer::Size))
            }
            Ask::Flush(message) => {
                Ok(answered(client.flush(within(message, until)).await?, Answer::Flush))
            }
        }
    };
    match tokio::time::timeout_at(until, call).await {
        Ok(result) => result.map_err(|status| Failure::of_status(&status)),
        Err(_) => Err(Failure::silent(true, "no answer in time")),
    }
}

async fn one(
    client: &mut CacheServiceClient<Channel>,
    operation: Operation,
    until: Instant,
) -> Result<Answered, Status> {
    macro_rules! calls {
        ($($operation:ident: $call:ident -> $reply:ident),+ $(,)?) => {
            match operation {
                $(Operation::$operation(message) => {
                    let response = client.$call(within(message, until)).await?;
                    answered(response, |reply| Answer::One(Reply::$reply(reply)))
                })+
            }
        };
    }
    Ok(calls! {
        Set: set -> Set,
        Get: get -> Get,
        Delete: delete -> Delete,
        Expire: expire -> Expire,
        Increment: increment -> Increment,
        IncrementFloat: increment_float -> IncrementFloat,
        Append: append -> Length,
        GetRange: get_range -> Get,
        SetRange: set_range -> Length,
        Inspect: inspect -> Inspect,
        Lock: lock -> Lock,
        Renew: renew -> Lock,
        Unlock: unlock -> Unlock,
        GetOrLease: get_or_lease -> GetOrLease,
        Fill: fill -> Set,
    })
}

fn within<T>(message: T, until: Instant) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(until.saturating_duration_since(now()));
    request
}

fn answered<A>(response: tonic::Response<A>, wrap: impl FnOnce(A) -> Answer) -> Answered {
    let epoch = response.metadata().get("raftcache-epoch").and_then(|text| text.to_str().ok());
    let epoch = epoch.and_then(|text| text.parse().ok()).unwrap_or(0);
    (wrap(response.into_inner()), epoch)
}
