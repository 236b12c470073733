//! A database that is slow, or full: calls end in time, say so, and do not stand in each other's way.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tonic::Code;

use crate::{harness::*, sql::Sql};

const T: &str = "tenants/acme";
const TIMEOUT: Duration = Duration::from_millis(1500);
/// A call tries twice at most, and makes a connection in between; the rest is for a machine that is busy.
const IN_TIME: Duration = Duration::from_secs(30);

async fn start(database: &Arc<Database>, pool_size: u32) -> TestApp {
    TestApp::start_on(Arc::clone(database), |config| {
        config.database.statement_timeout = TIMEOUT;
        config.database.pool_size = pool_size;
    })
    .await
}

#[tokio::test]
async fn a_locked_table_ends_calls_in_time() {
    let database = Database::for_service(Backend::Postgres);
    let app = start(&database, 8).await;
    let root = Caller::root();
    let name = app.record(&root, T, event("clusterprofile", "1")).await.unwrap().name;
    let mut holder = Sql::open(&database);
    holder.run("BEGIN; LOCK TABLE events, tree_heads IN ACCESS EXCLUSIVE MODE");

    let begun = Instant::now();
    let (single, batch, note, got, listed) = tokio::join!(
        app.record(&root, T, event("k", "1")),
        app.batch(&root, T, vec![item("", event("k", "1"), ""); 500]),
        app.note(&root, &name, "why", ""),
        app.get(&root, &name),
        app.list(&root, list(T)),
    );
    assert!(begun.elapsed() < IN_TIME, "{:?}", begun.elapsed());
    assert_error(single, Code::Unavailable, "STORE_UNAVAILABLE");
    assert_error(batch, Code::Unavailable, "STORE_UNAVAILABLE");
    assert_error(note, Code::Unavailable, "STORE_UNAVAILABLE");
    assert_error(got, Code::Unavailable, "STORE_UNAVAILABLE");
    assert_error(listed, Code::Unavailable, "STORE_UNAVAILABLE");

    holder.run("COMMIT");
    assert_eq!(app.record(&root, T, event("k", "1")).await.unwrap().leaf_index, Some(1));
    assert_eq!(app.walk(&root, list(T)).await.len(), 2);
}

#[tokio::test]
async fn readers_that_wait_keep_nobody_from_recording() {
    let database = Database::for_service(Backend::Postgres);
    let app = start(&database, 2).await;
    let root = Caller::root();
    app.record(&root, T, event("k", "1")).await.unwrap();
    // Whoever lists looks for notes; whoever records does not.
    let mut holder = Sql::open(&database);
    holder.run("BEGIN; LOCK TABLE update_notes IN ACCESS EXCLUSIVE MODE");

    let begun = Instant::now();
    let lists = join_all((0..20).map(|_| app.list(&root, list(T))));
    let records = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let begun = Instant::now();
            app.record(&root, T, event("k", "1")).await.unwrap();
            slowest = slowest.max(begun.elapsed());
        }
        (slowest, begun.elapsed())
    };
    let (lists, (slowest, recorded)) = tokio::join!(lists, records);
    assert!(begun.elapsed() < IN_TIME, "{:?}", begun.elapsed());
    assert!(begun.elapsed() >= TIMEOUT && recorded <= begun.elapsed(), "nobody has waited");
    assert!(slowest < TIMEOUT, "a record took {slowest:?}");
    for list in lists {
        assert_error(list, Code::Unavailable, "STORE_UNAVAILABLE");
    }
    holder.run("COMMIT");
    assert_eq!(app.walk(&root, list(T)).await.len(), 21);
}

#[tokio::test]
async fn a_full_disk_stores_nothing_and_says_so() {
    let database = Database::for_service(Backend::Postgres);
    let app = start(&database, 2).await;
    let root = Caller::root();
    app.record(&root, T, event("k", "1")).await.unwrap();
    let mut sql = Sql::open(&database);
    // As the server fails when it cannot extend a file.
    sql.run(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$; \
         CREATE TRIGGER full_disk BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION full_disk()",
    );
    for size in [1, 20, 500] {
        let recorded = app.batch(&root, T, vec![item("", event("k", "1"), ""); size]).await;
        assert_error(recorded, Code::Unavailable, "STORE_UNAVAILABLE");
    }
    assert_eq!(app.walk(&root, list(T)).await.len(), 1);
    sql.run("LOCK TABLE events; DROP TRIGGER full_disk ON events");
    assert_eq!(app.record(&root, T, event("k", "1")).await.unwrap().leaf_index, Some(1));
}
