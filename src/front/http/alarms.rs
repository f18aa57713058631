//! `GET /admin/alarms`: what nobody has acknowledged yet. `POST /admin/alarms/ack`: acknowledge it.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};

use super::asked::Asked;
use super::body::is_json;
use super::cache::{answered, not_json};
use super::path::Parameters;
use super::problem::Problem;
use super::put::parsed;
use super::{Http, Shared};
use crate::front::alarms::Ack;
use crate::front::page::AlarmsPage;
use crate::service::Execute;

pub(super) async fn list<S: Execute>(State(http): Shared<S>) -> Response {
    let alarms = http.door.table().alarms.active().to_vec();
    axum::Json(AlarmsPage { alarms }).into_response()
}

pub(super) async fn ack<S: Execute>(State(http): Shared<S>, request: Request) -> Response {
    answered(http.ack(request).await)
}

impl<S: Execute> Http<S> {
    async fn ack(&self, request: Request) -> Result<Response, Problem> {
        let (parts, body) = request.into_parts();
        let asked = Asked::new(parts);
        let refused = |error| self.problem(&error);
        Parameters::of(asked.uri(), &[]).map_err(refused)?;
        let body = self.bodies.read(asked.headers(), body, self.limits().message_bytes_max).await?;
        if !is_json(asked.headers()) {
            return Err(not_json());
        }
        let which = parsed::<Ack>(&body).and_then(Ack::checked).map_err(refused)?;
        let deadline = asked.call(&self.door).map_err(refused)?.deadline;
        let acknowledged = self.door.service.acknowledge(which, deadline).await;
        let alarms = acknowledged.map_err(refused)?;
        Ok(axum::Json(AlarmsPage { alarms }).into_response())
    }
}
