//! Lists: filters, orders and scopes.

use auditlog::proto::auditlog::v1::{ActionType, Actor, ActorType, Event, EventFilter, Order};
use rstest::rstest;
use tonic::Code;

use crate::harness::*;

const T: &str = "tenants/acme";
const WEB: &str = "tenants/acme/projects/web";
const DB: &str = "tenants/acme/projects/db";

/// Scope, what was done to what, by whom, when (in ms), in the order of the log. Some tie in time; the ids fall with
/// the log's order, so that no two of the three orders are the same, not even among ties.
type Row = (&'static str, ActionType, &'static str, &'static str, ActorType, &'static str, i64);
const ROWS: [Row; 10] = [
    (T, ActionType::Create, "cluster", "c-1", ActorType::User, "ann", 0),
    (WEB, ActionType::Update, "cluster", "c-1", ActorType::User, "bob", 10),
    (DB, ActionType::Delete, "cluster", "c-2", ActorType::Service, "ci", 20),
    (WEB, ActionType::Create, "role", "r-1", ActorType::User, "ann", 10),
    (T, ActionType::Update, "role", "r-1", ActorType::System, "", 30),
    (DB, ActionType::Create, "profile", "p-1", ActorType::User, "bob", 5),
    (WEB, ActionType::Delete, "profile", "p-1", ActorType::Service, "ci", 10),
    (T, ActionType::Delete, "cluster", "c-3", ActorType::User, "ann", 0),
    (DB, ActionType::Update, "cluster", "c-1", ActorType::Service, "ann", -5),
    (WEB, ActionType::Update, "cluster", "c-2", ActorType::System, "", 40),
];

