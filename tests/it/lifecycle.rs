//! Health, reflection, request ids; starting and ending.

use std::{
    io::{BufRead as _, BufReader},
    process::Command,
    sync::Arc,
    time::Duration,
};

use auditlog::proto::auditlog::v1::RecordEventRequest;
use rstest::rstest;
use serde_json::Value;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    calls::every_call,
    child::{ChildServer, PAST_MILLIS, PATIENCE, auditlog},
    harness::*,
    outage::{Away, WriteLock, start_impatient},
};

const T: &str = "tenants/acme";
const NAMES: [&str; 2] = ["", "auditlog.v1.AuditLogService"];

fn asked(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

async fn watch(app: &TestApp, service: &str) -> Streaming<HealthCheckResponse> {
    HealthClient::new(app.channel.clone()).watch(asked(service)).await.unwrap().into_inner()
}

/// Reads until the health is `status`.
async fn until(watched: &mut Streaming<HealthCheckResponse>, status: ServingStatus) {
    let reading = async { while watched.next().await.expect("the watch goes on").unwrap().status() != status {} };
    timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("never {status:?}"));
}

#[rstest]
#[tokio::test]
async fn health_needs_no_claims_and_follows_the_store(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = start_impatient(backend).await;
    let mut health = HealthClient::new(app.channel.clone());
    for name in NAMES {
        assert_eq!(health.check(asked(name)).await.unwrap().get_ref().status(), ServingStatus::Serving);
    }
    assert_eq!(health.check(asked("auditlog.v2.Nothing")).await.unwrap_err().code(), Code::NotFound);
    let mut watched = watch(&app, NAMES[1]).await;
    until(&mut watched, ServingStatus::Serving).await;
    let away = Away::take(&app.database);
    until(&mut watched, ServingStatus::NotServing).await;
    for name in NAMES {
        assert_eq!(health.check(asked(name)).await.unwrap().get_ref().status(), ServingStatus::NotServing);
    }
    drop(away);
    until(&mut watched, ServingStatus::Serving).await;
}

/// SQLite keeps its other files beside the file itself.
#[cfg(unix)]
#[tokio::test]
async fn a_database_behind_a_link_is_served() {
    let real = tempfile::tempdir().unwrap();
    let database = Database::create(Backend::Sqlite);
    let path = database.url.strip_prefix("sqlite://").unwrap();
    std::fs::write(real.path().join("real.db"), "").unwrap();
    std::os::unix::fs::symlink(real.path().join("real.db"), path).unwrap();
    let app = TestApp::start_on(Arc::clone(&database), |_| {}).await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    assert!(real.path().join("real.db-wal").exists());
}

