//! Several replicas on one PostgreSQL database: in one log without holes and doubles, whatever happens to them.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use auditlog::proto::auditlog::v1::{AddUpdateNoteRequest, BatchRecordEventsRequest, Event};
use rstest::rstest;
use tokio::{task::spawn_blocking, time::timeout};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_types::StatusExt as _;

use crate::{
    child::{ChildServer, PAST_MILLIS},
    hangs::{serving, until},
    harness::*,
    load::{Load, Tally},
    postgres::Cluster,
    sql::Sql,
};

/// A replica that is frozen may hold a tenant for this long: twice for what the server waits for it, where the first look came too
/// early, and the rest for a machine that is busy.
const FROZEN_AT_MOST: Duration = Duration::from_secs(25);
/// Far less than a statement may take, for which a read waits for a connection.
const AT_ONCE: Duration = Duration::from_secs(5);
/// Far longer than anything here takes, for a test that would otherwise stand still.
const EVER: Duration = Duration::from_secs(300);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(EVER, what).await.expect("it has not happened for five minutes")
}

/// How many calls of so many events make a test: enough for replicas to meet in each way, and no more than takes seconds.
fn calls_of(size: usize) -> u64 {
    match size {
        1 => 900,
        20 => 150,
        _ => 75,
    }
}

/// Asserts that no two sessions have waited for each other in a circle.
#[track_caller]
fn assert_no_deadlock(database: &Database) {
    let mut sql = Sql::open(database);
    let count = sql.value("SELECT deadlocks::text AS value FROM pg_stat_database WHERE datname = current_database()");
    assert_eq!(count, "0", "deadlocks");
}

#[rstest]
#[case::calls_of_one_event(1)]
#[case::calls_of_a_statement(20)]
#[case::calls_of_a_copy(200)]
#[tokio::test]
async fn three_replicas_share_tenants_evenly_and_without_a_hole(#[case] size: usize) {
    let database = Database::create(Backend::Postgres);
    let start = || TestApp::start_on(Arc::clone(&database), |_| {});
    let (a, b, c) = tokio::join!(start(), start(), start());
    let mut load = Load::new();
    let mut tallies: Vec<Vec<Tally>> = Vec::new();
    for app in [&a, &b, &c] {
        let of_app = ["tenants/x", "tenants/x", "tenants/y"].map(|tenant| load.add(&[&app.client], tenant, size));
        tallies.push(of_app.to_vec());
    }
    // Who begins first is no measure.
    soon(load.more_of_each(&tallies.iter().flatten().collect::<Vec<_>>(), 1)).await;
    let totals_now = || tallies.iter().map(|of_app| of_app.iter().map(Tally::get).sum()).collect::<Vec<u64>>();
    let before = totals_now();
    soon(load.more(calls_of(size))).await;
    let totals: Vec<u64> = totals_now().iter().zip(&before).map(|(now, before)| now - before).collect();
    let told = load.stop().await;
    told.assert_no_errors();
    told.assert_kept(&database);
    let (least, most) = (totals.iter().min().unwrap(), totals.iter().max().unwrap());
    assert!(least * 5 >= *most, "one starves: {totals:?}");
    stop_all([a, b, c]).await;
    assert_no_deadlock(&database);
}

/// Ends them and their sessions, so that the server's statistics are complete.
async fn stop_all(apps: impl IntoIterator<Item = TestApp>) {
    for app in apps {
        app.stop().await.unwrap().unwrap();
    }
}

#[rstest]
#[case::of_one_event(1)]
#[case::of_a_statement(20)]
#[case::of_a_copy(200)]
#[tokio::test]
async fn the_same_calls_to_several_replicas_at_once_are_stored_once(#[case] size: usize) {
    let database = Database::create(Backend::Postgres);
    let start = || TestApp::start_on(Arc::clone(&database), |_| {});
    let (a, b, c) = tokio::join!(start(), start(), start());
    let mut load = Load::new();
    for app in [&a, &b, &c] {
        load.add_as(1, &[&app.client], "tenants/x", size);
        load.add_as(2, &[&app.client], "tenants/x", size);
    }
    soon(load.more(calls_of(size))).await;
    let told = load.stop().await;
    told.assert_no_errors();
    told.assert_kept(&database);
    stop_all([a, b, c]).await;
    assert_no_deadlock(&database);
}

