//! TLS: what the server shows, whom it lets in, and how both change while it runs.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use tokio::{net::TcpStream, sync::OwnedMutexGuard, task, time};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use webpki::EndEntityCert;

use crate::auth::Peer;

/// How long a new connection waits for the files to be looked at. Where they are on a file system that does not answer, it goes on
/// with what was read last.
const LOOK_TIME: Duration = Duration::from_secs(1);

/// The files that TLS is made of.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate, and those that lead to its authority, in PEM.
    pub cert: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// The authorities of client certificates, in PEM; `None`: no client is asked for one.
    pub client_ca: Option<PathBuf>,
}

/// Why there can be no TLS. No text shows any part of a key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there, or may not be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// Encrypts connections by what the files say at the time.
pub struct Tls {
    files: TlsFiles,
    config: Mutex<Arc<ServerConfig>>,
    /// Locked while somebody looks.
    seen: Arc<tokio::sync::Mutex<Seen>>,
    /// Whether somebody looks for longer than the others wait.
    hangs: AtomicBool,
}

/// The files as they were looked at last.
struct Seen {
    fingerprints: Vec<Fingerprint>,
    /// Whether they were read, good or not. Else it failed for what may pass, a lack of file descriptors say.
    is_read: bool,
}

/// What changes when a file does. Kubernetes swaps a link, which changes the file's number.
type Fingerprint = Option<(u64, SystemTime, u64)>;

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// If one cannot be read or holds something else, or key and certificate do not belong together.
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let seen = Seen { fingerprints: files.fingerprints(), is_read: true };
        let config = Mutex::new(Arc::new(files.load()?));
        Ok(Self { files, config, seen: Arc::new(tokio::sync::Mutex::new(seen)), hangs: AtomicBool::new(false) })
    }

    /// Shakes hands.
    pub(super) async fn accept(self: &Arc<Self>, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Peer)> {
        let stream = TlsAcceptor::from(self.config().await).accept(stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let peer = Peer { names: certificate.map(names).unwrap_or_default().into() };
        Ok((stream, peer))
    }

    /// The files are looked at for each new connection, which costs little beside its handshake. Connections that are
    /// open keep what they began with.
    async fn config(self: &Arc<Self>) -> Arc<ServerConfig> {
        let look = async {
            let Some(seen) = self.turn_to_look().await else { return };
            let tls = Arc::clone(self);
            // Fails only with the runtime.
            let _ = task::spawn_blocking(move || tls.look(seen)).await;
        };
        if time::timeout(LOOK_TIME, look).await.is_err() && !self.hangs.swap(true, Ordering::AcqRel) {
            tracing::warn!("the TLS files cannot be looked at; what was read last goes on");
        }
        Arc::clone(&self.current())
    }

    /// Nobody queues up behind one that hangs.
    async fn turn_to_look(&self) -> Option<OwnedMutexGuard<Seen>> {
        let seen = Arc::clone(&self.seen);
        match self.hangs.load(Ordering::Acquire) {
            true => seen.try_lock_owned().ok(),
            false => Some(seen.lock_owned().await),
        }
    }

    fn look(&self, mut seen: OwnedMutexGuard<Seen>) {
        let fingerprints = self.files.fingerprints();
        let is_known = fingerprints == seen.fingerprints;
        if !(is_known && seen.is_read) {
            *seen = Seen { fingerprints, is_read: self.read(is_known) };
        }
        self.hangs.store(false, Ordering::Release);
    }

    /// Where new files are no good, the old ones go on. Whether they could be read; what `is_known` is told no second time.
    fn read(&self, is_known: bool) -> bool {
        match self.files.load() {
            Ok(config) => {
                *self.current() = Arc::new(config);
                tracing::info!(certificate = %self.files.cert.display(), "the TLS files have changed and were read again");
                true
            }
            Err(error) => {
                if !is_known {
                    tracing::error!(%error, "the TLS files have changed and are no good; the old ones go on");
                }
                matches!(error, TlsError::Content { .. })
            }
        }
    }

    /// Never locked while a file is read.
    fn current(&self) -> MutexGuard<'_, Arc<ServerConfig>> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TlsFiles {
    fn fingerprints(&self) -> Vec<Fingerprint> {
        [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten().map(fingerprint).collect()
    }

    fn load(&self) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| content(&self.cert, error))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), provider)
                    .build()
                    .map_err(|error| content(path, error))?,
            ),
        };
        let certificates = certificates(&self.cert)?;
        let mut config =
            builder.with_single_cert(certificates, key(&self.key)?).map_err(|error| content(&self.key, error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if self.client_ca.is_some() {
            // A session that is taken up again would go on with a certificate that has expired meanwhile.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(config)
    }
}

fn fingerprint(path: &PathBuf) -> Fingerprint {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.modified().ok()?, metadata.len()))
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| content(path, error))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let certificates = certificates.map_err(|error| content(path, error))?;
    match certificates.is_empty() {
        true => Err(content(path, "holds no certificate in PEM")),
        false => Ok(certificates),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| content(path, error))
}

fn read(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, TlsError> {
    let read = fs::read(path).map(zeroize::Zeroizing::new);
    read.map_err(|source| TlsError::File { path: path.to_owned(), source })
}

fn content(path: &Path, problem: impl ToString) -> TlsError {
    TlsError::Content { path: path.to_owned(), problem: problem.to_string() }
}

/// The DNS and URI names of a certificate. The handshake has verified it, so it can be read.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else { return Vec::new() };
    certificate.valid_dns_names().chain(certificate.valid_uri_names()).map(str::to_owned).collect()
}
