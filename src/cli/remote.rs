//! The service as a client command reaches it: address, claims, TLS.

use std::{
    fs,
    future::Future,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use tokio::runtime;
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, AsciiMetadataKey, MetadataMap, MetadataValue},
    transport::{Channel, Uri},
};

use crate::client::{self, CallFailed, ClientTls, Credentials, RetryPolicy};

use super::{CliError, refuse_unused};

/// The largest message that is taken: an event of 64 MiB, the most that the service's settings allow, in a row of an export with many
/// quotes. The 4 MiB that tonic takes by default are less than that.
pub(super) const MAX_MESSAGE_BYTES: usize = 256 << 20;

/// Where the service is and who calls.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Service")]
pub(super) struct RemoteArgs {
    /// Address of the service: http://IP:PORT, or https://HOST:PORT
    #[arg(id = "address", long, value_name = "URL", value_parser = address)]
    pub(super) address: Option<String>,
    /// Metadata to send with each call, as for grpcurl: -H 'x-audit-subject: ann'; may come again
    #[arg(id = "header", short = 'H', long = "header", value_name = "NAME: VALUE", requires = "address")]
    headers: Vec<Header>,
    /// File with a token to send as authorization: Bearer
    #[arg(id = "token_file", long = "token-file", value_name = "FILE", requires = "address")]
    token_file: Option<PathBuf>,
    /// Authority (PEM) of the service's certificate, instead of those that the system trusts
    #[arg(id = "ca_file", long = "ca-file", value_name = "FILE", requires = "address")]
    ca_file: Option<PathBuf>,
    /// Certificate (PEM) to show to the service
    #[arg(id = "cert_file", long = "cert-file", value_name = "FILE", requires_all = ["address", "key_file"])]
    cert_file: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(id = "key_file", long = "key-file", value_name = "FILE", requires_all = ["address", "cert_file"])]
    key_file: Option<PathBuf>,
    /// Name to expect in the service's certificate, instead of the address's host
    #[arg(id = "server_name", long = "server-name", value_name = "NAME", requires = "address")]
    server_name: Option<String>,
}

/// One pair of metadata.
#[derive(Clone, Debug)]
struct Header(AsciiMetadataKey, MetadataValue<Ascii>);

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once(':').ok_or("must be NAME: VALUE")?;
        let name = name.trim().to_ascii_lowercase();
        if name == "authorization" {
            return Err("flags are seen by everybody on the machine: use --token-file".to_owned());
        }
        let key = name.parse().map_err(|_| format!("{name:?} is no name of metadata"))?;
        let value =
            Some(value.trim()).filter(|value| value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
        let value = value.and_then(|value| value.parse().ok());
        let value = value.ok_or("the value must be printable ASCII; percent-encode a name")?;
        Ok(Self(key, value))
    }
}

/// A service that can be called.
pub(super) struct Remote {
    pub(super) channel: Channel,
    address: String,
    claims: MetadataMap,
}

impl RemoteArgs {
    /// Prepares the connection; it is made at the first call. Needs a runtime around it.
    pub(super) fn connect(&self) -> Result<Remote, CliError> {
        let address = self.address.as_deref().unwrap_or_default();
        let endpoint = client::endpoint(address, self.tls()?)?;
        Ok(Remote { channel: endpoint.connect_lazy(), address: address.to_owned(), claims: self.claims()? })
    }

    /// Refuses what says how to encrypt where nothing is encrypted: a token would go in the clear that was not meant to.
    pub(super) fn refuse_unused(&self) -> Result<(), CliError> {
        let uri = self.address.as_deref().and_then(|address| address.parse::<Uri>().ok());
        let in_clear = uri.is_some_and(|uri| uri.scheme_str() == Some("http"));
        let flags = [
            (in_clear && self.ca_file.is_some(), "--ca-file"),
            (in_clear && self.cert_file.is_some(), "--cert-file"),
            (in_clear && self.server_name.is_some(), "--server-name"),
        ];
        refuse_unused(&flags, "without TLS, for which the address begins with https://")
    }