/// Whoever has waited for a head must see what its holder has stored, whatever the server's transactions see by default.
#[rstest]
#[tokio::test]
async fn the_isolation_that_the_server_has_by_default_is_not_relied_on(
    #[values("repeatable read", "serializable")] isolation: &str,
) {
    let database = Database::create(Backend::Postgres);
    let name = database.url.rsplit('/').next().unwrap();
    database.execute(&format!("ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'"));
    let start = || TestApp::start_on(Arc::clone(&database), |_| {});
    let (a, b) = tokio::join!(start(), start());
    let mut load = Load::new();
    for size in [1, 20, 200] {
        load.add(&[&a.client], "tenants/x", size);
        load.add(&[&b.client], "tenants/x", size);
    }
    soon(load.more(60)).await;
    let told = load.stop().await;
    told.assert_no_errors();
    told.assert_kept(&database);
}

/// What does not pass by itself is told from what may.
#[rstest]
#[case::of_others("serialization_failure", Code::Unavailable, "STORE_UNAVAILABLE")]
#[case::with_what_is_stored("unique_violation", Code::Internal, "INTERNAL")]
#[tokio::test]
async fn a_conflict_that_stays_is_answered_as_what_it_is(
    #[case] error: &str,
    #[case] code: Code,
    #[case] reason: &str,
) {
    let app = TestApp::start(Backend::Postgres).await;
    app.record(&Caller::root(), "tenants/x", event("k", "1")).await.unwrap();
    app.database.execute(&format!(
        "CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         RAISE EXCEPTION 'again' USING ERRCODE = '{error}'; END $$; \
         CREATE TRIGGER conflict BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION conflict()"
    ));
    for size in [1, 500] {
        let recorded = app.batch(&Caller::root(), "tenants/x", vec![item("", event("k", "1"), ""); size]).await;
        assert_error(recorded, code, reason);
    }
    app.database.execute("LOCK TABLE events; DROP TRIGGER conflict ON events");
    app.record(&Caller::root(), "tenants/x", event("k", "1")).await.unwrap();
}

/// Nor does one that is killed while the server is.
#[tokio::test]
async fn a_replica_that_is_killed_takes_nothing_with_it() {
    let cluster = Arc::new(Cluster::start(""));
    let database = Database::on(&cluster);
    let (mut a, b) = (ChildServer::serve(&database, &[]), ChildServer::serve(&database, &[]));
    let (of_a, of_b) = (a.client().await, b.client().await);
    let mut load = Load::new();
    for size in [1, 1, 20, 200] {
        load.add(&[&of_a, &of_b], "tenants/x", size);
        load.add(&[&of_b], "tenants/x", size);
    }
    soon(load.more(50)).await;
    a.kill();
    soon(load.more(50)).await;
    let mut a = ChildServer::serve(&database, &[]);
    load.add(&[&a.client().await, &of_b], "tenants/x", 20);
    soon(load.more(50)).await;
    let restarted = Arc::clone(&cluster);
    let restart = spawn_blocking(move || restarted.restart("immediate"));
    a.kill();
    restart.await.unwrap();
    soon(load.more(50)).await;
    let told = load.stop().await;
    told.assert_store_away_at_worst();
    told.assert_kept(&database);
}

