//! Requests that are no message of ours.
//!
//! What tonic cannot read never reaches a service: it answers by itself, with `INTERNAL` for bytes that do not decode and
//! `OUT_OF_RANGE` for a message that is too large. Both are the caller's mistakes, and the contract calls them
//! `FIELD_INVALID`. Every error that our own code makes carries details; those two carry none, which tells them apart.

use std::task::{Context, Poll};

use futures_util::future::{MapOk, TryFutureExt as _};
use http::{HeaderMap, Request, Response};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use super::{request_id::RequestId, status};

/// Adds [`ExplainUnreadable`] to a service.
#[derive(Clone, Copy, Debug)]
pub struct UnreadableLayer;

/// Answers for tonic where it could not read a request.
#[derive(Clone, Debug)]
pub struct ExplainUnreadable<S> {
    inner: S,
}

impl<S> Layer<S> for UnreadableLayer {
    type Service = ExplainUnreadable<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ExplainUnreadable { inner }
    }
}

impl<S, A> Service<Request<A>> for ExplainUnreadable<S>
where
    S: Service<Request<A>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = MapOk<S::Future, Box<dyn FnOnce(Response<Body>) -> Response<Body> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let id = RequestId::of(request.extensions());
        self.inner.call(request).map_ok(Box::new(move |response| explained(response, &id)))
    }
}

fn explained(response: Response<Body>, id: &RequestId) -> Response<Body> {
    match unread(response.headers()) {
        Some(status) => status::of_unreadable(&status, id).into_http(),
        None => response,
    }
}

/// The answer of tonic to a request that it could not read.
fn unread(headers: &HeaderMap) -> Option<Status> {
    let status = Status::from_header_map(headers)?;
    (matches!(status.code(), Code::Internal | Code::OutOfRange) && status.details().is_empty()).then_some(status)
}
