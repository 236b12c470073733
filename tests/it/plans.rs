//! How PostgreSQL carries out what the service really sends, and what it is asked at all.
//!
//! `AUDITLOG_TEST_PLANS_EVENTS` gives the tenant more events; `./test --release --test it plans -- --nocapture` then
//! tells how long each list took.

use std::{io::Read as _, sync::Arc, time::Duration};

use auditlog::proto::auditlog::v1::{ActionType, ActorType, EventFilter, ExportCsvRequest, ListEventsRequest, Order};

use crate::{child::PATIENCE, explained::*, harness::*, postgres::Cluster, sql::Sql};

const ORDERS: [Order; 3] = [Order::NewestFirst, Order::OldestFirst, Order::Log];
/// What a page of that size inspects before it settles on the walk that gets further.
const FIRST_LOOK: u64 = 5 * PAGE;

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

/// How many rows a page may read.
fn bound(filter: &EventFilter) -> u64 {
    let fields = [&filter.resource_types, &filter.resource_ids, &filter.actor_ids, &filter.project_ids];
    if fields.iter().any(|values| values.len() > 1) { BOUND_OF_SEVERAL } else { BOUND }
}

fn of_type(kind: &str) -> EventFilter {
    EventFilter { resource_types: strings(&[kind]), ..EventFilter::default() }
}

fn of_actor(id: &str) -> EventFilter {
    EventFilter { actor_ids: strings(&[id]), ..EventFilter::default() }
}

fn of_resource(id: &str) -> EventFilter {
    of_resources(&[id])
}

fn of_resources(ids: &[&str]) -> EventFilter {
    EventFilter { resource_ids: strings(ids), ..EventFilter::default() }
}

fn of_project(id: &str) -> EventFilter {
    EventFilter { project_ids: strings(&[id]), ..EventFilter::default() }
}

fn of_action(action: ActionType) -> EventFilter {
    EventFilter { action_types: vec![action.into()], ..EventFilter::default() }
}

/// Days `from..to` of the two years.
fn of_days(from: i64, to: i64) -> EventFilter {
    let day = |n| Some(timestamp(START_MILLIS - 730 * DAY + n * DAY));
    EventFilter { start_time: day(from), end_time: day(to), ..EventFilter::default() }
}

/// Each filter, and the likely pairs.
fn filters() -> Vec<(&'static str, EventFilter)> {
    let days = of_days(100, 600);
    vec![
        ("none", EventFilter::default()),
        ("action", of_action(ActionType::Update)),
        ("type", of_type("even")),
        ("types", EventFilter { resource_types: strings(&["k-1", "k-2"]), ..EventFilter::default() }),
        ("days", days.clone()),
        ("actor", of_actor("odd")),
        ("actors", EventFilter { actor_ids: strings(&["u-2", "u-4"]), ..EventFilter::default() }),
        ("resource", of_resource("r-7919")),
        ("resources", of_resources(&["r-7919", "r-15838"])),
        ("actor type", EventFilter { actor_types: vec![ActorType::User.into()], ..EventFilter::default() }),
        ("project", of_project("p-3")),
        ("projects", EventFilter { project_ids: strings(&["p-3", "p-4"]), ..EventFilter::default() }),
        ("tenant only", EventFilter { tenant_only: true, ..EventFilter::default() }),
        ("log", EventFilter { start_leaf_index: i64::try_from(*EVENTS / 2).unwrap(), ..EventFilter::default() }),
        ("type and action", EventFilter { action_types: vec![ActionType::Create.into()], ..of_type("even") }),
        ("type and days", EventFilter { resource_types: strings(&["even"]), ..days.clone() }),
        ("action and days", EventFilter { action_types: vec![ActionType::Update.into()], ..days.clone() }),
        ("actor and days", EventFilter { actor_ids: strings(&["odd"]), ..days.clone() }),
        ("project and days", EventFilter { project_ids: strings(&["p-3"]), ..days }),
        ("project and type", EventFilter { project_ids: strings(&["p-4"]), ..of_type("even") }),
        ("project and action", EventFilter { action_types: vec![ActionType::Update.into()], ..of_project("p-3") }),
        ("project and actor", EventFilter { project_ids: strings(&["p-3"]), ..of_actor("odd") }),
        ("type and actor", EventFilter { actor_ids: strings(&["u-2"]), ..of_type("even") }),
    ]
}

