//! Frames of peers, to whom they belong.

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::host::Host;
use crate::controller::Controller;
use crate::raft::shard_group::ShardGroup;
use crate::service::{Registry, Service};
use crate::transport::{FrameKind, Handler, Refusal};
use crate::types::{GroupId, NodeId};

/// Serves what peers send to this node.
pub struct PeerHandler {
    pub(super) registry: Registry<ShardGroup>,
    pub(super) service: Service<ShardGroup>,
    pub(super) controller: Controller,
    pub(super) host: std::sync::Arc<Host>,
}

impl Handler for PeerHandler {
    fn cluster_id(&self) -> u128 {
        self.controller.cluster_id()
    }

    fn handle(
        &self,
        from: NodeId,
        group: GroupId,
        kind: FrameKind,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        match kind {
            FrameKind::Append
            | FrameKind::Vote
            | FrameKind::PreVote
            | FrameKind::TransferLeader
            | FrameKind::Snapshot => self.raft(from, group, kind, payload),
            FrameKind::Forward => {
                let service = self.service.clone();
                Box::pin(async move { service.handle_forward(from, group, payload).await })
            }
            FrameKind::Hello | FrameKind::Control | FrameKind::Table => {
                let controller = self.controller.clone();
                Box::pin(async move { controller.handle(from, kind, payload).await })
            }
            FrameKind::Status => {
                Box::pin(async { Err(Refusal("status is asked for over HTTP".to_owned())) })
            }
        }
    }
}

impl PeerHandler {
    fn raft(
        &self,
        from: NodeId,
        group: GroupId,
        kind: FrameKind,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        let absent = move || Refusal(format!("{group} does not run here"));
        if group == GroupId::CONTROLLER {
            let replica = self.host.controller_replica();
            return Box::pin(async move {
                replica.ok_or_else(absent)?.handle(from, kind, payload).await
            });
        }
        let group = self.registry.get(group);
        Box::pin(
            async move { group.ok_or_else(absent)?.replica().handle(from, kind, payload).await },
        )
    }
}
