//! What holds of tokens and keys, whatever comes in.

use std::{
    io::Write as _,
    sync::{Arc, LazyLock},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue};
use jsonwebtoken::{Algorithm, EncodingKey, crypto::sign};
use serde_json::Value;

use super::{
    AUTHORIZATION, JwtConfig, LEEWAY, TokenVerifier,
    keys::{of_jwks, of_pem, of_secret},
    verify::Verdict,
};
use crate::{
    auth::{Authentication, laws},
    model::{Clock, Timestamp},
};

const SECRET: &[u8] = b"a secret of the fuzzer, 32 bytes!";
const AUDIENCE: &str = "auditlog";
/// 2027-01-15T08:00:00Z.
const NOW: i64 = 1_800_000_000;

#[derive(Debug)]
struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_timestamp(NOW, 0).expect("a time that can be shown")
    }
}

/// One key, and Keycloak's place for roles.
static VERIFIER: LazyLock<TokenVerifier> = LazyLock::new(|| {
    let mut secret = tempfile::NamedTempFile::new().expect("a temporary file");
    secret.write_all(SECRET).expect("a temporary file");
    let mut settings = JwtConfig {
        secret_file: Some(secret.path().to_owned()),
        audience: [AUDIENCE.to_owned()].into(),
        grants: [("auditors".to_owned(), vec!["tenant_viewer@tenants/acme".to_owned()])].into(),
        ..JwtConfig::default()
    };
    settings.claims.roles = "/realm_access/roles".to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(TokenVerifier::open(&settings, Arc::new(StoppedClock))).expect("the secret is long enough")
});

/// Any bytes as the value of `authorization`. Whoever is let in holds a token that the key has signed.
pub fn authorization(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    match verify(value.clone()) {
        Ok(principal) => {
            laws::principal(&principal);
            let token = value.to_str().expect("it was read").split_once(' ').expect("it was read").1.trim();
            let (message, signature) = token.rsplit_once('.').expect("it was read");
            assert_eq!(signature, signed(message.as_bytes()));
        }
        Err(error) => laws::refusal(&error),
    }
}

/// A line with a token's header and behind it the claims, both any bytes, rightly signed. What a token says of itself
/// opens nothing: it must be of the key's algorithm, for us, not expired, and its grants are those that it names.
pub fn token(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (header, claims) = (&bytes[..at], bytes.get(at + 1..).unwrap_or_default());
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let token = format!("Bearer {message}.{}", signed(message.as_bytes()));
    match verify(HeaderValue::from_str(&token).expect("base64url and dots")) {
        Ok(principal) => {
            laws::principal(&principal);
            let read = |json| serde_json::from_slice::<Value>(json).expect("a token that was taken is JSON");
            let (header, claims) = (read(header), read(claims));
            assert_eq!(header["alg"], "HS256");
            assert!(header.get("crit").is_none_or(Value::is_null));
            assert_eq!(claims["sub"], principal.actor.id);
            let leeway = LEEWAY.as_secs_f64();
            assert!(claims["exp"].as_f64().is_some_and(|end| end + leeway > NOW as f64), "it has expired");
            assert!(claims["nbf"].as_f64().is_none_or(|start| start <= NOW as f64 + leeway), "it is not good yet");
            assert!(is_for_us(&claims["aud"]), "it is for somebody else");
            assert!(principal.roles.len() <= claims.pointer("/realm_access/roles").map_or(0, most_items));
            assert!(principal.permissions.len() <= claims.get("permissions").map_or(0, most_items));
        }
        Err(error) => laws::refusal(&error),
    }
}

/// A file or a reply with keys: what is taken has a known algorithm, and a set that is there for all to read has no secret.
pub fn keys(bytes: &[u8]) {
    if let Ok(keys) = of_jwks("origin", bytes) {
        assert!((1..=64).contains(&keys.len()));
        let is_public = |algorithm| matches!(algorithm, Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA);
        assert!(keys.iter().all(|key| is_public(key.algorithm)));
    }
    if let Ok(key) = of_pem("origin", bytes) {
        assert_ne!(key.algorithm, Algorithm::HS256);
        assert!(!String::from_utf8_lossy(bytes).starts_with("-----BEGIN RSA PRIVATE"));
    }
    if let Ok(key) = of_secret("origin", bytes) {
        assert!(key.algorithm == Algorithm::HS256 && bytes.len() >= 32);
    }
}

fn verify(value: HeaderValue) -> Authentication {
    let headers = HeaderMap::from_iter([(http::HeaderName::from_static(AUTHORIZATION), value)]);
    match VERIFIER.verify(&headers) {
        Verdict::Final(found) => found,
        Verdict::Later(_) => panic!("no source of the keys has key ids, so there is nothing to wait for"),
    }
}

fn signed(message: &[u8]) -> String {
    sign(message, &EncodingKey::from_secret(SECRET), Algorithm::HS256).expect("HMAC takes any bytes")
}

fn is_for_us(audience: &Value) -> bool {
    match audience {
        Value::Array(all) => all.iter().any(|one| one == AUDIENCE),
        one => one == AUDIENCE,
    }
}

/// How many items there are at most.
fn most_items(claim: &Value) -> usize {
    match claim {
        Value::Array(items) => items.len(),
        Value::String(text) => text.split_ascii_whitespace().count(),
        _ => 0,
    }
}
