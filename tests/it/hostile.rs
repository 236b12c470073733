//! Hostile input: each kind gets its answer, and afterwards the service is as it was.

use auditlog::proto::auditlog::v1::{
    ActionType, Actor, BatchRecordEventsRequest, Event, EventFilter, ExportCsvRequest, FieldChange, ListEventsRequest,
    RecordEventRequest, RequestContext, Resource,
};
use prost::Message as _;
use rstest::rstest;
use tonic::{Code, Status, codegen::http::uri::PathAndQuery};

use crate::{calls::Call, harness::*};

const T: &str = "tenants/acme";
const CRAB: &str = "🦀";

/// The service still records and lists, and holds these events and no others.
async fn assert_well(app: &TestApp, stored: usize) {
    let receipt = app.record(&Caller::root(), T, event("k", "after all")).await.unwrap();
    assert_eq!(receipt.leaf_index, Some(i64::try_from(stored).unwrap()));
    assert_eq!(app.walk(&Caller::root(), list(T)).await.len(), stored + 1);
}

type Put = fn(&mut Event, String);

/// Each text of an event, its path, its limit in bytes.
const TEXTS: [(&str, usize, Put); 14] = [
    ("event.message", 4096, |event, text| event.message = text),
    ("event.resource.type", 128, |event, text| resource_of(event).r#type = text),
    ("event.resource.id", 256, |event, text| resource_of(event).id = text),
    ("event.resource.name", 512, |event, text| resource_of(event).name = text),
    ("event.actor.id", 256, |event, text| actor_of(event).id = text),
    ("event.actor.name", 512, |event, text| actor_of(event).name = text),
    ("event.changes[0].field", 512, |event, text| change_of(event).field = text),
    ("event.changes[0].old_value", 8192, |event, text| change_of(event).old_value = Some(text)),
    ("event.changes[0].new_value", 8192, |event, text| change_of(event).new_value = Some(text)),
    ("event.context.source_ip", 256, |event, text| context_of(event).source_ip = text),
    ("event.context.user_agent", 512, |event, text| context_of(event).user_agent = text),
    ("event.context.request_id", 256, |event, text| context_of(event).request_id = text),
    ("event.context.trace_id", 256, |event, text| context_of(event).trace_id = text),
    ("event.attributes[a]", 1024, |event, text| drop(event.attributes.insert("a".to_owned(), text))),
];

fn resource_of(event: &mut Event) -> &mut Resource {
    event.resource.get_or_insert_default()
}

fn actor_of(event: &mut Event) -> &mut Actor {
    event.actor.get_or_insert_default()
}

fn context_of(event: &mut Event) -> &mut RequestContext {
    event.context.get_or_insert_default()
}

fn change_of(event: &mut Event) -> &mut FieldChange {
    if event.changes.is_empty() {
        event.changes.push(FieldChange { field: "f".to_owned(), ..Default::default() });
    }
    &mut event.changes[0]
}

#[rstest]
#[tokio::test]
async fn control_characters_are_refused_in_every_text(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    for (path, _, put) in TEXTS {
        for control in ["\0", "a\0", "\u{1}", "\u{1b}[31m", "\u{7f}", "\u{85}", "\u{9f}"] {
            let mut bad = event("k", "1");
            put(&mut bad, control.to_owned());
            assert_fields(app.record(&root, T, bad.clone()).await, &[path]);
            let in_batch = app.batch(&root, T, vec![item("", event("k", "1"), ""), item("", bad, "")]).await;
            assert_fields(in_batch, &[&format!("requests[1].{path}")]);
        }
    }
    for key in ["\0", "a\u{1b}"] {
        let mut bad = event("k", "1");
        bad.attributes.insert(key.to_owned(), "v".to_owned());
        assert_fields(app.record(&root, T, bad).await, &[&format!("event.attributes[{}]", key.escape_debug())]);
    }
    let name = app.record(&root, T, event("clusterprofile", "1")).await.unwrap().name;
    assert_fields(app.note(&root, &name, "a\0b", "").await, &["text"]);
    for filter in [
        EventFilter { resource_types: vec!["\0".into()], ..Default::default() },
        EventFilter { resource_ids: vec!["k".into(), "\0".into()], ..Default::default() },
        EventFilter { actor_ids: vec!["\0".into()], ..Default::default() },
        EventFilter { project_ids: vec!["\0".into()], ..Default::default() },
    ] {
        let status = assert_error(app.list(&root, filtered(T, filter)).await, Code::InvalidArgument, "FIELD_INVALID");
        assert!(status.message().starts_with("filter."), "{status:?}");
    }
    assert_well(&app, 1).await;
}

#[rstest]
#[tokio::test]
async fn limits_count_bytes_and_hold_to_the_byte(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    for (path, limit, put) in TEXTS {
        let (mut whole, mut over) = (event("k", "1"), event("k", "1"));
        put(&mut whole, CRAB.repeat(limit / 4));
        put(&mut over, CRAB.repeat(limit / 4) + "a");
        let name = app.record(&root, T, whole.clone()).await.unwrap().name;
        let status = assert_error(app.record(&root, T, over.clone()).await, Code::InvalidArgument, "FIELD_INVALID");
        let said = format!("at most {limit} bytes of UTF-8; it has {}", limit + 1);
        assert!(status.message().contains(&said), "{status:?}");
        assert_fields(app.record(&root, T, over).await, &[path]);
        let got = app.get(&root, &name).await.unwrap();
        assert_eq!(
            (got.message, got.resource, got.actor, got.changes, got.context, got.attributes),
            (whole.message, whole.resource, whole.actor, whole.changes, whole.context, whole.attributes)
        );
    }
    let (mut whole, mut over) = (event("k", "1"), event("k", "1"));
    whole.attributes.insert(CRAB.repeat(32), "v".to_owned());
    over.attributes.insert(CRAB.repeat(32) + "a", "v".to_owned());
    app.record(&root, T, whole).await.unwrap();
    assert_fields(app.record(&root, T, over).await, &[&format!("event.attributes[{}a]", CRAB.repeat(32))]);

    let name = app.record(&root, T, event("clusterprofile", "1")).await.unwrap().name;
    app.note(&root, &name, &CRAB.repeat(1024), "").await.unwrap();
    assert_fields(app.note(&root, &name, &(CRAB.repeat(1024) + "a"), "").await, &["text"]);

    let count = |changes: usize, attributes: usize| Event {
        changes: vec![FieldChange { field: "f".into(), ..Default::default() }; changes],
        attributes: (0..attributes).map(|n| (n.to_string(), "v".to_owned())).collect(),
        ..event("k", "1")
    };
    app.record(&root, T, count(100, 64)).await.unwrap();
    assert_fields(app.record(&root, T, count(101, 65)).await, &["event.changes", "event.attributes"]);
}

/// An event of exactly `size` bytes, each of its texts within bounds.
fn event_of_size(size: usize) -> Event {
    let mut event = event("k", "1");
    while event.encoded_len() + 8000 < size {
        event.changes.push(FieldChange { field: "f".into(), new_value: Some("x".repeat(7000)), ..Default::default() });
    }
    let rest = size - event.encoded_len();
    event.changes.push(FieldChange { field: "f".into(), new_value: Some("y".repeat(rest - 10)), ..Default::default() });
    while event.encoded_len() < size {
        event.changes.last_mut().unwrap().field.push('f');
    }
    event
}

#[rstest]
#[tokio::test]
async fn an_event_has_at_most_64_kib_and_a_batch_4_mib(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let (whole, over) = (event_of_size(64 * 1024), event_of_size(64 * 1024 + 1));
    assert_eq!((whole.encoded_len(), over.encoded_len()), (65_536, 65_537));
    app.record(&root, T, whole.clone()).await.unwrap();
    assert_fields(app.record(&root, T, over).await, &["event"]);
    assert_fields(app.record(&root, T, event_of_size(65 * 1024)).await, &["event"]);
    // What the server fills in itself does not count, whatever the caller puts there.
    app.record(&root, T, Event { salt: vec![0; 1000], ..whole.clone() }).await.unwrap();

    let batch = |count: usize| vec![item("", whole.clone(), ""); count];
    app.batch(&root, T, batch(63)).await.unwrap();
    let salted = item("", Event { salt: vec![0; 2000], ..whole.clone() }, "");
    app.batch(&root, T, vec![salted; 63]).await.unwrap();
    assert_fields(app.batch(&root, T, batch(64)).await, &["requests"]);
    // Beyond twice the limit it is the transport that stops reading; the answer is ours all the same.
    let status = assert_error(app.batch(&root, T, batch(130)).await, Code::InvalidArgument, "FIELD_INVALID");
    assert!(status.message().contains("too large"), "{status:?}");
    assert_fields(app.batch(&root, T, vec![]).await, &["requests"]);
    assert_fields(app.batch(&root, T, vec![item("", event("k", "1"), ""); 1001]).await, &["requests"]);
    assert_fields(app.batch(&root, T, vec![RecordEventRequest::default(); 1001]).await, &["requests"]);
    // Rights come first, as with any other field. At a tenant without a log, where no event tells of it.
    let denied = app.batch(&Caller::new("ann"), "tenants/other", vec![item("", event("k", "1"), ""); 1001]).await;
    assert_error(denied, Code::PermissionDenied, "PERMISSION_MISSING");
    assert_well(&app, 128).await;
}

#[rstest]
#[tokio::test]
async fn times_and_ids_beyond_all_bounds_are_refused(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let time = |seconds, nanos| prost_types::Timestamp { seconds, nanos };
    for bad in [
        time(i64::MIN, 0),
        time(i64::MAX, 0),
        time(i64::MAX, i32::MAX),
        time(i64::MIN, i32::MIN),
        time(0, -1),
        time(1_767_225_600, 1_000_000_000),
        time(-1, 999_999_999),
        time(-315_619_200, 0),
        time(4_102_444_800, 0),
        time(253_402_300_800, 0),
        time(i64::MAX / 1000, 0),
        time(i64::MIN / 1000, 0),
    ] {
        let timed = Event { event_time: Some(bad), ..event("k", "1") };
        assert_fields(app.record(&root, T, timed.clone()).await, &["event.event_time"]);
        let both = app.record_as(&root, T, timed, &id_at(START_MILLIS, 1)).await;
        assert_fields(both, &["event.event_time"]);
    }
    // A bound may be any time that a timestamp can say.
    for (bound, valid) in [
        (time(-62_135_596_800, 0), true),
        (time(253_402_300_799, 999_999_999), true),
        (time(-62_135_596_801, 0), false),
        (time(253_402_300_800, 0), false),
        (time(i64::MIN, 0), false),
        (time(i64::MAX, i32::MAX), false),
        (time(0, -1), false),
    ] {
        let filter = EventFilter { start_time: Some(bound), end_time: Some(bound), ..Default::default() };
        let listed = app.list(&root, filtered(T, filter)).await;
        match valid {
            true => assert!(listed.unwrap().events.is_empty()),
            false => drop(assert_fields(listed, &["filter.start_time", "filter.end_time"])),
        }
    }
    for id in [
        "01890a5d-ac96-1000-8000-000000000000",
        "01890a5d-ac96-4000-8000-000000000000",
        "01890a5d-ac96-8000-8000-000000000000",
        "01890a5d-ac96-7000-c000-000000000000",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
        "01890A5D-AC96-7000-8000-000000000000",
        "{01890a5d-ac96-7000-8000-00000000000}",
        "01890a5d-ac96-7000-8000-00000000000\0",
        "' OR 1=1 --",
    ] {
        assert_fields(app.record_as(&root, T, event("k", "1"), id).await, &["event_id"]);
        assert_fields(app.get(&root, &format!("{T}/events/{id}")).await, &["name"]);
        assert_fields(app.note(&root, &format!("{T}/events/{id}"), "why", id).await, &["name", "note_id"]);
        let resumed = Call::Export(ExportCsvRequest {
            parent: T.into(),
            log_size: 1,
            after_event_id: id.into(),
            ..Default::default()
        });
        assert_fields(resumed.send(&app, &root).await.map(drop), &["after_event_id"]);
    }
    assert_well(&app, 0).await;
}

#[rstest]
#[tokio::test]
async fn scopes_that_reach_elsewhere_are_refused(#[values(Backend::Sqlite)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    for scope in [
        "tenants/a/../b",
        "tenants/..",
        "tenants/a/projects/..",
        "tenants/a/projects/b/../../c",
        "tenants/a/",
        "/tenants/a",
        "tenants//a",
        "tenants/a\0",
        "tenants/a%2F..",
        "tenants/*",
        "*",
        "tenants/a'--",
        "tenants/ä",
        "projects/p",
    ] {
        assert_fields(app.record(&root, scope, event("k", "1")).await, &["parent"]);
        assert_fields(app.batch(&root, scope, vec![item("", event("k", "1"), "")]).await, &["parent"]);
        assert_fields(app.batch(&root, "", vec![item(scope, event("k", "1"), "")]).await, &["requests[0].parent"]);
        assert_fields(app.list(&root, list(scope)).await, &["parent"]);
        let name = format!("{scope}/events/{}", id_at(START_MILLIS, 1));
        assert_fields(app.get(&root, &name).await, &["name"]);
        assert_fields(app.note(&root, &name, "why", "").await, &["name"]);
        let export = Call::Export(ExportCsvRequest { parent: scope.into(), ..Default::default() });
        assert_fields(export.send(&app, &root).await.map(drop), &["parent"]);
    }
    assert_well(&app, 0).await;
}

