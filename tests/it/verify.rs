//! `auditlog verify` straight from the database: what is as it was sealed holds, nothing is written, and what cannot be
//! checked is told from what does not hold. `verify_tampering` is about what was changed.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Output, sync::Arc};

use auditlog::proto::auditlog::v1::{ActionType, Event, FieldChange, RequestContext};
use rstest::rstest;

use crate::{child::auditlog, harness::*};

pub const T: &str = "tenants/acme";
pub const MONTH: i64 = 31 * 24 * 3600 * 1000;
/// More than two tiles of leaves, and then some.
const EVENTS: u64 = 600;

pub fn note_id(n: u64) -> String {
    id_at(START_MILLIS - MONTH, 9000 + n)
}

fn full(n: u64) -> Event {
    let mut event = event("clusterprofile", &format!("cp-{n}"));
    event.action_type = ActionType::Update.into();
    event.message = format!("raised {n}");
    event.changes = vec![FieldChange { field: "spec".to_owned(), old_value: None, new_value: Some(String::new()) }];
    event.context = Some(RequestContext { source_ip: "198.51.100.7".to_owned(), ..RequestContext::default() });
    event.attributes = [("ticket".to_owned(), format!("OPS-{n}"))].into();
    event
}

/// A log of 605 leaves over several months: events of the tenant and of a project, notes between them and at the end, one
/// body erased.
pub async fn sealed_log(app: &TestApp) {
    let caller = Caller::root();
    let requests: Vec<_> = (0..EVENTS)
        .map(|n| {
            let month = i64::try_from(n % 4).unwrap();
            let parent = if n % 2 == 0 { "tenants/acme/projects/web" } else { T };
            item(parent, full(n), &id_at(START_MILLIS - (3 - month) * MONTH, n))
        })
        .collect();
    let name = |n: u64| format!("{T}/events/{}", requests[usize::try_from(n).unwrap()].event_id);
    let (early, late) = requests.split_at(400);
    app.batch(&caller, "", early.to_vec()).await.unwrap();
    app.note(&caller, &name(40), "why", &note_id(0)).await.unwrap();
    app.note(&caller, &name(41), "why not", &note_id(1)).await.unwrap();
    app.batch(&caller, "", late.to_vec()).await.unwrap();
    for n in 2..5 {
        app.note(&caller, &name(590 + n), "late", &note_id(n)).await.unwrap();
    }
    app.database.erase(&requests[7].event_id);
}

pub fn verify(database: &Database, tenant: &str, more: &[&str]) -> Output {
    let mut command = auditlog(database.folder.path());
    command.args(["verify", "--tenant", tenant]).args(more).env("AUDITLOG_DATABASE_URL", &database.url);
    command.output().unwrap()
}

pub fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// Asserts that all holds; what was printed.
#[track_caller]
pub fn assert_holds(output: &Output) -> &str {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*errors), (Some(0), ""), "{}", stdout(output));
    assert!(stdout(output).ends_with("result: holds\n"), "{}", stdout(output));
    stdout(output)
}

/// Asserts that something does not hold, and that one finding says all of this.
#[track_caller]
pub fn assert_finds(what: &str, output: &Output, says: &[&str]) {
    let text = stdout(output);
    assert_eq!(output.status.code(), Some(3), "{what}: {text}{}", String::from_utf8_lossy(&output.stderr));
    let mut findings = text.lines().filter(|line| line.starts_with("finding: "));
    assert!(findings.any(|line| says.iter().all(|part| line.contains(part))), "{what}: no {says:?} in\n{text}");
    assert!(text.ends_with("result: does not hold\n"), "{text}");
}