/// SQLite would go on writing to a file that nobody finds any more.
#[rstest]
#[tokio::test]
async fn a_file_of_the_write_ahead_log_that_is_gone_is_missed(#[values("-wal", "-shm")] suffix: &str) {
    let app = start_impatient(Backend::Sqlite).await;
    let mut watched = watch(&app, NAMES[1]).await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    until(&mut watched, ServingStatus::Serving).await;
    let away = Away::take_beside(&app.database, suffix);
    let refused = app.record(&Caller::root(), T, event("k", "2")).await;
    let refused = assert_error(refused, Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(refused.message().contains("nothing was stored"), "{refused:?}");
    until(&mut watched, ServingStatus::NotServing).await;
    drop(away);
    until(&mut watched, ServingStatus::Serving).await;
    app.record(&Caller::root(), T, event("k", "3")).await.unwrap();
    assert_eq!(app.walk(&Caller::root(), list(T)).await.len(), 2);
}

/// During the delay the service says that it is going, and serves all the same.
#[rstest]
#[tokio::test]
async fn during_the_delay_health_says_so_and_calls_are_served(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start_with(backend, |config| config.shutdown.delay = Duration::from_secs(600)).await;
    let mut watched = watch(&app, "").await;
    until(&mut watched, ServingStatus::Serving).await;
    let (address, mut client, _database) = (app.address, app.client.clone(), app.database.clone());
    let running = app.stop();
    until(&mut watched, ServingStatus::NotServing).await;
    let call = || Caller::root().call(item(T, event("k", "1"), ""));
    client.record_event(call()).await.unwrap();
    let other = tonic::transport::Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    assert_eq!(
        HealthClient::new(other.clone()).check(asked("")).await.unwrap().get_ref().status(),
        ServingStatus::NotServing
    );
    Client::new(other).record_event(call()).await.unwrap();
    running.abort();
}

/// Those who watch the health, which is a call that never ends by itself, do not keep the service from ending.
#[rstest]
#[tokio::test]
async fn a_health_watch_does_not_hold_up_the_end(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start_with(backend, |config| config.shutdown.grace = Duration::from_secs(600)).await;
    let mut watched = watch(&app, "").await;
    until(&mut watched, ServingStatus::Serving).await;
    let ended = timeout(PATIENCE, app.stop()).await.expect("the watch is ended");
    ended.unwrap().unwrap();
    // The last word was that it goes.
    let mut last = ServingStatus::Serving;
    while let Some(Ok(reply)) = watched.next().await {
        last = reply.status();
    }
    assert_eq!(last, ServingStatus::NotServing);
}

#[rstest]
#[tokio::test]
async fn calls_that_outlast_the_grace_are_cut_off(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start_with(backend, |config| config.shutdown.grace = Duration::from_millis(50)).await;
    let (_never, messages) = tokio::sync::mpsc::channel::<tonic_reflection::pb::v1::ServerReflectionRequest>(1);
    let mut open = tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(app.channel.clone());
    let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
    let _replies = open.server_reflection_info(messages).await.unwrap();
    timeout(PATIENCE, app.stop()).await.expect("the grace ends it").unwrap().unwrap();
}

#[rstest]
#[tokio::test]
async fn a_request_id_is_taken_or_made_and_given_back_with_every_answer(#[values(Backend::Sqlite)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let record = || item(T, event("k", "1"), "");
    let id_of = |metadata: &tonic::metadata::MetadataMap| {
        metadata.get("x-request-id").expect("a request id").to_str().unwrap().to_owned()
    };
    for (caller, code) in [(Caller::root(), None), (Caller::nobody(), Some(Code::Unauthenticated))] {
        let named = caller.clone().with("x-request-id", "trace-0815");
        for (caller, due) in [(named, Some("trace-0815")), (caller, None)] {
            let answer = app.client.clone().record_event(caller.call(record())).await;
            let id = match &answer {
                Ok(reply) => id_of(reply.metadata()),
                Err(status) => id_of(status.metadata()),
            };
            assert_eq!(answer.err().map(|status: Status| status.code()), code);
            assert_eq!(id.len(), due.map_or(32, str::len), "{id}");
            assert_eq!(due.unwrap_or(&id), id);
        }
    }
}

/// All methods go through the same end: what was accepted before the signal is answered, and the process ends well.
#[rstest]
#[tokio::test]
async fn what_was_accepted_before_sigterm_is_answered(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let database = Database::create(backend);
    let small = [("AUDITLOG_LIMITS_BATCH_EVENTS", "1"), ("AUDITLOG_APPEND_QUEUE_EVENTS", "1")];
    let server = ChildServer::serve(&database, &small);
    let client = server.client().await;
    let lock = WriteLock::hold(&database);
    let mut calls = tokio::task::JoinSet::new();
    for n in 1..=2 {
        let (mut client, call) =
            (client.clone(), Caller::root().call(item(T, event("k", "1"), &id_at(PAST_MILLIS, n))));
        calls.spawn(async move { client.record_event(call).await });
    }
    // One finds the queue full: so the other one is in it.
    let full = calls.join_next().await.unwrap().unwrap();
    assert_error(full, Code::ResourceExhausted, "QUEUE_FULL");
    server.signal("TERM");
    server.wait_for("shutting down");
    drop(lock);
    let receipt = calls.join_next().await.unwrap().unwrap().unwrap().into_inner().receipt.unwrap();
    assert_eq!(server.end().await.0, Some(0));
    let app = TestApp::start_on(database, |_| {}).await;
    assert_eq!(app.get(&Caller::root(), &receipt.name).await.unwrap().leaf_index, Some(0));
}

#[rstest]
#[tokio::test]
async fn a_second_signal_ends_the_process_at_once(
    #[values(Backend::Sqlite)] backend: Backend,
    #[values(("TERM", 143), ("INT", 130))] (signal, code): (&str, i32),
) {
    let database = Database::create(backend);
    let server = ChildServer::serve(&database, &[("AUDITLOG_SHUTDOWN_DELAY", "1h")]);
    server.signal(signal);
    server.wait_for("shutting down");
    server.signal(signal);
    assert_eq!(server.end().await.0, Some(code));
}

mod reflection {
    use prost::Message as _;
    use prost_types::FileDescriptorProto;
    use tonic_reflection::pb::{v1, v1alpha};

    use super::*;

    /// The file that holds a symbol, as bytes, asked for without claims.
    macro_rules! file_of {
        ($version:ident, $app:expr, $symbol:expr) => {{
            use $version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
            };
            let symbol = Some(MessageRequest::FileContainingSymbol($symbol.to_owned()));
            let request = ServerReflectionRequest { host: String::new(), message_request: symbol };
            let mut client = ServerReflectionClient::new($app.channel.clone());
            let reply = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
            match reply.into_inner().message().await.unwrap().unwrap().message_response.unwrap() {
                MessageResponse::FileDescriptorResponse(files) => files.file_descriptor_proto.concat(),
                other => panic!("{other:?}"),
            }
        }};
    }

    fn contains(bytes: &[u8], text: &str) -> bool {
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    }

    #[rstest]
    #[tokio::test]
    async fn both_versions_show_the_contract_with_comments_and_http_bindings(
        #[values(Backend::Sqlite)] backend: Backend,
    ) {
        let app = TestApp::start(backend).await;
        let symbol = "auditlog.v1.AuditLogService";
        for bytes in [file_of!(v1, app, symbol), file_of!(v1alpha, app, symbol)] {
            assert!(contains(&bytes, "/v1/{parent=tenants/*}/events:exportCsv"), "no google.api.http");
            let file = FileDescriptorProto::decode(&bytes[..]).unwrap();
            let methods: Vec<&str> = file.service[0].method.iter().map(|method| method.name()).collect();
            assert_eq!(methods, every_call(T, "").map(|call| call.method()));
            let comments = file.source_code_info.unwrap().location;
            let commented = comments.iter().filter(|location| location.leading_comments.is_some());
            // The service, each method, each message, each field.
            assert!(commented.count() > 30);
        }
    }

    #[rstest]
    #[tokio::test]
    async fn it_knows_what_error_details_are_made_of(#[values(Backend::Sqlite)] backend: Backend) {
        let app = TestApp::start(backend).await;
        for symbol in [
            "google.rpc.ErrorInfo",
            "google.rpc.BadRequest",
            "google.rpc.RetryInfo",
            "google.api.HttpBody",
            "google.api.HttpRule",
            "auditlog.v1.ErrorReason",
            "grpc.health.v1.Health",
        ] {
            let file = FileDescriptorProto::decode(&file_of!(v1, app, symbol)[..]).unwrap();
            assert!(symbol.starts_with(file.package()), "{symbol} in {}", file.name());
        }
    }
}

