//! Tells a connection of the requests on it: a layer around the services of the gRPC door, and a
//! middleware of the HTTP door.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::middleware::Next;
use axum::serve::IncomingStream;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use http_body::{Body, Frame, SizeHint};
use tower_layer::Layer;
use tower_service::Service;

use super::activity::Activity;
use super::listen::Listener;
use super::replies::{Reserved, on_the_way};

/// The connection that a request came on; an extension of each request.
#[derive(Clone, Debug)]
pub struct Visitor(pub Arc<Activity>);

impl Connected<IncomingStream<'_, Listener>> for Visitor {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.io().visitor()
    }
}

/// One request, until its answer was handed over.
#[derive(Debug)]
struct Visit(Arc<Activity>);

impl Visit {
    fn begin(activity: Arc<Activity>) -> Self {
        activity.request_began();
        Visit(activity)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

/// The body of an answer; tells whether its client takes it. A server asks for the next piece only
/// when its client has room for one: from the moment a piece is handed out until the next is asked
/// for, it is the client that is waited for. Each piece is counted among the replies of its connection
/// until its last byte was written.
#[derive(Debug)]
pub struct Answer<B> {
    body: B,
    /// A piece, or at first the head, waits to be taken.
    offered: bool,
    /// `None`: nobody knows on which connection it travels.
    visit: Option<Visit>,
    /// What was reserved for the next piece, if anything was.
    reserved: Option<Arc<Reserved>>,
}

impl<B> Answer<B> {
    fn new(body: B, visit: Option<Visit>, reserved: Option<Arc<Reserved>>) -> Self {
        let mut answer = Answer { body, offered: false, visit, reserved };
        answer.offer();
        answer
    }

    fn offer(&mut self) {
        if let Some(visit) = &self.visit {
            visit.0.offered();
            self.offered = true;
        }
    }

    fn take(&mut self) {
        if let Some(visit) = &self.visit
            && std::mem::take(&mut self.offered)
        {
            visit.0.taken();
        }
    }

    /// Counts a piece until it is gone.
    fn count(&mut self, piece: Bytes) -> Bytes {
        let Some(visit) = &self.visit else { return piece };
        match self.reserved.take() {
            Some(reserved) => on_the_way(piece, reserved),
            None => {
                let held = visit.0.replies().hold(piece.len());
                on_the_way(piece, held)
            }
        }
    }
}

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        self.take();
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.take();
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let Poll::Ready(Some(Ok(frame))) = polled else { return polled };
        self.offer();
        Poll::Ready(Some(Ok(frame.map_data(|piece| self.count(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Puts [`Visited`] around a service.
#[derive(Clone, Copy, Debug)]
pub struct VisitedLayer;

impl<S> Layer<S> for VisitedLayer {
    type Service = Visited<S>;

    fn layer(&self, inner: S) -> Visited<S> {
        Visited { inner }
    }
}

/// Tells the connection of each request when it begins and ends.
#[derive(Clone, Debug)]
pub struct Visited<S> {
    inner: S,
}

impl<S, Q, A> Service<http::Request<Q>> for Visited<S>
where
    S: Service<http::Request<Q>, Response = http::Response<A>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = http::Response<Answer<A>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Q>) -> Self::Future {
        let visitor = request.extensions().get::<Visitor>().cloned();
        let visit = visitor.map(|visitor| Visit::begin(visitor.0));
        let answer = self.inner.call(request);
        async move {
            let mut answer = answer.await?;
            let reserved = answer.extensions_mut().remove::<Arc<Reserved>>();
            Ok(answer.map(|body| Answer::new(body, visit, reserved)))
        }
        .boxed()
    }
}

/// The same for axum.
pub async fn visited(
    ConnectInfo(visitor): ConnectInfo<Visitor>,
    request: axum::extract::Request,
    next: Next,
) -> axum::response::Response {
    let visit = Visit::begin(visitor.0);
    next.run(request).await.map(|body| axum::body::Body::new(Answer::new(body, Some(visit), None)))
}
