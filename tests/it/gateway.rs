//! The committed gateway, in a real nginx in front of the real service.
//!
//! It takes nginx (Debian: nginx-light). Where there is none, the tests say so and end, unless AUDITLOG_REQUIRE_NGINX is
//! set, which CI does.

use std::{
    env, fs,
    io::BufReader,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use auditlog::{
    config::Config,
    proto::auditlog::v1::{
        BatchRecordEventsRequest, Event, EventFilter, ListEventsResponse,
        audit_log_service_client::AuditLogServiceClient,
    },
};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use rstest::rstest;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tonic::{
    Code, Request,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::service_fn;

use crate::{harness::*, http1, web};

const T: &str = "tenants/acme";
const CONFIGURATION: &str = include_str!("../../deploy/nginx.conf");
const COMPOSE: &str = include_str!("../../docker-compose.yml");
/// The replicas in both of them.
const REPLICAS: [&str; 2] = ["172.30.250.11:50051", "172.30.250.12:50051"];
/// Of the users in the gateway's maps: an admin of the tenant, and a service that records there.
const ANN: &str = "Basic YW5uOnNlY3JldA==";
const PLATFORM: &str = "Basic cGxhdGZvcm06c2VjcmV0";
/// A page of this origin may read what the service and the gateway answer.
const CONSOLE: &str = "https://console.example.com";
/// Known, and in none of the maps.
const NEW: &str = "Basic bmV3OnNlY3JldA==";

/// A running nginx, which is asked to end when dropped.
struct Gateway {
    nginx: Child,
    folder: TempDir,
}

impl Gateway {
    /// `None` where there is no nginx and none is required.
    fn before(app: &TestApp) -> Option<Self> {
        let Some(program) = nginx() else {
            let required = env::var_os("AUDITLOG_REQUIRE_NGINX").is_some_and(|value| !value.is_empty());
            assert!(!required, "AUDITLOG_REQUIRE_NGINX is set, and there is no nginx: apt-get install nginx-light");
            eprintln!("NOT TESTED: the gateway, because there is no nginx (apt-get install nginx-light)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("gateway_users"),
            "ann:{PLAIN}secret\nplatform:{PLAIN}secret\nnew:{PLAIN}secret\n",
        )
        .unwrap();
        let file = folder.path().join("nginx.conf");
        fs::write(&file, configuration(folder.path(), app)).unwrap();
        let mut nginx = Command::new(program)
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(file)
            // Of no effect unless the test runs as root, whose folder only root may enter.
            .args(["-g", "daemon off; user root;"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(nginx.stderr.take().unwrap());
        wait_for_worker(log);
        Some(Self { nginx, folder })
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn channel(&self) -> Channel {
        let socket = self.socket("grpc.sock");
        let connect = service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://gateway").connect_with_connector(connect).await.unwrap()
    }

    async fn client(&self) -> AuditLogServiceClient<Channel> {
        AuditLogServiceClient::new(self.channel().await)
    }

    async fn web(&self, method: &str, message: &impl prost::Message, headers: &[(&str, &str)]) -> web::WebReply {
        let stream = UnixStream::connect(self.socket("web.sock")).await.unwrap();
        web::reply(http1::send_over(stream, web::request(method, message, headers)).await)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It has ended already if this fails. Not killed: its worker would stay.
        let _ = Command::new("kill").args(["-TERM", &self.nginx.id().to_string()]).status();
        let _ = self.nginx.wait();
    }
}

fn nginx() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join("nginx")).find(|file| file.is_file())
}

/// The committed file, with the places of this test put in for those of the compose network.
fn configuration(folder: &Path, app: &TestApp) -> String {
    let folder = folder.display();
    let [first, second] = REPLICAS.map(|replica| format!("server {replica} fail_timeout=3s;"));
    let service = format!("server {};", app.address);
    let mut text = CONFIGURATION.to_owned();
    for (committed, here) in [
        // First, because the folder may itself lie there.
        ("/tmp/", format!("{folder}/")),
        ("listen 8080 http2;", format!("listen unix:{folder}/grpc.sock http2;")),
        ("listen 8081;", format!("listen unix:{folder}/web.sock;")),
        (&*first, service),
        (&*second, String::new()),
        ("/run/secrets/", format!("{folder}/")),
        ("/dev/stdout", "off".to_owned()),
        ("/dev/stderr", "stderr".to_owned()),
        ("# \"https://console.example.com\" $http_origin;", format!("\"{CONSOLE}\" $http_origin;")),
    ] {
        assert!(text.contains(committed), "{committed} is not in the configuration");
        text = text.replace(committed, &here);
    }
    text
}

/// Reads the log until a worker is there, and goes on reading so that nginx can go on writing.
fn wait_for_worker(log: impl std::io::BufRead + Send + 'static) {
    let mut lines = log.lines().map_while(Result::ok);
    let mut read = Vec::new();
    let started = lines.by_ref().any(|line| {
        let started = line.contains("start worker process ");
        read.push(line);
        started
    });
    assert!(started, "nginx ended:\n{}", read.join("\n"));
    std::thread::spawn(move || lines.for_each(drop));
}

fn with_credentials<M>(message: M, credentials: &str) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", credentials.parse().unwrap());
    request
}

/// What is set, from the outermost level inwards.
fn seconds(directive: &str) -> Vec<Duration> {
    let lines = CONFIGURATION.lines().filter_map(|line| line.trim().strip_prefix(directive)?.strip_prefix(' '));
    lines.map(|value| Duration::from_secs(value.strip_suffix("s;").unwrap().parse().unwrap())).collect()
}

#[test]
fn the_replicas_are_where_the_compose_file_has_them() {
    assert_eq!(CONFIGURATION.matches(":50051 ").count(), REPLICAS.len());
    for replica in REPLICAS {
        assert!(COMPOSE.contains(&format!("AUDITLOG_LISTEN: {replica}\n")), "{replica}");
        assert!(COMPOSE.contains(&format!("inside: {{ipv4_address: {}}}", replica.replace(":50051", ""))), "{replica}");
    }
}

/// A level that sets one header inherits none, and what is believed and not set is what the client sent.
#[test]
fn no_location_sets_a_header_of_its_own() {
    let (server, locations) = CONFIGURATION.split_once("\n        location ").unwrap();
    assert_eq!(server.matches("\n        grpc_set_header x-audit-").count(), 5);
    assert!(!locations.contains("grpc_set_header"));
}

/// Else calls would end without the service's word on why.
#[test]
fn the_gateway_is_more_patient_than_the_service() {
    let limits = Config::default().traffic;
    let [calls, exports] = seconds("grpc_read_timeout")[..] else { panic!("one for all, and one for exports") };
    assert!(limits.call_time < calls && calls < limits.call_time + Duration::from_secs(10));
    assert!(calls < exports);
    assert!(seconds("send_timeout")[0] > limits.export_stall);
}

#[rstest]
#[tokio::test]
async fn calls_go_through_with_the_claims_of_the_gateway(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let Some(gateway) = Gateway::before(&app) else { return };
    let mut client = gateway.client().await;
    let record = item(T, event("k", "1"), "");
    client.record_event(with_credentials(record.clone(), PLATFORM)).await.unwrap();
    let listed = client.list_events(with_credentials(list(T), ANN)).await.unwrap().into_inner();
    let recorder = listed.events[0].recorder.clone().unwrap();
    assert_eq!((recorder.id.as_str(), recorder.r#type), ("platform", 2));
    // Each has the rights that the gateway grants and no others.
    let denied = client.record_event(with_credentials(record, ANN)).await;
    assert_error(denied, Code::PermissionDenied, "PERMISSION_MISSING");
    let denied = client.list_events(with_credentials(list("tenants/b"), ANN)).await;
    assert_error(denied, Code::PermissionDenied, "PERMISSION_MISSING");
    // Health needs no caller.
    HealthClient::new(gateway.channel().await).check(HealthCheckRequest::default()).await.unwrap();
}

/// Else a caller would retry for ever what will never be taken.
#[tokio::test]
async fn what_is_wrong_with_a_large_request_is_told_in_full() {
    let app = TestApp::start(Backend::Sqlite).await;
    let Some(gateway) = Gateway::before(&app) else { return };
    let wrong = Event { event_time: None, ..Default::default() };
    let requests = (0..200).map(|_| item("", wrong.clone(), "no id of mine")).collect();
    let batch = BatchRecordEventsRequest { parent: T.to_owned(), requests };
    let refused = gateway.client().await.batch_record_events(with_credentials(batch, PLATFORM)).await;
    let refused = assert_error(refused, Code::InvalidArgument, "FIELD_INVALID");
    assert!(refused.details().len() > 4000, "{}", refused.details().len());
    let huge = item(T, Event { message: "x".repeat(9 << 20), ..event("k", "1") }, "");
    let refused = gateway.client().await.record_event(with_credentials(huge, PLATFORM)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
}

#[rstest]
#[tokio::test]
async fn claims_that_a_client_smuggles_do_not_get_through(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let Some(gateway) = Gateway::before(&app) else { return };
    let mut client = gateway.client().await;
    // Without credentials, whatever is claimed.
    let status = client.list_events(Caller::root().role("tenant_admin@*").call(list(T))).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    // Clients of other languages take a reply without it for a fault of the transport, whatever status it has.
    assert_eq!(status.metadata().get("content-type").unwrap(), "application/grpc", "{status:?}");
    let wrong = client.list_events(with_credentials(list(T), "Basic YW5uOndyb25n")).await.unwrap_err();
    assert_eq!(wrong.code(), Code::Unauthenticated, "{wrong:?}");
    // A caller without grants stays without, and each claim once, twice, in capitals or with underscores adds none.
    let everything = Caller::root().role("tenant_admin@*").with("x-audit-subject-name", "Root");
    for caller in [
        everything.clone().with("authorization", NEW),
        everything.with("x-audit-subject", "again").with("authorization", NEW),
        Caller::nobody().with("x_audit_roles", "tenant_admin@*").with("authorization", NEW),
    ] {
        let listed = client.list_events(caller.call(list(T))).await.map(drop);
        // It has a location of its own.
        let exported = client.export_csv(caller.call(export_of(T))).await.map(drop);
        for result in [listed, exported] {
            let denied = assert_error(result, Code::PermissionDenied, "PERMISSION_MISSING");
            assert!(denied.message().starts_with("new may not"), "{denied:?}");
        }
    }
    let unknown = client.export_csv(Caller::root().role("tenant_admin@*").call(export_of(T))).await.map(drop);
    assert_eq!(unknown.unwrap_err().code(), Code::Unauthenticated);
    let headers = [("authorization", NEW), ("X-Audit-Roles", "tenant_admin@*"), ("X-Audit-Subject", "root")];
    let reply = gateway.web("ListEvents", &list(T), &headers).await;
    assert_eq!((reply.code(), reply.messages.len()), (Some(7), 0), "{reply:?}");
    // Nor does who is believed take over more of a claim than the gateway says.
    let ann = Caller::new("bob").with("x-audit-subject-name", "Bob").with("authorization", PLATFORM);
    client.record_event(ann.call(item(T, event("k", "1"), ""))).await.unwrap();
    let filter = EventFilter { resource_types: vec!["k".to_owned()], ..Default::default() };
    let event = app.walk(&Caller::root(), filtered(T, filter)).await.remove(0);
    let recorder = event.recorder.unwrap();
    assert_eq!((recorder.id.as_str(), recorder.name.as_str()), ("platform", ""));
}

#[rstest]
#[tokio::test]
async fn web_calls_go_through(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start_with(backend, |config| config.cors.allowed_origins = [CONSOLE.to_owned()].into()).await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    let Some(gateway) = Gateway::before(&app) else { return };
    let reply = gateway.web("ListEvents", &list(T), &[("authorization", ANN), ("origin", CONSOLE)]).await;
    assert_eq!((reply.http, reply.code()), (200, Some(0)), "{reply:?}");
    assert_eq!(ListEventsResponse::decode(reply.messages[0].clone()).unwrap().events.len(), 1);
    assert_eq!(reply.headers["access-control-allow-origin"], CONSOLE);
    let stranger = gateway.web("ListEvents", &list(T), &[("authorization", ANN), ("origin", "https://e.com")]).await;
    assert_eq!(stranger.code(), Some(7), "{stranger:?}");
    let nobody = gateway.web("ListEvents", &list(T), &[("origin", CONSOLE)]).await;
    assert_eq!(nobody.code(), Some(16), "{nobody:?}");
    assert_eq!(nobody.headers["access-control-allow-origin"], CONSOLE);
    assert_eq!(nobody.headers["access-control-expose-headers"], "grpc-status, grpc-message");
    let stranger = gateway.web("ListEvents", &list(T), &[("origin", "https://e.com")]).await;
    assert!(!stranger.headers.contains_key("access-control-allow-origin"), "{stranger:?}");
    // A preflight has no credentials.
    let stream = UnixStream::connect(gateway.socket("web.sock")).await.unwrap();
    let preflight = http1::send_over(stream, web::preflight(CONSOLE)).await;
    assert_eq!(
        (preflight.status().as_u16(), &preflight.headers()["access-control-allow-origin"]),
        (200, &CONSOLE.parse().unwrap())
    );
    // Nothing else is served.
    let stream = UnixStream::connect(gateway.socket("web.sock")).await.unwrap();
    let metrics = http::Request::get("/metrics").header("host", "gateway").body("").unwrap();
    assert_eq!(http1::send_over(stream, metrics).await.status(), 404);
}

/// A page's call begins with a preflight, which no replica answers either.
#[tokio::test]
async fn a_page_reads_that_no_replica_answers() {
    let app = TestApp::start(Backend::Sqlite).await;
    let Some(gateway) = Gateway::before(&app) else { return };
    app.stop().await.unwrap().unwrap();
    let stream = UnixStream::connect(gateway.socket("web.sock")).await.unwrap();
    let preflight = http1::send_over(stream, web::preflight(CONSOLE)).await;
    let told = |name: &str| preflight.headers().get(name).map(|value| value.to_str().unwrap());
    assert_eq!(preflight.status(), 200);
    assert_eq!(told("access-control-allow-origin"), Some(CONSOLE));
    assert_eq!(told("access-control-allow-methods"), Some("POST"));
    assert!(told("access-control-allow-headers").is_some_and(|names| names.contains("content-type")), "{preflight:?}");
    let unavailable = gateway.web("ListEvents", &list(T), &[("authorization", ANN), ("origin", CONSOLE)]).await;
    assert_eq!(unavailable.code(), Some(14), "{unavailable:?}");
    assert_eq!(unavailable.headers["access-control-allow-origin"], CONSOLE);
    assert!(!unavailable.headers.contains_key("access-control-allow-methods"), "{unavailable:?}");
}

#[rstest]
#[tokio::test]
async fn an_export_streams_whole(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    for _ in 0..3 {
        let large = || item("", Event { message: "x".repeat(2000), ..event("k", "1") }, "");
        app.batch(&Caller::root(), T, (0..1000).map(|_| large()).collect()).await.unwrap();
    }
    let Some(gateway) = Gateway::before(&app) else { return };
    let reply = gateway.client().await.export_csv(with_credentials(export_of(T), ANN)).await.unwrap();
    assert_eq!(reply.metadata().get("x-audit-log-size").unwrap(), "3000");
    let mut stream = reply.into_inner();
    let (mut pieces, mut bytes) = (0, 0);
    while let Some(piece) = stream.message().await.unwrap() {
        pieces += 1;
        bytes += piece.data.len();
    }
    assert!(pieces > 3 && bytes > 6_000_000, "{pieces} pieces, {bytes} bytes");
    assert_eq!(stream.trailers().await.unwrap().unwrap().get("x-audit-row-count").unwrap(), "3000");
    // By whom, as the gateway says.
    let filter = EventFilter { resource_types: vec!["audit_export".to_owned()], ..Default::default() };
    let actor = app.walk(&Caller::root(), filtered(T, filter)).await.remove(0).actor.unwrap();
    assert_eq!((actor.id.as_str(), actor.r#type), ("ann", 1));
}

#[rstest]
#[tokio::test]
async fn a_service_that_is_away_is_unavailable(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let Some(gateway) = Gateway::before(&app) else { return };
    let _database = std::sync::Arc::clone(&app.database);
    app.stop().await.unwrap().unwrap();
    let status = gateway.client().await.list_events(with_credentials(list(T), ANN)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}