/// What many events are, in months of both years.
fn common() -> Vec<(&'static str, EventFilter)> {
    vec![
        ("none", EventFilter::default()),
        ("type", of_type("even")),
        ("actor", of_actor("odd")),
        ("project", of_project("p-3")),
        ("action", of_action(ActionType::Update)),
    ]
}

/// What hardly any event is.
struct Rare {
    name: &'static str,
    filter: EventFilter,
    /// How many events there are, give or take one.
    found: u64,
    /// How many events come by on the narrowest walk by time: of one value, or of all values of one field.
    passed: u64,
}

fn rare() -> Vec<Rare> {
    let all = *EVENTS;
    let a_day = u64::try_from(DAY / step(all)).unwrap();
    let days = of_days(3, 4);
    let on_that_day =
        |filter: EventFilter| EventFilter { start_time: days.start_time, end_time: days.end_time, ..filter };
    let deleted = |filter: EventFilter| EventFilter { action_types: vec![ActionType::Delete.into()], ..filter };
    let with_types = |types: &[&str], filter: EventFilter| EventFilter { resource_types: strings(types), ..filter };
    let of_actors = |ids: &[&str]| EventFilter { actor_ids: strings(ids), ..EventFilter::default() };
    let fifty_resources = || EventFilter { resource_ids: fifty("rare"), ..EventFilter::default() };
    let of = |name, filter, found, passed| Rare { name, filter, found, passed };
    vec![
        of("the one DELETE", of_action(ActionType::Delete), 1, all),
        of("the rare resource", of_resource("rare"), 1, 1),
        of("two values common alone and empty together", with_types(&["even"], of_actor("odd")), 0, all / 2),
        of(
            "a project and a type that are never together",
            EventFilter { tenant_only: true, ..of_type("k-3") },
            0,
            all / 38,
        ),
        of("no such type", of_type("none"), 0, 0),
        of("a day two years ago", on_that_day(EventFilter::default()), a_day, a_day),
        of("a day two years ago and an actor", on_that_day(of_actor("odd")), a_day / 2, a_day / 2),
        of("a day two years ago and an action", on_that_day(of_action(ActionType::Delete)), 0, a_day),
        // Several values of a field.
        of("one of two resources", of_resources(&["rare", "none"]), 1, 1),
        of("one of fifty resources", fifty_resources(), 1, 1),
        of("one of fifty resources and a type", with_types(&["even"], fifty_resources()), 1, 1),
        of(
            "one of two resources and one of two types",
            with_types(&["even", "k-1"], of_resources(&["rare", "none"])),
            1,
            1,
        ),
        of(
            "two types and the one DELETE",
            deleted(with_types(&["even", "k-3"], EventFilter::default())),
            1,
            all / 2 + all / 38,
        ),
        of(
            "fifty types of which one is common, and the one DELETE",
            deleted(EventFilter { resource_types: fifty("even"), ..EventFilter::default() }),
            1,
            all / 2,
        ),
        // The type alone is narrower than the actors together.
        of(
            "a type, two actors, and the one DELETE",
            deleted(with_types(&["k-3"], of_actors(&["odd", "u-2"]))),
            0,
            all / 38,
        ),
        of(
            "a project, two types, and the one DELETE",
            deleted(EventFilter {
                project_ids: strings(&["p-0"]),
                ..with_types(&["even", "k-3"], EventFilter::default())
            }),
            0,
            all / 10,
        ),
    ]
}

/// As many values as a filter takes, of which all but one are nowhere.
fn fifty(value: &str) -> Vec<String> {
    (1..50).map(|n| format!("none-{n}")).chain([value.to_owned()]).collect()
}

