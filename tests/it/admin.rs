//! The address for probes and for Prometheus.

use auditlog::proto::auditlog::v1::ExportCsvRequest;
use rstest::rstest;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{harness::*, http1};

const T: &str = "tenants/acme";

async fn start(backend: Backend) -> TestApp {
    TestApp::start_with(backend, |config| {
        watched(config);
        // Its events would come into the counts at any time.
        config.audit.denied = false;
    })
    .await
}

/// Waits until the health service has said once that the service serves.
async fn serving(app: &TestApp) {
    let mut health = HealthClient::new(app.channel.clone());
    let mut updates = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    while updates.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
}

#[rstest]
#[tokio::test]
async fn there_is_none_unless_it_is_asked_for(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    assert_eq!(app.admin, None);
}

#[rstest]
#[tokio::test]
async fn probes_follow_health(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = start(backend).await;
    let admin = app.admin.unwrap();
    serving(&app).await;
    assert_eq!(http1::get(admin, "/livez").await, (200, "alive\n".to_owned()));
    assert_eq!(http1::get(admin, "/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(http1::get(admin, "/").await.0, 404);
    // Nothing of the API is there, and nothing of this at the API's address.
    assert_eq!(http1::get(admin, "/auditlog.v1.AuditLogService/ListEvents").await.0, 404);
}

#[rstest]
#[tokio::test]
async fn readiness_goes_first_and_liveness_stays_to_the_end(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start_with(backend, |config| {
        watched(config);
        config.shutdown.delay = std::time::Duration::from_secs(3600);
    })
    .await;
    let admin = app.admin.unwrap();
    serving(&app).await;
    let mut health = HealthClient::new(app.channel.clone());
    let mut updates = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let running = app.stop();
    while updates.message().await.unwrap().unwrap().status() != ServingStatus::NotServing {}
    assert_eq!(http1::get(admin, "/readyz").await, (503, "not ready\n".to_owned()));
    assert_eq!(http1::get(admin, "/livez").await.0, 200);
    running.abort();
}

#[rstest]
#[tokio::test]
async fn counts_what_happens(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = start(backend).await;
    let root = Caller::root();
    let id = id_at(START_MILLIS, 1);
    app.record_as(&root, T, event("k", "1"), &id).await.unwrap();
    app.record_as(&root, T, event("k", "1"), &id).await.unwrap();
    app.batch(&root, T, vec![item("", event("k", "2"), ""), item("", event("k", "3"), "")]).await.unwrap();
    assert_error(app.record_as(&root, T, event("k", "9"), &id).await, Code::AlreadyExists, "EVENT_DIFFERS");
    let nobody = app.record(&Caller::nobody(), T, event("k", "1")).await;
    assert_error(nobody, Code::Unauthenticated, "CREDENTIALS_MISSING");
    let ambiguous = app.record(&Caller::new("a").with("x-audit-subject", "b"), T, event("k", "1")).await;
    assert_error(ambiguous, Code::Unauthenticated, "CREDENTIALS_INVALID");
    let denied = app.list(&Caller::new("ann"), list(T)).await;
    assert_error(denied, Code::PermissionDenied, "PERMISSION_MISSING");
    let mut export = app
        .client
        .clone()
        .export_csv(root.call(ExportCsvRequest { parent: T.to_owned(), ..Default::default() }))
        .await
        .unwrap()
        .into_inner();
    while export.message().await.unwrap().is_some() {}

    let mut text = app.metrics().await;
    // Room in the queue is given back right after the answer.
    while value(&text, "auditlog_append_queue_events") != 0.0 {
        between_looks().await;
        text = app.metrics().await;
    }
    // Before the first of them, which an alert would not see otherwise.
    assert!(text.contains("auditlog_failed_calls_total{reason=\"LOG_ROLLED_BACK\"} 0\n"), "{text}");
    let record =
        |code| format!(r#"auditlog_calls_total{{method="auditlog.v1.AuditLogService/RecordEvent",code="{code}"}}"#);
    for (series, expected) in [
        (&*record("OK"), 2.0),
        (&record("ALREADY_EXISTS"), 1.0),
        (&record("UNAUTHENTICATED"), 2.0),
        (r#"auditlog_calls_total{method="auditlog.v1.AuditLogService/ListEvents",code="PERMISSION_DENIED"}"#, 1.0),
        (r#"auditlog_calls_total{method="auditlog.v1.AuditLogService/ExportCsv",code="OK"}"#, 1.0),
        (r#"auditlog_call_duration_seconds_count{method="auditlog.v1.AuditLogService/RecordEvent"}"#, 5.0),
        // Three, and the export's own; the repeat is none.
        (r#"auditlog_events_recorded_total{action="create"}"#, 4.0),
        (r#"auditlog_events_recorded_total{action="delete"}"#, 0.0),
        (r#"auditlog_authentication_failures_total{reason="missing"}"#, 1.0),
        (r#"auditlog_authentication_failures_total{reason="invalid"}"#, 1.0),
        (r#"auditlog_denied_calls_total{permission="audit.get"}"#, 1.0),
        (r#"auditlog_failed_calls_total{reason="EVENT_DIFFERS"}"#, 1.0),
        (r#"auditlog_failed_calls_total{reason="CREDENTIALS_MISSING"}"#, 1.0),
        (r#"auditlog_failed_calls_total{reason="PERMISSION_MISSING"}"#, 1.0),
        // Two records, a batch, a refused record and the export's event: one at a time, so each has its own.
        ("auditlog_append_batch_events_count", 5.0),
        ("auditlog_append_batch_events_sum", 6.0),
        ("auditlog_append_commit_duration_seconds_count", 5.0),
        ("auditlog_append_commit_failures_total", 0.0),
        ("auditlog_append_queue_capacity_events", 4096.0),
        ("auditlog_read_pool_max_connections", 8.0),
        ("auditlog_export_rows_total", 3.0),
    ] {
        assert_eq!(value(&text, series), expected, "{series} in\n{text}");
    }
    assert!(value(&text, r#"auditlog_read_pool_connections{state="idle"}"#) >= 1.0, "{text}");
}

#[rstest]
#[tokio::test]
async fn strangers_add_no_series(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = start(backend).await;
    for n in 0..20 {
        let mut grpc = tonic::client::Grpc::new(app.channel.clone());
        grpc.ready().await.unwrap();
        let path = format!("/strange.Service{n}/Method{n}").parse().unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let status = grpc.unary(tonic::Request::new(()), path, codec).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
    }
    let text = app.metrics().await;
    assert_eq!(value(&text, r#"auditlog_calls_total{method="other",code="UNIMPLEMENTED"}"#), 20.0, "{text}");
    assert!(!text.contains("strange"), "{text}");
    assert!(text.lines().count() < 2000, "{}", text.lines().count());
}

#[rstest]
#[tokio::test]
async fn the_program_asks_for_itself(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = start(backend).await;
    serving(&app).await;
    let address = app.admin.unwrap();
    let ask = async |variables: Vec<(&'static str, String)>| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_auditlog"));
        command.arg("healthcheck").env_clear().envs(variables).current_dir(app.database.folder.path());
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    };
    let ready = ask(vec![("AUDITLOG_ADMIN_LISTEN", address.to_string())]).await;
    assert_eq!(ready.status.code(), Some(0), "{ready:?}");
    // The service's own setting says any address; it is asked on this machine.
    let any = ask(vec![("AUDITLOG_ADMIN_LISTEN", format!("0.0.0.0:{}", address.port()))]).await;
    assert_eq!(any.status.code(), Some(0), "{any:?}");
    let unset = ask(vec![]).await;
    assert_eq!(unset.status.code(), Some(2), "{unset:?}");

    // An address that is taken by somebody who says nothing of the kind.
    let stranger = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let strange = stranger.local_addr().unwrap();
    let served = tokio::spawn(async move { axum::serve(stranger, axum::Router::new()).await });
    let not_ready = ask(vec![("AUDITLOG_ADMIN_LISTEN", strange.to_string())]).await;
    assert_eq!(not_ready.status.code(), Some(1), "{not_ready:?}");
    served.abort();
    let _ = served.await;
    let away = ask(vec![("AUDITLOG_ADMIN_LISTEN", strange.to_string())]).await;
    assert_eq!(away.status.code(), Some(1), "{away:?}");
}

/// Every family has a type and a help text, and none is named twice.
#[rstest]
#[tokio::test]
async fn every_metric_explains_itself(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = start(backend).await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    let text = app.metrics().await;
    let names = |marker: &str| {
        let name = |line: &str| line.strip_prefix(marker)?.split(' ').next().map(str::to_owned);
        text.lines().filter_map(name).collect::<Vec<_>>()
    };
    let (helped, typed) = (names("# HELP "), names("# TYPE "));
    assert_eq!(helped, typed);
    assert!(helped.iter().all(|name| name.starts_with("auditlog_")), "{helped:?}");
    let distinct: std::collections::BTreeSet<_> = helped.iter().collect();
    assert_eq!(distinct.len(), helped.len());
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(helped.iter().any(|name| line.starts_with(name.as_str())), "{line}");
    }
    assert!(text.ends_with("# EOF\n"));
}

/// An alert does not see the first increase of a series that begins with it, and never fires on one that is not there.
#[rstest]
#[tokio::test]
async fn each_alert_finds_its_series_before_anything_has_happened(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = start(backend).await;
    let text = app.metrics().await;
    let rules = include_str!("../../deploy/alerts.yml");
    let expressions: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    assert_eq!(expressions.len(), rules.matches("- alert: ").count());
    for series in expressions.iter().flat_map(|expression| series_of(expression)) {
        let is_of = |line: &&str| line.strip_prefix(&series[0]).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let mut lines = text.lines().filter(is_of);
        assert!(lines.any(|line| series.iter().all(|part| line.contains(part))), "{series:?} in\n{text}");
    }
}

/// The names in an expression, each with the label that it asks for, once for each value of it.
fn series_of(expression: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for part in expression.split("auditlog_").skip(1) {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
        let name = format!("auditlog_{}", &part[..end]);
        let Some((matcher, _)) = part[end..].strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
            all.push(vec![name]);
            continue;
        };
        let (label, values) = matcher.trim_end_matches('"').split_once('"').unwrap();
        let label = label.trim_end_matches(['=', '~']);
        all.extend(values.split('|').map(|value| vec![name.clone(), format!("{label}=\"{value}\"")]));
    }
    all
}
