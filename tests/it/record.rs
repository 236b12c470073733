//! Recording: identity and time, exactly once, batches.

use auditlog::proto::auditlog::v1::{ActorType, Event, FieldChange, RequestContext};
use rstest::rstest;
use tonic::Code;

use crate::harness::*;

const T: &str = "tenants/acme";
const P: &str = "tenants/acme/projects/web";

fn full_event() -> Event {
    Event {
        message: "made a cluster, \"quoted\"\r\nover two lines 🦀".to_owned(),
        changes: vec![
            FieldChange { field: "size".into(), old_value: None, new_value: Some(String::new()) },
            FieldChange { field: "name".into(), old_value: Some("a".into()), new_value: None },
        ],
        context: Some(RequestContext { source_ip: "10.0.0.1".into(), user_agent: "curl".into(), ..Default::default() }),
        attributes: [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into(),
        ..event("cluster", "c-1")
    }
}

#[rstest]
#[tokio::test]
async fn what_was_recorded_is_read_back_whole(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let caller = Caller::root().with("x-audit-subject-name", "R%C3%B6t").with("x-audit-subject-type", "service");
    let sent = at(full_event(), START_MILLIS - 5);
    let receipt = app.record(&caller, P, sent.clone()).await.unwrap();
    let got = app.get(&caller, &receipt.name).await.unwrap();

    assert!(receipt.name.starts_with("tenants/acme/projects/web/events/"));
    assert_eq!((receipt.leaf_index, &receipt.event_time), (Some(0), &sent.event_time));
    assert_eq!((got.leaf_index, &got.event_time, &got.record_time), (Some(0), &sent.event_time, &receipt.record_time));
    assert_eq!(got.salt.len(), 16);
    let recorder = got.recorder.clone().unwrap();
    assert_eq!((recorder.r#type(), recorder.id.as_str(), recorder.name.as_str()), (ActorType::Service, "root", "Röt"));
    let client_given =
        Event { name: String::new(), record_time: None, leaf_index: None, salt: Vec::new(), recorder: None, ..got };
    assert_eq!(client_given, sent);
}

#[rstest]
#[tokio::test]
async fn time_and_id_are_one_key(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let millis = START_MILLIS - 1234;
    // Neither: the server's clock.
    let neither = app.record(&root, T, event("k", "1")).await.unwrap();
    assert_eq!(neither.event_time, Some(timestamp(START_MILLIS)));
    // Time only: an id at that time, floored to the millisecond.
    let mut timed = at(event("k", "2"), millis);
    timed.event_time.as_mut().unwrap().nanos += 999_999;
    let timed = app.record(&root, T, timed).await.unwrap();
    assert_eq!(timed.event_time, Some(timestamp(millis)));
    assert!(timed.name.contains(&id_at(millis, 0)[..13]));
    // Id only: the time is in it.
    let with_id = app.record_as(&root, T, event("k", "3"), &id_at(millis, 7)).await.unwrap();
    assert_eq!(with_id.event_time, Some(timestamp(millis)));
    assert_eq!(with_id.name, format!("{T}/events/{}", id_at(millis, 7)));
    // Both: they agree to the millisecond, or the request is refused.
    app.record_as(&root, T, at(event("k", "4"), millis), &id_at(millis, 8)).await.unwrap();
    let apart = app.record_as(&root, T, at(event("k", "5"), millis + 1), &id_at(millis, 9)).await;
    assert_fields(apart, &["event.event_time"]);
}

#[rstest]
#[tokio::test]
async fn an_id_is_a_uuid_v7_and_a_time_not_far_ahead(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    for id in [
        "x",
        "01890a5d-ac96-1000-8000-000000000000",
        "01890a5d-ac96-4000-8000-000000000000",
        "01890A5D-AC96-7000-8000-000000000000",
        "01890a5dac9670008000000000000000",
        "00000000-0000-0000-0000-000000000000",
    ] {
        assert_fields(app.record_as(&root, T, event("k", "1"), id).await, &["event_id"]);
    }
    let (ahead, too_far) = (START_MILLIS + 300_000, START_MILLIS + 300_001);
    app.record_as(&root, T, event("k", "1"), &id_at(ahead, 1)).await.unwrap();
    assert_fields(app.record_as(&root, T, event("k", "1"), &id_at(too_far + 1000, 1)).await, &["event_id"]);
    assert_fields(app.record(&root, T, at(event("k", "1"), too_far + 1000)).await, &["event.event_time"]);
    // 1960 and 2100.
    assert_fields(app.record(&root, T, at(event("k", "1"), -315_619_200_000)).await, &["event.event_time"]);
    assert_fields(app.record(&root, T, at(event("k", "1"), 4_102_444_800_000)).await, &["event.event_time"]);
}

#[rstest]
#[tokio::test]
async fn a_repeat_gives_the_first_receipt_and_another_content_is_refused(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let (root, other) = (Caller::root(), Caller::new("other").permission("audit.create@*"));
    let id = id_at(START_MILLIS, 1);
    let first = app.record_as(&root, P, full_event(), &id).await.unwrap();
    app.clock.set_millis(START_MILLIS + 60_000);
    assert_eq!(app.record_as(&root, P, full_event(), &id).await.unwrap(), first);
    // Whoever repeats it; and an empty sub-message equals an absent one.
    assert_eq!(app.record_as(&other, P, full_event(), &id).await.unwrap(), first);
    let id_2 = id_at(START_MILLIS, 2);
    let absent = app.record_as(&root, T, event("k", "1"), &id_2).await.unwrap();
    let empty = Event { context: Some(RequestContext::default()), ..event("k", "1") };
    assert_eq!(app.record_as(&root, T, empty, &id_2).await.unwrap(), absent);

    let mut changed = full_event();
    changed.changes[0].new_value = None;
    for (parent, event) in [(P, changed), (T, full_event()), ("tenants/acme/projects/db", full_event())] {
        let status = assert_error(app.record_as(&root, parent, event, &id).await, Code::AlreadyExists, "EVENT_DIFFERS");
        let text = format!("{status:?}");
        assert!(!text.contains("projects/web"), "tells the other scope: {text}");
    }
    // The id is the tenant's own: another tenant may have the same.
    let elsewhere = app.record_as(&root, "tenants/b", full_event(), &id).await.unwrap();
    assert_eq!(elsewhere.leaf_index, Some(0));
}

#[rstest]
#[tokio::test]
async fn a_batch_is_whole_or_not_at_all(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let (a, b) = (id_at(START_MILLIS, 1), id_at(START_MILLIS, 2));
    let receipts = app
        .batch(
            &root,
            T,
            vec![item("", event("k", "1"), &a), item(P, event("k", "2"), &b), item("", event("k", "1"), &a)],
        )
        .await
        .unwrap();
    assert_eq!(receipts.iter().map(|receipt| receipt.leaf_index).collect::<Vec<_>>(), [Some(0), Some(1), Some(0)]);
    assert_eq!(receipts[1].name, format!("{P}/events/{b}"));

    let bad = vec![item("", event("k", "3"), ""), item("", event("k", "other"), &a)];
    let status = assert_error(app.batch(&root, T, bad).await, Code::AlreadyExists, "EVENT_DIFFERS");
    let info = tonic_types::StatusExt::get_details_error_info(&status).unwrap();
    assert_eq!((info.metadata["index"].as_str(), &info.metadata["event_id"]), ("1", &a));
    assert_eq!(app.walk(&root, list(T)).await.len(), 2);
    // The next event takes the next place: no hole was left.
    assert_eq!(app.record(&root, T, event("k", "4")).await.unwrap().leaf_index, Some(2));
}

#[rstest]
#[tokio::test]
async fn a_batch_is_of_one_tenant_and_within_its_bounds(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let e = || event("k", "1");
    assert_fields(app.batch(&root, "", vec![]).await, &["parent"]);
    assert_fields(app.batch(&root, T, vec![]).await, &["requests"]);
    assert_fields(
        app.batch(&root, T, vec![item("", e(), ""), item("tenants/b", e(), "")]).await,
        &["requests[1].parent"],
    );
    assert_fields(app.batch(&root, P, vec![item(T, e(), "")]).await, &["requests[0].parent"]);
    assert_fields(
        app.batch(&root, "", vec![item(T, e(), ""), item("tenants/b", e(), "")]).await,
        &["requests[1].parent"],
    );
    assert_fields(app.batch(&root, T, vec![item("", e(), ""); 1001]).await, &["requests"]);
    let receipts = app.batch(&root, "", vec![item(P, e(), ""); 1000]).await.unwrap();
    let places: Vec<_> = receipts.iter().map(|receipt| receipt.leaf_index.unwrap()).collect();
    assert_eq!(places, (0..1000).collect::<Vec<_>>());
}
