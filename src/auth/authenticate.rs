//! The tower layer that finds out who calls.
//!
//! It never refuses a call itself: it leaves its finding, good or bad, in the request's extensions. A service cannot get a
//! permit without a principal, so a call that skipped this layer ends as denied, not as open; and health and
//! reflection, which ask for no permit, need no claims.

use std::{
    mem,
    task::{Context, Poll},
};

use futures_util::future::{BoxFuture, Either};
use http::Request;
use tower::{Layer, Service};

use super::{
    claims,
    jwt::{TokenVerifier, verify::Verdict},
    peer::{Peer, Vouchers},
    principal::Principal,
};

/// Why the caller is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// None were sent.
    #[error("no credentials: send the metadata key x-audit-subject, and x-audit-roles or x-audit-permissions")]
    Missing,
    /// No token was sent.
    #[error("no credentials: send the metadata key authorization with Bearer and a token")]
    TokenMissing,
    /// The token was good once.
    #[error("metadata key authorization: the token has expired")]
    Expired,
    /// Some were sent that do not parse, or contradict each other.
    #[error("metadata key {key}: {problem}")]
    Invalid {
        /// The metadata key.
        key: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
    /// The other end's certificate is none of those that may speak for callers.
    #[error("the client certificate may not vouch for callers: none of its names {names:?} is in tls.client_subjects")]
    NotVouched {
        /// Its names.
        names: Vec<String>,
    },
}

impl CredentialsError {
    pub(super) fn invalid(key: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid { key, problem: problem.into() }
    }
}

/// What was found out about the caller.
pub type Authentication = Result<Principal, CredentialsError>;

/// Where callers' claims come from.
#[derive(Clone)]
pub enum Authenticator {
    /// From metadata of the call, which whoever holds the connection vouches for.
    Metadata(Vouchers),
    /// From a signed token; the metadata `x-audit-*` means nothing then. Whoever holds the connection must be one of
    /// those named, if any are.
    Token(Vouchers, TokenVerifier),
}

impl Authenticator {
    fn authenticate<B>(&self, request: &Request<B>) -> Verdict {
        let (Self::Metadata(vouchers) | Self::Token(vouchers, _)) = self;
        if let Err(error) = vouchers.admit(request.extensions().get::<Peer>()) {
            return Verdict::Final(Err(error));
        }
        match self {
            Self::Metadata(_) => Verdict::Final(claims::read(request.headers())),
            Self::Token(_, verifier) => verifier.verify(request.headers()),
        }
    }
}

/// Adds [`Authenticate`] to a service.
#[derive(Clone)]
pub struct AuthenticateLayer {
    /// Where claims come from.
    pub authenticator: Authenticator,
}

/// Puts an [`Authentication`] into each request's extensions.
#[derive(Clone)]
pub struct Authenticate<S> {
    inner: S,
    authenticator: Authenticator,
}

impl<S> Layer<S> for AuthenticateLayer {
    type Service = Authenticate<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authenticate { inner, authenticator: self.authenticator.clone() }
    }
}

impl<S, B> Service<Request<B>> for Authenticate<S>
where
    S: Service<Request<B>, Future: Send> + Clone + Send + 'static,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.authenticator.authenticate(&request) {
            Verdict::Final(found) => {
                request.extensions_mut().insert(found);
                Either::Left(self.inner.call(request))
            }
            Verdict::Later(found) => {
                // The clone stays; the service that was polled ready goes along.
                let clone = self.inner.clone();
                let mut ready = mem::replace(&mut self.inner, clone);
                Either::Right(Box::pin(async move {
                    request.extensions_mut().insert(found.await);
                    ready.call(request).await
                }))
            }
        }
    }
}