/// How many rows a page may read: a window is found first and read then, each time with the first row of each partition.
const BOUND: u64 = 2 * INSPECTED + 2 * PAGE + 8 * PARTITIONS;
/// The same where there may be a walk for each of several values: together they look ahead by as much again, and once the
/// other walk is tried, too.
const BOUND_OF_SEVERAL: u64 = BOUND + 2 * INSPECTED + 2 * 50 * PARTITIONS;

#[tokio::test]
async fn every_list_is_read_from_an_index_and_within_its_bound() {
    // One after another: they share the server's log.
    let explained = Explained::start().await;
    let event = format!("{T}/events/{}", id_at(START_MILLIS - 730 * DAY, 0));
    let one = async { drop(explained.app.get(&Caller::root(), &event).await.unwrap()) };
    few_rows(&explained, "one event", one, 1).await;
    for order in ORDERS {
        for (name, filter) in filters() {
            let (_, work) = explained.page(of(&filter, order, PAGE)).await;
            work.assert_within(bound(&filter), &format!("{name}, {order:?}"));
            println!("{order:?}, {name}: {:.1?}", work.took);
        }
        for rare in rare() {
            rare_is_found_within_the_bound(&explained, order, &rare).await;
        }
        a_project_is_read_within_the_same_bound(&explained, order).await;
        for (name, filter) in common() {
            the_thousandth_page_costs_what_the_first_does(&explained, order, name, &filter).await;
        }
    }
}

/// No statement reads more rows than the call takes, however long the log is.
async fn few_rows(explained: &Explained, what: &str, call: impl Future<Output = ()>, most: u64) {
    let (_, work) = explained.watch(call).await;
    assert!(work.sequential.is_empty(), "{what}: {work:?}");
    assert!(work.rows_read <= most, "{what}: more than {most} rows: {work:?}");
}

#[tokio::test]
async fn a_sealed_log_is_read_by_its_places_and_an_export_of_it_piece_by_piece() {
    let explained = Explained::start().await;
    explained.seem_sealed();
    a_leaf_is_found_by_its_place_in_any_month_and_a_page_of_leaves_reads_no_more(&explained).await;
    the_events_of_notes_are_found_one_by_one(&explained).await;
    an_export_passes_over_what_is_newer_piece_by_piece(&explained).await;
}

/// However much lies between them, and though the events' months are told by the first and the last.
async fn the_events_of_notes_are_found_one_by_one(explained: &Explained) {
    explained.note_both_ends();
    // One that has not seen the log shorter: it would miss the hashes that are not there.
    let app = TestApp::start_on(Arc::clone(&explained.app.database), |_| {}).await;
    let (root, place) = (Caller::root(), i64::try_from(*EVENTS).unwrap());
    let notes = async {
        let leaves = app.leaves(&root, T, place, 2).await.unwrap().leaves;
        assert_eq!(leaves.len(), 2);
    };
    few_rows(explained, "a page of notes' leaves", notes, 2 + PARTITIONS).await;
}

async fn a_leaf_is_found_by_its_place_in_any_month_and_a_page_of_leaves_reads_no_more(explained: &Explained) {
    let root = Caller::root();
    for place in [0, 1000, *RARE, *EVENTS - 1000] {
        let start = i64::try_from(place).unwrap();
        let page = async {
            let leaves = explained.app.leaves(&root, T, start, 1000).await.unwrap().leaves;
            assert_eq!(leaves.len(), 1000);
        };
        few_rows(explained, "a page of leaves", page, 1000).await;
        let event = format!("{T}/events/{}", id_at(START_MILLIS - 730 * DAY + start * step(*EVENTS), place));
        // The tiles are not there, so there is no proof; what would be read for one is.
        let proof = async { drop(explained.app.inclusion(&root, &event, "", 0).await.unwrap_err()) };
        few_rows(explained, "an inclusion proof", proof, 2 + 256).await;
        let one = async { drop(explained.app.leaves(&root, T, start, 1).await.unwrap()) };
        few_rows(explained, "one leaf", one, 1).await;
    }
}

