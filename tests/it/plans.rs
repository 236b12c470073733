//! How PostgreSQL carries out what the service really sends: `auto_explain` writes the plan of each statement, with the rows
//! that it has read, into the server's log. And what it is asked at all.
//!
//! `AUDITLOG_TEST_PLANS_EVENTS` gives the tenant more events; `./test --release --test it plans -- --nocapture` then
//! tells how long each list took.

use std::{
    env,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use auditlog::proto::auditlog::v1::{
    ActionType, ActorType, EventFilter, ExportCsvRequest, ListEventsRequest, ListEventsResponse, Order,
};
use serde_json::Value;

use crate::{harness::*, postgres::Cluster, sql::Sql};

const EXPLAIN: &str = "-c session_preload_libraries=auto_explain -c auto_explain.log_min_duration=0 \
    -c auto_explain.log_analyze=on -c auto_explain.log_timing=off -c auto_explain.log_format=json";

const T: &str = "tenants/big";
const ORDERS: [Order; 3] = [Order::NewestFirst, Order::OldestFirst, Order::Log];
/// How many events of the tenant there are, and of each of nine others.
static EVENTS: LazyLock<u64> = LazyLock::new(|| {
    env::var("AUDITLOG_TEST_PLANS_EVENTS").map_or(FEWEST, |events| events.parse().unwrap()).max(FEWEST)
});
/// What it takes for a thousand pages of whatever is common.
const FEWEST: u64 = 60_000;
static OTHERS: LazyLock<u64> = LazyLock::new(|| *EVENTS / 30);
/// How many events a page may inspect, a setting.
const INSPECTED: u64 = 5_000;
const PAGE: u64 = 50;
/// What a page of that size inspects before it settles on the walk that gets further.
const FIRST_LOOK: u64 = 5 * PAGE;
/// About two years, a month each.
const PARTITIONS: u64 = 26;
/// The place of the one event that was a DELETE, and of the one on the rare resource.
static RARE: LazyLock<u64> = LazyLock::new(|| *EVENTS / 2);

/// Events over two years, with values that are common, rare, and common but never together.
fn fill(tenant: &str, events: u64) -> String {
    format!(
        "INSERT INTO events (tenant_id, event_id, project_id, leaf_index, record_time, action_type, resource_type, \
         resource_id, resource_name, actor_type, actor_id, actor_name, recorder_type, recorder_id, recorder_name, \
         message, changes, context, attributes, salt, body_commitment, leaf_hash) \
         SELECT '{tenant}', (lpad(to_hex({start} + n * {step}), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid, \
         CASE WHEN n % 10 = 0 THEN '' ELSE 'p-' || n % 5 END, n, now(), \
         CASE WHEN n = {rare} THEN 'delete' WHEN n % 3 = 0 THEN 'update' ELSE 'create' END, \
         CASE WHEN n % 2 = 0 THEN 'even' ELSE 'k-' || n % 19 END, \
         CASE WHEN n = {rare} THEN 'rare' ELSE 'r-' || n * 7919 % 20011 END, '', 'user', \
         CASE WHEN n % 2 = 1 THEN 'odd' ELSE 'u-' || n % 97 END, '', 'service', 'console', '', 'made it larger', '[]', \
         NULL, '{{}}', decode(md5(n::text), 'hex'), sha256(n::text::bytea), sha256(n::text::bytea) \
         FROM generate_series(0, {events}::bigint - 1) AS n; \
         INSERT INTO tree_heads VALUES ('{tenant}', {events})",
        rare = *RARE,
        start = START_MILLIS - 730 * DAY,
        step = step(events),
    )
}

/// Milliseconds from event to event.
fn step(events: u64) -> i64 {
    730 * DAY / i64::try_from(events).unwrap()
}

const DAY: i64 = 24 * 60 * 60 * 1000;

struct Explained {
    cluster: Cluster,
    app: TestApp,
}

/// What the statements of one call have done.
#[derive(Debug, Default)]
struct Work {
    /// Entries of `events` or of its indexes that were looked at, whether they were taken or not.
    rows_read: u64,
    /// The most that one statement looked at.
    at_once: u64,
    /// The most rows that were sorted.
    sorted: u64,
    /// Partitions that were read from end to end.
    sequential: Vec<String>,
    statements: u64,
    took: Duration,
}

impl Explained {
    async fn start() -> Self {
        let cluster = Cluster::start(EXPLAIN);
        let database = Database::on(&cluster);
        let start = || {
            TestApp::start_at(Arc::clone(&database), START_MILLIS, |config| {
                config.limits.inspected_events = usize::try_from(INSPECTED).unwrap();
            })
        };
        // A start would leave all that lies before its month in one partition; this database is two years old.
        TestApp::start_at(Arc::clone(&database), START_MILLIS - 2 * 366 * DAY, |_| {})
            .await
            .stop()
            .await
            .unwrap()
            .unwrap();
        let app = start().await;
        let mut sql = Sql::open(&database);
        sql.run("SET auto_explain.log_analyze = off");
        sql.run(&fill("big", *EVENTS));
        for n in 0..9 {
            sql.run(&fill(&format!("t{n}"), *OTHERS));
        }
        sql.run("ANALYZE");
        Self { cluster, app }
    }

    /// Makes the head what sealing would have left, but for the hashes in it.
    fn seem_sealed(&self) {
        let frontier = "00".repeat(32 * EVENTS.count_ones() as usize);
        let mut sql = Sql::open(&self.app.database);
        sql.run("ALTER TABLE tree_heads DISABLE TRIGGER USER");
        sql.run(&format!("UPDATE tree_heads SET frontier = decode('{frontier}', 'hex') WHERE tenant_id = 'big'"));
    }

    /// A page, and what it took.
    async fn page(&self, request: ListEventsRequest) -> (ListEventsResponse, Work) {
        self.watch(async { self.app.list(&Caller::root(), request).await.unwrap() }).await
    }

    /// Whatever a call gives, and what it took.
    async fn watch<T>(&self, call: impl Future<Output = T>) -> (T, Work) {
        let mut log = end_of_log(&self.cluster);
        let begun = Instant::now();
        let page = call.await;
        let took = begun.elapsed();
        let mut written = String::new();
        log.read_to_string(&mut written).unwrap();
        let mut work = Work { took, ..Work::default() };
        for plan in plans(&written) {
            if plan["Query Text"].as_str().unwrap().contains("\"events\"") {
                let before = work.rows_read;
                work.statements += 1;
                work.add(&plan["Plan"]);
                work.at_once = work.at_once.max(work.rows_read - before);
            }
        }
        assert!(work.statements > 0, "the log has no plan");
        (page, work)
    }
}

/// The plans in a piece of the log: each follows a line that ends in `plan:`, indented by a tab.
fn plans(log: &str) -> Vec<Value> {
    let mut plans = Vec::new();
    let mut lines = log.lines().peekable();
    while let Some(line) = lines.next() {
        if line.ends_with("plan:") {
            let mut json = String::new();
            while let Some(line) = lines.next_if(|line| line.starts_with('\t')) {
                json.push_str(line);
            }
            plans.push(serde_json::from_str(&json).unwrap());
        }
    }
    plans
}

impl Work {
    fn add(&mut self, node: &Value) {
        let number = |key: &str| node[key].as_f64().unwrap_or(0.0) as u64;
        let kind = node["Node Type"].as_str().unwrap();
        let rows = (number("Actual Rows") + number("Rows Removed by Filter")) * number("Actual Loops").max(1);
        match node["Relation Name"].as_str() {
            Some(table) if table.starts_with("events") => {
                self.rows_read += rows;
                if kind == "Seq Scan" {
                    self.sequential.push(table.to_owned());
                }
            }
            _ => (),
        }
        if kind.contains("Sort") {
            self.sorted = self.sorted.max(rows);
        }
        for child in node["Plans"].as_array().into_iter().flatten() {
            self.add(child);
        }
    }

    #[track_caller]
    fn assert_within(&self, rows: u64, what: &str) {
        assert!(self.sequential.is_empty(), "{what}: {self:?}");
        assert!(self.sorted <= 2 * PAGE, "{what}: {self:?}");
        assert!(self.rows_read <= rows, "{what}: more than {rows} rows: {self:?}");
    }
}

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
    for order in ORDERS {
        for (name, filter) in filters() {
            let (_, work) = explained.page(of(&filter, order, PAGE)).await;
            work.assert_within(bound(&filter), &format!("{name}, {order:?}"));
            println!("{order:?}, {name}: {:.1?}", work.took);
        }
        for rare in rare() {
            rare_is_found_within_the_bound(&explained, order, &rare).await;
        }
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
    an_export_passes_over_what_is_newer_piece_by_piece(&explained).await;
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

/// The server's log, to be read from here on.
fn end_of_log(cluster: &Cluster) -> File {
    let mut log = File::open(cluster.folder().join("log")).unwrap();
    log.seek(SeekFrom::End(0)).unwrap();
    log
}

fn of(filter: &EventFilter, order: Order, page_size: u64) -> ListEventsRequest {
    let page_size = i32::try_from(page_size).unwrap();
    ListEventsRequest { filter: Some(filter.clone()), ..ordered(T, order, page_size) }
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
