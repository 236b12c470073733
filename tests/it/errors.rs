//! Every reason for which a call fails, as a caller sees it.

use std::time::Duration;

use auditlog::proto::auditlog::v1::{EventReceipt, ExportCsvRequest, ListEventsRequest, RecordEventRequest};
use rstest::rstest;
use tokio::{task::JoinSet, time::timeout};
use tonic::{Code, Request, Response, Status, codegen::http::uri::PathAndQuery};
use tonic_types::StatusExt as _;

use crate::{
    calls::{Call, every_call},
    child::PATIENCE,
    harness::*,
    outage::{Away, WriteLock, execute, start_impatient},
};

const T: &str = "tenants/acme";

/// A store that waits briefly, and a queue with room for one.
async fn start_small(backend: Backend) -> TestApp {
    TestApp::start_with(backend, |config| {
        config.limits.batch_events = 1;
        config.append.queue_events = 1;
        config.database.statement_timeout = Duration::from_secs(30);
    })
    .await
}

#[track_caller]
fn assert_retry_info(status: &Status, due: bool) {
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
    assert_eq!(delay.is_some_and(|delay| delay > Duration::ZERO), due, "{status:?}");
}

#[rstest]
#[tokio::test]
async fn an_id_that_is_taken_says_by_which_of_the_callers_events(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let (root, id, note_id) = (Caller::root(), id_at(START_MILLIS, 1), id_at(START_MILLIS, 2));
    let project = "tenants/acme/projects/web";
    let name = app.record_as(&root, project, event("clusterprofile", "1"), &id).await.unwrap().name;
    let taken = app.record_as(&root, T, event("clusterprofile", "1"), &id).await;
    let status = assert_error(taken, Code::AlreadyExists, "EVENT_DIFFERS");
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.metadata["index"].as_str(), &info.metadata["event_id"], info.metadata.len()), ("0", &id, 2));
    // Where the other one is stays unsaid.
    assert!(!format!("{status:?}{info:?}").contains("web"));
    assert_retry_info(&status, false);

    app.note(&root, &name, "first", &note_id).await.unwrap();
    let status = assert_error(app.note(&root, &name, "2nd", &note_id).await, Code::AlreadyExists, "NOTE_DIFFERS");
    assert_eq!(status.get_details_error_info().unwrap().metadata["note_id"], note_id);
}

#[rstest]
#[tokio::test]
async fn notes_are_refused_where_they_are_not_taken(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let name = app.record(&root, T, event("cluster", "1")).await.unwrap().name;
    let status = assert_error(app.note(&root, &name, "why", "").await, Code::FailedPrecondition, "NOTES_NOT_ACCEPTED");
    assert!(status.message().contains("\"cluster\""), "{status:?}");
    let nowhere = format!("{T}/events/{}", id_at(START_MILLIS, 9));
    assert_error(app.note(&root, &nowhere, "why", "").await, Code::NotFound, "EVENT_NOT_FOUND");
    assert_error(app.get(&root, &nowhere).await, Code::NotFound, "EVENT_NOT_FOUND");
}

/// Two calls, room for one: the one that waits for the store is answered when the store comes back.
#[rstest]
#[tokio::test]
async fn a_full_queue_sends_callers_away_and_keeps_what_it_took(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = start_small(backend).await;
    let root = Caller::root();
    app.record(&root, T, event("clusterprofile", "0")).await.unwrap();
    let lock = WriteLock::hold(&app.database);
    let mut calls = record_twice(&app, &root);
    let first = calls.join_next().await.unwrap().unwrap();
    let status = assert_error(first, Code::ResourceExhausted, "QUEUE_FULL");
    assert_retry_info(&status, true);
    // The others that write meet the same; the readers do not notice.
    let [record, batch, get, list, export, note] = every_call(T, &id_at(START_MILLIS, 5));
    for call in [record, batch, export] {
        assert_error(call.send(&app, &root).await, Code::ResourceExhausted, "QUEUE_FULL");
    }
    assert_error(get.send(&app, &root).await, Code::NotFound, "EVENT_NOT_FOUND");
    assert_error(note.send(&app, &root).await, Code::ResourceExhausted, "QUEUE_FULL");
    list.send(&app, &root).await.unwrap();
    drop(lock);
    let receipt = calls.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(receipt.leaf_index, Some(1));
    app.get(&root, &receipt.name).await.unwrap();
}

fn record_twice(app: &TestApp, caller: &Caller) -> JoinSet<Result<EventReceipt, Status>> {
    let mut calls = JoinSet::new();
    for n in 1..=2 {
        let (mut client, call) = (app.client.clone(), caller.call(item(T, event("k", "1"), &id_at(START_MILLIS, n))));
        calls.spawn(async move { Ok(client.record_event(call).await?.into_inner().receipt.unwrap()) });
    }
    calls
}