/// A connection that is open and idle does not hold up the end either.
#[rstest]
#[tokio::test]
async fn sigterm_ends_an_idle_service_at_once_and_well(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let database = Database::create(backend);
    let server = ChildServer::serve(&database, &[("AUDITLOG_SHUTDOWN_GRACE", "1h")]);
    let mut client = server.client().await;
    let request: RecordEventRequest = item(T, event("k", "1"), "");
    client.record_event(Caller::root().call(request)).await.unwrap();
    server.signal("TERM");
    assert_eq!(server.end().await.0, Some(0));
}

/// A shell gives 1024 to what it starts, as a rule.
#[cfg(target_os = "linux")]
#[test]
fn there_are_file_descriptors_for_all_connections_that_may_come() {
    let database = Database::create(Backend::Sqlite);
    let service = auditlog(database.folder.path());
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -Sn 300 && exec \"$0\""])
        .arg(service.get_program())
        .current_dir(database.folder.path());
    command.env("AUDITLOG_DATABASE_URL", &database.url).env("AUDITLOG_LISTEN", "127.0.0.1:0");
    command.env("AUDITLOG_LIMITS_CONNECTIONS", "900");
    let [soft, hard] = ChildServer::spawn(command).file_limits();
    assert!(soft >= hard.min(1000), "{soft} of {hard}");
}

