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
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    harness::{Backend, Caller, Database, START_MILLIS, TestApp},
    tls::Leaf,
};

/// Where the test clock starts, in seconds.
pub const NOW: i64 = START_MILLIS / 1000;

/// A key that signs.
#[derive(Clone)]
pub struct Signer {
    pub algorithm: Algorithm,
    pub kid: Option<String>,
    pub private: EncodingKey,
    pub private_pem: String,
    pub public_pem: String,
    pub public_raw: Vec<u8>,
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

/// How callers say who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Metadata,
    Jwt,
}

const SECRET: &[u8] = b"a secret of 32 bytes, and no less";

impl Mode {
    /// A service that knows its callers in this way.
    pub async fn start(self, backend: Backend, change: impl FnOnce(&mut Config)) -> TestApp {
        let database = Database::create(backend);
        let secret_file = file(&database, "secret", SECRET);
        TestApp::start_on(database, |config| {
            if self == Self::Jwt {
                jwt_mode(|jwt| jwt.secret_file = Some(secret_file))(config);
            }
            change(config);
        })
        .await
    }

    /// The same caller with the same grants, in the way of this mode.
    pub fn caller(self, caller: &Caller) -> Caller {
        match self {
            Self::Metadata => caller.clone(),
            Self::Jwt => bearer(&Signer::secret(SECRET).sign(&same_claims(caller))),
        }
    }
}

fn same_claims(caller: &Caller) -> Value {
    let mut claims = json!({ "exp": NOW + 3600 });
    for (key, claim) in [("x-audit-roles", "roles"), ("x-audit-permissions", "permissions")] {
        let grants: Vec<&str> = caller.values(key).into_iter().flat_map(|value| value.split(',')).collect();
        claims[claim] = json!(grants);
    }
    for (key, claim) in [("x-audit-subject", "sub"), ("x-audit-subject-type", "subject_type")] {
        if let [value] = caller.values(key)[..] {
            claims[claim] = json!(value);
        }
    }
    claims
}

/// A file beside the database, which goes with it.
pub fn file(database: &Database, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = database.folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Mode `jwt`, with whatever `change` adds.
pub fn jwt_mode(change: impl FnOnce(&mut auditlog::config::JwtConfig)) -> impl FnOnce(&mut Config) {
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
    /// While somebody holds it, questions wait for their answer.
    pub door: Arc<Door>,
    running: JoinHandle<()>,
}

type Door = tokio::sync::Mutex<()>;

impl KeyServer {
    pub async fn start(set: String) -> Self {
        Self::start_with(set, None).await
    }

    /// Over HTTPS.
    pub async fn start_tls(set: String, server: &Leaf) -> Self {
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let chain = vec![CertificateDer::from_pem_slice(server.cert.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes()).unwrap();
        let config = config.with_single_cert(chain, key).unwrap();
        Self::start_with(set, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn start_with(set: String, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/keys", listener.local_addr().unwrap());
        let (set, asked, door) = (Arc::new(Mutex::new(set)), Arc::new(AtomicUsize::new(0)), Arc::<Door>::default());
        let running = tokio::spawn(serve(listener, tls, (Arc::clone(&set), Arc::clone(&asked), Arc::clone(&door))));
        Self { url, set, asked, door, running }
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

type Answers = (Arc<Mutex<String>>, Arc<AtomicUsize>, Arc<Door>);

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, answers: Answers) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        match &tls {
            None => answer(stream, &answers).await,
            Some(tls) => {
                // A client that does not trust the certificate goes away.
                if let Ok(stream) = tls.accept(stream).await {
                    answer(stream, &answers).await;
                }
            }
        }
    }
}

/// One request a connection, so that a stopped server is one that does not answer.
async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, (set, asked, door): &Answers) {
    let answer = service_fn(move |_: Request<Incoming>| async {
        asked.fetch_add(1, Ordering::SeqCst);
        let _opened = door.lock().await;
        let body: Full<hyper::body::Bytes> = Full::from(set.lock().unwrap().clone());
        Ok::<_, std::convert::Infallible>(Response::new(body))
    });
    let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), answer);
    let _ = connection.await;
}
