//! The tower layer that finds out who calls.
//!
//! It never refuses a call itself: it leaves its finding, good or bad, in the request's extensions. A service cannot get a
//! permit without a principal, so a call that skipped this layer ends as denied, not as open; and health and
//! reflection, which ask for no permit, need no claims.

use std::task::{Context, Poll};

use http::Request;
use tower::{Layer, Service};

use super::{claims, principal::Principal};

/// Why the caller is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// None were sent.
    #[error("no credentials: send the metadata key x-audit-subject, and x-audit-roles or x-audit-permissions")]
    Missing,
    /// Some were sent that do not parse, or contradict each other.
    #[error("metadata key {key}: {problem}")]
    Invalid {
        /// The metadata key.
        key: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
}

impl CredentialsError {
    pub(super) fn invalid(key: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid { key, problem: problem.into() }
    }
}

/// What was found out about the caller.
pub type Authentication = Result<Principal, CredentialsError>;

/// Adds [`Authenticate`] to a service.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuthenticateLayer;

/// Puts an [`Authentication`] into each request's extensions.
#[derive(Clone, Debug)]
pub struct Authenticate<S> {
    inner: S,
}

impl<S> Layer<S> for AuthenticateLayer {
    type Service = Authenticate<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authenticate { inner }
    }
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Authenticate<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let found: Authentication = claims::read(request.headers());
        request.extensions_mut().insert(found);
        self.inner.call(request)
    }
}
