//! Which web pages may call.
//!
//! A browser tells the origin of the page that calls, and pages cannot change it. A page that is not allowed is refused
//! here and not only by its browser: the browser asks nobody when a page's own host name is made to point at the service
//! (DNS rebinding), and in metadata mode that page could then claim to be anybody on its reader's machine.

use std::{
    collections::BTreeSet,
    future::Ready,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::Either;
use http::{HeaderName, HeaderValue, Method, Request, Response, header};
use tonic::body::Body;
use tower::{Layer, Service};
use tower_http::cors::CorsLayer;

use super::{
    request_id::{REQUEST_ID, RequestId},
    status::{self, Failure},
};

/// How long a browser may remember the answer to its preflight.
const PREFLIGHT_AGE: Duration = Duration::from_secs(2 * 60 * 60);

/// The origins of `cors.allowed_origins`.
#[derive(Clone, Debug, Default)]
pub struct Origins(Arc<BTreeSet<String>>);

impl Origins {
    /// These.
    pub fn new(allowed: BTreeSet<String>) -> Self {
        Self(Arc::new(allowed))
    }

    fn allow(&self, origin: &HeaderValue) -> bool {
        origin.to_str().is_ok_and(|origin| self.0.contains(origin))
    }

    /// What answers preflights and adds the headers that let an allowed page read a reply; `None` where no page may.
    pub fn cors(&self) -> Option<CorsLayer> {
        let allowed: Vec<HeaderValue> = self.0.iter().filter_map(|origin| origin.parse().ok()).collect();
        let layer = CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::POST])
            .allow_headers(tower_http::cors::AllowHeaders::mirror_request())
            .expose_headers(exposed())
            .max_age(PREFLIGHT_AGE);
        (!self.0.is_empty()).then_some(layer)
    }
}

/// What gRPC-Web clients read of a reply's head.
fn exposed() -> Vec<HeaderName> {
    let grpc = ["grpc-status", "grpc-message", "grpc-status-details-bin"].map(HeaderName::from_static);
    let ours = [REQUEST_ID, HeaderName::from_static(status::LOG_SIZE), header::CONTENT_DISPOSITION];
    grpc.into_iter().chain(ours).collect()
}

/// Adds [`RequireOrigin`] to a service.
#[derive(Clone, Debug)]
pub struct OriginLayer {
    /// Whose pages may call.
    pub origins: Origins,
}

/// Refuses what web pages of other origins send.
#[derive(Clone, Debug)]
pub struct RequireOrigin<S> {
    inner: S,
    origins: Origins,
}

impl<S> Layer<S> for OriginLayer {
    type Service = RequireOrigin<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequireOrigin { inner, origins: self.origins.clone() }
    }
}

impl<S, A> Service<Request<A>> for RequireOrigin<S>
where
    S: Service<Request<A>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let stranger = request.headers().get_all(header::ORIGIN).iter().find(|origin| !self.origins.allow(origin));
        let Some(stranger) = stranger else { return Either::Left(self.inner.call(request)) };
        let failure = Failure::Origin(String::from_utf8_lossy(stranger.as_bytes()).into_owned());
        let refusal = failure.into_status(&RequestId::of(request.extensions())).into_http();
        Either::Right(std::future::ready(Ok(refusal)))
    }
}
