//! Turns away, before a byte of its message is read, a call whose caller is not known.
//!
//! Each method asks for its caller by itself, too, and gets no permit without one. But it is asked with the whole message
//! in memory, which a stranger shall not be able to fill.

use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

use super::{request_id::RequestId, status::Failure};
use crate::{auth::Authentication, metrics::Metrics};

/// The services that are for known callers only: all but health and reflection.
pub(super) const OURS: &str = "/auditlog.";

/// Adds [`RequireCaller`] to a service.
#[derive(Clone, Copy, Debug)]
pub struct DoorLayer;

/// Lets a call of our services pass only if its caller is known.
#[derive(Clone, Debug)]
pub struct RequireCaller<S> {
    inner: S,
}

impl<S> Layer<S> for DoorLayer {
    type Service = RequireCaller<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequireCaller { inner }
    }
}

impl<S, A> Service<Request<A>> for RequireCaller<S>
where
    S: Service<Request<A>, Response = Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        match refusal(&request) {
            None => Either::Left(self.inner.call(request)),
            Some(reply) => Either::Right(ready(Ok(reply))),
        }
    }
}

fn refusal<A>(request: &Request<A>) -> Option<Response<Body>> {
    let found = request.extensions().get::<Authentication>().filter(|_| request.uri().path().starts_with(OURS));
    let failure = Failure::from(found?.as_ref().err()?.clone());
    if let Some(metrics) = request.extensions().get::<Metrics>() {
        failure.count(metrics.calls());
    }
    Some(failure.into_status(&RequestId::of(request.extensions())).into_http())
}
