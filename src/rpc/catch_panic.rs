//! A panic ends its own call, with an opaque answer.

use std::{
    any::Any,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body as HttpBody;
use tonic::{body::Body, codegen::Bytes};
use tower::{BoxError, Layer, Service};
use tower_http::catch_panic::{CatchPanic, ResponseForPanic, ResponseFuture};

use super::{request_id::RequestId, status};

/// Adds [`CatchPanics`] to a service.
#[derive(Clone, Copy, Debug, Default)]
pub struct CatchPanicLayer;

/// Turns a panic into an answer. It is tower-http's, wrapped: that one's handler does not see the request, and the answer
/// has to name it.
#[derive(Clone, Debug)]
pub struct CatchPanics<S> {
    inner: S,
}

/// Answers a panic of the request with this id.
#[derive(Clone, Debug)]
pub struct Opaque(RequestId);

impl ResponseForPanic for Opaque {
    type ResponseBody = Body;

    fn response_for_panic(&mut self, panic: Box<dyn Any + Send + 'static>) -> Response<Body> {
        status::of_panic(&*panic, &self.0).into_http()
    }
}

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanics<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CatchPanics { inner }
    }
}

impl<S, A, B> Service<Request<A>> for CatchPanics<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<tower_http::body::UnsyncBoxBody<Bytes, BoxError>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, Opaque>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let opaque = Opaque(RequestId::of(request.extensions()));
        CatchPanic::custom(&mut self.inner, opaque).call(request)
    }
}
