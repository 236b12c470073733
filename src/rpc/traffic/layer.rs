//! The layer that holds each call against the limits.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use tokio::{sync::OwnedSemaphorePermit, time};
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::Span;

use super::{CallPlace, Patience, Traffic, incoming::Whole};
use crate::{
    auth::{Authentication, Principal},
    rpc::{door::OURS, listener::ConnectionInfo, request_id::RequestId, status::Failure, until_sent::keep_until_sent},
};

/// Health must answer whatever else comes: an orchestrator would end a busy service that does not.
const HEALTH: &str = "/grpc.health.";
/// Of streams, which may stay for ever, there are so many and no more.
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: &str = "/grpc.reflection.";

/// A refusal takes this long. It costs nothing to wait, while one who asks again at once after each refusal would keep the
/// service busy with nothing else; and when all streams of a connection wait, its peer cannot send any more.
const REFUSAL_PAUSE: Duration = Duration::from_millis(100);

/// Adds [`LimitTraffic`] to a service.
#[derive(Clone)]
pub struct TrafficLayer {
    /// The limits, and what is under way.
    pub traffic: Arc<Traffic>,
}

/// Refuses the call that is one too many, and ends the one that takes too long.
#[derive(Clone)]
pub struct LimitTraffic<S> {
    inner: S,
    traffic: Arc<Traffic>,
}

impl<S> Layer<S> for TrafficLayer {
    type Service = LimitTraffic<S>;

    fn layer(&self, inner: S) -> Self::Service {
        LimitTraffic { inner, traffic: Arc::clone(&self.traffic) }
    }
}

impl<S> Service<Request<Body>> for LimitTraffic<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Future: Send + 'static>,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let id = RequestId::of(request.extensions());
        if let Some(caller) = caller(&request) {
            // For the log line, which is to name also whom the limits stop.
            Span::current().record("principal", &caller.actor.id);
        }
        let (place, stream) = match self.places(&request) {
            Ok(places) => places,
            Err(failure) => return Box::pin(refuse(failure, id)),
        };
        let on_connection = request.extensions().get::<ConnectionInfo>().map(ConnectionInfo::begin_call);
        let patience = Patience::of(request.headers(), self.traffic.limits().call_time);
        let call = self.inner.call(self.whole(request, &id));
        Box::pin(async move {
            let _until_the_reply = (place, on_connection);
            match time::timeout(patience.time, call).await {
                Ok(reply) => reply.map(|reply| with_stream(reply, stream)),
                Err(_) => Ok(Failure::TooSlow(patience).into_status(&id).into_http()),
            }
        })
    }
}

impl<S> LimitTraffic<S> {
    /// What the call needs until its reply begins, and what it needs until its reply has ended.
    fn places<A>(&self, request: &Request<A>) -> Result<(Option<CallPlace>, Option<OwnedSemaphorePermit>), Failure> {
        let path = request.uri().path();
        let call = (!path.starts_with(HEALTH)).then(|| self.traffic.call(caller(request)));
        let stream = match path {
            WATCH => Some(self.traffic.watch()),
            path => path.starts_with(REFLECTION).then(|| self.traffic.reflection()),
        };
        Ok((call.transpose()?, stream.transpose()?))
    }

    /// A call of ours, of which nothing is read before all of it is there. Others come from anybody, and take next to nothing.
    fn whole(&self, request: Request<Body>, id: &RequestId) -> Request<Body> {
        let is_ours = request.uri().path().starts_with(OURS);
        match caller(&request).filter(|_| is_ours).map(|caller| self.traffic.meter(caller)) {
            Some(meter) => request.map(|body| Body::new(Whole::new(body, meter, id.clone()))),
            None => request,
        }
    }
}

fn with_stream(mut reply: Response<Body>, stream: Option<OwnedSemaphorePermit>) -> Response<Body> {
    if let Some(stream) = stream {
        keep_until_sent(reply.extensions_mut(), Arc::new(stream));
    }
    reply
}

async fn refuse<E>(failure: Failure, id: RequestId) -> Result<Response<Body>, E> {
    time::sleep(REFUSAL_PAUSE).await;
    Ok(failure.into_status(&id).into_http())
}

fn caller<A>(request: &Request<A>) -> Option<&Principal> {
    request.extensions().get::<Authentication>().and_then(|found| found.as_ref().ok())
}