/// However much was recorded since: no statement may run into the server's time limit for it.
async fn an_export_passes_over_what_is_newer_piece_by_piece(explained: &Explained) {
    // Without a key, because what it would sign is not there: the hashes of this log.
    let unsigned = TestApp::start_on(Arc::clone(&explained.app.database), |config| {
        config.limits.inspected_events = usize::try_from(INSPECTED).unwrap();
        config.checkpoint.key_file = "none".into();
    });
    let unsigned = unsigned.await;
    let last = 997;
    let request = ExportCsvRequest {
        parent: T.to_owned(),
        order: Order::OldestFirst.into(),
        log_size: 1000,
        after_event_id: id_at(START_MILLIS - 730 * DAY + last * step(*EVENTS), last.unsigned_abs()),
        ..Default::default()
    };
    let root = Caller::root();
    let (exported, work) = explained.watch(unsigned.export(&root, request)).await;
    // Without a header, because it is the rest of a file.
    let rest = String::from_utf8(exported.unwrap().bytes()).unwrap();
    assert_eq!(rest.lines().count(), 2, "{rest}");
    assert!(work.at_once <= INSPECTED + 2 * PARTITIONS, "{work:?}");
}

/// diesel takes a connection that breaks while it looks a type up for a value that cannot be sent, and the caller would be told
/// that the service has a fault.
#[tokio::test]
async fn a_first_write_looks_no_type_up() {
    let cluster = Cluster::start("-c log_statement=all");
    let app = TestApp::start_on(Database::on(&cluster), |_| {}).await;
    let mut log = end_of_log(&cluster);
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    let mut written = String::new();
    log.read_to_string(&mut written).unwrap();
    assert!(written.contains("INSERT INTO events"), "{written}");
    assert!(!written.contains("pg_type"), "{written}");
}

fn of(filter: &EventFilter, order: Order, page_size: u64) -> ListEventsRequest {
    let page_size = i32::try_from(page_size).unwrap();
    ListEventsRequest { filter: Some(filter.clone()), ..ordered(T, order, page_size) }
}

/// Where a walk of another driver is cut short, a page takes a second one, through the project alone.
async fn a_project_is_read_within_the_same_bound(explained: &Explained, order: Order) {
    let rare = rare().into_iter().map(|rare| (rare.name, rare.filter));
    let names_none = |filter: &EventFilter| filter.project_ids.is_empty() && !filter.tenant_only;
    for (name, filter) in filters().into_iter().chain(rare).filter(|(_, filter)| names_none(filter)) {
        let request = ListEventsRequest { parent: format!("{T}/projects/p-3"), ..of(&filter, order, PAGE) };
        let (_, work) = explained.page(request).await;
        work.assert_within(bound(&filter), &format!("{name} in a project, {order:?}"));
    }
}

