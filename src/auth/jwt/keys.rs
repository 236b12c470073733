//! The keys that signatures are checked with.

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde_json::Value;

use super::error::JwtError;

/// The least bytes of an HS256 secret: a shorter one than the hash can be guessed offline (RFC 7518, section 3.2).
const MIN_SECRET_BYTES: usize = 32;
/// The most keys of a set: a token without a `kid` may have to be tried on all of an algorithm.
const MAX_KEYS: usize = 64;
/// The bytes of a P-256 point, uncompressed.
const P256_POINT_BYTES: usize = 65;

/// One key, and the only algorithm that it is good for. That the algorithm is the key's and not the token's is what keeps
/// a public key from being taken for an HS256 secret.
#[derive(Clone)]
pub(super) struct Key {
    /// `None` for a key from a file of its own, which tokens with any `kid` may have been signed with.
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

/// All keys there are at a time.
#[derive(Clone, Default)]
pub(super) struct KeySet(pub(super) Vec<Key>);

impl KeySet {
    /// The keys that a token may have been signed with, as far as its header tells.
    pub(super) fn candidates<'k>(&'k self, algorithm: Algorithm, id: Option<&'k str>) -> impl Iterator<Item = &'k Key> {
        let may_be = move |key: &&Key| match (id, key.id.as_deref()) {
            (Some(id), Some(own)) => id == own,
            _ => true,
        };
        self.0.iter().filter(move |key| key.algorithm == algorithm).filter(may_be)
    }

    /// Whether any key bears this id.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id.as_deref() == Some(id))
    }
}

/// The secret of a file, without the line end that editors and shells put there.
pub(super) fn trimmed(secret: &[u8]) -> &[u8] {
    let secret = secret.strip_suffix(b"\n").unwrap_or(secret);
    secret.strip_suffix(b"\r").unwrap_or(secret)
}

/// The key of HS256.
pub(super) fn of_secret(origin: &str, secret: &[u8]) -> Result<Key, JwtError> {
    let secret = trimmed(secret);
    match secret.len() >= MIN_SECRET_BYTES {
        true => Ok(Key { id: None, algorithm: Algorithm::HS256, decoding: DecodingKey::from_secret(secret) }),
        false => Err(JwtError::key(
            origin,
            format!("the secret has {} bytes; HS256 takes at least {MIN_SECRET_BYTES}", secret.len()),
        )),
    }
}

/// The public key of a PEM file.
pub(super) fn of_pem(origin: &str, pem: &[u8]) -> Result<Key, JwtError> {
    let is_public = String::from_utf8_lossy(pem).contains("PUBLIC KEY-----");
    if !is_public {
        return Err(JwtError::key(origin, "must hold one public key, between BEGIN PUBLIC KEY and END PUBLIC KEY"));
    }
    let key = |algorithm, decoding| Key { id: None, algorithm, decoding };
    let rsa = || Some(key(Algorithm::RS256, DecodingKey::from_rsa_pem(pem).ok()?));
    let p256 = |decoding: &DecodingKey| decoding.try_get_as_bytes().is_ok_and(|point| point.len() == P256_POINT_BYTES);
    let ec = || Some(key(Algorithm::ES256, DecodingKey::from_ec_pem(pem).ok().filter(p256)?));
    let ed = || Some(key(Algorithm::EdDSA, DecodingKey::from_ed_pem(pem).ok()?));
    let found = ed().or_else(ec).or_else(rsa);
    found.ok_or_else(|| JwtError::key(origin, "holds no public key of RSA, P-256 or Ed25519"))
}

/// The keys of a JSON Web Key Set that can be used here. Others are passed over, as RFC 7517 says; a set with none is an
/// error, because it would shut everybody out.
pub(super) fn of_jwks(origin: &str, json: &[u8]) -> Result<Vec<Key>, JwtError> {
    let value: Value =
        serde_json::from_slice(json).map_err(|error| JwtError::key(origin, format!("is no JSON: {error}")))?;
    let items = value.get("keys").and_then(Value::as_array);
    let items = items.ok_or_else(|| JwtError::key(origin, "is no key set: there is no array \"keys\""))?;
    if items.len() > MAX_KEYS {
        return Err(JwtError::key(origin, format!("has {} keys; at most {MAX_KEYS} are taken", items.len())));
    }
    let keys: Vec<Key> = items.iter().filter_map(of_jwk).collect();
    match keys.is_empty() {
        false => Ok(keys),
        true => Err(JwtError::key(
            origin,
            "has no key that can be used: RSA for RS256, P-256 for ES256, Ed25519 for EdDSA, to verify signatures",
        )),
    }
}

/// A symmetric key (`oct`) is passed over too: a set that is there for all to read holds no secret.
fn of_jwk(value: &Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
    let (algorithm, declared) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let fits = jwk.common.key_algorithm.is_none_or(|own| own == declared);
    let signs = jwk.common.public_key_use.as_ref().is_none_or(|own| *own == PublicKeyUse::Signature);
    let decoding = DecodingKey::from_jwk(&jwk).ok()?;
    (fits && signs).then_some(Key { id: jwk.common.key_id, algorithm, decoding })
}
