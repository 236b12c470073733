//! Getting a key set from an address.

use std::{sync::Arc, time::Duration};

use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::crypto::aws_lc_rs;
use tokio::time;

use super::error::JwtError;

/// How long the whole exchange may take: callers with a new key wait for it.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes of a key set: a hundred RSA keys with certificates are a tenth of it.
const MAX_BYTES: usize = 1024 * 1024;

type NoBody = Empty<&'static [u8]>;

/// An address that gives a key set. Redirects are not followed: the setting says whom to trust.
pub(super) struct JwksAddress {
    uri: Uri,
    client: Client<HttpsConnector<HttpConnector>, NoBody>,
}

impl JwksAddress {
    /// Checks the address; nothing is asked yet.
    pub(super) fn new(address: &str) -> Result<Self, JwtError> {
        let failed = |problem: String| JwtError::Fetch { address: address.to_owned(), problem };
        let uri: Uri = address.parse().map_err(|error| failed(format!("is no address: {error}")))?;
        let tls = tls_config(uri.scheme_str() == Some("https")).map_err(failed)?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        Ok(Self { uri, client: Client::builder(TokioExecutor::new()).build(connector) })
    }

    pub(super) fn as_text(&self) -> String {
        self.uri.to_string()
    }

    /// Asks for the key set.
    pub(super) async fn get(&self) -> Result<Vec<u8>, JwtError> {
        let exchange = time::timeout(TIMEOUT, self.exchange()).await;
        let result = exchange.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")));
        result.map_err(|problem| JwtError::Fetch { address: self.as_text(), problem })
    }

    async fn exchange(&self) -> Result<Vec<u8>, String> {
        let request = Request::get(&self.uri).header("accept", "application/jwk-set+json, application/json");
        let request = request.body(NoBody::new()).map_err(|error| error.to_string())?;
        let response = self.client.request(request).await.map_err(|error| with_causes(&error))?;
        if response.status() != StatusCode::OK {
            return Err(format!("the answer is {}", response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_BYTES).collect().await.map_err(|error| error.to_string())?;
        Ok(body.to_bytes().into())
    }
}

/// Trusts what the system trusts. Without https nobody needs the system's certificates, which an image may lack.
fn tls_config(needs_roots: bool) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    if needs_roots {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err("the system has no trusted certificates; SSL_CERT_FILE may name a file of them".to_owned());
        }
    }
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The text of hyper's errors is in their causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