#[rstest]
#[tokio::test]
async fn a_store_that_is_away_is_unavailable_and_nothing_is_half_done(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = start_impatient(backend).await;
    let (root, id) = (Caller::root(), id_at(START_MILLIS, 1));
    app.record_as(&root, T, event("cluster", "c"), &id).await.unwrap();
    let away = Away::take(&app.database);
    for call in every_call(T, &id) {
        let status = call.send(&app, &root).await.unwrap_err();
        let reason = status.get_details_error_info().unwrap().reason;
        // A server that hangs up in the midst of a statement leaves open whether that was still carried out.
        let may_be_unknown = backend == Backend::Postgres && reason == "OUTCOME_UNKNOWN";
        assert!(may_be_unknown || reason == "STORE_UNAVAILABLE", "{status:?}");
        assert_eq!(status.code(), Code::Unavailable);
        assert!(may_be_unknown || status.get_details_retry_info().is_some(), "{status:?}");
        assert!(!format!("{status:?}").contains("auditlog.db"), "{status:?}");
    }
    drop(away);
    // As RetryInfo says: again, until it is back.
    let back = async {
        while app.list(&root, list(T)).await.is_err() {
            between_looks().await;
        }
    };
    timeout(PATIENCE, back).await.unwrap();
    for call in every_call(T, &id).into_iter().take(5) {
        call.send(&app, &root).await.unwrap();
    }
    let places: Vec<_> = app.walk(&root, ordered(T, 3.try_into().unwrap(), 10)).await;
    // The first event, and the one about the export that ran.
    assert_eq!(places.iter().map(|event| event.leaf_index).collect::<Vec<_>>(), [Some(0), Some(1)]);
}

#[rstest]
#[tokio::test]
async fn a_store_that_stays_locked_is_unavailable_to_those_who_write(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = start_impatient(backend).await;
    let root = Caller::root();
    let _lock = WriteLock::hold(&app.database);
    let [record, batch, _, list, export, _] = every_call(T, &id_at(START_MILLIS, 1));
    let writes = [record, batch, export].map(|call| call.send(&app, &root));
    for answer in futures_util::future::join_all(writes).await {
        assert_error(answer, Code::Unavailable, "STORE_UNAVAILABLE");
    }
    list.send(&app, &root).await.unwrap();
}

/// The database's file is moved away while the append waits for the lock: what it then commits may be lost with that file.
/// The race is run until the file goes at the right moment; at any other one the answer is another true one. For PostgreSQL see
/// `durable`.
#[rstest]
#[tokio::test]
async fn an_outcome_that_cannot_be_found_out_is_called_unknown(
    #[values(Backend::Sqlite)] backend: Backend,
    #[values(true, false)] own_id: bool,
) {
    let app = start_small(backend).await;
    let root = Caller::root();
    for n in 1..20 {
        let id = if own_id { id_at(START_MILLIS, n) } else { String::new() };
        let lock = WriteLock::hold(&app.database);
        let before = app.statements();
        let mut client = app.client.clone();
        let call = tokio::spawn(client_call(async move { client.record_event(item_call(&id)).await }));
        while app.statements() == before {
            tokio::task::yield_now().await;
        }
        let away = Away::take(&app.database);
        drop(lock);
        let answer = call.await.unwrap();
        drop(away);
        let reason = answer.as_ref().err().and_then(Status::get_details_error_info).map(|info| info.reason);
        if reason.as_deref() != Some("OUTCOME_UNKNOWN") {
            continue;
        }
        let status = assert_error(answer, Code::Unavailable, "OUTCOME_UNKNOWN");
        assert_retry_info(&status, own_id);
        if own_id {
            let id = id_at(START_MILLIS, n);
            let receipt = app.record_as(&root, T, event("k", "1"), &id).await.unwrap();
            let stored = app.walk(&root, list(T)).await;
            assert_eq!(stored.iter().filter(|event| event.name == receipt.name).count(), 1);
        }
        return;
    }
    panic!("the file never went at the right moment");
}

async fn client_call<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    Ok(call.await?.into_inner())
}

fn item_call(id: &str) -> Request<RecordEventRequest> {
    Caller::root().call(item(T, event("k", "1"), id))
}