fn row_event(row: &Row) -> Event {
    let &(_, action, kind, id, actor_type, actor_id, _) = row;
    let actor = Actor { r#type: actor_type.into(), id: actor_id.to_owned(), name: String::new() };
    Event { action_type: action.into(), actor: Some(actor), ..event(kind, id) }
}

async fn start(backend: Backend) -> TestApp {
    let app = TestApp::start(backend).await;
    let ids = (0..).map(|at| 100 - at);
    let items = ROWS.iter().zip(ids).map(|(row, id)| item(row.0, row_event(row), &id_at(START_MILLIS + row.6, id)));
    app.batch(&Caller::root(), "", items.collect()).await.unwrap();
    // A neighbour whom nobody may see.
    app.record(&Caller::root(), "tenants/acm", at(event("cluster", "c-1"), START_MILLIS)).await.unwrap();
    app
}

/// The places of the log that a list gives, in its order.
async fn places(app: &TestApp, parent: &str, filter: &EventFilter, order: Order) -> Vec<usize> {
    let request =
        auditlog::proto::auditlog::v1::ListEventsRequest { order: order.into(), ..filtered(parent, filter.clone()) };
    let events = app.walk(&Caller::root(), request).await;
    events.iter().map(|event| usize::try_from(event.leaf_index.unwrap()).unwrap()).collect()
}

/// Places of the log, in an order.
fn sorted(mut places: Vec<usize>, order: Order) -> Vec<usize> {
    // Ids fall while places rise.
    let key = |at: &usize| (ROWS[*at].6, std::cmp::Reverse(*at));
    match order {
        Order::Log => places.sort(),
        Order::OldestFirst => places.sort_by_key(key),
        Order::NewestFirst | Order::Unspecified => places.sort_by_key(|at| std::cmp::Reverse(key(at))),
    }
    places
}

/// Lists with `filter` in all orders and scopes gives `expected` (places of the log), as far as they are in the scope.
async fn expect(app: &TestApp, filter: EventFilter, expected: &[usize]) {
    for order in [Order::Unspecified, Order::NewestFirst, Order::OldestFirst, Order::Log] {
        let all = sorted(expected.to_vec(), order);
        assert_eq!(places(app, T, &filter, order).await, all, "{order:?}, {filter:?}");
        if !filter.project_ids.is_empty() {
            continue;
        }
        for project in [WEB, DB] {
            let inside = all.iter().copied().filter(|at| ROWS[*at].0 == project).collect::<Vec<_>>();
            assert_eq!(places(app, project, &filter, order).await, inside, "{project}, {order:?}, {filter:?}");
        }
    }
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn kinds(values: &[&str]) -> EventFilter {
    EventFilter { resource_types: strings(values), ..Default::default() }
}

fn resources(values: &[&str]) -> EventFilter {
    EventFilter { resource_ids: strings(values), ..Default::default() }
}

fn actors(values: &[&str]) -> EventFilter {
    EventFilter { actor_ids: strings(values), ..Default::default() }
}

fn projects(values: &[&str]) -> EventFilter {
    EventFilter { project_ids: strings(values), ..Default::default() }
}

fn actions(values: &[ActionType]) -> EventFilter {
    EventFilter { action_types: values.iter().map(|action| *action as i32).collect(), ..Default::default() }
}

fn actor_types(values: &[ActorType]) -> EventFilter {
    EventFilter { actor_types: values.iter().map(|kind| *kind as i32).collect(), ..Default::default() }
}

fn between(start: Option<i64>, end: Option<i64>) -> EventFilter {
    let time = |offset: i64| timestamp(START_MILLIS + offset);
    EventFilter { start_time: start.map(time), end_time: end.map(time), ..Default::default() }
}

#[rstest]
#[tokio::test]
async fn without_a_filter_all_of_the_scope_is_listed(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = start(backend).await;
    // The orders, spelled out.
    let none = EventFilter::default();
    assert_eq!(places(&app, T, &none, Order::Log).await, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(places(&app, T, &none, Order::OldestFirst).await, [8, 7, 0, 5, 6, 3, 1, 2, 4, 9]);
    assert_eq!(places(&app, T, &none, Order::NewestFirst).await, [9, 4, 2, 1, 3, 6, 5, 0, 7, 8]);
    expect(&app, none, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]).await;
    assert_eq!(app.walk(&Caller::root(), list("tenants/nobody")).await, []);
    assert_eq!(app.walk(&Caller::root(), list("tenants/acme/projects/we")).await, []);
}

#[rstest]
#[tokio::test]
async fn each_field_filters_alone_and_its_values_are_alternatives(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = start(backend).await;
    expect(&app, actions(&[ActionType::Create]), &[0, 3, 5]).await;
    expect(&app, actions(&[ActionType::Update, ActionType::Delete]), &[1, 2, 4, 6, 7, 8, 9]).await;
    expect(&app, kinds(&["cluster"]), &[0, 1, 2, 7, 8, 9]).await;
    expect(&app, kinds(&["role", "profile"]), &[3, 4, 5, 6]).await;
    expect(&app, resources(&["c-1"]), &[0, 1, 8]).await;
    expect(&app, resources(&["c-2", "p-1"]), &[2, 5, 6, 9]).await;
    expect(&app, actors(&["ann"]), &[0, 3, 7, 8]).await;
    expect(&app, actors(&["bob", "ci"]), &[1, 2, 5, 6]).await;
    expect(&app, actor_types(&[ActorType::System]), &[4, 9]).await;
    expect(&app, actor_types(&[ActorType::User, ActorType::Service]), &[0, 1, 2, 3, 5, 6, 7, 8]).await;
    expect(&app, projects(&["web"]), &[1, 3, 6, 9]).await;
    expect(&app, projects(&["web", "db"]), &[1, 2, 3, 5, 6, 8, 9]).await;
    expect(&app, EventFilter { tenant_only: true, ..Default::default() }, &[0, 4, 7]).await;
    // Values are compared exactly.
    for filter in [kinds(&["Cluster"]), kinds(&["cluster%"]), resources(&["c-"]), actors(&["an_"]), projects(&["we"])] {
        expect(&app, filter, &[]).await;
    }
}

#[rstest]
#[tokio::test]
async fn fields_are_all_required(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = start(backend).await;
    let both = |a: EventFilter, b: EventFilter| EventFilter { start_time: b.start_time, end_time: b.end_time, ..a };
    expect(&app, both(kinds(&["cluster"]), between(Some(0), Some(20))), &[0, 1, 7]).await;
    expect(&app, both(resources(&["c-1", "c-2"]), between(Some(10), None)), &[1, 2, 9]).await;
    expect(&app, both(projects(&["web"]), between(None, Some(11))), &[1, 3, 6]).await;
    let kinds_and = |filter| EventFilter { resource_types: strings(&["cluster"]), ..filter };
    expect(&app, kinds_and(actions(&[ActionType::Update])), &[1, 8, 9]).await;
    expect(&app, kinds_and(actors(&["ann"])), &[0, 7, 8]).await;
    expect(&app, kinds_and(projects(&["db"])), &[2, 8]).await;
    expect(&app, kinds_and(projects(&["db", "web"])), &[1, 2, 8, 9]).await;
    expect(&app, kinds_and(resources(&["c-1", "r-1"])), &[0, 1, 8]).await;
    expect(&app, EventFilter { actor_types: vec![ActorType::User.into()], ..actors(&["ann"]) }, &[0, 3, 7]).await;
    expect(&app, EventFilter { resource_ids: strings(&["c-1"]), ..actors(&["ann"]) }, &[0, 8]).await;
    expect(&app, EventFilter { tenant_only: true, ..kinds(&["cluster"]) }, &[0, 7]).await;
    expect(&app, EventFilter { tenant_only: true, ..projects(&["web"]) }, &[]).await;
    let all = EventFilter {
        action_types: vec![ActionType::Update.into()],
        resource_types: strings(&["cluster", "role"]),
        resource_ids: strings(&["c-1"]),
        actor_ids: strings(&["ann", "bob"]),
        actor_types: vec![ActorType::Service.into(), ActorType::User.into()],
        start_leaf_index: 1,
        ..between(Some(-5), Some(11))
    };
    expect(&app, all.clone(), &[1, 8]).await;
    expect(&app, EventFilter { project_ids: strings(&["web"]), ..all }, &[1]).await;
}

#[rstest]
#[tokio::test]
async fn a_start_is_inclusive_an_end_exclusive_and_both_are_rounded_up(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = start(backend).await;
    expect(&app, between(Some(10), None), &[1, 2, 3, 4, 6, 9]).await;
    expect(&app, between(Some(11), None), &[2, 4, 9]).await;
    expect(&app, between(None, Some(10)), &[0, 5, 7, 8]).await;
    expect(&app, between(Some(10), Some(11)), &[1, 3, 6]).await;
    expect(&app, between(Some(10), Some(10)), &[]).await;
    expect(&app, between(Some(20), Some(10)), &[]).await;
    // A bound between two milliseconds divides off the same events as the next whole one.
    let with_nanos = |millis: i64, nanos: i32| {
        let mut time = timestamp(START_MILLIS + millis);
        time.nanos += nanos;
        Some(time)
    };
    for nanos in [1, 999_999] {
        expect(&app, EventFilter { start_time: with_nanos(10, nanos), ..Default::default() }, &[2, 4, 9]).await;
        expect(&app, EventFilter { end_time: with_nanos(10, nanos), ..Default::default() }, &[0, 1, 3, 5, 6, 7, 8])
            .await;
    }
    // Whole seconds and days far off are bounds like others.
    let far = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    expect(
        &app,
        EventFilter { start_time: far(-62_135_596_800), ..Default::default() },
        &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    )
    .await;
    expect(&app, EventFilter { end_time: far(-1), ..Default::default() }, &[]).await;
    expect(&app, EventFilter { start_time: far(253_402_300_799), ..Default::default() }, &[]).await;
}

#[rstest]
#[tokio::test]
async fn a_start_in_the_log_is_inclusive(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = start(backend).await;
    let from = |start_leaf_index| EventFilter { start_leaf_index, ..Default::default() };
    expect(&app, from(1), &[1, 2, 3, 4, 5, 6, 7, 8, 9]).await;
    expect(&app, from(7), &[7, 8, 9]).await;
    expect(&app, from(9), &[9]).await;
    expect(&app, from(10), &[]).await;
    expect(&app, from(i64::MAX), &[]).await;
    expect(&app, EventFilter { resource_types: strings(&["cluster"]), ..from(2) }, &[2, 7, 8, 9]).await;
}

#[rstest]
#[tokio::test]
async fn a_filter_that_breaks_rules_is_told_all_of_them(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let ask = |parent: &'static str, filter: EventFilter| {
        let app = &app;
        async move { app.list(&Caller::root(), filtered(parent, filter)).await }
    };
    assert_fields(ask(WEB, projects(&["web"])).await, &["filter.project_ids"]);
    assert_fields(
        ask(T, projects(&["web", "tenants/acme/projects/web", ""])).await,
        &["filter.project_ids[1]", "filter.project_ids[2]"],
    );
    let bad = EventFilter {
        action_types: vec![1, 0, 4],
        resource_types: strings(&["a", "", "b\0"]),
        start_time: Some(prost_types::Timestamp { seconds: 0, nanos: -1 }),
        end_time: Some(prost_types::Timestamp { seconds: 253_402_300_800, nanos: 0 }),
        resource_ids: vec!["x".repeat(256), "x".repeat(257)],
        actor_ids: vec!["a".to_owned(); 51],
        actor_types: vec![-1],
        start_leaf_index: -1,
        ..Default::default()
    };
    let fields = [
        "filter.action_types[1]",
        "filter.action_types[2]",
        "filter.resource_types[1]",
        "filter.resource_types[2]",
        "filter.start_time",
        "filter.end_time",
        "filter.resource_ids[1]",
        "filter.actor_ids",
        "filter.actor_types[0]",
        "filter.start_leaf_index",
    ];
    assert_fields(ask(T, bad).await, &fields);
    assert_fields(
        app.list(
            &Caller::root(),
            auditlog::proto::auditlog::v1::ListEventsRequest { order: 4, page_size: -1, ..list(T) },
        )
        .await,
        &["order", "page_size"],
    );
    let fifty = EventFilter { actor_ids: vec!["a".to_owned(); 50], ..Default::default() };
    assert_eq!(ask(T, fifty).await.unwrap().events, []);
    assert_error(ask("tenants/acme/projects", EventFilter::default()).await, Code::InvalidArgument, "FIELD_INVALID");
}