/// Fills the pipe that a process has under this descriptor, to the last byte.
#[cfg(target_os = "linux")]
fn fill(process: u32, descriptor: i32) {
    let pipe = format!("of=/proc/{process}/fd/{descriptor}");
    let filled =
        Command::new("dd").env("LC_ALL", "C").args(["if=/dev/zero", &pipe, "bs=1", "oflag=nonblock"]).output().unwrap();
    assert!(String::from_utf8_lossy(&filled.stderr).contains("unavailable"), "{filled:?}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_start_that_fails_ends_though_nobody_reads_why() {
    use std::os::fd::AsRawFd as _;

    let database = Database::create(Backend::Sqlite);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (_reader, writer) = std::io::pipe().unwrap();
    fill(std::process::id(), writer.as_raw_fd());
    let mut command = auditlog(database.folder.path());
    command.env("AUDITLOG_DATABASE_URL", &database.url);
    command.env("AUDITLOG_LISTEN", taken.local_addr().unwrap().to_string());
    let mut child = command.stderr(writer).spawn().unwrap();
    let ended = tokio::task::spawn_blocking(move || child.wait().unwrap());
    assert_eq!(timeout(PATIENCE, ended).await.expect("it waits for who reads it").unwrap().code(), Some(1));
}

/// A pipe takes 64 KiB, and what collects logs, with whatever comes on stdout, may stand still.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_log_that_nobody_reads_holds_nobody_up() {
    let database = Database::create(Backend::Sqlite);
    let mut command = auditlog(database.folder.path());
    command.env("AUDITLOG_DATABASE_URL", &database.url).env("AUDITLOG_LISTEN", "127.0.0.1:0");
    // More lines than may wait.
    command.env("AUDITLOG_LOG_LEVEL", "trace");
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = command.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
    let mut log = BufReader::new(reader).lines().map_while(Result::ok);
    let serving: Value = log
        .by_ref()
        .map(|line| serde_json::from_str::<Value>(&line).unwrap())
        .find(|line| line["message"] == "serving")
        .unwrap();
    let address = format!("http://{}", serving["address"].as_str().unwrap());
    let mut client = Client::connect(address).await.unwrap();
    let calls = async {
        for _ in 0..1000 {
            client.list_events(Caller::root().call(list(T))).await.unwrap();
        }
    };
    timeout(PATIENCE, calls).await.unwrap();
    // The log's next line is longer than what may be left.
    fill(child.id(), 2);
    let terminated = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(terminated.success());
    let ended = tokio::task::spawn_blocking(move || child.wait().unwrap());
    assert!(timeout(PATIENCE, ended).await.unwrap().unwrap().success());
    drop(log);
}
