//! From a token to a principal.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::HeaderMap;
use jsonwebtoken::{Header, Validation, decode, decode_header, errors::ErrorKind};
use serde_json::Value;

use crate::{
    auth::{Authentication, CredentialsError},
    model::Clock,
};

use super::{
    AUTHORIZATION, JwtConfig, LEEWAY,
    error::JwtError,
    keyring::Keyring,
    keys::{Key, KeySet},
    mapping::Mapping,
};

/// The most bytes of a token: more than any identity provider makes, and refused before a byte of it is decoded.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// The most keys that a token without a `kid` is tried on.
const MAX_ATTEMPTS: usize = 8;

/// Verifies tokens. Clones share the keys.
#[derive(Clone)]
pub struct TokenVerifier(Arc<Inner>);

struct Inner {
    keyring: Arc<Keyring>,
    issuer: Vec<String>,
    audience: Vec<String>,
    mapping: Mapping,
    clock: Arc<dyn Clock>,
}

/// What can be said of a token at once.
pub enum Verdict {
    /// It is good or it is not.
    Final(Authentication),
    /// Its key is unknown, and after another look at the sources of keys there will be more to say.
    Later(BoxFuture<'static, Authentication>),
}

/// A token that is signed by a key which is not known.
struct UnknownKey;

impl TokenVerifier {
    /// Reads the keys.
    ///
    /// # Errors
    /// A source of keys that is away or gives none, or `[jwt.grants]` that cannot be read.
    pub async fn open(settings: &JwtConfig, clock: Arc<dyn Clock>) -> Result<Self, JwtError> {
        Ok(Self(Arc::new(Inner {
            keyring: Arc::new(Keyring::open(settings).await?),
            issuer: settings.issuer.iter().cloned().collect(),
            audience: settings.audience.iter().cloned().collect(),
            mapping: Mapping::new(settings)?,
            clock,
        })))
    }

    /// Keeps the keys fresh for as long as it is polled.
    pub fn keep_fresh(&self) -> impl Future<Output = ()> + Send + 'static {
        Arc::clone(&self.0.keyring).keep_fresh()
    }

    /// How many items of the roles and permissions claims were no grants, and gave nothing, since the start.
    pub fn ignored_items(&self) -> u64 {
        self.0.mapping.ignored.load(Ordering::Relaxed)
    }

    /// Verifies the token among `headers`.
    pub fn verify(&self, headers: &HeaderMap) -> Verdict {
        let (token, header) = match token(headers).and_then(|token| Ok((token, header(token)?))) {
            Ok(read) => read,
            Err(error) => return Verdict::Final(Err(error)),
        };
        let keys = self.0.keyring.current();
        match self.0.check(token, &header, &keys) {
            Ok(found) => Verdict::Final(found),
            Err(UnknownKey) => {
                let (inner, token) = (Arc::clone(&self.0), token.to_owned());
                Verdict::Later(Box::pin(async move { inner.check_later(&token, &header, &keys).await }))
            }
        }
    }
}

impl Inner {
    async fn check_later(&self, token: &str, header: &Header, seen: &Arc<KeySet>) -> Authentication {
        let keys = self.keyring.learn(seen).await;
        self.check(token, header, &keys).unwrap_or_else(|UnknownKey| Err(no_key(header)))
    }

    fn check(&self, token: &str, header: &Header, keys: &KeySet) -> Result<Authentication, UnknownKey> {
        let id = header.kid.as_deref();
        let candidates: Vec<&Key> = keys.candidates(header.alg, id).take(MAX_ATTEMPTS).collect();
        if candidates.is_empty() {
            let is_new = self.keyring.may_learn() && id.is_some_and(|id| !keys.knows(id));
            return if is_new { Err(UnknownKey) } else { Ok(Err(no_key(header))) };
        }
        let claims = self.claims(token, &candidates);
        Ok(claims.and_then(|claims| {
            self.check_times(&claims)?;
            self.mapping.principal(&claims)
        }))
    }

    /// The claims, if one of the keys made the signature, and issuer and audience are right.
    fn claims(&self, token: &str, candidates: &[&Key]) -> Result<Value, CredentialsError> {
        let mut problem = "its signature is not by a key of this service";
        for key in candidates {
            match decode::<Value>(token, &key.decoding, &self.validation(key)) {
                Ok(data) => return Ok(data.claims),
                Err(error) => match error.kind() {
                    ErrorKind::InvalidSignature => (),
                    kind => problem = said(kind),
                },
            }
        }
        Err(invalid(problem))
    }

    /// Times are checked by our own clock, afterwards.
    fn validation(&self, key: &Key) -> Validation {
        let mut validation = Validation::new(key.algorithm);
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        validation.validate_aud = !self.audience.is_empty();
        if !self.audience.is_empty() {
            validation.set_audience(&self.audience);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        if !self.issuer.is_empty() {
            validation.set_issuer(&self.issuer);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        validation
    }

    fn check_times(&self, claims: &Value) -> Result<(), CredentialsError> {
        let now = Duration::from_micros(u64::try_from(self.clock.now().timestamp_micros()).unwrap_or(0));
        let (now, leeway) = (now.as_secs_f64(), LEEWAY.as_secs_f64());
        let seconds = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or_else(|| invalid(format!("its {name} is no number"))),
        };
        let expiry = seconds("exp")?.ok_or_else(|| invalid("it has no exp, and would be good for ever"))?;
        if now >= expiry + leeway {
            return Err(CredentialsError::Expired);
        }
        match seconds("nbf")? {
            Some(start) if now + leeway < start => Err(invalid("its nbf lies ahead: it is not good yet")),
            _ => Ok(()),
        }
    }
}

/// The token, if there is exactly one.
fn token(headers: &HeaderMap) -> Result<&str, CredentialsError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(CredentialsError::TokenMissing)?;
    if values.next().is_some() {
        return Err(invalid("must be sent once; it came more than once"));
    }
    let text = value.to_str().map_err(|_| invalid("must be Bearer and a token"))?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(invalid("must be Bearer and a token"));
    }
    match token.len() <= MAX_TOKEN_BYTES {
        true => Ok(token),
        false => Err(invalid(format!("the token has {} bytes; at most {MAX_TOKEN_BYTES} are taken", token.len()))),
    }
}

/// The header, whose every word is the sender's: it selects among our keys and is believed in nothing else.
fn header(token: &str) -> Result<Header, CredentialsError> {
    let header = decode_header(token).map_err(|_| invalid("it is no token that is signed with a known algorithm"))?;
    // RFC 7515, section 4.1.11: who does not understand an extension that is marked as critical must refuse.
    match header.crit {
        None => Ok(header),
        Some(_) => Err(invalid("its header has critical extensions, and none is understood")),
    }
}

fn no_key(header: &Header) -> CredentialsError {
    let id = header.kid.as_deref().map(|id| format!(" with the kid {:?}", shown(id))).unwrap_or_default();
    invalid(format!("this service has no key for {:?}{id}", header.alg))
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

fn said(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidIssuer => "its iss is not the issuer that this service trusts",
        ErrorKind::InvalidAudience => "its aud is not this service",
        ErrorKind::MissingRequiredClaim(name) if name == "iss" => "it has no iss",
        ErrorKind::MissingRequiredClaim(_) => "it has no aud",
        _ => "it cannot be read",
    }
}

fn invalid(problem: impl Into<String>) -> CredentialsError {
    CredentialsError::invalid(AUTHORIZATION, problem)
}