/// A call that was begun before the shutdown, and whose message comes when the grace has passed.
#[rstest]
#[tokio::test]
async fn a_call_that_comes_too_late_is_told_that_the_server_goes(#[values(Backend::Sqlite)] backend: Backend) {
    let app = TestApp::start_with(backend, |config| config.shutdown.grace = Duration::from_millis(50)).await;
    let call = begin_slow_call(&app, Caller::root()).await;
    timeout(PATIENCE, app.stop()).await.expect("the grace is short").unwrap().unwrap();
    let status = assert_error(call.finish().await, Code::Unavailable, "SHUTTING_DOWN");
    assert_retry_info(&status, true);
}

struct SlowCall {
    message: tokio::sync::mpsc::Sender<RecordEventRequest>,
    answer: tokio::task::JoinHandle<Result<(), Status>>,
}

impl SlowCall {
    async fn finish(self) -> Result<(), Status> {
        self.message.send(item(T, event("k", "late"), "")).await.unwrap();
        drop(self.message);
        self.answer.await.unwrap()
    }
}

/// Sends the head of a call; another call on the same connection is answered after it has arrived.
async fn begin_slow_call(app: &TestApp, caller: Caller) -> SlowCall {
    use auditlog::proto::auditlog::v1::RecordEventResponse;
    let (message, messages) = tokio::sync::mpsc::channel(1);
    let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
    let mut grpc = tonic::client::Grpc::new(app.channel.clone());
    grpc.ready().await.unwrap();
    let answer = tokio::spawn(async move {
        let codec = tonic_prost::ProstCodec::<RecordEventRequest, RecordEventResponse>::default();
        let path = PathAndQuery::from_static("/auditlog.v1.AuditLogService/RecordEvent");
        grpc.client_streaming(caller.call(messages), path, codec).await.map(|_| ())
    });
    tokio::task::yield_now().await;
    app.list(&Caller::root(), list(T)).await.unwrap();
    SlowCall { message, answer }
}

/// Something in the store that this service never wrote.
#[rstest]
#[case::what_is_no_json(Backend::Sqlite, "{secret garbage")]
#[case::json_of_another_form(Backend::Sqlite, r#"{"secret":"garbage"}"#)]
#[case::json_of_another_form(Backend::Postgres, r#"{"secret":"garbage"}"#)]
#[tokio::test]
async fn a_fault_of_ours_is_opaque_and_carries_the_request_id(#[case] backend: Backend, #[case] changes: &str) {
    let app = TestApp::start(backend).await;
    let root = Caller::root().with("x-request-id", "req-4711");
    let forged = forged(&app, "", changes, "{}").await;
    let [_, _, get, list, export, _] = every_call(T, &forged);
    for call in [get, list, export] {
        let status = assert_error(call.send(&app, &root).await, Code::Internal, "INTERNAL");
        assert_eq!(status.message(), "internal error; request id req-4711");
        assert_retry_info(&status, false);
    }
    // The rest is as it was.
    app.get(&root, &format!("{T}/events/{}", id_at(START_MILLIS, 1))).await.unwrap();
}

/// A second event, written past the service: the first one with another id, and these columns changed.
async fn forged(app: &TestApp, project: &str, changes: &str, attributes: &str) -> String {
    app.record_as(&Caller::root(), T, event("k", "1"), &id_at(START_MILLIS, 1)).await.unwrap();
    let (other, json) = (id_at(START_MILLIS, 2), if app.database.backend == Backend::Postgres { "::json" } else { "" });
    let id = if app.database.backend == Backend::Postgres { format!("'{other}'::uuid") } else { format!("'{other}'") };
    let made = execute(
        &app.database,
        &format!(
            "INSERT INTO events SELECT tenant_id, {id}, '{project}', 1, \
             record_time, action_type, resource_type, resource_id, resource_name, actor_type, actor_id, actor_name, \
             recorder_type, recorder_id, recorder_name, message, '{changes}'{json}, context, '{attributes}'{json}, salt, \
             body_commitment, leaf_hash, NULL, NULL FROM events"
        ),
    );
    assert_eq!((made, execute(&app.database, "UPDATE tree_heads SET tree_size = 2")), (1, 1));
    other
}

