//! The key that signs: made, given, missing, and wrong.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc};

use rstest::rstest;
use tonic::Code;

use crate::{child::ChildServer, harness::*, sql::Sql};

const T: &str = "tenants/acme";

async fn start_error(database: &Arc<Database>, key_file: &std::path::Path) -> String {
    let started = TestApp::try_start(Arc::clone(database), START_MILLIS, |config| {
        config.checkpoint.key_file = key_file.to_owned();
    });
    started.await.err().expect("the start was to be refused").to_string()
}

#[tokio::test]
async fn on_sqlite_the_first_start_makes_the_key_and_later_ones_use_it() {
    let database = Database::create(Backend::Sqlite);
    assert!(!database.key_file().exists());
    let app = TestApp::start_on(Arc::clone(&database), |_| {}).await;
    assert_eq!(fs::metadata(database.key_file()).unwrap().permissions().mode() & 0o7777, 0o600);
    let first = app.checkpoint(&Caller::root(), T).await.unwrap().checkpoint;
    app.stop().await.unwrap().unwrap();
    let app = TestApp::start_on(Arc::clone(&database), |_| {}).await;
    assert_eq!(app.checkpoint(&Caller::root(), T).await.unwrap().checkpoint, first);
    verified(&first, &database.verifier_key("acme"));
}

/// A key that has signed and is gone is not replaced by another: the database would refuse it.
#[tokio::test]
async fn on_sqlite_a_key_that_was_lost_is_not_made_anew() {
    let app = TestApp::start(Backend::Sqlite).await;
    let database = Arc::clone(&app.database);
    app.stop().await.unwrap().unwrap();
    fs::rename(database.key_file(), database.folder.path().join("copy")).unwrap();
    let app = TestApp::start_on(Arc::clone(&database), watched).await;
    assert!(!database.key_file().exists());
    assert_error(app.checkpoint(&Caller::root(), T).await, Code::FailedPrecondition, "SIGNING_KEY_MISSING");
    assert!(app.metrics().await.contains("\nauditlog_signing 0\n"));
    app.stop().await.unwrap().unwrap();
    fs::rename(database.folder.path().join("copy"), database.key_file()).unwrap();
    let app = TestApp::start_on(database, watched).await;
    app.checkpoint(&Caller::root(), T).await.unwrap();
    assert_eq!(app.metric("auditlog_signing").await, 1.0);
}

#[tokio::test]
async fn without_a_key_postgres_records_reads_exports_and_proves_unsigned() {
    let absent = |config: &mut auditlog::config::Config| config.checkpoint.key_file = "/nonexistent/absent.key".into();
    let app = TestApp::start_with(Backend::Postgres, absent).await;
    let root = Caller::root();
    let name = app.record(&root, T, event("k", "1")).await.unwrap().name;
    let status = assert_error(app.checkpoint(&root, T).await, Code::FailedPrecondition, "SIGNING_KEY_MISSING");
    for part in ["auditlog key new", "/nonexistent/absent.key", "checkpoint.key_file"] {
        assert!(status.message().contains(part), "{status:?}");
    }
    let inclusion = app.inclusion(&root, &name, "", 0).await.unwrap();
    assert_eq!((inclusion.leaf_index, inclusion.tree_size, inclusion.checkpoint.as_str()), (Some(0), 1, ""));
    assert_eq!(app.consistency(&root, T, 1, 0).await.unwrap().checkpoint, "");
    assert_eq!(app.leaves(&root, T, 0, 0).await.unwrap().leaves, [inclusion.leaf]);
    let exported = app.export(&root, export_of(T)).await.unwrap();
    assert_eq!(exported.trailing("x-audit-row-count"), "1");
    assert!(exported.trailing.get_bin("x-audit-manifest-bin").is_none());
}

#[test]
fn a_start_without_a_key_warns_once_with_the_fix() {
    let database = Database::create(Backend::Postgres);
    fs::remove_file(database.key_file()).unwrap();
    let server = ChildServer::serve(&database, &[]);
    let log = server.log();
    let of_key: Vec<_> = log.lines().filter(|line| line.contains("auditlog key new")).collect();
    assert_eq!(of_key.len(), 1, "{log}");
    assert!(of_key[0].contains("WARN"), "{of_key:?}");
    assert!(of_key[0].contains("AUDITLOG_CHECKPOINT_KEY_FILE"), "{of_key:?}");
}

#[rstest]
#[tokio::test]
async fn another_key_refuses_to_start(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let other = app.database.folder.path().join("other.key");
    write_key(&other, 7);
    let error = start_error(&app.database, &other).await;
    let stored = hex::encode(app.database.key().public_key());
    for part in [stored.as_str(), "other.key", "give this replica the file that the others have"] {
        assert!(error.contains(part), "{error}");
    }
    // And it has left no trace.
    app.checkpoint(&Caller::root(), T).await.unwrap();
    assert_eq!(app.database.key().public_key().len(), 32);
}

#[rstest]
#[tokio::test]
async fn a_key_file_that_is_no_good_refuses_to_start(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let database = Database::create(backend);
    let file = database.folder.path().join("some.key");
    write_key(&file, 5);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(start_error(&database, &file).await.contains("has mode 0644"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, "nothing").unwrap();
    assert!(start_error(&database, &file).await.contains("it holds no checkpoint key"));
}

/// Replicas that start together agree on the first key, and the one with another does not start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_replicas_that_start_together_with_two_keys_one_is_refused() {
    let database = Database::create(Backend::Postgres);
    let other = database.folder.path().join("other.key");
    write_key(&other, 7);
    let start = |key_file: std::path::PathBuf| {
        TestApp::try_start(Arc::clone(&database), START_MILLIS, |config| config.checkpoint.key_file = key_file)
    };
    let (first, second) = tokio::join!(start(database.key_file()), start(other));
    assert!(first.is_ok() != second.is_ok());
}

#[rstest]
#[tokio::test]
async fn the_stored_key_stays(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let mut sql = Sql::open(&app.database);
    for statement in ["DELETE FROM signing_keys", "UPDATE signing_keys SET number = 1"] {
        sql.refused(statement, "append-only");
    }
    sql.try_run("INSERT INTO signing_keys SELECT 2, public_key FROM signing_keys").unwrap_err();
    if backend == Backend::Postgres {
        sql.refused("TRUNCATE signing_keys", "append-only");
    }
}
