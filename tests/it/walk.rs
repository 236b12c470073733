//! Walks and tails while others record.

use std::sync::Arc;

use auditlog::proto::auditlog::v1::{Event, EventFilter, Order};
use rstest::rstest;
use tokio::task::{JoinHandle, JoinSet, yield_now};
use tonic::Code;

use crate::harness::*;

const NEW: u64 = 150;
/// Ids of one millisecond have room before and behind it.
const MIDDLE: u64 = 1 << 40;

fn id_of(event: &Event) -> &str {
    event.name.rsplit('/').next().unwrap()
}

/// Events that tie in threes.
async fn fill(app: &TestApp, tenant: &str, count: u64) {
    let at = |n: u64| id_at(START_MILLIS + i64::try_from(n / 3).unwrap(), MIDDLE + (n * 7919 % 2000) * 1000);
    let items: Vec<_> = (0..count).map(|n| item("", event("old", &n.to_string()), &at(n))).collect();
    for batch in items.chunks(1000) {
        app.batch(&Caller::root(), tenant, batch.to_vec()).await.unwrap();
    }
}

/// Records events before, among, between and behind those that are there, until there are `NEW`.
fn disturb(app: Arc<TestApp>, tenant: String) -> JoinHandle<()> {
    tokio::spawn(async move {
        for n in 0..NEW {
            let id = id_at(START_MILLIS - 20 + i64::try_from(n * 31 % 80).unwrap(), MIDDLE + n);
            app.record_as(&Caller::root(), &tenant, event("new", "1"), &id).await.unwrap();
        }
    })
}

/// What a walk gives, and the worst that can come in its way: before each further page somebody records just before
/// and just behind the place where it stands.
async fn walk_disturbed(app: &TestApp, tenant: &str, order: Order, page_size: i32) -> Vec<Event> {
    let root = Caller::root();
    let mut request = ordered(tenant, order, page_size);
    let mut seen: Vec<Event> = Vec::new();
    for step in 0.. {
        let page = app.list(&root, request.clone()).await.unwrap();
        seen.extend(page.events);
        if page.next_page_token.is_empty() {
            break;
        }
        assert_ne!(page.next_page_token, request.page_token, "the walk stands still");
        request.page_token = page.next_page_token;
        if step < 40 {
            let here = uuid::Uuid::parse_str(id_of(seen.last().unwrap())).unwrap().as_u128();
            for there in [here - 1 - step, here + 1 + step] {
                let id = uuid::Uuid::from_u128(there).to_string();
                // An id that is taken already is in the way as it is.
                if let Err(status) = app.record_as(&root, tenant, event("new", "1"), &id).await {
                    assert_eq!(status.code(), Code::AlreadyExists);
                }
            }
        }
    }
    seen
}

fn is_in_order(events: &[Event], order: Order) -> bool {
    match order {
        Order::Log => events.is_sorted_by(|a, b| a.leaf_index < b.leaf_index),
        Order::OldestFirst => events.is_sorted_by(|a, b| id_of(a) < id_of(b)),
        Order::NewestFirst | Order::Unspecified => events.is_sorted_by(|a, b| id_of(a) > id_of(b)),
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_sees_each_event_that_was_there_exactly_once(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
    #[values((1, 90), (7, 90), (1000, 1100))] (page_size, count): (i32, u64),
    #[values(Order::NewestFirst, Order::OldestFirst, Order::Log)] order: Order,
) {
    let app = Arc::new(TestApp::start(backend).await);
    let tenant = "tenants/acme";
    fill(&app, tenant, count).await;
    let before = app.walk(&Caller::root(), ordered(tenant, order, 1000)).await;
    assert_eq!(before.len() as u64, count);
    let others = disturb(Arc::clone(&app), tenant.to_owned());
    let seen = walk_disturbed(&app, tenant, order, page_size).await;
    others.await.unwrap();
    // Strictly in order: nothing came twice.
    assert!(is_in_order(&seen, order));
    let old: Vec<Event> = seen.into_iter().filter(|event| event.resource.as_ref().unwrap().r#type == "old").collect();
    assert_eq!(old, before);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_by_position_misses_nothing(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    const WRITERS: u64 = 4;
    const EACH: u64 = 60;
    let app = Arc::new(TestApp::start(backend).await);
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let app = Arc::clone(&app);
        writers.spawn(async move {
            for n in 0..EACH {
                // Times run backwards: a tail by time would miss most of them.
                let id = id_at(START_MILLIS - i64::try_from(n).unwrap(), writer * 1000 + n);
                app.record_as(&Caller::root(), "tenants/acme", event("k", "1"), &id).await.unwrap();
            }
        });
    }
    let mut places = Vec::new();
    while places.len() < usize::try_from(WRITERS * EACH).unwrap() {
        let filter = EventFilter { start_leaf_index: places.last().map_or(0, |last| last + 1), ..Default::default() };
        let request = auditlog::proto::auditlog::v1::ListEventsRequest {
            filter: Some(filter),
            ..ordered("tenants/acme", Order::Log, 5)
        };
        let page = app.list(&Caller::root(), request).await.unwrap();
        places.extend(page.events.iter().map(|event| event.leaf_index.unwrap()));
        // What was there cannot turn up behind the reader: the places have no hole at any time.
        assert!(places.iter().copied().eq(0..places.len() as i64), "{places:?}");
        yield_now().await;
    }
    writers.join_all().await;
}
