//! `auditlog verify` as a client: against what the service lists, proves and signs.

use std::{fs, path::Path, process::Output, sync::Arc};

use auditlog::merkle::CheckpointKey;
use rstest::rstest;

use crate::{
    child::auditlog,
    harness::*,
    tamper::Tampering,
    verify::{assert_finds, assert_holds, sealed_log, stdout},
};

/// The verifier key of the tenant's log.
pub fn verifier_key(database: &Database) -> String {
    let key = fs::read_to_string(database.key_file()).unwrap();
    CheckpointKey::parse(&key).unwrap().verifier_key("auditlog.local/tenants/acme")
}

/// The arguments of a client who may do all.
pub fn service(app: &TestApp) -> Vec<String> {
    let permissions = ["get", "list", "export"].map(|name| format!("audit.{name}@*")).join(",");
    let mut arguments = vec!["--address".to_owned(), format!("http://{}", app.address)];
    for header in ["x-audit-subject: ann".to_owned(), format!("x-audit-permissions: {permissions}")] {
        arguments.extend(["-H".to_owned(), header]);
    }
    arguments
}

/// Runs the program beside the service that this process serves.
pub async fn run(folder: &Path, arguments: Vec<String>) -> Output {
    let mut command = auditlog(folder);
    command.args(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn verify(app: &TestApp, more: &[&str]) -> Output {
    let mut arguments: Vec<String> = ["verify", "--tenant", "acme"].map(str::to_owned).into();
    arguments.extend(service(app));
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    run(app.database.folder.path(), arguments).await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_log_holds_and_extends_a_saved_checkpoint(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let key = verifier_key(&app.database);
    let write_empty = ["--verifier-key", &key, "--write-checkpoint", "empty"];
    crate::verify::assert_no_log(&verify(&app, &write_empty).await);
    assert!(!app.database.folder.path().join("empty").exists());
    let empty = verify(&app, &[&write_empty[..], &["--allow-empty"]].concat()).await;
    assert!(assert_holds(&empty).contains("size: 0\n"));
    sealed_log(&app).await;
    let output = verify(&app, &["--verifier-key", &key, "--checkpoint", "empty", "--write-checkpoint", "first"]).await;
    let text = assert_holds(&output);
    assert!(text.starts_with("log: tenants/acme\nsize: 605\nevents: 600\nnotes: 5\nroot: "), "{text}");
    assert!(text.contains("is signed by auditlog.local/tenants/acme"), "{text}");
    app.record(&Caller::root(), "tenants/acme", event("cluster", "c")).await.unwrap();
    let output = verify(&app, &["--verifier-key", &key, "--checkpoint", "first"]).await;
    assert!(assert_holds(&output).contains("shown: the log extends the saved checkpoint of 605 leaves"));
    let output = verify(&app, &[]).await;
    assert!(assert_holds(&output).contains("not shown: that the operator's key has signed"));

    // From the database too, and with a checkpoint that was changed or is another log's.
    let saved = ["--checkpoint", "first", "--verifier-key", &key];
    assert!(assert_holds(&crate::verify::verify(&app.database, "acme", &saved)).contains("extends the saved"));
    let path = app.database.folder.path().join("first");
    let note = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{note}\n")).unwrap();
    assert!(assert_holds(&verify(&app, &saved).await).contains("extends the saved"));
    fs::write(&path, note.replacen("605", "604", 1)).unwrap();
    assert_finds("a changed checkpoint", &verify(&app, &saved).await, &["the checkpoint in first", "signature"]);
    assert_finds(
        "another root",
        &verify(&app, &["--checkpoint", "first"]).await,
        &["do not make the root of the saved"],
    );
    let other = crate::verify::verify(&app.database, "other", &["--checkpoint", "first"]);
    assert_eq!(other.status.code(), Some(2));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_in_the_database_is_named(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    sealed_log(&app).await;
    let mut tampering = Tampering::begin(&app.database);
    let month = 31 * 24 * 3600 * 1000;
    let id = id_at(START_MILLIS - 3 * month, 40);
    let note = id_at(START_MILLIS - month, 9000);
    let is_event = format!("WHERE event_id = '{id}'");
    let is_note = format!("WHERE note_id = '{note}'");
    for column in ["message", "action_type", "changes", "actor_id", "salt", "record_time", "project_id", "attributes"] {
        let value = tampering.other_value(column);
        tampering.run(&format!("UPDATE events SET {column} = {value} {is_event}"));
        assert_finds(column, &verify(&app, &[]).await, &[&id, "position 40"]);
        tampering.undo();
    }
    for column in ["text", "create_time", "author_id"] {
        let value = tampering.other_value(column);
        tampering.run(&format!("UPDATE update_notes SET {column} = {value} {is_note}"));
        assert_finds(column, &verify(&app, &[]).await, &[&note, "position 400"]);
        tampering.undo();
    }
    tampering.run(&format!("DELETE FROM events {is_event}"));
    assert_finds("a deleted event", &verify(&app, &[]).await, &["position 40:"]);
    tampering.undo();
    tampering.run(&format!("DELETE FROM update_notes {is_note}"));
    assert_finds("a deleted note", &verify(&app, &[]).await, &["position 400:"]);
    tampering.undo();
    // Beyond all that the log has, where no checkpoint covers it.
    let list = tampering.columns("events").into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
    let values = list.replace("event_id", "'01900000-0000-7000-8000-00000000dead'").replace("leaf_index", "1000000");
    tampering.run(&format!("INSERT INTO events ({list}) SELECT {values} FROM events {is_event}"));
    assert_finds("an added event", &verify(&app, &[]).await, &["00000000dead", "position 1000000"]);
    tampering.undo();
    assert_holds(&verify(&app, &[]).await);
}

/// All that stands in the database fits, but it is an older state of it: only who has kept a checkpoint can tell.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_is_told_by_a_saved_checkpoint(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let caller = Caller::root();
    let record = async |n: &str| app.record(&caller, "tenants/acme", event("cluster", n)).await.unwrap();
    record("1").await;
    record("2").await;
    let mut tampering = Tampering::begin(&app.database);
    let last = record("3").await;
    assert_holds(&verify(&app, &["--write-checkpoint", "kept"]).await);
    let database = Arc::clone(&app.database);
    app.stop().await.unwrap().unwrap();
    tampering.undo();
    let output = crate::verify::verify(&database, "acme", &[]);
    assert!(assert_holds(&output).contains("size: 2\n"), "{}", last.name);
    let output = crate::verify::verify(&database, "acme", &["--checkpoint", "kept"]);
    assert_finds("a backup", &output, &["has 2 leaves, fewer than the 3 of the saved checkpoint"]);
}

/// A log in its second epoch: any key of it is good, and an earlier checkpoint that does not fit names the epochs.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn after_an_acknowledged_rollback_a_new_baseline_is_begun(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let record = async |n: &str| app.record(&Caller::root(), "tenants/acme", event("cluster", n)).await;
    record("1").await.unwrap();
    let mut tampering = Tampering::begin(&app.database);
    for n in ["2", "3", "4"] {
        record(n).await.unwrap();
    }
    let first = verifier_key(&app.database);
    let second = app.database.key().verifier_key("auditlog.local/tenants/acme/epochs/2");
    assert_holds(&verify(&app, &["--verifier-key", &second, "--write-checkpoint", "kept"]).await);
    tampering.undo();
    // The service says what has happened, at once, and nothing is made of a file.
    let output = verify(&app, &[]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("LOG_ROLLED_BACK") && said.contains("(attempt 1)"), "{said}");
    let output = crate::export_cli::export(&app, "a.csv", &[]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("LOG_ROLLED_BACK") && said.contains(&format!("http://{}", app.address)), "{said}");
    assert!(!app.database.folder.path().join("a.csv.part").exists());

    assert!(crate::rollback::try_acknowledge(&app.database, "acme", &[]).status.success());
    let says = ["has 2 leaves, fewer than the 4", "the log is in epoch 2, and the saved checkpoint in epoch 1"];
    assert_finds("as a client", &verify(&app, &["--checkpoint", "kept"]).await, &says);
    assert_finds("the database", &crate::verify::verify(&app.database, "acme", &["--checkpoint", "kept"]), &says);
    for key in [&first, &second] {
        let output = verify(&app, &["--verifier-key", key, "--write-checkpoint", "new"]).await;
        assert!(assert_holds(&output).contains("is signed by auditlog.local/tenants/acme/epochs/2\n"));
        assert_holds(&verify(&app, &["--verifier-key", key, "--checkpoint", "new"]).await);
        assert_holds(&crate::verify::verify(&app.database, "acme", &["--verifier-key", key, "--checkpoint", "new"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_the_tenant_or_reaches_nobody_learns_nothing() {
    let app = TestApp::start(Backend::Sqlite).await;
    sealed_log(&app).await;
    let folder = app.database.folder.path();
    let address = format!("http://{}", app.address);
    let call = |header: &str| {
        let arguments = ["verify", "--tenant", "acme", "--address", &address, "-H", header].map(str::to_owned);
        run(folder, arguments.into())
    };
    let output = call("x-audit-subject: bob").await;
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), ""));
    assert!(String::from_utf8_lossy(&output.stderr).contains("PERMISSION_MISSING"));
    assert_eq!(call("authorization: Bearer x").await.status.code(), Some(2));
}