    fn claims(&self) -> Result<MetadataMap, CliError> {
        let mut claims = match &self.token_file {
            Some(path) => Credentials::token(read(path)?.trim()).metadata().map_err(client::ClientError::from)?,
            None => MetadataMap::new(),
        };
        for Header(key, value) in &self.headers {
            claims.append(key.clone(), value.clone());
        }
        Ok(claims)
    }

    fn tls(&self) -> Result<ClientTls, CliError> {
        let mut tls = ClientTls::new();
        if let Some(path) = &self.ca_file {
            tls = tls.authority(read(path)?);
        }
        if let (Some(certificate), Some(key)) = (&self.cert_file, &self.key_file) {
            tls = tls.identity(read(certificate)?, read(key)?);
        }
        Ok(match &self.server_name {
            Some(name) => tls.server_name(name),
            None => tls,
        })
    }
}

impl Remote {
    /// A request with the claims.
    pub(super) fn request<Q>(&self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.claims.clone();
        request
    }

    /// Makes a call that changes nothing, and makes it again where that may help.
    pub(super) async fn call<Q, R, F>(&self, message: Q, send: impl Fn(Request<Q>) -> F) -> Result<R, CliError>
    where
        Q: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let attempt = |limit| {
            let mut request = self.request(message.clone());
            request.set_timeout(limit);
            send(request)
        };
        let reply = RetryPolicy::default().run(attempt).await.map_err(|failed| self.failed(failed))?;
        Ok(reply.into_inner())
    }

    /// The error of a call, with the address that was called.
    pub(super) fn failed(&self, failed: CallFailed) -> CliError {
        CliError::Call { address: self.address.clone(), failed: Box::new(failed) }
    }
}

/// An address must say how it is spoken to: `localhost:50051` would be read as a scheme, or as a path.
fn address(text: &str) -> Result<String, String> {
    let has_host = |uri: &Uri| uri.host().is_some_and(|host| !host.is_empty());
    let uri = text.parse::<Uri>().ok().filter(has_host);
    match uri.as_ref().and_then(Uri::scheme_str) {
        Some("http" | "https") => Ok(text.to_owned()),
        _ => Err("must be http://HOST:PORT, or https://HOST:PORT with TLS".to_owned()),
    }
}

/// Where a service that listens on `address` is reached from this machine: an unspecified address cannot be called everywhere,
/// loopback can.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => (),
    }
    address
}

/// Runs `work` on a runtime of its own.
pub(super) fn block_on<T, E: From<CliError>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let runtime = runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| CliError::Io("start the runtime", error))?.block_on(work)
}

fn read(path: &PathBuf) -> Result<String, CliError> {
    fs::read_to_string(path).map_err(|source| CliError::File { what: "read", file: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_how_it_is_spoken_to() {
        for text in ["http://127.0.0.1:50051", "https://audit.example.com", "http://[::1]:1"] {
            assert_eq!(address(text).as_deref(), Ok(text));
        }
        for text in ["", "localhost:50051", "127.0.0.1:50051", "audit.example.com", "ftp://a:1", "http://", "http:// a"]
        {
            assert!(address(text).unwrap_err().contains("http://HOST:PORT"), "{text}");
        }
    }

    #[test]
    fn an_unspecified_address_is_reached_on_loopback_and_any_other_as_it_is() {
        for (listen, address) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("192.0.2.7:1", "192.0.2.7:1"),
            ("[fe80::1%3]:1", "[fe80::1%3]:1"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), address.parse().unwrap());
        }
    }

    #[test]
    fn headers_are_read_as_grpcurl_reads_them() {
        let Header(key, value) = "X-Audit-Roles:  tenant_admin@tenants/acme ".parse().unwrap();
        assert_eq!((key.as_str(), value.to_str().unwrap()), ("x-audit-roles", "tenant_admin@tenants/acme"));
        for text in ["", "x-audit-subject", "a b: c", "x: \u{fc}", "Authorization: Bearer x"] {
            assert!(text.parse::<Header>().is_err(), "{text}");
        }
    }
}
