//! The name of one call, which the caller, the log and an opaque error share.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::{MapOk, TryFutureExt as _};
use http::{Extensions, HeaderName, HeaderValue, Request, Response};
use tower::{Layer, Service};

use crate::model::random;

/// The metadata key, in the request and in the reply.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_LEN: usize = 128;

/// The name of one call: 1 to 128 printable ASCII characters without spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The caller's, if it may stand in a log line, or else a random one.
    pub(super) fn of_headers(request: &http::HeaderMap) -> Self {
        let given = request.get(REQUEST_ID).and_then(|value| value.to_str().ok());
        given.filter(|id| is_request_id(id)).map_or_else(Self::random, |id| Self(id.into()))
    }

    fn random() -> Self {
        Self(hex::encode(random::bytes::<16>()).into())
    }

    /// What [`RequestIdLayer`] left in the extensions.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_else(Self::random)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_request_id(text: &str) -> bool {
    (1..=MAX_LEN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Adds [`NameRequests`] to a service.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestIdLayer;

/// Puts a [`RequestId`] into each request's extensions and into the reply's metadata.
#[derive(Clone, Debug)]
pub struct NameRequests<S> {
    inner: S,
}

impl<S> Layer<S> for RequestIdLayer {
    type Service = NameRequests<S>;

    fn layer(&self, inner: S) -> Self::Service {
        NameRequests { inner }
    }
}

impl<S, A, B> Service<Request<A>> for NameRequests<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    B: 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = MapOk<S::Future, Box<dyn FnOnce(Response<B>) -> Response<B> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        let id = RequestId::of_headers(request.headers());
        request.extensions_mut().insert(id.clone());
        self.inner.call(request).map_ok(Box::new(move |response| named(response, &id)))
    }
}

fn named<B>(mut response: Response<B>, id: &RequestId) -> Response<B> {
    let value = HeaderValue::from_str(id.as_str()).expect("a request id is printable ASCII");
    response.headers_mut().insert(REQUEST_ID, value);
    response
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    async fn ids(given: Option<&str>) -> (String, String) {
        let service = service_fn(async |request: Request<()>| {
            Ok::<_, std::convert::Infallible>(Response::new(RequestId::of(request.extensions())))
        });
        let mut request = Request::new(());
        given.map(|id| request.headers_mut().insert(REQUEST_ID, HeaderValue::from_bytes(id.as_bytes()).unwrap()));
        let response = RequestIdLayer.layer(service).oneshot(request).await.unwrap();
        (response.headers()[REQUEST_ID].to_str().unwrap().to_owned(), response.body().as_str().to_owned())
    }

    #[tokio::test]
    async fn takes_what_may_stand_in_a_log_line_and_else_makes_one() {
        let longest = "x".repeat(128);
        for given in ["a", "4bf92f3577b34da6a3ce929d0e0e4736", "!~", &longest] {
            assert_eq!(ids(Some(given)).await, (given.to_owned(), given.to_owned()));
        }
        let too_long = "x".repeat(129);
        for given in [None, Some(""), Some("a b"), Some("ä"), Some("a\tb"), Some(&*too_long)] {
            let (sent, seen) = ids(given).await;
            assert_eq!((sent.len(), &sent), (32, &seen), "{given:?}");
        }
    }
}
