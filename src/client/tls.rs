//! How the emitter encrypts its connection.

use std::fmt;

use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// How to encrypt the connection: whom to trust, and what to show. For addresses that begin with `https://`.
///
/// ```no_run
/// use auditlog::client::{ClientTls, Credentials, Emitter};
///
/// # async fn example(ca: String, cert: String, key: String) -> Result<(), Box<dyn std::error::Error>> {
/// let tls = ClientTls::new().authority(ca).identity(cert, key);
/// let credentials = Credentials::service("cluster-service").role("event_recorder", "tenants/acme");
/// let emitter = Emitter::connect_with("https://auditlog.internal:50051", credentials, tls).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct ClientTls {
    authority: Option<String>,
    identity: Option<(String, String)>,
    server_name: Option<String>,
}

impl ClientTls {
    /// Trusts the authorities that the system trusts, and shows no certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts only this authority: certificates in PEM.
    pub fn authority(self, pem: impl Into<String>) -> Self {
        Self { authority: Some(pem.into()), ..self }
    }

    /// Shows this certificate, and those that lead to its authority; both in PEM, as the private key is.
    pub fn identity(self, certificate: impl Into<String>, private_key: impl Into<String>) -> Self {
        Self { identity: Some((certificate.into(), private_key.into())), ..self }
    }

    /// Expects this name in the service's certificate, instead of the address's host.
    pub fn server_name(self, name: impl Into<String>) -> Self {
        Self { server_name: Some(name.into()), ..self }
    }

    /// Whether anything was said that an address without TLS would leave undone.
    pub(super) fn is_asked_for(&self) -> bool {
        *self != Self::default()
    }

    pub(super) fn config(self) -> ClientTlsConfig {
        let config = match self.authority {
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        let config = match self.identity {
            Some((certificate, key)) => config.identity(Identity::from_pem(certificate, key)),
            None => config,
        };
        match self.server_name {
            Some(name) => config.domain_name(name),
            None => config,
        }
    }
}

/// Without the private key.
impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("authority", &self.authority)
            .field("identity", &self.identity.as_ref().map(|(certificate, _)| certificate))
            .field("server_name", &self.server_name)
            .finish()
    }
}
