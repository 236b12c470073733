//! The caller's trace: it fills what the client left open, and it never changes what counts as the same content.

use auditlog::proto::auditlog::v1::{Event, RequestContext};
use rstest::rstest;
use tonic::Code;

use crate::harness::*;

const T: &str = "tenants/acme";
const ONE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const TWO: &str = "0af7651916cd43dd8448eb211c80319c";

fn traced(trace_id: &str) -> Caller {
    Caller::root().with("traceparent", &format!("00-{trace_id}-00f067aa0ba902b7-01"))
}

fn with_trace_id(trace_id: &str) -> Event {
    Event {
        context: Some(RequestContext { trace_id: trace_id.to_owned(), ..RequestContext::default() }),
        ..event("k", "1")
    }
}

async fn stored_trace_id(app: &TestApp, name: &str) -> String {
    app.get(&Caller::root(), name).await.unwrap().context.unwrap_or_default().trace_id
}

#[rstest]
#[tokio::test]
async fn a_trace_fills_only_what_the_client_left_open(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let filled = app.record(&traced(ONE), T, event("k", "1")).await.unwrap();
    assert_eq!(stored_trace_id(&app, &filled.name).await, ONE);
    let given = app.record(&traced(ONE), T, with_trace_id("mine")).await.unwrap();
    assert_eq!(stored_trace_id(&app, &given.name).await, "mine");

    // The rest of the context stays as it was told, and each event of a batch is filled by itself.
    let context = RequestContext { source_ip: "10.0.0.1".to_owned(), ..RequestContext::default() };
    let told = Event { context: Some(context.clone()), ..event("k", "1") };
    let batch = vec![item("", told, ""), item("", with_trace_id("mine"), "")];
    let receipts = app.batch(&traced(TWO), T, batch).await.unwrap();
    let first = app.get(&Caller::root(), &receipts[0].name).await.unwrap();
    assert_eq!(first.context, Some(RequestContext { trace_id: TWO.to_owned(), ..context }));
    assert_eq!(stored_trace_id(&app, &receipts[1].name).await, "mine");
}

#[rstest]
#[tokio::test]
async fn a_malformed_trace_is_ignored(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    for header in ["", "00", &format!("00-{ONE}-00f067aa0ba902b7"), &format!("ff-{ONE}-00f067aa0ba902b7-01")] {
        let caller = Caller::root().with("traceparent", header);
        let receipt = app.record(&caller, T, event("k", "1")).await.unwrap();
        assert_eq!(app.get(&Caller::root(), &receipt.name).await.unwrap().context, None, "{header}");
    }
    // Two of them: nobody can tell which is meant.
    let two = traced(ONE).with("traceparent", &format!("00-{TWO}-00f067aa0ba902b7-01"));
    let receipt = app.record(&two, T, event("k", "1")).await.unwrap();
    assert_eq!(stored_trace_id(&app, &receipt.name).await, "");
}

#[rstest]
#[tokio::test]
async fn a_repeat_in_another_trace_is_the_same_event(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let (a, b) = (id_at(START_MILLIS, 1), id_at(START_MILLIS, 2));
    // Whether the first or the repeat is traced, or both; the first one's trace stays.
    let first = app.record_as(&traced(ONE), T, event("k", "1"), &a).await.unwrap();
    let untraced = app.record_as(&Caller::root(), T, event("k", "1"), &b).await.unwrap();
    for caller in [traced(ONE), traced(TWO), Caller::root()] {
        assert_eq!(app.record_as(&caller, T, event("k", "1"), &a).await.unwrap(), first);
        assert_eq!(app.record_as(&caller, T, event("k", "1"), &b).await.unwrap(), untraced);
        let batch = vec![item("", event("k", "1"), &a), item("", event("k", "1"), &a)];
        assert_eq!(app.batch(&caller, T, batch).await.unwrap(), [first.clone(), first.clone()]);
    }
    assert_eq!(stored_trace_id(&app, &first.name).await, ONE);
    assert_eq!(stored_trace_id(&app, &untraced.name).await, "");

    // Twice in one batch, before anything is stored.
    let c = id_at(START_MILLIS, 3);
    let receipts = app.batch(&traced(ONE), T, vec![item("", event("k", "1"), &c); 2]).await.unwrap();
    assert_eq!(receipts[0], receipts[1]);
}

#[rstest]
#[tokio::test]
async fn what_the_client_tells_of_the_trace_is_content(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let (a, b) = (id_at(START_MILLIS, 1), id_at(START_MILLIS, 2));
    app.record_as(&traced(ONE), T, event("k", "1"), &a).await.unwrap();
    app.record_as(&traced(ONE), T, with_trace_id("mine"), &b).await.unwrap();
    let differs = async |event, id: &str| {
        let result = app.record_as(&traced(ONE), T, event, id).await;
        assert_error(result, Code::AlreadyExists, "EVENT_DIFFERS");
    };
    differs(with_trace_id(TWO), &a).await;
    differs(with_trace_id("other"), &b).await;
    // What no server would have filled in was the client's, and is missing now.
    differs(event("k", "1"), &b).await;
    // A trace does not hide another difference.
    differs(event("k", "2"), &a).await;
    let context = RequestContext { source_ip: "10.0.0.1".to_owned(), ..RequestContext::default() };
    differs(Event { context: Some(context), ..event("k", "1") }, &a).await;
}

/// Those that wait meanwhile are committed as one group, where nothing is stored yet to compare with.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn repeats_at_the_same_time_are_the_same_event(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = std::sync::Arc::new(TestApp::start(backend).await);
    let id = id_at(START_MILLIS, 1);
    let record = |n: u128| {
        let (app, id, caller) = (app.clone(), id.clone(), traced(&format!("{n:032x}")));
        tokio::spawn(async move { app.record_as(&caller, T, event("k", "1"), &id).await })
    };
    let calls: Vec<_> = (1..=64).map(record).collect();
    let mut receipts = Vec::new();
    for call in calls {
        receipts.push(call.await.unwrap().unwrap());
    }
    assert!(receipts.iter().all(|receipt| *receipt == receipts[0]));
}
