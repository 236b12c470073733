//! CSV exports: what is in the file, cell by cell, and what is told about it.

use auditlog::proto::auditlog::v1::{
    ActionType, Actor, ActorType, Event, EventFilter, ExportCsvRequest, FieldChange, Order, RequestContext,
};
use chrono::{DateTime, Utc};
use rstest::rstest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tonic::Code;

use crate::harness::*;

const T: &str = "tenants/acme";
const P: &str = "tenants/acme/projects/web";
const HEADER: &str = "event_id,event_time,record_time,tenant_id,project_id,action_type,resource_type,resource_id,\
                      resource_name,actor_type,actor_id,actor_name,recorder_id,message,changes,source_ip,user_agent,\
                      request_id,trace_id,attributes,update_notes,leaf_index";
const PROOF: &str = ",recorder_type,recorder_name,salt,body_commitment";

/// Texts that a careless writer, reader or spreadsheet trips over.
const TEXTS: [&str; 20] = [
    "plain",
    "=1+1",
    "+1",
    "-1",
    "@sum",
    "\t=1",
    "\r=1",
    "'",
    "''quoted",
    "\"",
    "a \"quoted\" word, and a comma",
    "two\r\nlines",
    "\nfirst",
    "last\r",
    " spaces ",
    ",",
    "Grüße, 世界 🦀 \u{202e}\u{feff}",
    "{\"json\": [1, null]}",
    "=\"a\",'b'\r\n",
    "-",
];