#[rstest]
#[tokio::test]
async fn filters_numbers_and_types_that_there_are_not(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let many = |count| EventFilter {
        action_types: vec![1; count],
        resource_types: vec!["k".into(); count],
        resource_ids: vec!["k".into(); count],
        actor_ids: vec!["k".into(); count],
        actor_types: vec![1; count],
        project_ids: vec!["k".into(); count],
        ..Default::default()
    };
    app.list(&root, filtered(T, many(50))).await.unwrap();
    let all = ["action_types", "resource_types", "resource_ids", "actor_ids", "actor_types", "project_ids"];
    assert_fields(app.list(&root, filtered(T, many(51))).await, &all.map(|name| &*format!("filter.{name}").leak()));
    let numbers = EventFilter { action_types: vec![1, 0, 4], actor_types: vec![-1, i32::MAX], ..Default::default() };
    assert_fields(
        app.list(&root, filtered(T, numbers)).await,
        &["filter.action_types[1]", "filter.action_types[2]", "filter.actor_types[0]", "filter.actor_types[1]"],
    );
    for order in [-1, 4, i32::MIN] {
        let request = ListEventsRequest { order, page_size: -1, ..list(T) };
        assert_fields(app.list(&root, request).await, &["order", "page_size"]);
    }
    let mut unknown = event("k", "1");
    (unknown.action_type, actor_of(&mut unknown).r#type) = (7, -7);
    assert_fields(app.record(&root, T, unknown).await, &["event.action_type", "event.actor.type"]);
    for kind in ["audit_", "audit_export", "audit_x"] {
        assert_fields(app.record(&root, T, event(kind, "1")).await, &["event.resource.type"]);
    }
    app.record(&root, T, event("audit", "Audit_ is no prefix of this")).await.unwrap();
    assert_well(&app, 1).await;
}

#[rstest]
#[tokio::test]
async fn an_event_takes_100_notes_and_not_one_more(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let name = app.record(&root, T, event("clusterprofile", "1")).await.unwrap().name;
    let ids: Vec<_> = (0..100).map(|n| id_at(START_MILLIS, n)).collect();
    for id in &ids {
        app.note(&root, &name, "why", id).await.unwrap();
    }
    let full = app.note(&root, &name, "why", "").await;
    assert_error(full, Code::FailedPrecondition, "NOTES_NOT_ACCEPTED");
    // One that is there already is still answered as it was.
    let again = app.note(&root, &name, "why", &ids[7]).await.unwrap();
    assert_eq!(again.note.unwrap().leaf_index, Some(8));
    let event = app.get(&root, &name).await.unwrap();
    assert_eq!((event.update_notes.len(), event.accepts_update_notes), (100, false));
    assert_eq!(app.record(&root, T, crate::harness::event("k", "1")).await.unwrap().leaf_index, Some(101));
}

/// Sends these bytes as the message of a call.
async fn send_raw(app: &TestApp, method: &'static str, bytes: Vec<u8>) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(app.channel.clone());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::try_from(format!("/auditlog.v1.AuditLogService/{method}")).unwrap();
    grpc.unary(Caller::root().call(bytes), path, raw::RawCodec).await.map(|_| ())
}

#[rstest]
#[tokio::test]
async fn bytes_that_are_no_message_are_the_callers_mistake(#[values(Backend::Sqlite)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let not_utf8 = [&[0x0a, 0x04][..], b"a\xff\xfe\x80"].concat();
    // A surrogate, and an overlong NUL.
    let surrogate = [&[0x0a, 0x03][..], b"\xed\xa0\x80"].concat();
    let overlong = [&[0x0a, 0x02][..], b"\xc0\x80"].concat();
    let truncated = vec![0x0a, 0x7f, b'a'];
    let nested = (0..200).fold(Vec::new(), |inner, _| {
        let mut outer = vec![0x0b];
        outer.extend(inner);
        outer
    });
    let methods = ["RecordEvent", "GetEvent", "ListEvents", "ExportCsv", "AddUpdateNote"];
    for bytes in [not_utf8, surrogate, overlong, truncated, nested, vec![0xff; 100], vec![0x07]] {
        for method in methods {
            let status =
                assert_error(send_raw(&app, method, bytes.clone()).await, Code::InvalidArgument, "FIELD_INVALID");
            assert!(status.message().contains("not a valid protobuf message"), "{status:?}");
            assert!(status.metadata().contains_key("x-request-id"));
        }
    }
    // Unknown fields are none of our business, as always in protobuf.
    let known = item(T, event("k", "1"), "").encode_to_vec();
    send_raw(&app, "RecordEvent", [&known[..], &[0xfa, 0x07, 0x01, 0x00]].concat()).await.unwrap();
    let batch = BatchRecordEventsRequest { requests: vec![item(T, event("k", "2"), "")], parent: T.to_owned() };
    send_raw(&app, "BatchRecordEvents", batch.encode_to_vec()).await.unwrap();
    let unknown = send_raw(&app, "DropEverything", Vec::new()).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unimplemented);
    assert_well(&app, 2).await;
}

