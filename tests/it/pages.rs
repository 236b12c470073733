//! Pages: sizes, tokens, and pages that end early.

use std::collections::BTreeSet;

use auditlog::proto::auditlog::v1::{ActionType, Event, EventFilter, FieldChange, ListEventsRequest, Order};
use prost::Message as _;
use rstest::rstest;
use tonic::Code;

use crate::harness::*;

const T: &str = "tenants/acme";
const P: &str = "tenants/acme/projects/web";
const ORDERS: [Order; 3] = [Order::NewestFirst, Order::OldestFirst, Order::Log];
/// What gRPC clients accept unless told otherwise.
const MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Records `count` small events, `step` ms apart.
async fn fill(app: &TestApp, parent: &str, count: u64, step: i64) {
    let at = |n: u64| id_at(START_MILLIS - 1_000_000 + i64::try_from(n).unwrap() * step, n);
    let items: Vec<_> = (0..count).map(|n| item("", event("k", &n.to_string()), &at(n))).collect();
    for batch in items.chunks(1000) {
        app.batch(&Caller::root(), parent, batch.to_vec()).await.unwrap();
    }
}

fn names(events: &[Event]) -> BTreeSet<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

#[rstest]
#[tokio::test]
async fn a_page_has_fifty_events_unless_told_and_never_more_than_a_thousand(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    fill(&app, T, 1003, 1).await;
    for (asked, given) in [(0, 50), (1, 1), (7, 7), (1000, 1000), (1001, 1000), (i32::MAX, 1000)] {
        for order in ORDERS {
            let page = app.list(&root, ordered(T, order, asked)).await.unwrap();
            assert_eq!((page.events.len(), page.next_page_token.is_empty()), (given, false), "{asked}");
        }
    }
    for negative in [-1, i32::MIN] {
        assert_fields(app.list(&root, ordered(T, Order::Log, negative)).await, &["page_size"]);
    }
    // The last page has no token, also when it is full, where the server need not look at more to know that.
    let last = |start_leaf_index| ListEventsRequest {
        filter: Some(EventFilter { start_leaf_index, ..Default::default() }),
        ..ordered(T, Order::Log, 1000)
    };
    for start in [3, 1002] {
        let page = app.list(&root, last(start)).await.unwrap();
        assert_eq!((page.events.len(), page.next_page_token.as_str()), (1003 - usize::try_from(start).unwrap(), ""));
    }
}

#[rstest]
#[tokio::test]
async fn the_page_size_may_change_between_pages(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    fill(&app, T, 100, 0).await;
    for order in ORDERS {
        let expected = app.walk(&Caller::root(), ordered(T, order, 1000)).await;
        let mut seen = Vec::new();
        let mut request = ordered(T, order, 1);
        loop {
            let page = app.list(&Caller::root(), request.clone()).await.unwrap();
            seen.extend(page.events);
            request.page_size += 7;
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, expected);
        assert_eq!(names(&seen).len(), 100);
    }
}

