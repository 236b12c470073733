//! A PostgreSQL that hangs and keeps its sockets open: it is told, it holds up no end, and it is taken back when it goes on. And
//! sessions that hang, and hold what others need.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use auditlog::proto::auditlog::v1::{Event, EventFilter, ListEventsRequest, Order};
use rstest::rstest;
use tokio::{task::spawn_blocking, time::timeout};
use tonic::{Code, Streaming};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    child::{ChildServer, PAST_MILLIS, auditlog},
    harness::*,
    outage::{WriteLock, start_impatient},
    postgres::{Cluster, Frozen},
    sql::Sql,
};

const T: &str = "tenants/acme";
/// Far longer than anything here takes, for a test that would otherwise stand still.
const EVER: Duration = Duration::from_secs(120);
/// As whom the service comes to the server, and as whom a test does.
const SERVICE: &str = "auditlog";
const TEST: &str = "";

async fn start(cluster: &Cluster, timeout: Duration) -> TestApp {
    TestApp::start_on(Database::on(cluster), |config| {
        config.database.statement_timeout = timeout;
        watched(config);
    })
    .await
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(EVER, what).await.expect("it has not happened for two minutes")
}

/// Its health, from the time on when it serves.
pub async fn serving(app: &TestApp) -> Streaming<HealthCheckResponse> {
    let request = HealthCheckRequest { service: "auditlog.v1.AuditLogService".to_owned() };
    let mut health = HealthClient::new(app.channel.clone()).watch(request).await.unwrap().into_inner();
    until(&mut health, ServingStatus::Serving).await;
    health
}

/// Reads until the health is `wanted`.
pub async fn until(health: &mut Streaming<HealthCheckResponse>, wanted: ServingStatus) {
    soon(async { while health.message().await.unwrap().unwrap().status() != wanted {} }).await;
}

/// Waits for a session of `application` that waits for a lock, and tells its process.
async fn until_locked(sql: &mut Sql, application: &str) -> String {
    let query = format!(
        "SELECT coalesce(min(pid)::text, '') AS value FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = '{application}' AND wait_event_type = 'Lock'"
    );
    let start = Instant::now();
    loop {
        let process = sql.value(&query);
        if !process.is_empty() {
            return process;
        }
        assert!(start.elapsed() < EVER, "no session has waited for a lock");
        between_looks().await;
    }
}

/// Holds the head of `T`, which must be there.
fn hold_head(database: &Database) -> Sql {
    let mut holder = Sql::open(database);
    holder.run("BEGIN; SELECT FROM tree_heads WHERE tenant_id = 'acme' FOR UPDATE");
    holder
}

#[tokio::test]
async fn health_notices_a_server_that_hangs_and_one_that_goes_on() {
    let cluster = Cluster::start("");
    let app = start(&cluster, Duration::from_secs(1)).await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    let mut health = serving(&app).await;
    for n in 2..4 {
        let frozen = cluster.freeze();
        until(&mut health, ServingStatus::NotServing).await;
        drop(frozen);
        until(&mut health, ServingStatus::Serving).await;
        app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
        assert_eq!(app.walk(&Caller::root(), list(T)).await.len(), n);
    }
}

/// As providers do where a disk is full. A standby answers reads just as well.
#[tokio::test]
async fn health_notices_a_server_that_takes_no_writes() {
    let cluster = Cluster::start("");
    let app = start(&cluster, Duration::from_secs(10)).await;
    let mut health = serving(&app).await;
    let mut sql = Sql::open(&app.database);
    for (is_read_only, wanted) in [("on", ServingStatus::NotServing), ("off", ServingStatus::Serving)] {
        sql.run(&format!("ALTER SYSTEM SET default_transaction_read_only = {is_read_only}"));
        sql.run("SELECT pg_reload_conf()");
        until(&mut health, wanted).await;
    }
}

/// It answers and reads; as on a full disk, only what is given to it fails.
#[rstest]
#[tokio::test]
async fn health_notices_a_store_that_keeps_failing_and_one_that_takes_events_again(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = start_impatient(backend).await;
    let root = Caller::root();
    let mut health = serving(&app).await;
    let lock = WriteLock::hold(&app.database);
    let failing = async {
        loop {
            assert_error(app.record(&root, T, event("k", "1")).await, Code::Unavailable, "STORE_UNAVAILABLE");
        }
    };
    tokio::select! {
        () = failing => unreachable!("it fails for ever"),
        () = until(&mut health, ServingStatus::NotServing) => (),
    }
    assert_eq!(app.walk(&root, list(T)).await.len(), 0);
    drop(lock);
    app.record(&root, T, event("k", "1")).await.unwrap();
    until(&mut health, ServingStatus::Serving).await;
}

