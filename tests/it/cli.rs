//! The program at its command line: what it prints, how it ends, what it logs.

use std::{fs, path::Path, process::Output};

use prost::Message as _;
use rstest::rstest;
use serde_json::Value;
use tonic::Code;

use crate::{
    calls::every_call,
    child::{ChildServer, PAST_MILLIS, auditlog, run},
    harness::*,
};

const T: &str = "tenants/acme";

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The command ended as one that was called wrongly does: code 2, nothing for programs to read, a line that says it.
#[track_caller]
fn assert_refused(output: &Output, says: &[&str]) {
    let first = text(&output.stderr).lines().next().unwrap_or_default();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{first}");
    assert!(says.iter().all(|part| first.contains(part)), "{first}");
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn help_tells_a_stranger_what_it_is_and_what_to_type() {
    let folder = folder();
    for arguments in [&["--help"][..], &["help"], &["help", "serve"], &["serve", "--help"]] {
        let help = run(folder.path(), arguments);
        assert!(help.status.success() && help.stderr.is_empty());
        let help = text(&help.stdout);
        for needed in ["--listen", "127.0.0.1:50051", "AUDITLOG_LISTEN", "--database-url", "sqlite://auditlog.db"] {
            assert!(help.contains(needed), "{needed} in {arguments:?}: {help}");
        }
        assert!(help.contains("AUDITLOG_AUTH_TRUST_NETWORK") && help.contains("AUDITLOG_SHUTDOWN_GRACE"), "{help}");
    }
    let help = run(folder.path(), &["--help"]);
    for needed in ["audit log", "serve", "migrate", "demo", "descriptor", "Examples:", "auditlog.toml"] {
        assert!(text(&help.stdout).contains(needed), "{needed}");
    }
    assert!(text(&run(folder.path(), &["--version"]).stdout).starts_with("auditlog 0."));
    // None of this has left anything behind.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn flags_variables_and_files_that_are_wrong_are_named() {
    let folder = folder();
    assert_refused(&run(folder.path(), &["--nonsense"]), &["--nonsense"]);
    assert_refused(&run(folder.path(), &["serve", "--listn", "127.0.0.1:0"]), &["--listn"]);
    assert_refused(&run(folder.path(), &["--listen", "localhost"]), &["--listen", "localhost"]);
    assert_refused(&run(folder.path(), &["--database-pool-size", "0"]), &["--database-pool-size"]);
    assert_refused(&run(folder.path(), &["--config", "absent.toml"]), &["absent.toml"]);
    assert_refused(&run(folder.path(), &["--database-url", "mysql://x/y"]), &["database.url", "mysql://"]);
    assert_refused(&run(folder.path(), &["--shutdown-grace", "soon"]), &["--shutdown-grace", "soon"]);
    assert_refused(
        &run(folder.path(), &["--append-queue-events", "5"]),
        &["append.queue_events", "limits.batch_events"],
    );
    let with = |name: &str, value: &str| auditlog(folder.path()).env(name, value).output().unwrap();
    assert_refused(&with("AUDITLOG_LISTEN", "here"), &["AUDITLOG_LISTEN", "here"]);
    assert_refused(&with("AUDITLOG_LIMITS_NOTES", "-1"), &["AUDITLOG_LIMITS_NOTES", "-1"]);
    for (toml, says) in [
        ("listen = '127.0.0.1:0'\nlisten_on = 'x'", &["auditlog.toml:2", "listen_on"][..]),
        ("[database]\npoolsize = 4", &["auditlog.toml:2", "poolsize"]),
        ("[shutdown]\n\ngrace = 'soon'", &["auditlog.toml:3", "soon"]),
        ("listen = ", &["auditlog.toml:1"]),
        ("[roles.x]\nscope = 'tenant'\npermissions = ['audit.lst']", &["roles.x", "audit.lst"]),
    ] {
        fs::write(folder.path().join("auditlog.toml"), toml).unwrap();
        assert_refused(&run(folder.path(), &[]), says);
    }
    assert!(!folder.path().join("auditlog.db").exists());
}

/// What the machine does not give is no mistake at the command line: code 1.
#[rstest]
#[tokio::test]
async fn what_the_machine_refuses_ends_with_code_1_and_one_line(#[values(Backend::Sqlite)] backend: Backend) {
    let database = Database::create(backend);
    let server = ChildServer::serve(&database, &[]);
    let taken = auditlog(database.folder.path())
        .env("AUDITLOG_DATABASE_URL", &database.url)
        .env("AUDITLOG_LISTEN", server.address.to_string())
        .output()
        .unwrap();
    let said = text(&taken.stderr);
    assert_eq!((taken.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains(&format!("cannot listen on {}", server.address)), "{said}");
    let old = auditlog(database.folder.path())
        .env("AUDITLOG_DATABASE_URL", Database::create(backend).url.as_str())
        .env("AUDITLOG_DATABASE_MIGRATE", "false")
        .output()
        .unwrap();
    assert_eq!(old.status.code(), Some(1));
}

#[rstest]
#[tokio::test]
async fn migrate_prints_what_it_applied_and_that_once(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let database = Database::create(backend);
    let migrate = |url: &str| {
        let mut command = auditlog(database.folder.path());
        command.arg("migrate").env("AUDITLOG_DATABASE_URL", url).output().unwrap()
    };
    let first = migrate(&database.url);
    let names: Vec<&str> = text(&first.stdout).lines().collect();
    assert!(first.status.success() && names.iter().any(|name| name.ends_with("_events")), "{names:?}");
    let again = migrate(&database.url);
    assert_eq!((again.status.code(), text(&again.stdout)), (Some(0), ""));
    assert!(text(&again.stderr).contains("up to date"));
    // The service then starts without the right to change the schema.
    ChildServer::serve(&database, &[("AUDITLOG_DATABASE_MIGRATE", "false")]);
}

#[test]
fn the_descriptor_is_the_contract() {
    let folder = folder();
    let output = run(folder.path(), &["descriptor"]);
    assert!(output.status.success() && output.stderr.is_empty());
    let files = prost_types::FileDescriptorSet::decode(&output.stdout[..]).unwrap().file;
    let service = files.iter().flat_map(|file| &file.service).find(|service| service.name() == "AuditLogService");
    let methods: Vec<&str> = service.unwrap().method.iter().map(|method| method.name()).collect();
    assert_eq!(methods, every_call(T, "").map(|call| call.method()));
    // Complete: every import is in it, before the file that needs it.
    for (index, file) in files.iter().enumerate() {
        let earlier: Vec<&str> = files[..index].iter().map(|file| file.name()).collect();
        assert!(file.dependency.iter().all(|needed| earlier.contains(&needed.as_str())), "{}", file.name());
    }
}

#[rstest]
#[tokio::test]
async fn it_does_not_listen_to_strangers_unless_the_network_is_trusted(#[values(Backend::Sqlite)] backend: Backend) {
    let database = Database::create(backend);
    let beyond = [("AUDITLOG_LISTEN", "0.0.0.0:0"), ("AUDITLOG_AUTH_TRUST_NETWORK", "true")];
    let refused = |address: &str| run(database.folder.path(), &["--listen", address]);
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:50051", "[::ffff:192.0.2.1]:1"] {
        assert_refused(&refused(address), &["auth.mode", address, "AUDITLOG_AUTH_TRUST_NETWORK=true"]);
    }
    let server = ChildServer::serve(&database, &beyond);
    assert!(server.address.ip().is_unspecified());
    let warned = |line: &&str| line.contains("\"WARN\"") && line.contains("auth.trust_network");
    assert_eq!(server.log().lines().filter(warned).count(), 1, "{}", server.log());
}

/// Kubernetes injects variables that look like ours.
#[rstest]
#[tokio::test]
async fn a_variable_that_is_no_setting_is_only_warned_of(#[values(Backend::Sqlite)] backend: Backend) {
    let database = Database::create(backend);
    let server = ChildServer::serve(&database, &[("AUDITLOG_PORT", "tcp://10.0.0.1:50051")]);
    let warned = |line: &&str| line.contains("\"WARN\"") && line.contains("AUDITLOG_PORT");
    assert_eq!(server.log().lines().filter(warned).count(), 1, "{}", server.log());
    assert!(!server.log().contains("10.0.0.1"));
}

/// One line a call, with all that an operator asks for; and nothing of what was recorded or of how the caller got in.
#[rstest]
#[tokio::test]
async fn each_call_is_logged_without_bodies_and_credentials(#[values(Backend::Sqlite)] backend: Backend) {
    let database = Database::create(backend);
    let server = ChildServer::serve(&database, &[("AUDITLOG_LOG_LEVEL", "trace")]);
    let client = server.client().await;
    let id = id_at(PAST_MILLIS, 1);
    let caller = Caller::new("ann@example.com")
        .with("x-audit-subject-name", "SecretName")
        .role("tenant_admin@tenants/acme")
        .role("secret_role@tenants/acme")
        .permission("audit.create@tenants/acme,secret.grant@*")
        .with("authorization", "Bearer secret-bearer");
    for (call, n) in every_call(T, &id).into_iter().zip(0..) {
        let call = marked(call);
        let named = caller.clone().with("x-request-id", &format!("req-{n}"));
        call.clone().send_to(client.clone(), named.call(())).await.unwrap();
        // And the ways to fail: what was sent may be in an answer, and not in the log.
        for (who, code) in [(Caller::nobody(), Code::Unauthenticated), (Caller::new("eve"), Code::PermissionDenied)] {
            let who = who.role("secret_role@tenants/eve").with("x-request-id", "req-failed");
            assert_eq!(call.clone().send_to(client.clone(), who.call(())).await.unwrap_err().code(), code);
        }
    }
    server.signal("TERM");
    let (code, log) = server.end().await;
    assert_eq!(code, Some(0));
    for secret in ["marker", "secret", "Secret", "tenant_admin@tenants/acme\"", "audit.create@"] {
        // The one example that the service prints of how to call it names a role.
        let found = log.lines().find(|line| line.contains(secret) && !line.contains("\"try: grpcurl"));
        assert_eq!(found, None, "{secret}");
    }
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (call, n) in every_call(T, &id).into_iter().zip(0..) {
        let is_of_call =
            |line: &&Value| line["message"] == "call ended" && line["span"]["request_id"] == format!("req-{n}");
        let [line] = lines.iter().filter(is_of_call).collect::<Vec<_>>()[..] else { panic!("req-{n} in {log}") };
        let span = &line["span"];
        assert_eq!(span["method"], format!("/auditlog.v1.AuditLogService/{}", call.method()));
        assert_eq!((&span["principal"], &span["scope"]), (&"ann@example.com".into(), &T.into()));
        assert_eq!((&line["level"], &line["code"]), (&"INFO".into(), &"Ok".into()), "{line}");
        assert!(line["latency_ms"].as_f64().unwrap() > 0.0);
    }
    let failed = |code: &str| lines.iter().filter(|line| line["code"] == code).count();
    assert_eq!((failed("Unauthenticated"), failed("PermissionDenied")), (6, 6));
}

/// Whoever has to stop them must know who they are.
#[tokio::test]
async fn the_log_names_whom_a_limit_stops() {
    let database = Database::create(Backend::Sqlite);
    let server = ChildServer::serve(&database, &[("AUDITLOG_LIMITS_CALLER_RATE", "1")]);
    let mut client = server.client().await;
    let flood = Caller::new("flood").role("tenant_viewer@tenants/acme");
    while client.list_events(flood.call(list(T))).await.is_ok() {}
    server.signal("TERM");
    let (_, log) = server.end().await;
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let stopped: Vec<_> = lines.filter(|line| line["code"] == "ResourceExhausted").collect();
    assert!(!stopped.is_empty() && stopped.iter().all(|line| line["span"]["principal"] == "flood"), "{log}");
}

/// Puts text that the log must not have wherever a call takes text.
fn marked(mut call: crate::calls::Call) -> crate::calls::Call {
    use crate::calls::Call;
    let mark = |request: &mut auditlog::proto::auditlog::v1::RecordEventRequest| {
        let event = request.event.as_mut().unwrap();
        event.resource = Some(resource("clusterprofile", "marker-resource"));
        event.actor = Some(actor("marker-actor"));
        event.message = "marker-message".to_owned();
        event.attributes.insert("marker-key".to_owned(), "marker-value".to_owned());
    };
    match &mut call {
        Call::Record(request) => mark(request),
        Call::Batch(request) => request.requests.iter_mut().for_each(mark),
        Call::List(request) => request.filter.get_or_insert_default().resource_ids = vec!["marker-filter".to_owned()],
        Call::Note(request) => request.text = "marker-note".to_owned(),
        Call::Get(_) | Call::Export(_) => (),
    }
    call
}

/// The configuration file counts, the environment is above it, and flags are above both.
#[rstest]
#[tokio::test]
async fn flags_are_above_the_environment_and_that_above_the_file(#[values(Backend::Sqlite)] backend: Backend) {
    let database = Database::create(backend);
    let folder: &Path = database.folder.path();
    let toml = "listen = '192.0.2.1:1'\n[limits]\nname_bytes = 3\n[notes]\nresource_types = ['cluster']\n";
    fs::write(folder.join("auditlog.toml"), toml).unwrap();
    let mut command = auditlog(folder);
    command.args(["serve", "--listen", "127.0.0.1:0"]).env("AUDITLOG_LISTEN", "192.0.2.2:2");
    command.env("AUDITLOG_DATABASE_URL", &database.url).env("AUDITLOG_LIMITS_NAME_BYTES", "4");
    let server = ChildServer::spawn(command);
    let mut client = server.client().await;
    let mut named = event("cluster", "c");
    named.resource.as_mut().unwrap().name = "four".to_owned();
    let call = |event| Caller::root().call(item(T, event, ""));
    let receipt = client.record_event(call(named.clone())).await.unwrap().into_inner().receipt.unwrap();
    named.resource.as_mut().unwrap().name = "fives".to_owned();
    assert_fields(client.record_event(call(named)).await, &["event.resource.name"]);
    let get = auditlog::proto::auditlog::v1::GetEventRequest { name: receipt.name };
    let event = client.get_event(Caller::root().call(get)).await.unwrap().into_inner().event.unwrap();
    assert!(event.accepts_update_notes);
}