#[rstest]
#[tokio::test]
async fn a_page_ends_before_it_outgrows_a_message(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let change = || FieldChange { field: "f".into(), new_value: Some("ä".repeat(4096)), old_value: None };
    let large = || Event { changes: vec![change(); 7], ..event("k", "large") };
    for _ in 0..2 {
        app.batch(&root, T, vec![item("", large(), ""); 70]).await.unwrap();
    }
    for order in ORDERS {
        let mut request = ordered(T, order, 1000);
        let mut seen = Vec::new();
        loop {
            let page = app.list(&root, request.clone()).await.unwrap();
            assert!(page.encoded_len() <= MESSAGE_BYTES);
            // And not so early that a walk takes more pages than it must.
            assert!(page.encoded_len() > MESSAGE_BYTES * 3 / 4 || page.next_page_token.is_empty());
            seen.extend(page.events);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        assert_eq!((seen.len(), names(&seen).len()), (140, 140));
    }
}

#[rstest]
#[tokio::test]
async fn notes_count_in_the_size_of_a_page(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start_with(backend, |config| config.limits.note_bytes = 65_536).await;
    let root = Caller::root();
    let text = "n".repeat(60_000);
    for _ in 0..6 {
        let name = app.record(&root, T, event("clusterprofile", "p")).await.unwrap().name;
        for _ in 0..15 {
            app.note(&root, &name, &text, "").await.unwrap();
        }
    }
    let page = app.list(&root, list(T)).await.unwrap();
    assert!(page.events.len() < 6 && !page.next_page_token.is_empty());
    assert_eq!(app.walk(&root, list(T)).await.len(), 6);
}

#[rstest]
#[tokio::test]
async fn a_page_that_has_inspected_enough_may_be_empty_and_still_has_a_token(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start_with(backend, |config| config.limits.inspected_events = 10).await;
    let root = Caller::root();
    fill(&app, T, 34, 0).await;
    let rare = Event { action_type: ActionType::Delete.into(), ..event("k", "rare") };
    app.record_as(&root, T, rare.clone(), &id_at(START_MILLIS, 1)).await.unwrap();
    app.record_as(&root, T, rare, &id_at(START_MILLIS - 2_000_000, 1)).await.unwrap();
    let filter = EventFilter { action_types: vec![ActionType::Delete.into()], ..Default::default() };
    for order in ORDERS {
        let mut request = ListEventsRequest { filter: Some(filter.clone()), ..ordered(T, order, 1000) };
        let mut sizes = Vec::new();
        loop {
            let page = app.list(&root, request.clone()).await.unwrap();
            sizes.push(page.events.len());
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        // 36 events, ten a page: the first and the last in the orders by time, the last two in the log.
        let expected = if order == Order::Log { [0, 0, 0, 2] } else { [1, 0, 0, 1] };
        assert_eq!(sizes, expected, "{order:?}");
    }
}

#[rstest]
#[tokio::test]
async fn a_token_belongs_to_its_parent_filter_and_order(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    fill(&app, P, 5, 1).await;
    let filter = EventFilter { resource_types: vec!["k".to_owned()], ..Default::default() };
    let own = ListEventsRequest { filter: Some(filter.clone()), ..ordered(P, Order::NewestFirst, 2) };
    let token = app.list(&root, own.clone()).await.unwrap().next_page_token;
    let own = ListEventsRequest { page_token: token.clone(), ..own };
    assert_eq!(app.list(&root, own.clone()).await.unwrap().events.len(), 2);
    // An absent order is newest first.
    let unspecified = ListEventsRequest { order: 0, ..own.clone() };
    assert_eq!(app.list(&root, unspecified).await.unwrap().events.len(), 2);

    let other_value = EventFilter { resource_types: vec!["l".to_owned()], ..Default::default() };
    let one_more = EventFilter { tenant_only: true, ..filter };
    let foreign = [
        ListEventsRequest { parent: T.to_owned(), ..own.clone() },
        ListEventsRequest { parent: "tenants/acme/projects/db".to_owned(), ..own.clone() },
        ListEventsRequest { parent: "tenants/b/projects/web".to_owned(), ..own.clone() },
        ListEventsRequest { filter: None, ..own.clone() },
        ListEventsRequest { filter: Some(EventFilter::default()), ..own.clone() },
        ListEventsRequest { filter: Some(other_value), ..own.clone() },
        ListEventsRequest { filter: Some(one_more), ..own.clone() },
        ListEventsRequest { order: Order::OldestFirst.into(), ..own.clone() },
        ListEventsRequest { order: Order::Log.into(), ..own.clone() },
    ];
    for request in foreign {
        assert_error(app.list(&root, request).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    }
}

#[rstest]
#[tokio::test]
async fn a_token_that_was_changed_is_refused(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    fill(&app, T, 5, 1).await;
    for order in ORDERS {
        let request = ordered(T, order, 2);
        let token = app.list(&root, request.clone()).await.unwrap().next_page_token;
        let flipped = (0..token.len()).map(|at| {
            let other = if &token[at..=at] == "A" { "B" } else { "A" };
            format!("{}{other}{}", &token[..at], &token[at + 1..])
        });
        let cut = (1..token.len()).map(|at| token[..at].to_owned());
        let more = [format!("{token}A"), format!("{token}="), format!(" {token}"), "x".to_owned(), "ä".repeat(10_000)];
        for page_token in flipped.chain(cut).chain(more) {
            let changed = ListEventsRequest { page_token, ..request.clone() };
            assert_error(app.list(&root, changed).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        }
    }
}

#[rstest]
#[tokio::test]
async fn each_page_is_authorized_again(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    // Denials are recorded by other tasks, whose queries would be counted here.
    let app = TestApp::start_with(backend, |config| config.audit.denied = false).await;
    fill(&app, P, 5, 1).await;
    let viewer = Caller::new("ann").role(&format!("project_viewer@{P}"));
    let request = ordered(P, Order::NewestFirst, 2);
    let page_token = app.list(&viewer, request.clone()).await.unwrap().next_page_token;
    let next = ListEventsRequest { page_token, ..request };
    let before = app.asked();
    let elsewhere = Caller::new("ann").role("project_viewer@tenants/acme/projects/db");
    for caller in [Caller::new("ann"), elsewhere] {
        assert_error(app.list(&caller, next.clone()).await, Code::PermissionDenied, "PERMISSION_MISSING");
    }
    assert_error(app.list(&Caller::nobody(), next.clone()).await, Code::Unauthenticated, "CREDENTIALS_MISSING");
    app.assert_not_asked_since(&before);
    // Somebody else who may read goes on where the first one stopped.
    assert_eq!(app.list(&Caller::root(), next).await.unwrap().events.len(), 2);
}