#[tokio::test]
async fn health_notices_one_append_that_hangs_while_all_else_goes_on() {
    let cluster = Cluster::start("");
    let app = start(&cluster, Duration::from_secs(4)).await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    let mut health = serving(&app).await;

    let (mut holder, mut sql) = (hold_head(&app.database), Sql::open(&app.database));
    let mut client = app.client.clone();
    let call = Caller::root().call(item(T, event("k", "2"), &id_at(PAST_MILLIS, 2)));
    let recorded = tokio::spawn(async move { client.record_event(call).await });
    let frozen = Frozen::process(&until_locked(&mut sql, SERVICE).await);
    until(&mut health, ServingStatus::NotServing).await;
    assert_eq!(app.metric("auditlog_append_hung_workers").await, 1.0);
    assert_eq!(app.walk(&Caller::root(), list(T)).await.len(), 1);
    holder.run("COMMIT");
    drop(frozen);
    until(&mut health, ServingStatus::Serving).await;
    assert_eq!(app.metric("auditlog_append_hung_workers").await, 0.0);
    soon(recorded).await.unwrap().unwrap();
    assert_eq!(app.walk(&Caller::root(), list(T)).await.len(), 2);
}

#[tokio::test]
async fn a_server_that_hangs_does_not_hold_up_the_end_of_the_service() {
    let cluster = Cluster::start("");
    let database = Database::on(&cluster);
    let settings = [("AUDITLOG_DATABASE_STATEMENT_TIMEOUT", "4s"), ("AUDITLOG_SHUTDOWN_GRACE", "100ms")];
    let server = ChildServer::serve(&database, &settings);
    let client = server.client().await;
    let send = |n: u64| {
        let mut client = client.clone();
        let call = Caller::root().call(item(T, event("k", "1"), &id_at(PAST_MILLIS, n)));
        tokio::spawn(async move { client.record_event(call).await })
    };
    soon(send(1)).await.unwrap().unwrap();
    let (holder, mut sql) = (hold_head(&database), Sql::open(&database));
    let unanswered = send(2);
    until_locked(&mut sql, SERVICE).await;
    let frozen = cluster.freeze();
    server.signal("TERM");
    let (code, log) = server.end().await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("\"unanswered\":1"), "{log}");
    let last = log.lines().last().unwrap();
    assert!(last.starts_with("auditlog: append workers (1) still wait for a database that does not answer"), "{log}");
    // Cut off, without a word on what became of it.
    soon(unanswered).await.unwrap().unwrap_err();

    drop((frozen, holder));
    let app = TestApp::start_on(Arc::clone(&database), |_| {}).await;
    app.record_as(&Caller::root(), T, event("k", "1"), &id_at(PAST_MILLIS, 2)).await.unwrap();
    assert_eq!(app.walk(&Caller::root(), list(T)).await.len(), 2);
}

/// Somebody holds the heads of two tenants and does not let go: that costs the others of the same worker one wait for each, and
/// then nothing.
#[tokio::test]
async fn a_head_that_somebody_holds_holds_up_no_other_tenant() {
    let app = TestApp::start_with(Backend::Postgres, |config| {
        config.append.workers = 1;
        watched(config);
    })
    .await;
    let root = Caller::root();
    let tenants = ["tenants/acme", "tenants/beta", "tenants/other"];
    let [acme, beta, other] = tenants.map(|tenant| app.record(&root, tenant, event("k", "1")));
    let all = tokio::join!(acme, beta, other);
    all.0.and(all.1).and(all.2).unwrap();
    let (mut holder, mut sql) = (Sql::open(&app.database), Sql::open(&app.database));
    holder.run("BEGIN; SELECT FROM tree_heads WHERE tenant_id IN ('acme', 'beta') FOR UPDATE");

    // While one is waited for, the other two come into one batch.
    let record = |tenant| app.record(&root, tenant, event("k", "2"));
    let blocking = async {
        until_locked(&mut sql, SERVICE).await;
        let (beta, other) = tokio::join!(record(tenants[1]), record(tenants[2]));
        assert_error(beta, Code::Unavailable, "STORE_UNAVAILABLE");
        other.unwrap();
    };
    let (acme, ()) = tokio::join!(record(tenants[0]), blocking);
    assert_error(acme, Code::Unavailable, "STORE_UNAVAILABLE");

    let begun = Instant::now();
    for _ in 0..20 {
        let (acme, beta, other) = tokio::join!(record(tenants[0]), record(tenants[1]), record(tenants[2]));
        assert_error(acme, Code::Unavailable, "STORE_UNAVAILABLE");
        assert_error(beta, Code::Unavailable, "STORE_UNAVAILABLE");
        other.unwrap();
    }
    assert!(app.metric("auditlog_append_held_heads_total").await >= 40.0, "two heads, at each of 20 batches");
    // A wait for each of them is 5 s.
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());

    // In other hands it is waited for again.
    let database = Arc::clone(&app.database);
    let next = spawn_blocking(move || hold_head(&database));
    until_locked(&mut sql, TEST).await;
    holder.run("COMMIT");
    let mut next = next.await.unwrap();
    let going = async {
        until_locked(&mut sql, SERVICE).await;
        next.run("COMMIT");
    };
    let (acme, ()) = tokio::join!(record(tenants[0]), going);
    let (beta, other) = tokio::join!(record(tenants[1]), record(tenants[2]));
    assert_eq!([acme, beta, other].map(|receipt| receipt.unwrap().leaf_index), [Some(1), Some(1), Some(22)]);
}