async fn rare_is_found_within_the_bound(explained: &Explained, order: Order, rare: &Rare) {
    let Rare { name, filter, .. } = rare;
    let mut request = of(filter, order, PAGE);
    let (mut found, mut pages, mut slowest) = (0, 0, Duration::ZERO);
    loop {
        let (page, work) = explained.page(request.clone()).await;
        work.assert_within(bound(filter), &format!("{name}, {order:?}, page {pages}"));
        (found, pages, slowest) = (found + page.events.len() as u64, pages + 1, slowest.max(work.took));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert!(found.abs_diff(rare.found) <= 1, "{name}, {order:?}: {found} events");
    // A page ends when it is full, or has inspected what it may: the first look, and then on the narrowest walk.
    let passed = if order == Order::Log { *EVENTS } else { rare.passed };
    let most = found / PAGE + passed / (INSPECTED - FIRST_LOOK) + 1;
    assert!(pages <= most, "{name}, {order:?}: {pages} pages, {most} would do");
    println!("{order:?}, {name}: {found} events on {pages} pages, the slowest in {slowest:.1?}");
}

async fn the_thousandth_page_costs_what_the_first_does(
    explained: &Explained,
    order: Order,
    name: &str,
    filter: &EventFilter,
) {
    // A thousand pages of the rarest among the common must be there.
    let page_size = PAGE.min(*EVENTS / 6_000);
    let request = of(filter, order, page_size);
    let (_, first) = explained.page(request.clone()).await;
    let mut far = ListEventsRequest { page_size: 1000, ..request.clone() };
    for _ in 0..page_size {
        far.page_token = explained.app.list(&Caller::root(), far.clone()).await.unwrap().next_page_token;
    }
    let (page, work) = explained.page(ListEventsRequest { page_token: far.page_token, ..request }).await;
    assert_eq!(page.events.len() as u64, page_size, "{name}, {order:?}");
    work.assert_within(first.rows_read + PARTITIONS + PAGE, &format!("{name}, {order:?}, the 1000th page"));
    println!("{order:?}, {name}: {:.1?}, and the 1000th page {:.1?}", first.took, work.took);
}

/// A server keeps the plan of each statement over all months, and each filter is a statement of its own.
#[tokio::test]
async fn a_connection_that_keeps_many_statements_makes_way_for_another() {
    let database = Database::create(Backend::Postgres);
    let app = TestApp::start_on(Arc::clone(&database), |config| config.database.pool_size = 1).await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    let mut sql = Sql::open(&database);
    let mut reader = || {
        sql.value(
            "SELECT coalesce(string_agg(pid::text, ','), '') AS value FROM pg_stat_activity \
             WHERE datname = current_database() AND query LIKE 'SELECT \"events\"%'",
        )
    };
    let list = async |mask: u32, order| {
        let page = app.list(&Caller::root(), of(&of_fields(mask), order, PAGE)).await.unwrap();
        assert_eq!(page.events.len(), 1, "{mask:b}, {order:?}");
    };
    list(0, Order::Log).await;
    let first = reader();
    assert!(!first.is_empty());
    list(1, Order::Log).await;
    assert_eq!(reader(), first);
    for (mask, order) in (0..64).flat_map(|mask| ORDERS.map(|order| (mask, order))) {
        list(mask, order).await;
    }
    assert_ne!(reader(), first);
}

/// What [`event`] meets, with a condition for each bit.
fn of_fields(mask: u32) -> EventFilter {
    let has = |bit: u32| mask >> bit & 1 == 1;
    let values = |bit, value| if has(bit) { strings(&[value]) } else { Vec::new() };
    EventFilter {
        resource_types: values(0, "k"),
        resource_ids: values(1, "1"),
        action_types: if has(2) { vec![ActionType::Create.into(), ActionType::Update.into()] } else { Vec::new() },
        actor_types: if has(3) { vec![ActorType::User.into(), ActorType::Service.into()] } else { Vec::new() },
        tenant_only: has(4),
        start_time: has(5).then(|| timestamp(START_MILLIS - DAY)),
        ..EventFilter::default()
    }
}

/// Before the server knows anything of `update_notes`, as after a restore, whether an event has notes is found by the event.
#[tokio::test]
async fn notes_that_no_statistics_tell_of_are_looked_up_by_their_events() {
    const EVENTS: usize = 400;
    let app = TestApp::start(Backend::Postgres).await;
    let root = Caller::root();
    app.batch(&root, T, vec![item("", event("k", "1"), ""); EVENTS]).await.unwrap();
    let mut sql = Sql::open(&app.database);
    sql.run(
        "INSERT INTO update_notes SELECT tenant_id, event_id, event_id, 1000 + leaf_index, record_time, \
         'user', 'ann', '', 'why', salt, body_commitment, leaf_hash FROM events",
    );
    assert_eq!(app.list(&root, list(T)).await.unwrap().events.len(), EVENTS);
    // The sessions tell what they have read when they end.
    app.stop().await.unwrap().unwrap();
    let read = "SELECT (seq_tup_read + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes i WHERE i.relid = t.relid))::text \
                AS value FROM pg_stat_user_tables t WHERE relname = 'update_notes'";
    let told = async {
        loop {
            match sql.value(read).parse::<usize>().unwrap() {
                ..EVENTS => between_looks().await,
                read => break read,
            }
        }
    };
    let read = tokio::time::timeout(PATIENCE, told).await.expect("each event was looked for");
    // One for each event, and the notes of a few events at a time, which may take a look at all of such a small table.
    assert!(read < 30 * EVENTS, "{read} notes were read");
}
