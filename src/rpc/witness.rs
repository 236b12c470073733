//! Gives each call what it takes to record what is done to the log itself.

use std::task::{Context, Poll};

use http::{Request, Uri};
use tower::{Layer, Service};

use super::request_id::RequestId;
use crate::{
    auth::{Denied, Permit, authorize::Recorded},
    ingest::IngestError,
    self_audit::{Cause, SelfAudit},
};

/// Adds [`Introduce`] to a service.
#[derive(Clone)]
pub struct WitnessLayer {
    /// What records.
    pub self_audit: SelfAudit,
}

/// Puts a [`Witness`] into each request's extensions.
#[derive(Clone)]
pub struct Introduce<S> {
    inner: S,
    self_audit: SelfAudit,
}

/// Who tells of a call that is denied, or that reads.
#[derive(Clone)]
pub struct Witness {
    self_audit: SelfAudit,
    uri: Uri,
}

impl Witness {
    /// The call was denied.
    pub fn denied(&self, denied: &Denied, request_id: &RequestId) {
        self.self_audit.denied(denied, self.cause(request_id));
    }

    /// The call is about to show what `permit` allows, and must not if this fails.
    pub async fn read<A: Recorded>(&self, permit: &Permit<A>, request_id: &RequestId) -> Result<(), IngestError> {
        self.self_audit.read(permit, self.cause(request_id)).await
    }

    fn cause<'a>(&'a self, request_id: &'a RequestId) -> Cause<'a> {
        Cause { method: self.uri.path().trim_start_matches('/'), request_id: request_id.as_str() }
    }
}

impl<S> Layer<S> for WitnessLayer {
    type Service = Introduce<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Introduce { inner, self_audit: self.self_audit.clone() }
    }
}

impl<S, A> Service<Request<A>> for Introduce<S>
where
    S: Service<Request<A>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        let witness = Witness { self_audit: self.self_audit.clone(), uri: request.uri().clone() };
        request.extensions_mut().insert(witness);
        self.inner.call(request)
    }
}
