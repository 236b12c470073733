//! Months of events on PostgreSQL: made ahead, found again, and nobody waits for them.

use std::sync::Arc;

use auditlog::proto::auditlog::v1::Order;
use futures_util::future::join_all;
use rstest::rstest;

use crate::{harness::*, sql::Sql};

const T: &str = "tenants/acme";
const DAY: i64 = 24 * 60 * 60 * 1000;
/// 2031-01-01T00:00:00Z.
const YEAR_2031: i64 = 1_924_992_000_000;
/// 2031-02-01T00:00:00Z.
const FEBRUARY_2031: i64 = YEAR_2031 + 31 * DAY;
/// 2024-03-01T00:00:00Z, the day after a leap day.
const MARCH_2024: i64 = 1_709_251_200_000;

/// Name, lower and upper bound of each partition, in order of time.
fn bounds(sql: &mut Sql) -> Vec<(String, String, String)> {
    let rows = sql.values(
        "SELECT inhrelid::regclass || ' ' || array_to_string(regexp_match(pg_get_expr(relpartbound, inhrelid), \
         'FROM \\(''?([^'')]+)''?\\) TO \\(''([^'']+)''\\)'), ' ') AS value \
         FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'events'::regclass",
    );
    let mut bounds: Vec<_> = rows
        .iter()
        .map(|row| {
            let mut words = row.split(' ').map(str::to_owned);
            (words.next().unwrap(), words.next().unwrap(), words.next().unwrap())
        })
        .collect();
    bounds.sort_by(|a, b| a.2.cmp(&b.2));
    bounds
}

/// Asserts that the partitions cover all time up to their last month, each place once.
#[track_caller]
fn assert_whole(bounds: &[(String, String, String)]) {
    assert_eq!((bounds[0].0.as_str(), bounds[0].1.as_str()), ("events_before", "MINVALUE"));
    for pair in bounds.windows(2) {
        assert_eq!(pair[0].2, pair[1].1, "{} and {} do not meet", pair[0].0, pair[1].0);
    }
}

fn partition_of(sql: &mut Sql, id: &str) -> String {
    sql.value(&format!("SELECT tableoid::regclass::text AS value FROM events WHERE event_id = '{id}'"))
}

/// Where nothing is recorded the months are made all the same, so that nobody ever waits for one.
#[tokio::test]
async fn a_service_that_runs_makes_the_months_of_each_day() {
    let app = TestApp::start(Backend::Postgres).await;
    let mut sql = Sql::open(&app.database);
    let before = bounds(&mut sql);
    app.clock.set_millis(START_MILLIS + 59 * DAY);
    let made = async {
        while bounds(&mut sql).len() < before.len() + 2 {
            between_looks().await;
        }
    };
    tokio::time::timeout(crate::child::PATIENCE, made).await.expect("the months are made once a day");
    let after = bounds(&mut sql);
    assert_whole(&after);
    assert_eq!(after[..before.len()], before);
}

#[tokio::test]
async fn replicas_whose_clocks_are_years_apart_make_all_months_once() {
    let database = Database::create(Backend::Postgres);
    let start = |millis| TestApp::start_at(Arc::clone(&database), millis, |_| {});
    let (a, b, c, d) = tokio::join!(start(YEAR_2031), start(MARCH_2024), start(START_MILLIS), start(YEAR_2031));
    for (app, millis) in [(&a, YEAR_2031), (&b, MARCH_2024), (&c, START_MILLIS), (&d, YEAR_2031)] {
        app.record(&Caller::root(), T, at(event("k", "1"), millis)).await.unwrap();
    }
    let bounds = bounds(&mut Sql::open(&database));
    assert_whole(&bounds);
    // Two months ahead of the latest clock there is a place.
    let (last, _, end) = bounds.last().unwrap();
    assert!(*end >= id_at(YEAR_2031 + 62 * DAY, 0), "{last} ends at {end}");
}

/// As after a machine has slept for years.
#[tokio::test]
async fn a_clock_that_jumps_beyond_the_months_that_were_made_sinks_nothing() {
    let database = Database::create(Backend::Postgres);
    let app = TestApp::start_at(Arc::clone(&database), MARCH_2024, |_| {}).await;
    let root = Caller::root();
    app.record(&root, T, at(event("k", "1"), MARCH_2024)).await.unwrap();
    app.clock.set_millis(YEAR_2031);
    app.record(&root, T, at(event("k", "1"), YEAR_2031)).await.unwrap();
    // Large enough for a COPY.
    let next_year = YEAR_2031 + 366 * DAY;
    app.clock.set_millis(next_year);
    let batch = (0..500).map(|_| item("", at(event("k", "1"), next_year), "")).collect();
    app.batch(&root, T, batch).await.unwrap();
    assert_eq!(app.walk(&root, list(T)).await.len(), 502);
    // Of several writers each finds the same month missing.
    let later = next_year + 366 * DAY;
    app.clock.set_millis(later);
    let tenants: Vec<String> = (0..20).map(|n| format!("tenants/t{n}")).collect();
    let all = tenants.iter().map(|tenant| app.record(&root, tenant, at(event("k", "1"), later)));
    for recorded in join_all(all).await {
        recorded.unwrap();
    }
    assert_whole(&bounds(&mut Sql::open(&database)));
}