#[rstest]
#[tokio::test]
async fn a_restart_of_the_server_loses_nothing(#[values("fast", "immediate")] mode: &'static str) {
    let cluster = Arc::new(Cluster::start(""));
    let database = Database::on(&cluster);
    let start = || TestApp::start_on(Arc::clone(&database), |_| {});
    let (a, b) = tokio::join!(start(), start());
    let mut load = Load::new();
    let mut tallies = Vec::new();
    for app in [&a, &b] {
        for size in [1, 1, 20, 200] {
            tallies.push(load.add(&[&app.client], "tenants/x", size));
        }
    }
    for _ in 0..2 {
        soon(load.more_of_each(&tallies.iter().collect::<Vec<_>>(), 5)).await;
        let cluster = Arc::clone(&cluster);
        spawn_blocking(move || cluster.restart(mode)).await.unwrap();
        // Whoever reads is not even told of it.
        assert!(!a.walk(&Caller::root(), list("tenants/x")).await.is_empty());
    }
    soon(load.more_of_each(&tallies.iter().collect::<Vec<_>>(), 5)).await;
    let told = load.stop().await;
    told.assert_store_away_at_worst();
    told.assert_kept(&database);
}

#[tokio::test]
async fn health_follows_the_server() {
    let cluster = Arc::new(Cluster::start(""));
    let app = TestApp::start_on(Database::on(&cluster), |_| {}).await;
    let mut health = serving(&app).await;
    for mode in ["fast", "immediate"] {
        let stopping = Arc::clone(&cluster);
        spawn_blocking(move || stopping.stop(mode)).await.unwrap();
        until(&mut health, ServingStatus::NotServing).await;
        let refused = app.record(&Caller::root(), "tenants/x", event("k", "1")).await.unwrap_err();
        // A connection that nobody has told yet that the server is gone leaves it open what became of the statement.
        let reason = refused.get_details_error_info().unwrap().reason;
        assert!(["STORE_UNAVAILABLE", "OUTCOME_UNKNOWN"].contains(&reason.as_str()), "{refused:?}");
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        let starting = Arc::clone(&cluster);
        spawn_blocking(move || starting.resume()).await.unwrap();
        until(&mut health, ServingStatus::Serving).await;
        app.record(&Caller::root(), "tenants/x", event("k", "1")).await.unwrap();
    }
}

/// Whoever reads meanwhile loses the pool's connections, and waits for new ones neither himself nor in the way of the probe.
#[tokio::test]
async fn reads_and_health_tell_at_once_that_the_server_has_stopped() {
    let cluster = Arc::new(Cluster::start(""));
    let app = TestApp::start_on(Database::on(&cluster), |_| {}).await;
    let mut health = serving(&app).await;
    let root = Caller::root();
    let read = async || {
        loop {
            let begun = Instant::now();
            let told = app.list(&root, list("tenants/x")).await;
            assert!(begun.elapsed() < AT_ONCE, "{told:?} after {:?}", begun.elapsed());
            between_looks().await;
        }
    };
    let stop = async {
        let stopping = Arc::clone(&cluster);
        spawn_blocking(move || stopping.stop("fast")).await.unwrap();
        let stopped = Instant::now();
        until(&mut health, ServingStatus::NotServing).await;
        assert!(stopped.elapsed() < AT_ONCE, "{:?} after it has stopped", stopped.elapsed());
        let starting = Arc::clone(&cluster);
        spawn_blocking(move || starting.resume()).await.unwrap();
        until(&mut health, ServingStatus::Serving).await;
    };
    tokio::select! {
        _ = async { tokio::join!(read(), read(), read()) } => unreachable!("they read for ever"),
        () = stop => (),
    }
    app.list(&root, list("tenants/x")).await.unwrap();
}

#[tokio::test]
async fn connections_that_are_cut_lose_nothing() {
    let database = Database::create(Backend::Postgres);
    let start = || TestApp::start_on(Arc::clone(&database), |_| {});
    let (a, b) = tokio::join!(start(), start());
    let mut load = Load::new();
    let mut tallies = Vec::new();
    for app in [&a, &b] {
        for (tenant, size) in
            [("tenants/x", 1), ("tenants/x", 20), ("tenants/x", 200), ("tenants/y", 1), ("tenants/z", 200)]
        {
            tallies.push(load.add(&[&app.client], tenant, size));
        }
    }
    let mut admin = Sql::open(&database);
    for _ in 0..25 {
        soon(load.more(3)).await;
        // Preferably in the middle of something.
        admin.values(
            "SELECT pg_terminate_backend(pid)::text AS value FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'auditlog' \
             ORDER BY state = 'idle', random() LIMIT 2",
        );
    }
    soon(load.more_of_each(&tallies.iter().collect::<Vec<_>>(), 3)).await;
    let told = load.stop().await;
    told.assert_store_away_at_worst();
    told.assert_kept(&database);
    assert!(!a.walk(&Caller::root(), list("tenants/y")).await.is_empty());
}

