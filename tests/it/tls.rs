//! TLS and client certificates on the listener.

use std::{process::Command, sync::Arc, time::Duration};

use auditlog::{
    SystemClock,
    app::App,
    client::{ClientTls, Credentials, Emitter, NewEvent},
    config::{Config, TlsConfig},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time,
};
use tonic::{
    Code, Status,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

use crate::{harness::*, tokens::*};

const T: &str = "tenants/acme";

/// An authority of certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, both in PEM.
#[derive(Clone)]
pub struct Leaf {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn issue(&self, names: &[&str]) -> Leaf {
        self.issue_until(names, 2100)
    }

    pub fn issue_until(&self, names: &[&str], year: i32) -> Leaf {
        let name = |name: &&str| match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) if name.contains("://") => SanType::URI((*name).try_into().unwrap()),
            Err(_) => SanType::DnsName((*name).try_into().unwrap()),
        };
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names.iter().map(name).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(year, 1, 1));
        let key = KeyPair::generate().unwrap();
        Leaf { cert: params.signed_by(&key, &self.0).unwrap().pem(), key: key.serialize_pem() }
    }
}

/// The files of a server beside its database.
fn files(database: &Database, server: &Leaf, client_ca: Option<&Authority>, subjects: &[&str]) -> TlsConfig {
    TlsConfig {
        cert_file: file(database, "tls.crt", &server.cert),
        key_file: file(database, "tls.key", &server.key),
        client_ca_file: client_ca.map(|ca| file(database, "client-ca.crt", ca.pem())),
        client_subjects: subjects.iter().map(|&name| name.to_owned()).collect(),
    }
}

async fn start(server: &Leaf, client_ca: Option<&Authority>, subjects: &[&str]) -> TestApp {
    let database = Database::create(Backend::Sqlite);
    let tls = files(&database, server, client_ca, subjects);
    TestApp::start_on(database, |config| config.tls = Some(tls)).await
}

