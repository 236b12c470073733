//! Keys, tokens and a server of key sets, for tests of mode `jwt`.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use auditlog::config::{AuthMode, Config};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::harness::{Caller, Database, START_MILLIS};

/// Where the test clock starts, in seconds.
pub const NOW: i64 = START_MILLIS / 1000;

/// A key that signs.
pub struct Signer {
    pub algorithm: Algorithm,
    pub kid: Option<String>,
    pub private: EncodingKey,
    pub private_pem: String,
    pub public_pem: String,
    public_raw: Vec<u8>,
}

impl Signer {
    pub fn new(algorithm: Algorithm) -> Self {
        let key = KeyPair::generate_for(match algorithm {
            Algorithm::RS256 => &PKCS_RSA_SHA256,
            Algorithm::ES256 => &PKCS_ECDSA_P256_SHA256,
            _ => &PKCS_ED25519,
        });
        let key = key.unwrap();
        let (private_pem, public_pem) = (key.serialize_pem(), key.public_key_pem());
        let private = match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(private_pem.as_bytes()),
            Algorithm::ES256 => EncodingKey::from_ec_pem(private_pem.as_bytes()),
            _ => EncodingKey::from_ed_pem(private_pem.as_bytes()),
        };
        Self {
            algorithm,
            kid: None,
            private: private.unwrap(),
            private_pem,
            public_pem,
            public_raw: key.public_key_raw().to_vec(),
        }
    }

    pub fn secret(secret: &[u8]) -> Self {
        Self {
            algorithm: Algorithm::HS256,
            kid: None,
            private: EncodingKey::from_secret(secret),
            private_pem: String::new(),
            public_pem: String::new(),
            public_raw: Vec::new(),
        }
    }

    pub fn with_kid(self, kid: &str) -> Self {
        Self { kid: Some(kid.to_owned()), ..self }
    }

    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: self.kid.clone(), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.private).unwrap()
    }

    /// The entry of a key set.
    pub fn jwk(&self) -> Value {
        let mut jwk = match self.algorithm {
            Algorithm::EdDSA => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(&self.public_raw), "use": "sig" })
            }
            _ => serde_json::to_value(Jwk::from_encoding_key(&self.private, self.algorithm).unwrap()).unwrap(),
        };
        jwk["kid"] = json!(self.kid);
        jwk
    }
}

/// A key set of these keys.
pub fn key_set(signers: &[&Signer]) -> String {
    json!({ "keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>() }).to_string()
}

/// What a good token says: Ann, for an hour, a tenant's admin who also records there.
pub fn claims() -> Value {
    json!({
        "sub": "ann", "name": "Ann Ä", "exp": NOW + 3600,
        "roles": ["tenant_admin@tenants/acme", "event_recorder@tenants/acme"],
    })
}

/// Good claims, and these.
pub fn claims_with(more: Value) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims
}

/// Who brings this token.
pub fn bearer(token: &str) -> Caller {
    Caller::nobody().with("authorization", &format!("Bearer {token}"))
}

/// A file beside the database, which goes with it.
pub fn file(database: &Database, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = database.folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Mode `jwt`, with whatever `change` adds.
pub fn jwt_mode(change: impl FnOnce(&mut auditlog::config::JwtSettings)) -> impl FnOnce(&mut Config) {
    move |config| {
        config.auth.mode = AuthMode::Jwt;
        change(&mut config.jwt);
    }
}

/// Serves a key set over HTTP, and counts how often it is asked for it.
pub struct KeyServer {
    pub url: String,
    set: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
    running: JoinHandle<()>,
}

impl KeyServer {
    pub async fn start(set: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let (set, asked) = (Arc::new(Mutex::new(set)), Arc::new(AtomicUsize::new(0)));
        let running = tokio::spawn(serve(listener, Arc::clone(&set), Arc::clone(&asked)));
        Self { url, set, asked, running }
    }

    pub fn put(&self, set: String) {
        *self.set.lock().unwrap() = set;
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// From now on nobody answers.
    pub async fn stop(self) -> Arc<AtomicUsize> {
        self.running.abort();
        let _ = self.running.await;
        self.asked
    }
}

async fn serve(listener: TcpListener, set: Arc<Mutex<String>>, asked: Arc<AtomicUsize>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (set, asked) = (Arc::clone(&set), Arc::clone(&asked));
        let answer = service_fn(move |_: Request<Incoming>| {
            asked.fetch_add(1, Ordering::SeqCst);
            let body: Full<hyper::body::Bytes> = Full::from(set.lock().unwrap().clone());
            async { Ok::<_, std::convert::Infallible>(Response::new(body)) }
        });
        // One request a connection, so that a stopped server is one that does not answer.
        let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), answer);
        let _ = connection.await;
    }
}