/// Asserts that nothing is called sound of which there is nothing.
#[track_caller]
pub fn assert_no_log(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), stdout(output)), (Some(1), ""), "{said}");
    assert!(said.contains("there is no log of tenants/") && said.contains("--allow-empty"), "{said}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_log_with_notes_and_several_months_holds(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    assert_no_log(&verify(&app.database, "acme", &[]));
    assert!(assert_holds(&verify(&app.database, "acme", &["--allow-empty"])).contains("size: 0\n"));
    sealed_log(&app).await;
    // The service goes on meanwhile.
    let output = verify(&app.database, "acme", &[]);
    let text = assert_holds(&output);
    assert!(text.starts_with("log: tenants/acme\nsize: 605\nevents: 600\nnotes: 5\nroot: "), "{text}");
    assert!(text.contains("\nnot shown: "), "{text}");
    assert_no_log(&verify(&app.database, "nobody", &[]));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_grows_meanwhile_holds(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let database = Arc::clone(&app.database);
    let checks = tokio::task::spawn_blocking(move || [(); 4].map(|()| verify(&database, "acme", &["--allow-empty"])));
    let mut recorded = 0;
    while !checks.is_finished() {
        let items = (0..100).map(|n| item(T, full(n), "")).collect();
        recorded += app.batch(&Caller::root(), "", items).await.unwrap().len();
    }
    for output in &checks.await.unwrap() {
        assert_holds(output);
    }
    assert!(assert_holds(&verify(&app.database, "acme", &[])).contains(&format!("size: {recorded}\n")));
}

/// Nothing is written: no file grows, and what nobody may write can be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_read_only_is_verified_and_left_as_it_is() {
    let app = TestApp::start(Backend::Sqlite).await;
    sealed_log(&app).await;
    let database = Arc::clone(&app.database);
    app.stop().await.unwrap().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.db");
    fs::copy(database.url.strip_prefix("sqlite://").unwrap(), &copy).unwrap();
    let bytes = fs::read(&copy).unwrap();
    let verify = || {
        let url = format!("sqlite://{}", copy.display());
        crate::child::run(folder.path(), &["verify", "--tenant", "acme", "--database-url", &url])
    };
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    assert!(assert_holds(&verify()).contains("size: 605\n"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();
    assert_holds(&verify());
    assert!(fs::read(&copy).unwrap() == bytes);
}

/// A schema that is not there is not made by who only reads.
#[test]
fn a_database_without_a_schema_is_for_migrate() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("empty.db"), "").unwrap();
    let run = |arguments: &[&str]| {
        let mut command = auditlog(folder.path());
        command.args(arguments).env("AUDITLOG_DATABASE_URL", "sqlite://empty.db").output().unwrap()
    };
    let acknowledge = ["acknowledge-rollback", "--tenant", "acme", "--by", "olga", "--reason", "why"];
    for arguments in [&["verify", "--tenant", "acme"][..], &acknowledge] {
        let output = run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("run `auditlog migrate`"), "{said}");
        let help = run(&[arguments[0], "--help"]);
        assert!(stdout(&help).contains("--database-url") && !stdout(&help).contains("--database-migrate"));
        assert_eq!(run(&[arguments, &["--database-migrate"]].concat()).status.code(), Some(2));
    }
}

#[test]
fn what_cannot_be_checked_ends_in_another_code_than_what_does_not_hold() {
    let folder = tempfile::tempdir().unwrap();
    let verify = |arguments: &[&str]| {
        let mut all = vec!["verify"];
        all.extend(arguments);
        crate::child::run(folder.path(), &all)
    };
    let missing = verify(&["--tenant", "acme", "--database-url", "sqlite://missing.db"]);
    assert_eq!((missing.status.code(), stdout(&missing)), (Some(1), ""));
    assert!(!folder.path().join("missing.db").exists());
    let first =
        verify(&["--tenant", "acme", "--checkpoint", "c", "--write-checkpoint", "c", "--address", "http://[::1]:1"]);
    let said = String::from_utf8_lossy(&first.stderr);
    assert!(first.status.code() == Some(2) && said.contains("leave --checkpoint out the first time"), "{said}");
    let missing = verify(&["--tenant", "acme", "--checkpoint", "missing"]);
    assert_eq!(missing.status.code(), Some(1));
    for wrong in [
        &[][..],
        &["--tenant", "a/b"],
        &["--tenant", "acme", "--verifier-key", "x"],
        &["--tenant", "acme", "--write-checkpoint", "x"],
        &["--tenant", "acme", "--address", "localhost:50051"],
        &["--tenant", "acme", "--address", "http://[::1]:1", "--ca-file", "x"],
        &["--tenant", "acme", "--address", "http://[::1]:1", "--cert-file", "x", "--key-file", "x"],
        &["--tenant", "acme", "--address", "HTTP://[::1]:1", "--server-name", "x"],
        &["--csv", "a", "--manifest", "b", "--unsigned", "--proofs", "--address", "http://[::1]:1", "--ca-file", "x"],
        &["--tenant", "acme", "--database-migrate"],
        &["--tenant", "acme", "--database-start-wait", "1s"],
        &["--tenant", "acme", "--address", "http://[::1]:1", "--database-url", "sqlite://a.db"],
        &["--csv", "a", "--manifest", "b", "--unsigned", "--address", "http://[::1]:1"],
        &["--csv", "a", "--manifest", "b", "--unsigned", "--database-url", "sqlite://a.db"],
    ] {
        assert_eq!(verify(wrong).status.code(), Some(2), "{wrong:?}");
    }
}
