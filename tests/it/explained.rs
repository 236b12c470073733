//! A PostgreSQL that explains each statement: `auto_explain` writes its plan, with the rows that it has read, into the server's
//! log. In it is a tenant of two years, beside nine smaller ones.

use std::{
    env,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use auditlog::proto::auditlog::v1::{ListEventsRequest, ListEventsResponse};
use serde_json::Value;

use crate::{harness::*, postgres::Cluster, sql::Sql};

const EXPLAIN: &str = "-c session_preload_libraries=auto_explain -c auto_explain.log_min_duration=0 \
    -c auto_explain.log_analyze=on -c auto_explain.log_timing=off -c auto_explain.log_format=json";

/// The large tenant.
pub const T: &str = "tenants/big";
/// How many events of the tenant there are, and of each of nine others.
pub static EVENTS: LazyLock<u64> = LazyLock::new(|| {
    env::var("AUDITLOG_TEST_PLANS_EVENTS").map_or(FEWEST, |events| events.parse().unwrap()).max(FEWEST)
});
/// What it takes for a thousand pages of whatever is common.
const FEWEST: u64 = 60_000;
static OTHERS: LazyLock<u64> = LazyLock::new(|| *EVENTS / 30);
/// How many events a page may inspect, a setting.
pub const INSPECTED: u64 = 5_000;
/// How many events a page has.
pub const PAGE: u64 = 50;
/// About two years, a month each.
pub const PARTITIONS: u64 = 26;
/// The place of the one event that was a DELETE, and of the one on the rare resource.
pub static RARE: LazyLock<u64> = LazyLock::new(|| *EVENTS / 2);

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

/// Notes on events of a small tenant, as many as to make a planner think twice.
fn fill_notes() -> String {
    "INSERT INTO update_notes (tenant_id, event_id, note_id, leaf_index, create_time, author_type, author_id, author_name, \
     text, salt, body_commitment, leaf_hash) \
     SELECT tenant_id, event_id, (lpad(to_hex(leaf_index * 20 + n), 12, '0') || '70008000000000000000')::uuid, \
     1000000 + leaf_index * 20 + n, now(), 'user', 'ann', '', 'looked at', salt, body_commitment, leaf_hash \
     FROM events, generate_series(0, 19) AS n WHERE tenant_id = 't0'"
        .to_owned()
}

/// Milliseconds from event to event.
pub fn step(events: u64) -> i64 {
    730 * DAY / i64::try_from(events).unwrap()
}

pub const DAY: i64 = 24 * 60 * 60 * 1000;

pub struct Explained {
    cluster: Cluster,
    pub app: TestApp,
}

/// What the statements of one call have done.
#[derive(Debug, Default)]
pub struct Work {
    /// Entries of `events` or of its indexes that were looked at, whether they were taken or not.
    pub rows_read: u64,
    /// The most that one statement looked at.
    pub at_once: u64,
    /// The most rows that were sorted.
    sorted: u64,
    /// Partitions that were read from end to end, and the table of notes.
    pub sequential: Vec<String>,
    statements: u64,
    pub took: Duration,
}

impl Explained {
    pub async fn start() -> Self {
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
        sql.run(&fill_notes());
        sql.run("ANALYZE");
        Self { cluster, app }
    }

    /// Makes the head what sealing would have left, but for the hashes in it.
    pub fn seem_sealed(&self) {
        self.seem_sealed_at(*EVENTS);
    }

    fn seem_sealed_at(&self, size: u64) {
        let frontier = "00".repeat(32 * size.count_ones() as usize);
        let mut sql = Sql::open(&self.app.database);
        sql.run("ALTER TABLE tree_heads DISABLE TRIGGER USER");
        sql.run(&format!(
            "UPDATE tree_heads SET tree_size = {size}, frontier = decode('{frontier}', 'hex') WHERE tenant_id = 'big'"
        ));
    }

    /// Has the large tenant's log go on with notes on its first and on its last event.
    pub fn note_both_ends(&self) {
        let (last, size) = (*EVENTS - 1, *EVENTS);
        Sql::open(&self.app.database).run(&format!(
            "INSERT INTO update_notes (tenant_id, event_id, note_id, leaf_index, create_time, author_type, author_id, \
             author_name, text, salt, body_commitment, leaf_hash) \
             SELECT tenant_id, event_id, event_id, {size} + sign(leaf_index), now(), 'user', 'ann', '', 'looked at', salt, \
             body_commitment, leaf_hash FROM events WHERE tenant_id = 'big' AND leaf_index IN (0, {last})"
        ));
        self.seem_sealed_at(size + 2);
    }

    /// A page, and what it took.
    pub async fn page(&self, request: ListEventsRequest) -> (ListEventsResponse, Work) {
        self.watch(async { self.app.list(&Caller::root(), request).await.unwrap() }).await
    }

    /// Whatever a call gives, and what it took.
    pub async fn watch<T>(&self, call: impl Future<Output = T>) -> (T, Work) {
        let mut log = end_of_log(&self.cluster);
        let begun = Instant::now();
        let page = call.await;
        let took = begun.elapsed();
        let mut written = String::new();
        log.read_to_string(&mut written).unwrap();
        let mut work = Work { took, ..Work::default() };
        for plan in plans(&written) {
            let query = plan["Query Text"].as_str().unwrap();
            if query.contains("\"events\"") || query.contains("FROM events") {
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
                self.add_sequential(kind, table);
            }
            Some(table) if table == "update_notes" => self.add_sequential(kind, table),
            _ => (),
        }
        if kind.contains("Sort") {
            self.sorted = self.sorted.max(rows);
        }
        for child in node["Plans"].as_array().into_iter().flatten() {
            self.add(child);
        }
    }

    fn add_sequential(&mut self, kind: &str, table: &str) {
        if kind == "Seq Scan" {
            self.sequential.push(table.to_owned());
        }
    }

    #[track_caller]
    pub fn assert_within(&self, rows: u64, what: &str) {
        assert!(self.sequential.is_empty(), "{what}: {self:?}");
        assert!(self.sorted <= 2 * PAGE, "{what}: {self:?}");
        assert!(self.rows_read <= rows, "{what}: more than {rows} rows: {self:?}");
    }
}

/// The server's log, to be read from here on.
pub fn end_of_log(cluster: &Cluster) -> File {
    let mut log = File::open(cluster.folder().join("log")).unwrap();
    log.seek(SeekFrom::End(0)).unwrap();
    log
}
