//! How a service on PostgreSQL starts: with a server that is away, a database that is not its own, a schema of another
//! release, and with TLS.

use std::{
    fs,
    net::TcpListener,
    process::{Command, Stdio},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use auditlog::app::AppError;
use rstest::rstest;
use tokio::task::spawn_blocking;

use crate::{
    child::{ChildServer, PATIENCE, auditlog},
    harness::*,
    http1,
    postgres::Cluster,
    sql::Sql,
};

const T: &str = "tenants/acme";
const PASSWORD: &str = "s3cret-w0rd";
/// Far below the time that a start waits for a server, and far above what a refusal takes.
const AT_ONCE: Duration = Duration::from_secs(15);

/// `auditlog serve` on `database`.
fn serve(database: &Database, settings: &[(&str, &str)]) -> Command {
    let mut command = auditlog(database.folder.path());
    command
        .env("AUDITLOG_DATABASE_URL", &database.url)
        .env("AUDITLOG_LISTEN", "127.0.0.1:0")
        .envs(settings.iter().copied());
    command
}

async fn refused(database: Arc<Database>) -> String {
    match TestApp::try_start(database, START_MILLIS, |_| {}).await {
        Ok(_) => panic!("the service started"),
        Err(AppError::Store(error)) => error.to_string(),
        Err(error) => panic!("{error}"),
    }
}

fn with_url(url: String) -> Arc<Database> {
    Arc::new(Database { backend: Backend::Postgres, url, folder: tempfile::tempdir().unwrap() })
}

/// Else whoever watches would end a service that only waits.
#[tokio::test]
async fn a_service_that_waits_for_its_server_is_alive_and_not_ready() {
    let cluster = Cluster::start("");
    let database = Database::on(&cluster);
    cluster.stop("fast");
    let mut server = ChildServer::start(serve(&database, &[("AUDITLOG_ADMIN_LISTEN", "127.0.0.1:0")]));
    let admin = server.wait_for("probes and metrics")["address"].as_str().unwrap().parse().unwrap();
    assert_eq!(http1::get(admin, "/livez").await, (200, "alive\n".to_owned()));
    assert_eq!(http1::get(admin, "/readyz").await, (503, "not ready\n".to_owned()));
    assert_eq!(http1::get(admin, "/metrics").await.0, 200);
    cluster.resume();
    server.until_serving();
    let ready = async {
        while http1::get(admin, "/readyz").await.0 != 200 {
            between_looks().await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("it serves");
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for_and_then_given_up_in_one_line() {
    let nowhere = tempfile::tempdir().unwrap();
    let host = nowhere.path().to_str().unwrap().replace('/', "%2F");
    let url = format!("postgres://ann:{PASSWORD}@{host}/audit");
    let start = Instant::now();
    let wait = [("AUDITLOG_DATABASE_START_WAIT", "3s")];
    let (code, said) = ChildServer::start(serve(&with_url(url), &wait)).end().await;
    assert!(start.elapsed() >= Duration::from_secs(3));
    assert_eq!(code, Some(1), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("auditlog: ") && last.contains("cannot connect to PostgreSQL"), "{said}");
    assert!(said.matches("waiting for the database").count() >= 2, "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
}

#[tokio::test]
async fn a_server_that_comes_while_it_is_waited_for_is_taken() {
    let cluster = Arc::new(Cluster::start(""));
    let database = Database::on(&cluster);
    let stopping = Arc::clone(&cluster);
    spawn_blocking(move || stopping.stop("fast")).await.unwrap();
    let mut replica = ChildServer::start(serve(&database, &[]));
    replica.wait_for("waiting for the database");
    let resuming = Arc::clone(&cluster);
    spawn_blocking(move || resuming.resume()).await.unwrap();
    replica.until_serving();
    let mut client = replica.client().await;
    client.record_event(Caller::root().call(item(T, event("k", "1"), ""))).await.unwrap();
}

/// A cluster that asks for passwords, and knows one user.
fn with_password() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let cluster = Cluster::start("");
        let mut sql = Sql::postgres(&cluster.url("postgres"));
        // The default from version 14 on.
        sql.run("SET password_encryption = 'scram-sha-256'");
        sql.run(&format!("CREATE ROLE ann LOGIN PASSWORD '{PASSWORD}'"));
        sql.run("CREATE DATABASE audit OWNER ann");
        fs::write(cluster.folder().join("data/pg_hba.conf"), "local all auditlog trust\nlocal all ann scram-sha-256\n")
            .unwrap();
        sql.run("SELECT pg_reload_conf()");
        // The one process that reads the file reads it before it makes the next session.
        while Sql::try_postgres(&cluster.url("postgres").replace("auditlog@", "ann@")).is_ok() {}
        cluster
    })
}

#[rstest]
#[case::the_password("ann:wr0ng-w0rd", "audit", "password authentication failed")]
#[case::no_password("ann", "audit", "no password supplied")]
#[case::the_user("bob:s3cret-w0rd", "audit", "no pg_hba.conf entry")]
#[case::the_database("ann:s3cret-w0rd", "nothing", "does not exist")]
#[tokio::test]
async fn a_server_that_refuses_is_not_waited_for(#[case] user: &str, #[case] name: &str, #[case] why: &str) {
    let url = with_password().url(name).replace("auditlog@", &format!("{user}@"));
    let start = Instant::now();
    let (code, said) = ChildServer::start(serve(&with_url(url), &[])).end().await;
    assert!(start.elapsed() < AT_ONCE, "after {:?}", start.elapsed());
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains(why) && !said.contains("w0rd"), "{said}");
}

/// It would refuse some texts, each with all that is recorded beside it.
#[rstest]
#[case("WIN1252", "has no place for every text")]
#[case("SQL_ASCII", "does not know what is text")]
#[tokio::test]
async fn a_database_that_has_no_place_for_every_text_is_refused(#[case] encoding: &str, #[case] why: &str) {
    let cluster = Cluster::shared();
    let name = encoding.to_lowercase();
    Sql::try_postgres(&cluster.url("postgres"))
        .unwrap()
        .run(&format!("CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"));
    let said = refused(with_url(cluster.url(&name))).await;
    let expected = format!("the encoding {encoding}, which {why}");
    assert!(said.contains(&expected) && said.contains("ENCODING 'UTF8'"), "{said}");
}

#[tokio::test]
async fn a_password_is_told_by_no_log_and_no_error() {
    let url = with_password().url("audit").replace("auditlog@", &format!("ann:{PASSWORD}@"));
    let replica = ChildServer::serve(&with_url(url), &[("AUDITLOG_LOG_LEVEL", "trace")]);
    let mut client = replica.client().await;
    client.record_event(Caller::root().call(item(T, event("k", "1"), ""))).await.unwrap();
    let said = replica.log();
    assert!(said.contains("serving") && said.contains("postgres://ann@"), "{said}");
    assert!(!said.contains(PASSWORD));
}

#[tokio::test]
async fn replicas_that_start_together_migrate_once() {
    let database = Database::create(Backend::Postgres);
    let start = || TestApp::start_on(Arc::clone(&database), |_| {});
    let apps = tokio::join!(start(), start(), start(), start());
    for app in [&apps.0, &apps.1, &apps.2, &apps.3] {
        app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    }
    let migrations = "SELECT count(*)::text AS value FROM __diesel_schema_migrations";
    assert_ne!(Sql::open(&database).value(migrations), "0");
    assert_eq!(apps.0.walk(&Caller::root(), list(T)).await.len(), 4);
}

/// Somebody else migrates and does not come to an end: that is waited for, and then told.
#[tokio::test]
async fn who_cannot_migrate_in_time_says_what_to_do() {
    let database = Database::create(Backend::Postgres);
    let mut holder = Sql::open(&database);
    let start = |wait| TestApp::try_start(Arc::clone(&database), START_MILLIS, move |c| c.database.start_wait = wait);
    let turn = "hashtextextended('auditlog.migrate', 0)";
    holder.run(&format!("SELECT pg_advisory_lock({turn})"));
    let error = start(Duration::from_millis(300)).await.err().unwrap().to_string();
    assert!(error.contains("another process migrates") && error.contains("database.start_wait (300ms)"), "{error}");
    holder.run(&format!("SELECT pg_advisory_unlock({turn})"));
    start(PATIENCE).await.unwrap().stop().await.unwrap().unwrap();

    // A table that is in use, as by a backup, is not waited for with everybody behind, and then told.
    holder.run("BEGIN; LOCK TABLE __diesel_schema_migrations");
    let begun = Instant::now();
    let error = start(Duration::from_millis(300)).await.err().unwrap().to_string();
    assert!(error.contains("lock timeout") && error.contains("database.start_wait (300ms)"), "{error}");
    assert!(begun.elapsed() < AT_ONCE, "after {:?}", begun.elapsed());
    let mut replica = ChildServer::start(serve(&database, &[]));
    replica.wait_for("waiting for others to let go");
    holder.run("COMMIT");
    replica.until_serving();
}

#[rstest]
#[tokio::test]
async fn a_schema_of_a_later_release_is_refused_only_if_it_says_so(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let database = Arc::clone(&app.database);
    app.stop().await.unwrap().unwrap();
    let mut sql = Sql::open(&database);
    sql.run(
        "INSERT INTO __diesel_schema_migrations (version) VALUES ('29991231000000'); CREATE TABLE of_later (n INTEGER)",
    );
    let app = TestApp::start_on(Arc::clone(&database), |_| {}).await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    app.stop().await.unwrap().unwrap();

    sql.run("UPDATE schema_requirements SET min_binary_version = 1000");
    let error = refused(database).await;
    assert!(error.contains("binary version 1000") && error.contains("newer release"), "{error}");
}

#[rstest]
#[tokio::test]
async fn a_schema_of_an_earlier_release_is_refused_where_it_must_not_be_changed(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let database = Database::create(backend);
    let start =
        |migrate| TestApp::try_start(Arc::clone(&database), START_MILLIS, move |c| c.database.migrate = migrate);
    let error = start(false).await.err().unwrap().to_string();
    assert!(error.contains("auditlog migrate"), "{error}");
    start(true).await.unwrap().stop().await.unwrap().unwrap();
    start(false).await.unwrap();
}

/// The first host of a URL may be a standby, or become one.
#[tokio::test]
async fn of_several_hosts_the_one_that_takes_writes_is_taken() {
    let clusters = spawn_blocking(|| (Cluster::start("-c default_transaction_read_only=on"), Cluster::start("")));
    let (standby, primary) = clusters.await.unwrap();
    let host = |cluster: &Cluster| cluster.folder().to_str().unwrap().replace('/', "%2F");
    let both = format!("postgres://auditlog@{},{}/postgres", host(&standby), host(&primary));
    let app = TestApp::start_on(with_url(both.clone()), |_| {}).await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    assert_eq!(app.walk(&Caller::root(), list(T)).await.len(), 1);
    let heads = "SELECT tenant_id AS value FROM tree_heads";
    assert_eq!(Sql::postgres(&primary.url("postgres")).values(heads), ["acme"]);

    let database = with_url(format!("{both}?target_session_attrs=any"));
    let (code, said) = ChildServer::start(serve(&database, &[])).end().await;
    assert!(code == Some(1) && said.contains("read-only transaction"), "{said}");
}

/// A cluster that listens on loopback with TLS, as `localhost`; the file of its certificate, and of another one.
fn with_tls() -> (Cluster, String, String, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cluster = Cluster::start(&format!("-c listen_addresses=127.0.0.1 -c port={port}"));
    let certificate = |name: &str| {
        let (key, file) = (cluster.folder().join(format!("{name}.key")), cluster.folder().join(format!("{name}.crt")));
        let status = cluster
            .command("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"])
            .args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=DNS:{name}")])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&file)
            .stderr(Stdio::null())
            .status()
            .expect("openssl, which comes with PostgreSQL");
        assert!(status.success());
        (key.display().to_string(), file.display().to_string())
    };
    let (key, ours) = certificate("localhost");
    let (_, other) = certificate("elsewhere");
    let socket = cluster.url("postgres") + &format!("?port={port}");
    let mut sql = Sql::postgres(&socket);
    sql.run(&format!("ALTER SYSTEM SET ssl_key_file = '{key}'"));
    sql.run(&format!("ALTER SYSTEM SET ssl_cert_file = '{ours}'"));
    sql.run("ALTER SYSTEM SET ssl = on");
    sql.run("SELECT pg_reload_conf()");
    let start = Instant::now();
    while Sql::postgres(&socket).value("SELECT current_setting('ssl') AS value") != "on" {
        assert!(start.elapsed() < PATIENCE, "the server does not take its certificate");
    }
    sql.run("CREATE DATABASE audit");
    (cluster, format!("postgres://auditlog@HOST:{port}/audit?sslmode=verify-full&sslrootcert="), ours, other)
}

#[tokio::test]
async fn a_server_is_believed_only_with_a_certificate_for_its_name() {
    let (_cluster, url, ours, other) = spawn_blocking(with_tls).await.unwrap();
    let at = |host: &str, root: &str| with_url(url.replace("HOST", host) + root);
    let start = Instant::now();
    // The certificate is of localhost, and not of its address.
    let error = refused(at("127.0.0.1", &ours)).await;
    assert!(error.contains("does not match host name"), "{error}");
    let error = refused(at("localhost", &other)).await;
    assert!(error.contains("certificate verify failed"), "{error}");
    let error = refused(at("localhost", "/nowhere/root.crt")).await;
    assert!(error.contains("does not exist"), "{error}");
    assert!(start.elapsed() < AT_ONCE, "after {:?}", start.elapsed());

    let database = at("localhost", &ours);
    let app = TestApp::start_on(Arc::clone(&database), |_| {}).await;
    app.record(&Caller::root(), T, event("k", "1")).await.unwrap();
    assert_eq!(app.walk(&Caller::root(), list(T)).await.len(), 1);
    let plain = "SELECT count(*)::text AS value FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                 WHERE datname = current_database() AND NOT ssl";
    assert_eq!(Sql::open(&database).value(plain), "0");
}
