//! `auditlog export`: what it writes proves itself, and it goes on where a connection broke.

use std::{fs, net::SocketAddr, path::Path, process::Output};

use rstest::rstest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
};

use crate::{
    harness::*,
    verify::{assert_finds, assert_holds, sealed_log, stdout},
    verify_client::{run, service, verifier_key},
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Exports `tenants/acme` into `file`.
pub async fn export(app: &TestApp, file: &str, more: &[&str]) -> Output {
    export_from(app, app.address, file, more).await
}

async fn export_from(app: &TestApp, address: SocketAddr, file: &str, more: &[&str]) -> Output {
    let mut arguments: Vec<String> = ["export", "--output", file].map(str::to_owned).into();
    if !more.contains(&"--parent") {
        arguments.extend(["--parent", "tenants/acme"].map(str::to_owned));
    }
    arguments.extend(service(app));
    let place = arguments.iter().position(|argument| argument == "--address").unwrap();
    arguments[place + 1] = format!("http://{address}");
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    run(app.database.folder.path(), arguments).await
}

/// Verifies `file` with the key.
pub async fn verify_csv(app: &TestApp, file: &str, more: &[&str]) -> Output {
    let (manifest, key) = (format!("{file}.manifest"), verifier_key(&app.database));
    let arguments = ["verify", "--csv", file, "--manifest", &manifest, "--verifier-key", &key];
    let mut arguments: Vec<String> = arguments.map(str::to_owned).into();
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    run(app.database.folder.path(), arguments).await
}

#[track_caller]
fn assert_done(output: &Output) -> String {
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{}", stdout(output));
    stdout(output).to_owned()
}

/// Nothing is left but the file and its manifest.
#[track_caller]
fn assert_complete(folder: &Path, file: &str) {
    assert!(folder.join(file).exists() && folder.join(format!("{file}.manifest")).exists());
    assert!(!folder.join(format!("{file}.part")).exists() && !folder.join(format!("{file}.part.request")).exists());
}

/// A proxy in front of the service that ends each of the first connections after so many bytes towards the client.
async fn breaking_proxy(to: SocketAddr, bytes: &'static [u64]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut limits = bytes.iter();
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let limit = limits.next().copied().unwrap_or(u64::MAX);
            let mut server = TcpStream::connect(to).await.unwrap();
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.split();
                let (from_server, mut to_server) = server.split();
                let mut from_server = from_server.take(limit);
                tokio::select! {
                    _ = copy(&mut from_client, &mut to_server) => (),
                    _ = copy(&mut from_server, &mut to_client) => (),
                }
                let _ = client.shutdown().await;
            });
        }
    });
    address
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_export_proves_itself(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    sealed_log(&app).await;
    let folder = app.database.folder.path();
    for order in ["newest-first", "oldest-first", "log"] {
        let file = format!("{order}.csv");
        let told = assert_done(&export(&app, &file, &["--order", order]).await);
        assert!(told.starts_with(&format!("file: {file}\nrows: 60")), "{told}");
        assert_complete(folder, &file);
        let output = verify_csv(&app, &file, &[]).await;
        assert!(assert_holds(&output).contains("shown: complete and genuine"), "{}", stdout(&output));
    }
    // A part of the log is what the service says it is, and each row is proved to be in the log.
    let more = ["--parent", "tenants/acme/projects/web", "--action", "update", "--resource-id", "cp-40"];
    assert!(assert_done(&export(&app, "web.csv", &more).await).contains("\nrows: 1\n"));
    let output = verify_csv(&app, "web.csv", &[]).await;
    assert!(assert_holds(&output).contains("not shown: that no row is missing"), "{}", stdout(&output));
    assert!(stdout(&output).contains("not shown: that the rows are in the log"), "{}", stdout(&output));
    let mut proofs = vec!["--proofs".to_owned()];
    proofs.extend(service(&app));
    let proofs: Vec<&str> = proofs.iter().map(String::as_str).collect();
    let output = verify_csv(&app, "web.csv", &proofs).await;
    assert!(assert_holds(&output).contains("shown: each of the 2 rows and notes is in the log"), "{}", stdout(&output));

    assert_done(&export(&app, "plain.csv", &["--no-proof-columns"]).await);
    let output = verify_csv(&app, "plain.csv", &[]).await;
    assert!(assert_holds(&output).contains("without proof_columns"), "{}", stdout(&output));
    assert!(!stdout(&output).contains("of a part of the log"), "{}", stdout(&output));
    // Of rows without them nothing can be proved.
    let output = verify_csv(&app, "plain.csv", &proofs).await;
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), stdout(&output)), (Some(2), ""), "{said}");
    assert!(said.contains("--proofs has no effect on a file without proof columns"), "{said}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_export_goes_on_where_its_connection_broke(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let app = TestApp::start(backend).await;
    sealed_log(&app).await;
    let folder = app.database.folder.path();
    for (order, cuts) in [("newest-first", &[2_000, 100_000, 60_001, 90_003][..]), ("log", &[70_007, 50_000])] {
        let proxy = breaking_proxy(app.address, cuts).await;
        let file = format!("{order}.csv");
        assert_done(&export_from(&app, proxy, &file, &["--order", order]).await);
        assert_complete(folder, &file);
        assert!(assert_holds(&verify_csv(&app, &file, &[]).await).contains("shown: complete and genuine"));
    }
    let proxy = breaking_proxy(app.address, &[60_000]).await;
    assert_done(&export_from(&app, proxy, "some.csv", &["--resource-type", "clusterprofile"]).await);
    assert_holds(&verify_csv(&app, "some.csv", &[]).await);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_export_looks_like_none_and_can_be_resumed(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    sealed_log(&app).await;
    let folder = app.database.folder.path();
    // Too little ever comes through for a row to be complete.
    let proxy = breaking_proxy(app.address, &[100_000, 300, 300]).await;
    let output = export_from(&app, proxy, "a.csv", &["--retries", "0"]).await;
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), ""), "{}", text(&output.stderr));
    assert!(!folder.join("a.csv").exists() && folder.join("a.csv.part").metadata().unwrap().len() > 10_000);

    let again = export(&app, "a.csv", &[]).await;
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("--resume"), "{}", text(&again.stderr));
    let other = export(&app, "a.csv", &["--resume", "--order", "log"]).await;
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other.stderr).contains("of another export"), "{}", text(&other.stderr));

    // What was recorded meanwhile is not in it.
    app.record(&Caller::root(), "tenants/acme", event("cluster", "late")).await.unwrap();
    let told = assert_done(&export(&app, "a.csv", &["--resume"]).await);
    assert!(told.contains("\nrows: 600\n") && told.contains("\nlog size: 605\n"), "{told}");
    assert_complete(folder, "a.csv");
    assert!(assert_holds(&verify_csv(&app, "a.csv", &[]).await).contains("shown: complete and genuine"));
    assert_eq!(export(&app, "a.csv", &[]).await.status.code(), Some(2));
    assert_eq!(fs::read_to_string(folder.join("a.csv")).unwrap().lines().count(), 601);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_there_is_no_manifest_and_without_rights_no_file() {
    let app = TestApp::start_with(Backend::Postgres, |config| {
        config.checkpoint.key_file = config.checkpoint.key_file.with_file_name("none.key");
    })
    .await;
    sealed_log(&app).await;
    let folder = app.database.folder.path();
    let told = assert_done(&export(&app, "a.csv", &[]).await);
    assert!(told.contains("manifest: none; the service has sent none"), "{told}");
    assert!(folder.join("a.csv").exists() && !folder.join("a.csv.manifest").exists());

    let address = format!("http://{}", app.address);
    let arguments = ["export", "--parent", "tenants/acme", "--output", "b.csv", "--address", &address];
    let output = run(folder, arguments.map(str::to_owned).into()).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("CREDENTIALS_MISSING"), "{}", text(&output.stderr));
    // Who asks for encryption does not get on without it.
    let output = export(&app, "b.csv", &["--server-name", "audit.example.com"]).await;
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("--server-name has no effect without TLS"), "{said}");
    assert!(!folder.join("b.csv").exists());
    assert!(!folder.join("b.csv.part").exists() && !folder.join("b.csv.part.request").exists());
}