/// A replica whose sessions go by a name of their own.
fn replica_to_freeze(database: &Arc<Database>, settings: &[(&str, &str)]) -> ChildServer {
    let url = format!("{}?application_name=frozen", database.url);
    ChildServer::serve(database, &[&[("AUDITLOG_DATABASE_URL", url.as_str())], settings].concat())
}

/// Waits until a session of the replica is in the state that `condition` describes, and tells its process.
async fn until_session(sql: &mut Sql, condition: &str) -> String {
    let query = format!(
        "SELECT coalesce(min(pid)::text, '') AS value FROM pg_stat_activity WHERE datname = current_database() \
         AND application_name = 'frozen' AND {condition}"
    );
    let start = Instant::now();
    loop {
        let process = sql.value(&query);
        if !process.is_empty() {
            return process;
        }
        assert!(start.elapsed() < EVER, "no session of the replica was ever {condition}: {:?}", sql.values(
            "SELECT concat_ws(' ', application_name, state, wait_event_type, wait_event, backend_xid, left(query, 30)) AS value \
             FROM pg_stat_activity WHERE datname = current_database()"));
        between_looks().await;
    }
}

/// Asserts that another replica records into `tenant` before long.
async fn assert_recorded_soon(app: &TestApp, tenant: &str) {
    // Each time another one: an event that is stored already is found, and waits for nobody.
    static NEXT: AtomicU64 = AtomicU64::new(1_000_000);
    let (start, id) = (Instant::now(), id_at(PAST_MILLIS, NEXT.fetch_add(1, Ordering::Relaxed)));
    while app.record_as(&Caller::root(), tenant, event("k", "1"), &id).await.is_err() {
        assert!(start.elapsed() < FROZEN_AT_MOST, "{tenant} is still held after {:?}", start.elapsed());
        between_looks().await;
    }
    assert!(start.elapsed() < FROZEN_AT_MOST, "{tenant} was held for {:?}", start.elapsed());
}

/// An event so large that half a batch of them does not fit into the buffers between a replica and the server.
fn large_event() -> Event {
    Event { message: "x".repeat(1000), ..event("k", "1") }
}

#[tokio::test]
async fn a_replica_frozen_with_a_head_in_its_hand_holds_the_tenant_for_seconds() {
    const T: &str = "tenants/x";
    let database = Database::create(Backend::Postgres);
    let frozen = replica_to_freeze(&database, &[]);
    let client = frozen.client().await;
    let other = TestApp::start_on(Arc::clone(&database), |_| {}).await;
    let name = other.record(&Caller::root(), T, event("clusterprofile", "1")).await.unwrap().name;

    // A note is written the careful way. Its transaction is stopped at the head, its replica is frozen there, and then
    // gets the head.
    let (mut holder, mut sql) = (Sql::open(&database), Sql::open(&database));
    holder.run("BEGIN; SELECT FROM tree_heads WHERE tenant_id = 'x' FOR UPDATE");
    let request = AddUpdateNoteRequest { name: name.clone(), text: "why".to_owned(), note_id: id_at(PAST_MILLIS, 5) };
    let mut client = client.clone();
    let noted = tokio::spawn(async move { client.add_update_note(Caller::root().call(request)).await });
    let stopped = until_session(&mut sql, "wait_event_type = 'Lock'").await;
    frozen.freeze();
    let start = Instant::now();
    holder.run("COMMIT");
    // This very session: the replica may have others that it is frozen in.
    until_session(&mut sql, &format!("pid = {stopped} AND state = 'idle in transaction'")).await;
    assert_recorded_soon(&other, T).await;
    assert!(start.elapsed() > Duration::from_secs(1), "the replica held nothing");
    frozen.signal("CONT");
    // It finds its connection cut, and does it once more.
    soon(noted).await.unwrap().unwrap();
    assert_eq!(other.get(&Caller::root(), &name).await.unwrap().update_notes.len(), 1);
}

