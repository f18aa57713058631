//! etcd v3, over unary calls of its own gRPC interface.

use anyhow::Context;
use tonic::transport::Channel;

use self::pb::cluster_client::ClusterClient;
use self::pb::kv_client::KvClient;
use self::pb::maintenance_client::MaintenanceClient;
use crate::bench::drive::{Call, Outcome};
use crate::bench::workload::Op;

/// What `proto/etcd.proto` generates.
#[allow(missing_docs, reason = "generated")]
mod pb {
    tonic::include_proto!("etcdserverpb");
}

/// A caller: `Put`, and `Range` of one key, which is linearizable.
#[derive(Debug)]
pub struct Etcd(KvClient<Channel>);

impl Etcd {
    /// Over a channel that others may use as well.
    pub fn new(channel: Channel) -> Self {
        Etcd(KvClient::new(channel))
    }
}

impl Call for Etcd {
    async fn call(&mut self, op: Op) -> Outcome {
        Outcome::of(match op.value {
            Some(value) => self.0.put(pb::PutRequest { key: op.key, value }).await.map(|_| true),
            None => {
                let range = self.0.range(pb::RangeRequest { key: op.key }).await;
                range.map(|found| !found.get_ref().kvs.is_empty())
            }
        })
    }
}

/// Its version, and the number of its voting members.
pub async fn describe(channel: Channel) -> anyhow::Result<(String, usize)> {
    let status = MaintenanceClient::new(channel.clone()).status(pb::StatusRequest {}).await;
    let version = status.context("etcd does not tell its version")?.into_inner().version;
    let members = ClusterClient::new(channel).member_list(pb::MemberListRequest {}).await;
    let members = members.context("etcd does not tell its members")?.into_inner().members;
    Ok((version, members.iter().filter(|member| !member.is_learner).count()))
}