#[tokio::test]
async fn a_batch_of_millions_of_nothings_is_counted_and_refused() {
    let app = TestApp::start(Backend::Sqlite).await;
    let nothings = [0x0a, 0].repeat(4_000_000);
    let refused = assert_fields(send_raw(&app, "BatchRecordEvents", nothings).await, &["requests"]);
    assert!(refused.message().contains("at most 1000 events; it has 4000000"), "{refused:?}");
    let wrap = |tag: u8, inner: &[u8]| {
        let mut outer = vec![tag];
        prost::encode_length_delimiter(inner.len(), &mut outer).unwrap();
        [outer, inner.to_vec()].concat()
    };
    // Changes, attributes, and the notes that only answers have.
    let mut event = Vec::new();
    for field in [0x32, 0x42, 0x6a] {
        event = [field, 0].repeat(2_000_000);
        let batch = wrap(0x0a, &wrap(0x12, &event));
        let refused = assert_fields(send_raw(&app, "BatchRecordEvents", batch).await, &["requests"]);
        assert!(refused.message().contains("attributes in all its events; it has 2000000"), "{refused:?}");
    }
    // One event alone has less room from the beginning.
    let single = send_raw(&app, "RecordEvent", wrap(0x12, &event)).await;
    let refused = assert_error(single, Code::InvalidArgument, "FIELD_INVALID");
    assert!(refused.message().contains("too large"), "{refused:?}");
    assert_well(&app, 0).await;
}

