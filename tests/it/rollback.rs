//! A log that went back, as when an older backup is restored, is noticed, and nothing is recorded for it before an
//! operator has acknowledged that.

use std::{process::Output, sync::Arc};

use auditlog::proto::auditlog::v1::Event;
use rstest::rstest;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    child::{PAST_MILLIS, auditlog},
    harness::*,
    sealed::{assert_sealed, record_many},
    sql::Sql,
};

const T: &str = "tenants/acme";

/// What the first `size` leaves looked like, as SQL that brings them back.
fn backup(database: &Database, size: u64) -> String {
    let mut sql = Sql::open(database);
    let hex = if database.backend == Backend::Sqlite { "hex(frontier)" } else { "encode(frontier, 'hex')" };
    let frontier = sql.value(&format!("SELECT {hex} AS value FROM tree_heads WHERE tenant_id = 'acme'"));
    let literal =
        if database.backend == Backend::Sqlite { format!("x'{frontier}'") } else { format!("'\\x{frontier}'") };
    format!(
        "DELETE FROM events WHERE tenant_id = 'acme' AND leaf_index >= {size}; \
         DELETE FROM tree_tiles WHERE tenant_id = 'acme' AND level = 0 AND tile_index >= {size} / 256; \
         UPDATE tree_heads SET tree_size = {size}, frontier = {literal} WHERE tenant_id = 'acme'"
    )
}

#[track_caller]
fn assert_rolled_back<T: std::fmt::Debug>(result: Result<T, Status>) {
    let status = assert_error(result, Code::Unavailable, "LOG_ROLLED_BACK");
    assert!(status.message().contains("tenants/acme") && status.message().contains("acknowledge-rollback"));
    assert!(status.get_details_retry_info().is_none(), "{status:?}");
}

async fn record_one(app: &TestApp, parent: &str) -> Result<i64, Status> {
    app.record(&Caller::root(), parent, event("k", "1")).await.map(|receipt| receipt.leaf_index.unwrap())
}