/// An event that has `text` wherever there may be text.
fn event_of(text: &str) -> Event {
    let words = || text.to_owned();
    Event {
        action_type: ActionType::Delete.into(),
        resource: Some(auditlog::proto::auditlog::v1::Resource {
            r#type: "clusterprofile".into(),
            id: words(),
            name: words(),
        }),
        actor: Some(Actor { r#type: ActorType::Service.into(), id: words(), name: words() }),
        message: words(),
        changes: vec![
            FieldChange { field: words(), old_value: Some(words()), new_value: Some(words()) },
            FieldChange { field: "set".into(), old_value: None, new_value: Some(String::new()) },
            FieldChange { field: "unset".into(), old_value: Some(String::new()), new_value: None },
            FieldChange { field: "neither".into(), old_value: None, new_value: None },
        ],
        context: Some(RequestContext {
            source_ip: words(),
            user_agent: words(),
            request_id: words(),
            trace_id: words(),
        }),
        attributes: [(words(), words()), ("k".to_owned(), "v".to_owned())].into(),
        ..Event::default()
    }
}

/// A log with such events, notes, and an event that has only what it must have.
async fn start(backend: Backend) -> TestApp {
    // Denials are recorded by other tasks, whose queries and events would be counted here.
    let app = TestApp::start_with(backend, |config| config.audit.denied = false).await;
    for (n, text) in TEXTS.into_iter().enumerate() {
        let caller = Caller::root().with("x-audit-subject-name", "%3DR%C3%B6t%2C%22");
        let parent = if n % 3 == 0 { T } else { P };
        let id = id_at(START_MILLIS + i64::try_from(n * 7 % 5).unwrap(), n as u64);
        let name = app.record_as(&caller, parent, event_of(text), &id).await.unwrap().name;
        for _ in 0..n % 3 {
            app.note(&caller, &name, text, "").await.unwrap();
        }
    }
    let bare =
        Event { actor: Some(Actor { r#type: ActorType::System.into(), ..Default::default() }), ..event("k", "1") };
    app.record(&Caller::new("=cmd").permission("audit.create@*"), T, bare).await.unwrap();
    app
}

/// One `'` in front of a cell that a spreadsheet would run, or that begins with one.
fn unguarded(cell: &str) -> &str {
    assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "not guarded: {cell:?}");
    cell.strip_prefix('\'').unwrap_or(cell)
}

fn is_time(cell: &str, time: Option<prost_types::Timestamp>, digits: usize) {
    let time = time.unwrap();
    assert_eq!(cell.len(), "2026-01-01T00:00:00.Z".len() + digits, "{cell}");
    assert!(cell.ends_with('Z'));
    let read: DateTime<Utc> = cell.parse().unwrap();
    assert_eq!((read.timestamp(), read.timestamp_subsec_nanos()), (time.seconds, u32::try_from(time.nanos).unwrap()));
}

fn changes_json(event: &Event) -> Value {
    let change = |change: &FieldChange| {
        let mut json = json!({"field": change.field});
        for (key, value) in [("old_value", &change.old_value), ("new_value", &change.new_value)] {
            if let Some(value) = value {
                json[key] = json!(value);
            }
        }
        json
    };
    event.changes.iter().map(change).collect()
}

fn kind(number: i32) -> &'static str {
    match ActorType::try_from(number).unwrap() {
        ActorType::User => "user",
        ActorType::Service => "service",
        ActorType::System => "system",
        ActorType::Unspecified => "",
    }
}

/// Holds each cell of a row against the event as GetEvent gives it.
pub fn check_row(row: &Row, event: &Event, proof_columns: bool) {
    let cell = |name: &str| unguarded(&row[name]);
    let path: Vec<&str> = event.name.split('/').collect();
    let project = if path.len() == 6 { path[3] } else { "" };
    let (resource, actor) = (event.resource.clone().unwrap(), event.actor.clone().unwrap());
    let (recorder, context) = (event.recorder.clone().unwrap(), event.context.clone().unwrap_or_default());
    for (name, value) in [
        ("event_id", path[path.len() - 1]),
        ("tenant_id", path[1]),
        ("project_id", project),
        ("resource_type", &resource.r#type),
        ("resource_id", &resource.id),
        ("resource_name", &resource.name),
        ("actor_type", kind(actor.r#type)),
        ("actor_id", &actor.id),
        ("actor_name", &actor.name),
        ("recorder_id", &recorder.id),
        ("message", &event.message),
        ("source_ip", &context.source_ip),
        ("user_agent", &context.user_agent),
        ("request_id", &context.request_id),
        ("trace_id", &context.trace_id),
        ("leaf_index", &event.leaf_index.unwrap().to_string()),
    ] {
        assert_eq!(cell(name), value, "{name} of {}", event.name);
    }
    let action = ["", "create", "update", "delete"][usize::try_from(event.action_type).unwrap()];
    assert_eq!(cell("action_type"), action);
    is_time(cell("event_time"), event.event_time, 3);
    is_time(cell("record_time"), event.record_time, 6);
    assert_eq!(serde_json::from_str::<Value>(cell("changes")).unwrap(), changes_json(event));
    assert_eq!(serde_json::from_str::<Value>(cell("attributes")).unwrap(), json!(event.attributes));
    check_notes(&serde_json::from_str(cell("update_notes")).unwrap(), event, proof_columns);
    if proof_columns {
        assert_eq!((cell("recorder_type"), cell("recorder_name")), (kind(recorder.r#type), recorder.name.as_str()));
        assert_eq!((cell("salt"), cell("body_commitment")), (hex::encode(&event.salt).as_str(), ""));
    }
}

fn check_notes(notes: &Value, event: &Event, proof_columns: bool) {
    let notes = notes.as_array().unwrap();
    assert_eq!(notes.len(), event.update_notes.len());
    for (mut json, note) in notes.clone().into_iter().zip(&event.update_notes) {
        let time = json.as_object_mut().unwrap().remove("create_time").unwrap();
        is_time(time.as_str().unwrap(), note.create_time, 6);
        let author = note.author.clone().unwrap();
        let mut expected = json!({
            "note_id": note.note_id,
            "author": {"type": kind(author.r#type), "id": author.id, "name": author.name},
            "text": note.text,
            "leaf_index": note.leaf_index.unwrap(),
        });
        if proof_columns {
            expected["salt"] = json!(hex::encode(&note.salt));
        }
        assert_eq!(json, expected);
    }
}

#[rstest]
#[tokio::test]
async fn every_cell_reads_back_as_the_event_has_it(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = start(backend).await;
    let root = Caller::root();
    for proof_columns in [false, true] {
        let request = ExportCsvRequest { proof_columns, order: Order::Log.into(), ..export_of(T) };
        let rows = app.export(&root, request).await.unwrap().rows();
        assert!(rows.len() > TEXTS.len());
        for row in rows {
            let event = app.get(&root, &format!("{T}/events/{}", row["event_id"])).await.unwrap();
            check_row(&row, &event, proof_columns);
        }
    }
}

#[rstest]
#[tokio::test]
async fn the_file_is_rfc_4180_and_its_metadata_tell_of_it(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = start(backend).await;
    app.clock.set_millis(START_MILLIS + 12_345);
    let told = app.export(&Caller::root(), export_of(P)).await.unwrap();
    let bytes = told.bytes();
    assert!(bytes.starts_with(format!("{HEADER}\r\n").as_bytes()));
    assert!(bytes.ends_with(b"\r\n"));
    assert!(told.pieces.iter().all(|piece| piece.content_type == "text/csv; charset=utf-8"));
    // 21 events and 19 notes came before; of the events, 13 are the project's.
    assert_eq!((told.log_size(), told.rows().len()), (40, 13));
    assert_eq!(told.trailing("x-audit-row-count"), "13");
    assert_eq!(told.trailing("x-audit-sha256"), hex::encode(Sha256::digest(&bytes)));
    let disposition = "attachment; filename=\"audit-acme-web-20260101T000012Z.csv\"";
    assert_eq!(told.initial("content-disposition"), disposition);

    let request = ExportCsvRequest { proof_columns: true, ..export_of(T) };
    let proof = app.export(&Caller::root(), request).await.unwrap();
    assert!(proof.bytes().starts_with(format!("{HEADER}{PROOF}\r\n").as_bytes()));
    assert!(proof.initial("content-disposition").starts_with("attachment; filename=\"audit-acme-2026"));
}

#[rstest]
#[tokio::test]
async fn rows_come_in_the_order_asked_for_and_as_the_filter_says(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = start(backend).await;
    let root = Caller::root();
    let filter = EventFilter { resource_ids: vec!["+1".into(), "=1+1".into(), "plain".into()], ..Default::default() };
    for order in [Order::Unspecified, Order::NewestFirst, Order::OldestFirst, Order::Log] {
        let listed = app.walk(&root, ordered(P, order, 1000)).await;
        let listed = listed.iter().filter(|event| event.resource.as_ref().unwrap().r#type != "audit_export");
        let listed: Vec<_> = listed.map(|event| event.name.rsplit('/').next().unwrap()).collect();
        let request = ExportCsvRequest { order: order.into(), ..export_of(P) };
        // The exports before this one are events like others.
        let own = EventFilter { resource_types: vec!["clusterprofile".into()], ..Default::default() };
        let exported = app.export(&root, ExportCsvRequest { filter: Some(own), ..request.clone() }).await.unwrap();
        assert_eq!(exported.ids(), listed, "{order:?}");
        let some = app.export(&root, ExportCsvRequest { filter: Some(filter.clone()), ..request }).await.unwrap();
        let messages: Vec<_> = some.rows().into_iter().map(|row| row["message"].clone()).collect();
        // The first lies 2 ms behind the start and the second 4 ms; "plain" is the tenant's own.
        let newest_first = matches!(order, Order::Unspecified | Order::NewestFirst);
        let expected = if newest_first { ["'+1", "'=1+1"] } else { ["'=1+1", "'+1"] };
        assert_eq!(messages, expected, "{order:?}");
    }
}

#[rstest]
#[tokio::test]
async fn an_empty_tenant_gives_a_header_row(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let told = app.export(&Caller::root(), export_of("tenants/nobody")).await.unwrap();
    assert_eq!(told.bytes(), format!("{HEADER}\r\n").into_bytes());
    assert_eq!((told.log_size(), told.trailing("x-audit-row-count")), (0, "0"));
    assert_eq!(told.trailing("x-audit-sha256"), hex::encode(Sha256::digest(told.bytes())));
}

#[rstest]
#[tokio::test]
async fn an_erased_event_keeps_its_row_and_its_commitment(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let id = id_at(START_MILLIS, 1);
    app.record_as(&root, P, event_of("secret"), &id).await.unwrap();
    app.database.erase(&id);
    let request = ExportCsvRequest { proof_columns: true, ..export_of(P) };
    let told = app.export(&root, request).await.unwrap();
    assert!(!String::from_utf8(told.bytes()).unwrap().contains("secret"));
    let row = &told.rows()[0];
    let event = app.get(&root, &format!("{P}/events/{id}")).await.unwrap();
    assert_eq!(event.body_commitment.len(), 32);
    assert_eq!((row["salt"].as_str(), &row["body_commitment"]), ("", &hex::encode(event.body_commitment)));
    let kept = ["event_id", "tenant_id", "project_id", "action_type", "resource_type", "leaf_index"];
    assert_eq!(kept.map(|name| row[name].as_str()), [&id, "acme", "web", "delete", "clusterprofile", "0"]);
}

#[rstest]
#[tokio::test]
async fn to_export_takes_the_right_to_read_and_the_one_to_export(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = start(backend).await;
    let viewer = Caller::new("ann").role(&format!("project_viewer@{P}"));
    let exporter = viewer.clone().permission(&format!("audit.export@{P}"));
    assert_eq!(app.export(&exporter, export_of(P)).await.unwrap().rows().len(), 13);
    let admin = Caller::new("ann").role(&format!("tenant_admin@{T}"));
    assert_eq!(app.export(&admin, export_of(T)).await.unwrap().trailing("x-audit-row-count"), "22");
    let blind = Caller::new("ann").permission(&format!("audit.export@{T}"));
    for (caller, parent) in [(&viewer, P), (&exporter, T), (&exporter, "tenants/acme/projects/db"), (&blind, P)] {
        let before = app.asked();
        assert_error(app.export(caller, export_of(parent)).await, Code::PermissionDenied, "PERMISSION_MISSING");
        app.assert_not_asked_since(&before);
    }
}
