//! CSV exports: how they run, are told of in the log, break off, and are taken up again.

use std::time::Duration;

use auditlog::proto::auditlog::v1::{ActionType, ActorType, Event, EventFilter, ExportCsvRequest, Order};
use rstest::rstest;
use serde_json::{Value, json};
use tonic::{Code, transport::Channel};

use crate::harness::*;

const T: &str = "tenants/acme";
const P: &str = "tenants/acme/projects/web";
const ORDERS: [Order; 3] = [Order::NewestFirst, Order::OldestFirst, Order::Log];

/// Events of 4 KiB that tie in fours, in and out of a project.
async fn fill(app: &TestApp, count: u64) {
    let large = || Event { message: "m".repeat(4096), ..event("clusterprofile", "p") };
    let at = |n: u64| id_at(START_MILLIS + i64::try_from(n / 4).unwrap(), n * 31 % 4096);
    let parent = |n: u64| if n.is_multiple_of(2) { P } else { T };
    let items: Vec<_> = (0..count).map(|n| item(parent(n), large(), &at(n))).collect();
    for batch in items.chunks(500) {
        app.batch(&Caller::root(), T, batch.to_vec()).await.unwrap();
    }
}

/// A client with so small a window that the server can send little ahead.
async fn slow_client(app: &TestApp) -> Client {
    let endpoint = Channel::from_shared(format!("http://{}", app.address)).unwrap();
    let endpoint = endpoint.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    Client::new(endpoint.connect().await.unwrap())
}

/// The events about exports, in the order of the log.
async fn diary(app: &TestApp) -> Vec<Event> {
    let filter = EventFilter { resource_types: vec!["audit_export".into()], ..Default::default() };
    let request =
        auditlog::proto::auditlog::v1::ListEventsRequest { filter: Some(filter), ..ordered(T, Order::Log, 1000) };
    app.walk(&Caller::root(), request).await
}

/// Waits until the diary has `count` entries.
async fn diary_of(app: &TestApp, count: usize) -> Vec<Event> {
    for _ in 0..1000 {
        let entries = diary(app).await;
        if entries.len() >= count {
            return entries;
        }
        between_looks().await;
    }
    panic!("the log never told");
}

fn is_row_end(csv: &[u8]) -> impl Fn(&usize) -> bool {
    // The rows of these tests hold no line break.
    move |at| csv[..*at].ends_with(b"\r\n")
}