/// Who waits is one of several workers. Which of them a tenant has is not known here, so there are many tenants.
#[tokio::test]
async fn a_head_that_is_waited_for_holds_up_one_worker_of_several() {
    let app = TestApp::start(Backend::Postgres).await;
    let root = Caller::root();
    app.record(&root, T, event("k", "1")).await.unwrap();
    let (mut holder, mut sql) = (hold_head(&app.database), Sql::open(&app.database));
    let waiting = app.record(&root, T, event("k", "2"));
    let others = async {
        until_locked(&mut sql, SERVICE).await;
        let tenants: Vec<String> = (0..30).map(|n| format!("tenants/t{n}")).collect();
        let records = tenants.iter().map(|tenant| app.record(&root, tenant, event("k", "1")));
        let first = futures_util::future::select_all(records.map(Box::pin)).await.0;
        first.unwrap();
        until_locked(&mut sql, SERVICE).await;
        holder.run("COMMIT");
    };
    let (receipt, ()) = tokio::join!(waiting, others);
    assert_eq!(receipt.unwrap().leaf_index, Some(1));
}

/// Two replicas meet in one tenant: the one waits for the other's lock, and the other's head has moved then.
#[tokio::test]
async fn waits_for_heads_and_heads_that_have_moved_are_counted() {
    let database = Database::for_service(Backend::Postgres);
    let a = TestApp::start_on(Arc::clone(&database), watched).await;
    let b = TestApp::start_on(Arc::clone(&database), watched).await;
    let root = Caller::root();
    a.record(&root, T, event("k", "1")).await.unwrap();
    let (mut holder, mut sql) = (hold_head(&database), Sql::open(&database));
    let begun = Instant::now();
    let waiting = b.record(&root, T, event("k", "2"));
    let going = async {
        until_locked(&mut sql, SERVICE).await;
        holder.run("COMMIT");
    };
    let (receipt, ()) = tokio::join!(waiting, going);
    receipt.unwrap();
    let most = begun.elapsed().as_secs_f64();
    let waited = b.metric("auditlog_append_head_wait_seconds_sum").await;
    assert!(
        b.metric("auditlog_append_head_wait_seconds_count").await == 1.0 && waited > 0.0 && waited < most,
        "{waited}"
    );
    assert_eq!(b.metric("auditlog_append_head_conflicts_total").await, 0.0);
    // It believes to know the head.
    a.record(&root, T, event("k", "3")).await.unwrap();
    assert_eq!(a.metric("auditlog_append_head_conflicts_total").await, 1.0);
}