#[tokio::test]
async fn a_month_is_a_month_in_utc_wherever_the_caller_is() {
    let database = Database::create(Backend::Postgres);
    let _app = TestApp::start_at(Arc::clone(&database), MARCH_2024, |_| {}).await;
    let mut sql = Sql::open(&database);
    for zone in ["Asia/Kolkata", "Pacific/Kiritimati", "Pacific/Pago_Pago", "UTC"] {
        sql.run(&format!("SET timezone = '{zone}'"));
        sql.run("SELECT make_event_partitions('2031-03-31T23:59:59.999Z')");
        let bounds = bounds(&mut sql);
        assert_whole(&bounds);
        assert_eq!(bounds.last().unwrap().0, "events_2031_03", "{zone}");
    }
    let january = bounds(&mut sql).into_iter().find(|(name, ..)| name == "events_2031_01").unwrap();
    let first = |millis| format!("{}-0000-0000-000000000000", &id_at(millis, 0)[..13]);
    assert_eq!((january.1, january.2), (first(YEAR_2031), first(FEBRUARY_2031)));
}

#[rstest]
#[tokio::test]
async fn events_around_the_bounds_lie_in_their_month_and_list_in_order(#[values(1, 2, 3, 1000)] page_size: i32) {
    let database = Database::create(Backend::Postgres);
    let app = TestApp::start_at(Arc::clone(&database), FEBRUARY_2031 + DAY, |_| {}).await;
    let mut sql = Sql::open(&database);
    // In the order of time; recorded in another one.
    let times = [
        (0, "events_before"),
        (MARCH_2024, "events_before"),
        (YEAR_2031 - 31 * DAY, "events_2030_12"),
        (YEAR_2031 - 1, "events_2030_12"),
        (YEAR_2031, "events_2031_01"),
        (YEAR_2031 + 1, "events_2031_01"),
        (FEBRUARY_2031 - 1, "events_2031_01"),
        (FEBRUARY_2031, "events_2031_02"),
        (FEBRUARY_2031 + DAY, "events_2031_02"),
    ];
    let id = |n: usize| id_at(times[n].0, n as u64);
    let recorded = [4, 0, 8, 2, 6, 1, 5, 3, 7];
    for n in recorded {
        app.record_as(&Caller::root(), T, event("k", "1"), &id(n)).await.unwrap();
        assert_eq!(partition_of(&mut sql, &id(n)), times[n].1);
    }
    let rising: Vec<String> = (0..times.len()).map(id).collect();
    let falling = rising.iter().rev().cloned().collect();
    for (order, expected) in
        [(Order::OldestFirst, rising), (Order::NewestFirst, falling), (Order::Log, recorded.map(id).to_vec())]
    {
        let found = app.walk(&Caller::root(), ordered(T, order, page_size)).await;
        let ids: Vec<_> = found.iter().map(|event| event.name.rsplit_once('/').unwrap().1.to_owned()).collect();
        assert_eq!(ids, expected, "{order:?}");
    }
}

/// A row as the service would store it, at a time of its own.
fn insert(millis: i64) -> String {
    format!(
        "INSERT INTO events (tenant_id, event_id, project_id, leaf_index, record_time, action_type, resource_type, \
         body_commitment, leaf_hash) VALUES ('other', '{}', '', 0, now(), 'create', 'k', \
         decode(repeat('00', 32), 'hex'), decode(repeat('00', 32), 'hex'))",
        id_at(millis, 1)
    )
}

#[tokio::test]
async fn making_months_waits_for_no_reader_and_no_writer() {
    let database = Database::create(Backend::Postgres);
    let _app = TestApp::start_on(Arc::clone(&database), |_| {}).await;
    let (mut reader, mut writer, mut maker) = (Sql::open(&database), Sql::open(&database), Sql::open(&database));
    reader.run("BEGIN; SELECT count(*) FROM events");
    writer.run(&format!("BEGIN; {}", insert(START_MILLIS)));
    maker.run("SET lock_timeout = '200ms'");
    let made = maker.value("SELECT make_event_partitions(now() + interval '3 years')::text AS value");
    assert!(made.parse::<i32>().unwrap() >= 30, "{made}");
    writer.run("COMMIT");
    reader.run("COMMIT");
}

#[tokio::test]
async fn readers_and_writers_do_not_wait_for_who_makes_months() {
    let database = Database::create(Backend::Postgres);
    let app = TestApp::start_on(Arc::clone(&database), |_| {}).await;
    let mut maker = Sql::open(&database);
    maker.run("BEGIN; SELECT make_event_partitions(now() + interval '3 years')");
    let mut other = Sql::open(&database);
    other.run(&format!("SET lock_timeout = '200ms'; SELECT count(*) FROM events; {}", insert(START_MILLIS)));
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    assert_eq!(app.walk(&Caller::root(), list(T)).await.len(), 1);
    // Nor does it matter to them when it is done.
    maker.run("COMMIT");
    app.record(&Caller::root(), T, event("k", "2")).await.unwrap();
    assert_eq!(app.walk(&Caller::root(), list(T)).await.len(), 2);
    assert_whole(&bounds(&mut other));
}
