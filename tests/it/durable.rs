//! What stands behind an acknowledgement: what a session is told before it writes, and what is said of a commit that gave no answer.

use rstest::rstest;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{harness::*, sql::Sql};

const T: &str = "tenants/acme";

/// An event by itself, one on top of what is remembered, a batch that is copied, and a note.
async fn write_in_each_way(app: &TestApp) {
    let root = Caller::root();
    let name = app.record(&root, T, event("clusterprofile", "1")).await.unwrap().name;
    app.record(&root, T, event("k", "2")).await.unwrap();
    app.batch(&root, T, vec![item("", event("k", "3"), ""); 200]).await.unwrap();
    app.note(&root, &name, "why", "").await.unwrap();
}

/// Also where the server's administrator has set less for the database. `remote_apply` waits for more than the disk.
#[rstest]
#[tokio::test]
async fn a_commit_on_postgres_waits_for_the_disk_and_for_nobody_without_end(
    #[values(("off", "on"), ("local", "on"), ("remote_write", "on"), ("remote_apply", "remote_apply"))] commit: (
        &str,
        &str,
    ),
) {
    let database = Database::for_service(Backend::Postgres);
    let name = database.url.rsplit('/').next().unwrap();
    let mut sql = Sql::open(&database);
    sql.run(&format!(
        "ALTER DATABASE {name} SET synchronous_commit = {}; ALTER DATABASE {name} SET lock_timeout = 0; \
         ALTER DATABASE {name} SET default_transaction_isolation = serializable",
        commit.0
    ));
    sql.run(
        "CREATE TABLE noted (setting text); \
         CREATE FUNCTION note_settings() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         INSERT INTO noted SELECT name || '=' || current_setting(name) FROM unnest(ARRAY['synchronous_commit', \
         'lock_timeout', 'statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_isolation']) AS name; \
         RETURN NULL; END $$; \
         CREATE TRIGGER noting AFTER INSERT OR UPDATE ON tree_heads FOR EACH ROW EXECUTE FUNCTION note_settings()",
    );
    let app = TestApp::start_on(database, |_| {}).await;
    write_in_each_way(&app).await;
    assert_eq!(sql.value("SELECT count(*)::text AS value FROM noted"), "20");
    let expected = [
        "idle_in_transaction_session_timeout=5s".to_owned(),
        "lock_timeout=5s".to_owned(),
        "statement_timeout=10s".to_owned(),
        format!("synchronous_commit={}", commit.1),
        "transaction_isolation=read committed".to_owned(),
    ];
    assert_eq!(sql.values("SELECT DISTINCT setting COLLATE \"C\" AS value FROM noted ORDER BY 1"), expected);
}

#[tokio::test]
async fn a_commit_on_sqlite_waits_for_the_disk() {
    let app = TestApp::start(Backend::Sqlite).await;
    let mut sql = Sql::open(&app.database);
    // 2 is FULL.
    let note = "BEGIN INSERT INTO noted SELECT 'synchronous=' || synchronous FROM pragma_synchronous; \
                INSERT INTO noted SELECT 'journal_mode=' || journal_mode FROM pragma_journal_mode; END";
    sql.run(&format!(
        "CREATE TABLE noted (setting TEXT); CREATE TRIGGER noting_first AFTER INSERT ON tree_heads {note}; \
         CREATE TRIGGER noting AFTER UPDATE ON tree_heads {note}"
    ));
    write_in_each_way(&app).await;
    assert_eq!(sql.value("SELECT count(*) || '' AS value FROM noted"), "8");
    let noted = sql.values("SELECT DISTINCT setting AS value FROM noted ORDER BY 1");
    assert_eq!(noted, ["journal_mode=wal", "synchronous=2"]);
}

/// The session ends while it commits, as when the server is killed, and what comes next fails for another reason: nothing says that
/// the first one was not stored.
#[rstest]
#[tokio::test]
async fn a_commit_that_gives_no_answer_on_postgres_is_called_unknown(
    #[values(1, 200)] events: u64,
    #[values(true, false)] is_known: bool,
) {
    let app = TestApp::start(Backend::Postgres).await;
    let (root, mut sql) = (Caller::root(), Sql::open(&app.database));
    sql.run(
        "CREATE SEQUENCE commits; \
         CREATE FUNCTION break() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF nextval('commits') % 2 = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; \
         RAISE EXCEPTION 'the disk is full' USING ERRCODE = 'disk_full'; END $$",
    );
    for (parent, own_id) in [("tenants/own", true), ("tenants/none", false)] {
        if is_known {
            app.record(&root, parent, event("k", "0")).await.unwrap();
        }
        let id = |n| if own_id { id_at(START_MILLIS, n) } else { String::new() };
        let items: Vec<_> = (0..events).map(|n| item("", event("k", "1"), &id(n))).collect();
        sql.run(
            "CREATE CONSTRAINT TRIGGER breaking AFTER INSERT OR UPDATE ON tree_heads DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION break(); ALTER SEQUENCE commits RESTART",
        );
        let answer = app.batch(&root, parent, items.clone()).await;
        let status = assert_error(answer, Code::Unavailable, "OUTCOME_UNKNOWN");
        assert_eq!(sql.value("SELECT last_value::text AS value FROM commits"), "2", "{status:?}");
        // Who has not given an id must look first.
        assert_eq!(status.get_details_retry_info().is_some(), own_id, "{status:?}");
        sql.run("DROP TRIGGER breaking ON tree_heads");
        app.batch(&root, parent, items).await.unwrap();
        assert_eq!(app.walk(&root, list(parent)).await.len() as u64, events + u64::from(is_known));
    }
}