#[tokio::test]
async fn a_replica_frozen_in_a_copy_holds_ids_for_seconds_and_no_tenant() {
    const T: &str = "tenants/x";
    let database = Database::create(Backend::Postgres);
    // The server keeps the first thousand rows of a COPY in memory, where they are in nobody's way: a batch must be larger.
    let frozen = replica_to_freeze(&database, &[("AUDITLOG_LIMITS_BATCH_EVENTS", "2000")]);
    let client = frozen.client().await;
    let other = TestApp::start_on(Arc::clone(&database), |config| config.limits.batch_events = 2000).await;
    // So that the replica knows the head, and copies from memory.
    let send = |requests: Vec<_>| {
        let mut client = client.clone();
        let request = BatchRecordEventsRequest { requests, parent: T.to_owned() };
        tokio::spawn(async move { client.batch_record_events(Caller::root().call(request)).await })
    };
    soon(send(vec![item("", event("k", "1"), &id_at(PAST_MILLIS, 1))])).await.unwrap().unwrap();

    // Its COPY is stopped by a row of somebody else, it is frozen with half of its rows sent, and then the row goes.
    let batch: Vec<_> = (0..2000).map(|n| item("", large_event(), &id_at(PAST_MILLIS, 1000 + n))).collect();
    let (mut holder, mut sql) = (Sql::open(&database), Sql::open(&database));
    holder.run(&format!(
        "BEGIN; INSERT INTO events (tenant_id, event_id, project_id, leaf_index, record_time, action_type, \
         resource_type, body_commitment, leaf_hash) SELECT tenant_id, '{}', project_id, 99, record_time, action_type, \
         resource_type, body_commitment, leaf_hash FROM events",
        id_at(PAST_MILLIS, 1100)
    ));
    let sent = send(batch.clone());
    let stopped = until_session(&mut sql, "wait_event_type = 'Lock' AND query LIKE 'COPY%'").await;
    frozen.freeze();
    holder.run("ROLLBACK");
    let waits_for_rows = "state = 'active' AND wait_event = 'ClientRead' AND backend_xid IS NOT NULL";
    until_session(&mut sql, &format!("pid = {stopped} AND {waits_for_rows}")).await;

    let start = Instant::now();
    other.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(4), "a tenant was held for {:?}", start.elapsed());
    // Whoever got no answer asks another replica.
    let receipts = other.batch(&Caller::root(), T, batch).await.unwrap();
    assert!(start.elapsed() < FROZEN_AT_MOST, "ids were held for {:?}", start.elapsed());
    frozen.signal("CONT");
    assert_eq!(soon(sent).await.unwrap().unwrap().into_inner().receipts, receipts);
}

#[tokio::test]
async fn a_replica_frozen_at_any_moment_comes_back() {
    let database = Database::create(Backend::Postgres);
    let frozen = replica_to_freeze(&database, &[]);
    let client = frozen.client().await;
    let other = TestApp::start_on(Arc::clone(&database), |_| {}).await;
    let mut load = Load::new();
    let mut of_frozen = Vec::new();
    for (tenant, size) in [("tenants/x", 1), ("tenants/x", 200), ("tenants/y", 20), ("tenants/z", 300)] {
        of_frozen.push(load.add(&[&client], tenant, size));
        load.add(&[&other.client], tenant, size);
    }
    let of_frozen: Vec<&Tally> = of_frozen.iter().collect();
    for calls in [37, 11] {
        soon(load.more(calls)).await;
        frozen.freeze();
        for tenant in ["tenants/x", "tenants/y", "tenants/z"] {
            assert_recorded_soon(&other, tenant).await;
        }
        frozen.signal("CONT");
        soon(load.more_of_each(&of_frozen, 2)).await;
    }
    let told = load.stop().await;
    told.assert_store_away_at_worst();
    told.assert_kept(&database);
}
