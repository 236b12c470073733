//! Making tokens.

use std::{path::Path, time::Duration};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Map, Value, json};

use crate::model::{ActorType, Timestamp};

use super::{ClaimNames, JwtConfig, error::JwtError, keys, source::file};

/// What a token is signed with.
pub struct SigningKey {
    algorithm: Algorithm,
    key: EncodingKey,
}

/// What a token shall say.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// The caller's id.
    pub subject: String,
    /// `User` or `Service`.
    pub subject_type: ActorType,
    /// Their name for people; may be empty.
    pub name: String,
    /// Each `name@scope`.
    pub roles: Vec<String>,
    /// Each `name@scope`.
    pub permissions: Vec<String>,
    /// How long it is good for.
    pub ttl: Duration,
}

impl SigningKey {
    /// The secret of HS256 that the service verifies with.
    ///
    /// # Errors
    /// A file that cannot be read, or a secret that the service would not take.
    pub fn from_secret_file(path: &Path) -> Result<Self, JwtError> {
        let secret = file("jwt.secret_file", path)?;
        keys::of_secret(&path.display().to_string(), &secret)?;
        Ok(Self { algorithm: Algorithm::HS256, key: EncodingKey::from_secret(keys::trimmed(&secret)) })
    }

    /// A private key in PEM (PKCS #8): RSA, P-256 or Ed25519.
    ///
    /// # Errors
    /// A file that cannot be read, or that holds no such key.
    pub fn from_private_key_file(path: &Path) -> Result<Self, JwtError> {
        let pem = file("--private-key-file", path)?;
        let is_private = String::from_utf8_lossy(&pem).contains("PRIVATE KEY-----");
        let ed = || Some((Algorithm::EdDSA, EncodingKey::from_ed_pem(&pem).ok()?));
        let ec = || Some((Algorithm::ES256, EncodingKey::from_ec_pem(&pem).ok()?));
        let rsa = || Some((Algorithm::RS256, EncodingKey::from_rsa_pem(&pem).ok()?));
        let found = is_private.then(|| ed().or_else(ec).or_else(rsa)).flatten();
        let problem = "holds no private key of RSA, P-256 or Ed25519, between BEGIN PRIVATE KEY and END PRIVATE KEY";
        let (algorithm, key) = found.ok_or_else(|| JwtError::key(&path.display().to_string(), problem))?;
        Ok(Self { algorithm, key })
    }
}

/// A token that says `request`, under the names, for the audience and by the issuer of `settings`; of several the first.
///
/// # Errors
/// If the key cannot sign.
pub fn issue(
    key: &SigningKey,
    settings: &JwtConfig,
    request: &TokenRequest,
    now: Timestamp,
) -> Result<String, JwtError> {
    let mut claims = Value::Object(times(request, now));
    let names = &settings.claims;
    put_all(&mut claims, names, request);
    for (name, values) in [("iss", &settings.issuer), ("aud", &settings.audience)] {
        values.first().into_iter().for_each(|value| put(&mut claims, name, json!(value)));
    }
    encode(&Header::new(key.algorithm), &claims, &key.key).map_err(|error| JwtError::Sign(error.to_string()))
}

fn times(request: &TokenRequest, now: Timestamp) -> Map<String, Value> {
    let seconds = i64::try_from(request.ttl.as_secs()).unwrap_or(i64::MAX);
    let times = [("iat", now.timestamp()), ("exp", now.timestamp().saturating_add(seconds))];
    times.into_iter().map(|(name, time)| (name.to_owned(), json!(time))).collect()
}

fn put_all(claims: &mut Value, names: &ClaimNames, request: &TokenRequest) {
    put(claims, &names.subject, json!(request.subject));
    put(claims, &names.subject_type, json!(request.subject_type.as_str()));
    if !request.name.is_empty() {
        put(claims, &names.name, json!(request.name));
    }
    put(claims, &names.roles, json!(request.roles));
    put(claims, &names.permissions, json!(request.permissions));
}

/// Puts a value under a name, or where a JSON pointer points, making the objects on the way there.
fn put(claims: &mut Value, name: &str, value: Value) {
    let steps: Vec<String> = match name.strip_prefix('/') {
        Some(pointer) => pointer.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect(),
        None => vec![name.to_owned()],
    };
    let mut place = claims;
    for step in steps {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = &mut place[step];
    }
    *place = value;
}