#[rstest]
#[tokio::test]
async fn an_export_says_no_more_of_a_forged_row_than_a_list_does(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let changes = r#"[ {"forged":"z", "field":"x","new_value":"\u0079"} ]"#;
    let id = forged(&app, "", changes, r#"{"a":"1","a":"2"}"#).await;
    let listed = app.get(&Caller::root(), &format!("{T}/events/{id}")).await.unwrap();
    assert_eq!((&*listed.changes[0].field, listed.changes[0].new_value()), ("x", "y"));
    assert_eq!(listed.attributes, [("a".to_owned(), "2".to_owned())].into());
    let text = String::from_utf8(app.export(&Caller::root(), export_of(T)).await.unwrap().bytes()).unwrap();
    assert!(text.contains(r#","[{""field"":""x"",""new_value"":""y""}]","#), "{text}");
    assert!(text.contains(r#","{""a"":""2""}","#) && !text.contains("forged"), "{text}");
}

#[rstest]
#[tokio::test]
async fn a_row_whose_scope_is_none_is_a_fault_of_ours(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root().with("x-request-id", "req-4711");
    forged(&app, "a/../b", "[]", "{}").await;
    let [_, _, get, list, export, _] = every_call(T, &id_at(START_MILLIS, 2));
    for call in [get, list, export] {
        assert_error(call.send(&app, &root).await, Code::Internal, "INTERNAL");
    }
}

#[rstest]
#[tokio::test]
async fn a_page_token_of_another_request_is_refused(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    for n in 0..3 {
        app.record(&root, T, event("k", &n.to_string())).await.unwrap();
    }
    let page = app.list(&root, ListEventsRequest { page_size: 1, ..list(T) }).await.unwrap();
    let token = page.next_page_token;
    let with = |parent, order, token: &str| ListEventsRequest { page_token: token.to_owned(), order, ..list(parent) };
    app.list(&root, with(T, 0, &token)).await.unwrap();
    let flipped = format!("{}{}", if token.starts_with('A') { 'B' } else { 'A' }, &token[1..]);
    for request in [
        with("tenants/acme/projects/web", 0, &token),
        with("tenants/b", 0, &token),
        with(T, 3, &token),
        with(T, 0, &flipped),
        with(T, 0, &token[1..]),
        with(T, 0, &token.repeat(1000)),
        with(T, 0, "\0"),
    ] {
        let status = assert_error(app.list(&root, request).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        assert!(status.message().contains("page_token"), "{status:?}");
    }
}

/// All that is wrong comes in one reply, which a real client receives: within 8 KiB of trailers.
#[rstest]
#[tokio::test]
async fn all_violations_come_at_once_as_far_as_they_fit(#[values(Backend::Sqlite)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root().with("x-request-id", &"r".repeat(128));
    let mut bad = event("", "");
    bad.action_type = 9;
    bad.actor = None;
    bad.message = "\0".to_owned();
    bad.event_time = Some(prost_types::Timestamp { seconds: 1, nanos: -1 });
    let refused = app.record_as(&root, T, bad.clone(), "x").await;
    let fields = ["event.event_time", "event_id", "event.message", "event.action_type", "event.resource.type"];
    assert_fields(refused, &[&fields[..], &["event.resource.id", "event.actor"]].concat());

    // 1000 events, each with many violations; and one with attributes whose keys are all long and all wrong.
    let many = app.batch(&root, T, vec![item("", bad.clone(), "x"); 1000]).await;
    let status = assert_error(many, Code::InvalidArgument, "FIELD_INVALID");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations[6].field, "requests[0].event.actor");
    let (last, spelled_out) = violations.split_last().unwrap();
    assert!(spelled_out.len() <= 50);
    assert_eq!((last.field.as_str(), last.description.clone()), ("", format!("and {} more", 7000 - spelled_out.len())));
    assert_fits(status);

    bad.attributes = (0..1000).map(|n| (format!("{n}{}", "🦀".repeat(200)), String::new())).collect();
    let status = assert_error(app.record(&root, T, bad).await, Code::InvalidArgument, "FIELD_INVALID");
    assert_fits(status);
}

/// The longest denial there can be is whole, and fits too.
#[rstest]
#[tokio::test]
async fn the_longest_denial_is_whole_and_fits(#[values(Backend::Sqlite)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let (id, request_id) = ("a".repeat(128), "r".repeat(128));
    let scope = format!("tenants/{id}/projects/{id}");
    let caller = Caller::new(&"%".repeat(256)).with("x-request-id", &request_id);
    for scope in [format!("tenants/{id}"), scope] {
        let export = Call::Export(ExportCsvRequest { parent: scope.clone(), ..Default::default() });
        let status = assert_error(export.send(&app, &caller).await, Code::PermissionDenied, "PERMISSION_MISSING");
        assert!(status.message().ends_with(&format!("audit.export@{scope}")), "{status:?}");
        assert_fits(status);
    }
}

/// As RFC 9113 counts a list of fields: names, values, and 32 bytes for each.
#[track_caller]
fn assert_fits(status: Status) {
    let response: tonic::codegen::http::Response<tonic::body::Body> = status.into_http();
    let size: usize = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    assert!(size < 8192, "{size} bytes of trailers");
}