#[rstest]
#[tokio::test]
async fn a_flood_of_bad_requests_harms_no_neighbour(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..200 {
        let mut client = app.client.clone();
        let mut sent = event("k", &n.to_string());
        if n % 2 == 0 {
            sent.action_type = ActionType::Unspecified.into();
        }
        let call = root.call(item(T, sent, &id_at(START_MILLIS, n)));
        calls.spawn(async move { (n, client.record_event(call).await.is_ok()) });
    }
    while let Some(call) = calls.join_next().await {
        let (n, recorded) = call.unwrap();
        assert_eq!(recorded, n % 2 == 1, "{n}");
    }
    assert_well(&app, 100).await;
}

/// A codec that passes bytes through.
mod raw {
    use tonic::{
        Status,
        codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    };

    #[derive(Clone, Copy, Debug)]
    pub struct RawCodec;

    impl Codec for RawCodec {
        type Encode = Vec<u8>;
        type Decode = Vec<u8>;
        type Encoder = Self;
        type Decoder = Self;

        fn encoder(&mut self) -> Self {
            *self
        }

        fn decoder(&mut self) -> Self {
            *self
        }
    }

    impl Encoder for RawCodec {
        type Item = Vec<u8>;
        type Error = Status;

        fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
            prost::bytes::BufMut::put_slice(into, &item);
            Ok(())
        }
    }

    impl Decoder for RawCodec {
        type Item = Vec<u8>;
        type Error = Status;

        fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
            use prost::bytes::Buf as _;
            Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
        }
    }
}