/// The settings allow events that are larger than what `verify` takes for one row. That is no finding.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_too_long_to_be_read_is_not_called_wrong() {
    const BYTES: usize = 20 << 20;
    let app = TestApp::start_with(Backend::Sqlite, |config| {
        config.limits.message_bytes = BYTES;
        config.limits.event_bytes = BYTES;
        config.limits.batch_bytes = BYTES;
    })
    .await;
    let large = |text: &str| {
        let mut large = event("cluster", "c");
        large.message = text.repeat(17 << 20);
        large
    };
    app.record(&Caller::root(), "tenants/acme", large("m")).await.unwrap();
    assert_done(&export(&app, "a.csv", &[]).await);
    let arguments = ["verify", "--tenant", "acme"].map(str::to_owned);
    assert_holds(&run(app.database.folder.path(), [&arguments[..], &service(&app)].concat()).await);
    let output = verify_csv(&app, "a.csv", &[]).await;
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), ""), "{said}");
    assert!(said.contains("row 1 is longer than 16 MiB") && said.contains("cannot be checked"), "{said}");

    // Unless the file was changed, as it is where a quote is missing.
    let path = app.database.folder.path().join("a.csv");
    fs::write(&path, [&fs::read(&path).unwrap()[..], b"\r\n"].concat()).unwrap();
    assert_finds("changed", &verify_csv(&app, "a.csv", &[]).await, &["row 1", "longer than 16 MiB"]);
}