async fn connect(
    app: &TestApp,
    trusted: &Authority,
    identity: Option<&Leaf>,
) -> Result<Client, tonic::transport::Error> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(trusted.pem())).domain_name("localhost");
    if let Some(Leaf { cert, key }) = identity {
        tls = tls.identity(Identity::from_pem(cert, key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{}", app.address)).unwrap().tls_config(tls)?;
    Ok(Client::new(endpoint.connect().await?))
}

async fn lists(client: &Client) -> Result<usize, Status> {
    let reply = client.clone().list_events(Caller::root().call(list(T))).await?;
    Ok(reply.into_inner().events.len())
}

/// Whether somebody gets as far as an answer of the service.
async fn gets_in(app: &TestApp, trusted: &Authority, identity: Option<&Leaf>) -> bool {
    match connect(app, trusted, identity).await {
        // In TLS 1.3 a client learns only from the first answer that its certificate was refused.
        Ok(client) => lists(&client).await.is_ok(),
        Err(_) => false,
    }
}

#[tokio::test]
async fn calls_are_encrypted_and_plain_ones_get_no_answer() {
    let ca = Authority::new();
    let app = start(&ca.issue(&["localhost"]), None, &[]).await;
    assert_eq!(lists(&connect(&app, &ca, None).await.unwrap()).await.unwrap(), 0);
    assert!(lists(&app.client).await.is_err(), "without TLS");
    assert!(connect(&app, &Authority::new(), None).await.is_err(), "the client trusts another authority");
    assert!(gets_in(&app, &ca, None).await);
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_cut_off_and_holds_up_nobody() {
    let (ca, database) = (Authority::new(), Database::create(Backend::Sqlite));
    let tls = files(&database, &ca.issue(&["localhost"]), None, &[]);
    let app = TestApp::start_on(database, |config| {
        config.tls = Some(tls);
        config.traffic.handshake_time = Duration::from_secs(2);
    })
    .await;
    // One says nothing, the other begins a ClientHello of 512 bytes.
    let mut silent = TcpStream::connect(app.address).await.unwrap();
    let mut begun = TcpStream::connect(app.address).await.unwrap();
    begun.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await.unwrap();
    assert!(gets_in(&app, &ca, None).await);
    for peer in [&mut silent, &mut begun] {
        let mut bytes = Vec::new();
        let closed = time::timeout(Duration::from_secs(30), peer.read_to_end(&mut bytes)).await;
        assert!(closed.is_ok(), "it was never cut off");
    }
}

#[tokio::test]
async fn only_pinned_client_certificates_may_vouch() {
    let (ca, clients) = (Authority::new(), Authority::new());
    let names = ["gateway.internal", "spiffe://example.com/gateway"];
    let app = start(&ca.issue(&["localhost"]), Some(&clients), &names).await;
    for name in names {
        assert!(gets_in(&app, &ca, Some(&clients.issue(&["other.internal", name]))).await, "{name}");
    }
    assert!(!gets_in(&app, &ca, None).await, "no certificate");
    assert!(!gets_in(&app, &ca, Some(&Authority::new().issue(&["gateway.internal"]))).await, "another authority");
    assert!(!gets_in(&app, &ca, Some(&ca.issue(&["gateway.internal"]))).await, "the server's own authority");
    assert!(!gets_in(&app, &ca, Some(&clients.issue_until(&["gateway.internal"], 2020))).await, "expired");
    for name in ["gateway.internal.evil", "sub.gateway.internal", "*.internal", "spiffe://example.com/gateway/x"] {
        let client = connect(&app, &ca, Some(&clients.issue(&[name]))).await.unwrap();
        let status = assert_error(lists(&client).await, Code::Unauthenticated, "CREDENTIALS_INVALID");
        assert!(status.message().starts_with("the client certificate may not vouch for callers"), "{status:?}");
    }
    assert!(gets_in(&app, &ca, Some(&clients.issue(&["gateway.internal"]))).await);
}

#[tokio::test]
async fn new_files_count_for_new_connections_and_open_ones_go_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let app = start(&old.issue(&["localhost"]), None, &[]).await;
    let open = connect(&app, &old, None).await.unwrap();
    assert!(lists(&open).await.is_ok());

    // Half of a rotation, and rubbish: the old files go on.
    let leaf = new.issue(&["localhost"]);
    file(&app.database, "tls.crt", &leaf.cert);
    assert!(gets_in(&app, &old, None).await);
    file(&app.database, "tls.key", "rubbish");
    assert!(gets_in(&app, &old, None).await);

    file(&app.database, "tls.key", &leaf.key);
    assert!(gets_in(&app, &new, None).await);
    assert!(!gets_in(&app, &old, None).await);
    assert!(lists(&open).await.is_ok());
}

/// As on a network file system whose server is away.
#[tokio::test]
async fn files_that_do_not_answer_hold_up_nobody() {
    let ca = Authority::new();
    let leaf = ca.issue(&["localhost"]);
    let app = start(&leaf, None, &[]).await;
    let cert = app.database.folder.path().join("tls.crt");
    std::fs::remove_file(&cert).unwrap();
    // Who reads it waits for somebody who writes.
    assert!(Command::new("mkfifo").arg(&cert).status().unwrap().success());
    for _ in 0..2 {
        assert!(gets_in(&app, &ca, None).await);
    }
    std::fs::write(&cert, &leaf.cert).unwrap();
}

#[tokio::test]
async fn a_new_authority_of_clients_shuts_the_old_ones_out() {
    let (ca, old, new) = (Authority::new(), Authority::new(), Authority::new());
    let app = start(&ca.issue(&["localhost"]), Some(&old), &["gateway.internal"]).await;
    let (before, after) = (old.issue(&["gateway.internal"]), new.issue(&["gateway.internal"]));
    assert!(gets_in(&app, &ca, Some(&before)).await);
    file(&app.database, "client-ca.crt", new.pem());
    assert!(!gets_in(&app, &ca, Some(&before)).await);
    assert!(gets_in(&app, &ca, Some(&after)).await);
}

#[tokio::test]
async fn files_that_are_no_good_keep_it_from_starting() {
    let ca = Authority::new();
    let (leaf, other) = (ca.issue(&["localhost"]), ca.issue(&["localhost"]));
    let database = Database::create(Backend::Sqlite);
    let good = files(&database, &leaf, Some(&ca), &["gateway.internal"]);
    let bad = file(&database, "bad", "rubbish");
    for (tls, text) in [
        (TlsConfig { cert_file: "/nowhere/tls.crt".into(), ..good.clone() }, "cannot read /nowhere/tls.crt"),
        (TlsConfig { cert_file: bad.clone(), ..good.clone() }, "holds no certificate in PEM"),
        (TlsConfig { client_ca_file: Some(bad.clone()), ..good.clone() }, "holds no certificate in PEM"),
        (TlsConfig { key_file: bad, ..good.clone() }, "bad: "),
        (TlsConfig { key_file: file(&database, "other.key", &other.key), ..good.clone() }, "other.key: "),
    ] {
        let mut config = Config { listen: "127.0.0.1:0".parse().unwrap(), tls: Some(tls), ..Config::default() };
        config.database.url.clone_from(&database.url);
        let error = App::start(config, Arc::new(SystemClock)).await.err().unwrap().to_string();
        assert!(error.contains(text), "{text:?} is not in {error}");
    }
}

#[tokio::test]
async fn the_emitter_speaks_tls_with_a_certificate_and_brings_a_token() {
    let (ca, clients, secret) = (Authority::new(), Authority::new(), [7; 32]);
    let database = Database::create(Backend::Sqlite);
    let tls = files(&database, &ca.issue(&["localhost"]), Some(&clients), &["emitter.internal"]);
    let secret_file = file(&database, "secret", secret);
    let jwt = jwt_mode(|jwt| jwt.secret_file = Some(secret_file));
    let app = TestApp::start_on(database, |config| {
        jwt(config);
        config.tls = Some(tls);
    })
    .await;
    let token = Signer::secret(&secret).sign(&claims());
    let Leaf { cert, key } = clients.issue(&["emitter.internal"]);
    let tls = ClientTls::new().authority(ca.pem()).identity(cert, key).server_name("localhost");
    let address = format!("https://{}", app.address);
    let emitter = Emitter::connect_with(&address, Credentials::token(token), tls).await.unwrap();
    // The service's clock stands in the past, where an id of now would lie too far ahead.
    let event = NewEvent::create("k", "1").actor_user("ann").with_id(&id_at(START_MILLIS, 1)).unwrap();
    assert!(emitter.record(T, &event).await.is_ok());
    assert!(Emitter::connect_with(&address, Credentials::token("a\nb"), ClientTls::new()).await.is_err());
}

#[test]
fn a_token_does_not_show_itself() {
    assert!(!format!("{:?}", Credentials::token("s3cret")).contains("s3cret"));
}