#[rstest]
#[tokio::test]
async fn an_export_tells_of_itself_in_the_log_and_is_not_in_itself(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    fill(&app, 3).await;
    let caller = Caller::root().with("x-audit-subject-name", "The%20Root").with("x-audit-subject-type", "service");
    let filter = EventFilter {
        action_types: vec![ActionType::Create.into()],
        resource_types: vec!["clusterprofile".into(), "audit_export".into()],
        start_time: Some(timestamp(START_MILLIS - 1)),
        ..Default::default()
    };
    let request = ExportCsvRequest { filter: Some(filter), order: Order::OldestFirst.into(), ..export_of(P) };
    let first = app.export(&caller, request.clone()).await.unwrap();
    assert_eq!((first.log_size(), first.rows().len()), (3, 2));
    let entry = diary(&app).await.pop().unwrap();
    assert_eq!((entry.leaf_index, entry.action_type()), (Some(3), ActionType::Create));
    assert!(entry.name.starts_with(&format!("{P}/events/")));
    let actor = entry.actor.clone().unwrap();
    assert_eq!((actor.r#type(), actor.id.as_str(), actor.name.as_str()), (ActorType::Service, "root", "The Root"));
    let recorder = entry.recorder.clone().unwrap();
    assert_eq!((recorder.r#type(), recorder.id.as_str()), (ActorType::System, "auditlog"), "the service tells it");
    let told = &entry.attributes;
    assert_eq!((told["scope"].as_str(), told["order"].as_str()), (P, "oldest_first"));
    assert_eq!((told["log_size"].as_str(), told["proof_columns"].as_str()), ("3", "false"));
    let filter = json!({
        "action_types": ["create"],
        "resource_types": ["clusterprofile", "audit_export"],
        "start_time_unix_ms": START_MILLIS - 1,
    });
    assert_eq!(serde_json::from_str::<Value>(&told["filter"]).unwrap(), filter);
    // The next one has the first one's event, and a complete export needs no second one.
    assert_eq!(app.export(&caller, request).await.unwrap().rows().len(), 3);
    assert_eq!(diary(&app).await.len(), 2);
}

#[rstest]
#[tokio::test]
async fn what_is_recorded_meanwhile_does_not_disturb(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    fill(&app, 500).await;
    let root = Caller::root();
    for order in ORDERS {
        let takes_notes = |event: &Event| event.accepts_update_notes;
        let last = app.walk(&root, ordered(T, order, 1000)).await.into_iter().rfind(takes_notes).unwrap();
        let request = ExportCsvRequest { order: order.into(), ..export_of(T) };
        let mut stream = slow_client(&app).await.export_csv(root.call(request.clone())).await.unwrap().into_inner();
        let mut bytes = stream.message().await.unwrap().unwrap().data.to_vec();
        // A note on an event that is still to come, and events of all times.
        app.note(&root, &last.name, &format!("a late note for {order:?}"), "").await.unwrap();
        for n in 0..40 {
            let late = at(event("late", "1"), START_MILLIS - 10 + n * 10);
            app.record(&root, T, late).await.unwrap();
        }
        while let Some(piece) = stream.message().await.unwrap() {
            bytes.extend(piece.data);
        }
        let text = String::from_utf8(bytes).unwrap();
        assert!(!text.contains(&format!("a late note for {order:?}")));
        let late = rows(text.as_bytes()).into_iter().filter(|row| row["resource_type"] == "late").count();
        let earlier_orders = 40 * ORDERS.iter().position(|one| *one == order).unwrap();
        assert_eq!(late, earlier_orders, "{order:?}");
    }
}

#[rstest]
#[tokio::test]
async fn a_resumed_export_and_what_came_before_are_the_same_file(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    fill(&app, 200).await;
    let root = Caller::root();
    for (order, proof_columns) in ORDERS.into_iter().zip([false, true, false]) {
        let filter = EventFilter { resource_types: vec!["clusterprofile".into()], ..Default::default() };
        let request = ExportCsvRequest { order: order.into(), proof_columns, filter: Some(filter), ..export_of(P) };
        let whole = app.export(&root, request.clone()).await.unwrap();
        let (bytes, ids) = (whole.bytes(), whole.ids());
        let count = ids.len();
        assert!(count >= 100);
        // New events and notes do not disturb a resumed export either.
        app.record(&root, P, at(event("clusterprofile", "late"), START_MILLIS + 20)).await.unwrap();
        app.note(&root, &format!("{P}/events/{}", ids[count - 1]), "a late note", "").await.unwrap();
        let ends: Vec<usize> = (1..=bytes.len()).filter(is_row_end(&bytes)).collect();
        assert_eq!(ends.len(), count + 1);
        for arrived in [1, 63, count - 1, count] {
            let resumed = ExportCsvRequest {
                log_size: whole.log_size(),
                after_event_id: ids[arrived - 1].clone(),
                ..request.clone()
            };
            let rest = app.export(&root, resumed).await.unwrap();
            assert_eq!(rest.log_size(), whole.log_size());
            assert_eq!([&bytes[..ends[arrived]], &rest.bytes()].concat(), bytes, "{order:?} after {arrived}");
            assert_eq!(rest.trailing("x-audit-row-count"), (count - arrived).to_string());
            let told = diary(&app).await.pop().unwrap().attributes;
            assert_eq!(told["after_event_id"], ids[arrived - 1]);
            assert_eq!(told["log_size"], whole.log_size().to_string());
        }
    }
}

#[rstest]
#[tokio::test]
async fn a_resumption_that_cannot_be_is_refused(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    fill(&app, 4).await;
    let root = Caller::root();
    let ids: Vec<_> =
        app.export(&root, ExportCsvRequest { order: Order::Log.into(), ..export_of(T) }).await.unwrap().ids();
    let elsewhere = app.record(&root, "tenants/b", event("k", "1")).await.unwrap().name;
    let foreign = elsewhere.rsplit('/').next().unwrap();
    // The log has five leaves: four events, and the export's.
    for (parent, log_size, after, fields) in [
        (T, 4, "", vec!["after_event_id"]),
        (T, 0, ids[0].as_str(), vec!["log_size"]),
        (T, -1, ids[0].as_str(), vec!["log_size"]),
        (T, -1, "", vec!["log_size"]),
        (T, 6, ids[0].as_str(), vec!["log_size"]),
        (T, i64::MAX, ids[0].as_str(), vec!["log_size"]),
        (T, 4, "x", vec!["after_event_id"]),
        (T, -1, "x", vec!["log_size", "after_event_id"]),
        (T, 4, "01890a5d-ac96-4000-8000-000000000000", vec!["after_event_id"]),
        // Not below the size, not of the project, not of the tenant, not there.
        (T, 3, ids[3].as_str(), vec!["after_event_id"]),
        (P, 4, ids[1].as_str(), vec!["after_event_id"]),
        (T, 4, foreign, vec!["after_event_id"]),
        (T, 4, &id_at(START_MILLIS, 4095), vec!["after_event_id"]),
    ] {
        let request = ExportCsvRequest { log_size, after_event_id: after.to_owned(), ..export_of(parent) };
        assert_fields(app.export(&root, request).await, &fields);
    }
    let request = ExportCsvRequest { order: 9, ..export_of(T) };
    assert_fields(app.export(&root, request).await, &["order"]);
    // Nothing of that was an export.
    assert_eq!(diary(&app).await.len(), 1);
}

#[rstest]
#[tokio::test]
async fn a_client_that_leaves_ends_the_work_and_the_log_tells(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    fill(&app, 1000).await;
    let root = Caller::root();
    let mut stream = slow_client(&app).await.export_csv(root.call(export_of(T))).await.unwrap().into_inner();
    for _ in 0..3 {
        stream.message().await.unwrap().unwrap();
    }
    assert_eq!(diary(&app).await.len(), 1);
    drop(stream);
    let entries = diary_of(&app, 2).await;
    let (begun, ended) = (&entries[0], &entries[1]);
    assert_eq!((ended.action_type(), &ended.resource), (ActionType::Update, &begun.resource));
    assert!(ended.message.contains("cancelled"), "{}", ended.message);
    let read: u64 = ended.attributes["rows"].parse().unwrap();
    assert!((64..500).contains(&read), "{read} of 1000 rows were read for a client that took two pieces");
    // Nobody reads on: what the listing itself takes is all that is asked of the store, and a probe a second.
    let before = app.asked();
    diary(&app).await;
    let one_listing = app.statements() - before.statements;
    for _ in 0..20 {
        diary(&app).await;
    }
    assert!(app.statements() - before.statements <= 21 * one_listing + before.probes());
    assert_eq!(diary(&app).await.len(), 2);
}

#[rstest]
#[tokio::test]
async fn an_export_that_fails_midway_ends_in_an_error_and_the_log_tells(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    fill(&app, 400).await;
    let root = Caller::root();
    let ids = app.export(&root, ExportCsvRequest { order: Order::Log.into(), ..export_of(T) }).await.unwrap().ids();
    app.database.damage(&ids[350]);
    let request = ExportCsvRequest { order: Order::Log.into(), ..export_of(T) };
    let mut stream = app.start_export(&root, request).await.unwrap().into_inner();
    let mut bytes = Vec::new();
    let error = loop {
        match stream.message().await {
            Ok(piece) => bytes.extend(piece.expect("an error was due").data),
            Err(error) => break error,
        }
    };
    assert!(error.metadata().get("x-audit-sha256").is_none(), "an export that failed looks complete");
    let error = assert_error(Err::<(), _>(error), Code::Internal, "INTERNAL");
    assert!(!error.message().contains(&ids[350]), "tells what only the log should: {}", error.message());
    let arrived = rows(&bytes).len();
    assert!((1..=350).contains(&arrived));
    let ended = diary_of(&app, 3).await.pop().unwrap();
    assert!(ended.message.contains("failed"), "{}", ended.message);
    assert_eq!(ended.attributes["rows"], arrived.to_string());
}

#[rstest]
#[tokio::test]
async fn nothing_is_exported_if_the_log_cannot_tell(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    fill(&app, 4).await;
    // Another replica, that has no room in its queue.
    let full = TestApp::start_on(app.database.clone(), |config| config.append.queue_events = 0).await;
    let refused = full.start_export(&Caller::root(), export_of(T)).await;
    assert_error(refused.map(|_| ()), Code::ResourceExhausted, "QUEUE_FULL");
    assert_eq!(diary(&app).await, []);
    assert_eq!(full.walk(&Caller::root(), list(T)).await.len(), 4);
}

/// One that the service's end cuts off is told of before the log is closed, and its reader learns what to do.
#[rstest]
#[tokio::test]
async fn what_the_end_of_the_service_cuts_off_is_told(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start_with(backend, |config| config.shutdown.grace = Duration::from_millis(50)).await;
    fill(&app, 500).await;
    let request = Caller::root().call(export_of(T));
    let mut stream = slow_client(&app).await.export_csv(request).await.unwrap().into_inner();
    let database = app.database.clone();
    app.stop().await.unwrap().unwrap();
    let end = loop {
        match stream.message().await {
            Ok(piece) => assert!(piece.is_some(), "it looks complete"),
            Err(status) => break status,
        }
    };
    assert_error::<()>(Err(end), Code::Unavailable, "SHUTTING_DOWN");
    let entries = diary(&TestApp::start_on(database, |_| {}).await).await;
    assert_eq!(entries.len(), 2);
    let told = &entries[1].message;
    assert!(told.starts_with("the export of tenants/acme was ended because the service ended after "), "{told}");
}