/// What the log says of an export is all that there was of it, also where its caller has gone before it began.
#[tokio::test]
async fn an_export_that_is_cancelled_while_its_beginning_is_stored_is_told_to_be() {
    let app = TestApp::start_with(Backend::Postgres, watched).await;
    let root = Caller::root();
    app.record(&root, T, event("k", "1")).await.unwrap();
    let (mut holder, mut sql) = (hold_head(&app.database), Sql::open(&app.database));
    let (mut client, call) = (app.client.clone(), root.call(export_of(T)));
    let export = tokio::spawn(async move { client.export_csv(call).await.map(drop) });
    until_locked(&mut sql, SERVICE).await;
    export.abort();
    let cancelled = r#"auditlog_calls_total{method="auditlog.v1.AuditLogService/ExportCsv",code="CANCELLED"}"#;
    soon(async {
        while app.metric(cancelled).await < 1.0 {
            between_looks().await;
        }
    })
    .await;
    holder.run("COMMIT");

    let exports = EventFilter { resource_types: vec!["audit_export".to_owned()], ..EventFilter::default() };
    let told = soon(async {
        loop {
            let told =
                app.walk(&root, ListEventsRequest { order: Order::Log.into(), ..filtered(T, exports.clone()) }).await;
            if told.len() > 1 {
                break told;
            }
            between_looks().await;
        }
    });
    let said: Vec<String> = told.await.into_iter().map(|event| event.message).collect();
    let [began, ended] =
        ["exported tenants/acme as CSV", "the export of tenants/acme was cancelled by the client after 0 rows"];
    assert_eq!(said, [began, ended]);
}

/// A replica that is frozen while the server sends it a page keeps a snapshot, for which dead versions of heads are kept.
#[tokio::test]
async fn a_replica_frozen_in_a_page_keeps_its_snapshot_for_seconds() {
    let database = Database::create(Backend::Postgres);
    let frozen = ChildServer::serve(&database, &[("AUDITLOG_DATABASE_POOL_SIZE", "1")]);
    let other = TestApp::start_on(Arc::clone(&database), |config| {
        config.database.statement_timeout = Duration::from_millis(500);
    })
    .await;
    // More than fits into the buffers between a replica and the server.
    let large = Event { message: "x".repeat(1000), ..event("k", "1") };
    other.batch(&Caller::root(), T, vec![item("", large, ""); 1000]).await.unwrap();

    let client = frozen.client().await;
    let read = || {
        let (mut client, call) = (client.clone(), Caller::root().call(list(T)));
        tokio::spawn(async move { client.list_events(call).await })
    };
    // So that the statement is prepared, and the replica has no more to say when it is frozen.
    soon(read()).await.unwrap().unwrap();
    let (mut holder, mut sql) = (Sql::open(&database), Sql::open(&database));
    holder.run("BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE");
    let listed = read();
    let reader = until_locked(&mut sql, SERVICE).await;
    frozen.freeze();
    holder.run("COMMIT");
    let mut until = async |count: &str, state: &str| {
        let query = format!(
            "SELECT count(*)::text AS value FROM pg_stat_activity WHERE pid = {reader} AND state = 'active' {state}"
        );
        let start = Instant::now();
        while sql.value(&query) != count {
            assert!(start.elapsed() < EVER, "never {count} sessions that are active {state}");
            between_looks().await;
        }
    };
    until("1", "AND wait_event = 'ClientWrite'").await;
    until("0", "").await;
    frozen.signal("CONT");
    // It finds its connection cut, and reads once more.
    assert_eq!(soon(listed).await.unwrap().unwrap().into_inner().events.len(), 1000);
}

/// A replica that is frozen in the middle of a migration has locked what it changes, and has the turn to migrate.
#[tokio::test]
async fn a_replica_frozen_in_a_migration_holds_up_the_others_for_seconds() {
    let database = Database::create(Backend::Postgres);
    let (mut holder, mut sql) = (Sql::open(&database), Sql::open(&database));
    // What the first migration makes, made by somebody who takes it back.
    holder.run("BEGIN; CREATE TABLE events ()");
    let mut command = auditlog(database.folder.path());
    command.env("AUDITLOG_DATABASE_URL", &database.url).env("AUDITLOG_LISTEN", "127.0.0.1:0");
    let frozen = ChildServer::start(command);
    let session = until_locked(&mut sql, SERVICE).await;
    frozen.freeze();
    holder.run("ROLLBACK");
    let query = format!("SELECT coalesce(max(state), '') AS value FROM pg_stat_activity WHERE pid = {session}");
    let start = Instant::now();
    // Aborted, where the machine is so slow that it has waited in vain.
    while !sql.value(&query).starts_with("idle in transaction") {
        assert!(start.elapsed() < EVER, "the migration does not go on");
        between_looks().await;
    }
    let other = TestApp::start_on(Arc::clone(&database), |_| {}).await;
    other.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    frozen.signal("CONT");
    let (code, log) = frozen.end().await;
    assert!(code == Some(1) && log.contains("migrating"), "{log}");
}
