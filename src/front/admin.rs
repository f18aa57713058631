//! The gRPC door for operators: `cache.AdminService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::alarms::Ack;
use super::door::Door;
use super::grpc::deadline;
use super::{pb, status};
use crate::core::cluster::alarms::{Alarm, AlarmKind};
use crate::service::Execute;

/// Serves `cache.AdminService` by `S`.
#[derive(Debug)]
pub struct AdminGrpc<S> {
    door: Arc<Door<S>>,
}

impl<S: Execute> AdminGrpc<S> {
    /// A door.
    pub fn new(door: Arc<Door<S>>) -> Self {
        AdminGrpc { door }
    }

    fn answer<A>(&self, message: A) -> Response<A> {
        let mut response = Response::new(message);
        status::put_epoch(response.metadata_mut(), self.door.table().epoch);
        response
    }
}

#[tonic::async_trait]
impl<S: Execute> pb::admin_service_server::AdminService for AdminGrpc<S> {
    async fn alarm_list(
        &self,
        _request: Request<pb::AlarmListRequest>,
    ) -> Result<Response<pb::AlarmListResponse>, Status> {
        let alarms = self.door.table().alarms.active().iter().map(alarm).collect();
        Ok(self.answer(pb::AlarmListResponse { alarms }))
    }

    async fn alarm_ack(
        &self,
        request: Request<pb::AlarmAckRequest>,
    ) -> Result<Response<pb::AlarmAckResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let deadline = deadline(&self.door, &extensions);
        let active = match (Ack { ids: message.ids, all: message.all }).checked() {
            Ok(which) => self.door.service.acknowledge(which, deadline).await,
            Err(error) => Err(error),
        };
        let active = active.map_err(|error| status::status(&error, &self.door.table()))?;
        Ok(self.answer(pb::AlarmAckResponse { alarms: active.iter().map(alarm).collect() }))
    }
}

fn alarm(alarm: &Alarm) -> pb::Alarm {
    use pb::alarm::Kind as Wire;
    let kind = match alarm.kind {
        AlarmKind::MajorityLost => Wire::MajorityLost,
        AlarmKind::ReplicaLost => Wire::ReplicaLost,
        AlarmKind::DigestDiffers => Wire::DigestDiffers,
    };
    let replicas = alarm
        .replicas
        .iter()
        .map(|replica| pb::AlarmReplica { replica_id: replica.replica.0, node_id: replica.node.0 });
    pb::Alarm {
        id: alarm.id,
        kind: kind.into(),
        shard_id: alarm.shard.0.into(),
        generation_before: alarm.generation_before.0,
        generation: alarm.generation.0,
        replicas: replicas.collect(),
        first_unix_ms: alarm.first_unix_ms,
        last_unix_ms: alarm.last_unix_ms,
        count: alarm.count,
        text: alarm.to_string(),
    }
}