fn acknowledge(database: &Database) -> String {
    let output = try_acknowledge(database, "acme", &[]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn try_acknowledge(database: &Database, tenant: &str, more: &[&str]) -> Output {
    let mut command = auditlog(database.folder.path());
    command.env("AUDITLOG_DATABASE_URL", &database.url);
    command.args(["acknowledge-rollback", "--tenant", tenant, "--by", "olga", "--reason", "restored Monday's backup"]);
    command.args(more).output().unwrap()
}

#[track_caller]
fn assert_not_acknowledged(output: &Output, says: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{said}");
    assert!(said.contains(says), "{said}");
}

/// An epoch cannot be taken back, so none begins by a slip.
#[rstest]
#[tokio::test]
async fn a_log_that_is_not_there_or_was_acknowledged_already_takes_force(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    record_many(&app, T, 0, 3).await;
    assert_not_acknowledged(&try_acknowledge(&app.database, "acmf", &[]), "tenants/acmf has no log");
    let none = "SELECT CAST(count(*) AS TEXT) AS value FROM tree_heads WHERE tenant_id = 'acmf'";
    assert_eq!(Sql::open(&app.database).value(none), "0");

    let first = try_acknowledge(&app.database, "acme", &[]);
    assert_eq!((first.status.code(), &*first.stdout), (Some(0), &b"2\n"[..]));
    assert!(String::from_utf8_lossy(&first.stderr).contains("had 3 leaves, and begins epoch 2"), "{first:?}");
    let again = try_acknowledge(&app.database, "acme", &[]);
    assert_not_acknowledged(&again, "acknowledged already: epoch 2 began at its 4 leaves");
    assert_eq!(app.walk(&Caller::root(), list(T)).await.len(), 4);
    assert_eq!(try_acknowledge(&app.database, "acme", &["--force"]).stdout, b"3\n");
    assert_eq!(record_one(&app, T).await.unwrap(), 5);
    assert_eq!(acknowledge(&app.database), "4\n");
    assert_sealed(&app.database);
}

/// A service that was started in the middle of a tile reads its beginning when it finishes it. That it is not all there any more is no
/// fault of the service's.
#[rstest]
#[tokio::test]
async fn a_log_that_went_back_is_told_where_the_beginning_of_a_tile_is_read(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let before = TestApp::start(backend).await;
    record_many(&before, T, 0, 200).await;
    let (database, backup) = (Arc::clone(&before.database), backup(&before.database, 200));
    record_many(&before, T, 200, 40).await;
    before.stop().await.unwrap().unwrap();
    let app = TestApp::start_on(Arc::clone(&database), |_| {}).await;
    assert_eq!(record_one(&app, T).await.unwrap(), 240);
    database.forge(&backup);
    let batch = vec![item("", event("k", "1"), ""); 20];
    assert_rolled_back(app.batch(&Caller::root(), T, batch.clone()).await);
    acknowledge(&database);
    assert_eq!(app.batch(&Caller::root(), T, batch).await.unwrap()[0].leaf_index, Some(201));
}

#[test]
fn a_database_that_is_not_there_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = auditlog(folder.path());
    command.args(["acknowledge-rollback", "--tenant", "acme", "--by", "olga", "--reason", "why"]);
    assert_not_acknowledged(&command.output().unwrap(), "auditlog.db");
    assert!(!folder.path().join("auditlog.db").exists());
}

#[rstest]
#[case::a_few_leaves(5, 3)]
#[case::across_a_tile(250, 20)]
#[tokio::test]
async fn a_restored_backup_stops_its_tenant_until_it_is_acknowledged(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
    #[case] kept: u64,
    #[case] lost: u64,
) {
    let app = TestApp::start(backend).await;
    record_many(&app, T, 0, kept).await;
    let backup = backup(&app.database, kept);
    record_many(&app, T, kept, lost).await;
    app.database.forge(&backup);

    assert_rolled_back(record_one(&app, T).await);
    assert_rolled_back(record_one(&app, "tenants/acme/projects/p").await);
    assert_rolled_back(app.export(&Caller::root(), export_of(T)).await.map(|_| ()));
    // Nothing is signed either, and nothing proved.
    assert_rolled_back(app.checkpoint(&Caller::root(), T).await);
    assert_rolled_back(app.consistency(&Caller::root(), T, 1, 0).await);
    assert_rolled_back(app.leaves(&Caller::root(), T, 0, 0).await);
    // It is nobody else's concern, whoever shares a batch with it; and what is stored can be read.
    assert_eq!(record_one(&app, "tenants/other").await.unwrap(), 0);
    let (refused, taken) = tokio::join!(record_one(&app, T), record_one(&app, "tenants/other"));
    assert_rolled_back(refused);
    assert_eq!(taken.unwrap(), 1);
    assert_eq!(app.walk(&Caller::root(), list(T)).await.len(), usize::try_from(kept).unwrap());

    assert_eq!(acknowledge(&app.database), "2\n");
    let checkpoint = app.checkpoint(&Caller::root(), T).await.unwrap().checkpoint;
    let second = auditlog::merkle::epoch_name("auditlog.local", "acme", 2);
    assert_eq!(verified(&checkpoint, &app.database.key().verifier_key(&second)).size, kept + 1);
    let next = i64::try_from(kept).unwrap() + 1;
    assert_eq!(record_one(&app, T).await.unwrap(), next);
    assert_eq!(record_one(&app, T).await.unwrap(), next + 1);
    assert_sealed(&app.database);
    let told = app.walk(&Caller::root(), list(T)).await.into_iter().find(is_acknowledgement).expect("the event of it");
    assert!(told.message.contains("restored Monday's backup"), "{told:?}");
    assert_eq!((told.actor.unwrap().id, told.leaf_index), ("olga".to_owned(), Some(next - 1)));
    assert_eq!(told.recorder.unwrap().id, "auditlog", "nobody has authenticated her");
    let epoch = Sql::open(&app.database).value(
        "SELECT tenant_id || ' ' || epoch || ' ' || tree_size || ' ' || acknowledged_by || ': ' || reason AS value \
         FROM log_epochs",
    );
    assert_eq!(epoch, format!("acme 2 {next} olga: restored Monday's backup"));
}

fn is_acknowledgement(event: &Event) -> bool {
    event.resource.as_ref().is_some_and(|resource| resource.r#type == "audit_rollback" && resource.id == "acme")
}

#[rstest]
#[tokio::test]
async fn a_head_that_is_gone_is_noticed(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    record_many(&app, T, 0, 3).await;
    app.database.forge("DELETE FROM events; DELETE FROM tree_heads");
    assert_rolled_back(record_one(&app, T).await);
    assert_not_acknowledged(&try_acknowledge(&app.database, "acme", &[]), "add --force");
    assert_eq!(try_acknowledge(&app.database, "acme", &["--force"]).stdout, b"2\n");
    assert_eq!(record_one(&app, T).await.unwrap(), 1);
    assert_sealed(&app.database);
}

/// Another replica, which had seen less, has recorded in the restored log until it was as long as before, and longer.
#[rstest]
#[case::as_long(3)]
#[case::longer(7)]
#[case::longer_by_a_tile(300)]
#[tokio::test]
async fn a_log_that_went_back_and_grew_again_is_noticed(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
    #[case] again: u64,
) {
    let app = TestApp::start(backend).await;
    record_many(&app, T, 0, 5).await;
    let backup = backup(&app.database, 5);
    record_many(&app, T, 5, 3).await;
    app.database.forge(&backup);
    let other = TestApp::start_on(Arc::clone(&app.database), |_| {}).await;
    record_many(&other, T, 1000, again).await;
    assert_rolled_back(record_one(&app, T).await);
    other.stop().await.unwrap().unwrap();
}

/// A writer that is behind what its own process has seen must not take the log that went back to its own place for good.
#[rstest]
#[tokio::test]
async fn a_log_that_went_back_to_where_this_writer_left_it_is_noticed(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let database = Database::create(backend);
    let a = TestApp::start_on(Arc::clone(&database), |_| {}).await;
    let b = TestApp::start_on(Arc::clone(&database), |_| {}).await;
    record_many(&b, T, 0, 3).await;
    let backup = backup(&database, 3);
    record_many(&a, T, 3, 2).await;
    assert_eq!(b.checkpoint(&Caller::root(), T).await.unwrap().tree_size, Some(5));
    database.forge(&backup);
    assert_rolled_back(b.checkpoint(&Caller::root(), T).await);
    assert_rolled_back(record_one(&b, T).await);
    assert_rolled_back(record_one(&b, T).await);
    assert_rolled_back(b.checkpoint(&Caller::root(), T).await);
    a.stop().await.unwrap().unwrap();
    b.stop().await.unwrap().unwrap();
}

#[rstest]
#[tokio::test]
async fn an_epoch_that_nobody_has_acknowledged_is_not_believed(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    record_many(&app, T, 0, 3).await;
    let backup = backup(&app.database, 3);
    record_many(&app, T, 3, 2).await;
    app.database.forge(&format!("{backup}; UPDATE tree_heads SET epoch = 2"));
    assert_rolled_back(record_one(&app, T).await);
    assert_rolled_back(app.checkpoint(&Caller::root(), T).await);
}

/// Whoever shares a batch with a log that somebody has broken.
#[rstest]
#[tokio::test]
async fn a_broken_head_is_nobody_elses_concern(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    record_many(&app, T, 0, 3).await;
    let broken = if backend == Backend::Sqlite { "x'00'" } else { "'\\x00'" };
    app.database.forge(&format!("UPDATE tree_heads SET frontier = {broken}"));
    for n in 0..5 {
        let (broken, good, other) =
            tokio::join!(record_one(&app, T), record_one(&app, "tenants/good"), record_one(&app, "tenants/other"));
        assert_error(broken, Code::Internal, "INTERNAL");
        assert_eq!((good.unwrap(), other.unwrap()), (n, n));
    }
}

#[rstest]
#[tokio::test]
async fn replicas_that_record_in_turn_take_each_others_growth_for_what_it_is(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let database = Database::create(backend);
    let a = TestApp::start_on(Arc::clone(&database), |_| {}).await;
    let b = TestApp::start_on(Arc::clone(&database), |_| {}).await;
    for (n, count) in [1, 300, 2, 255, 257, 1, 1].into_iter().enumerate() {
        let app = if n % 2 == 0 { &a } else { &b };
        record_many(app, T, 1000 * n as u64, count).await;
    }
    assert_sealed(&database);
    a.stop().await.unwrap().unwrap();
    b.stop().await.unwrap().unwrap();
}

#[rstest]
#[tokio::test]
async fn an_acknowledgement_that_says_nothing_is_refused(#[values(Backend::Sqlite)] backend: Backend) {
    let database = Database::create(backend);
    let app = TestApp::start_on(Arc::clone(&database), |_| {}).await;
    app.record_as(&Caller::root(), T, event("k", "1"), &id_at(PAST_MILLIS, 1)).await.unwrap();
    for (tenant, by, reason) in [("", "olga", "why"), ("acme", "", "why"), ("acme", "olga", ""), ("a/b", "olga", "why")]
    {
        let mut command = auditlog(database.folder.path());
        command.env("AUDITLOG_DATABASE_URL", &database.url);
        command.args(["acknowledge-rollback", "--tenant", tenant, "--by", by, "--reason", reason]);
        let output = command.output().unwrap();
        assert!(!output.status.success(), "{tenant:?} {by:?} {reason:?}");
    }
    assert_eq!(record_one(&app, T).await.unwrap(), 1);
}
