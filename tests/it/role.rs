//! The service as a role that owns nothing, set up as the documents and `docker-compose.yml` say: `deploy/postgres-init.sql` by the
//! server's administrator, then as an owner who may do nothing else the migration and `deploy/postgres-role.sql`.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use auditlog::proto::auditlog::v1::Order;
use tonic::Code;

use crate::{
    harness::*,
    postgres::{Cluster, bin_dir},
    sql::Sql,
};

const P: &str = "tenants/acme/projects/web";
const INIT: &str = include_str!("../../deploy/postgres-init.sql");
const SCRIPT: &str = include_str!("../../deploy/postgres-role.sql");
/// The owner of the tables. `auditlog`, as the script has it, is the administrator of the clusters of the tests.
const OWNER: &str = "log_owner";

/// A cluster on which the first script was run.
fn initialized() -> Cluster {
    let cluster = Cluster::start("");
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let secrets = format!("{}/", folder.path().display());
    let mut script = INIT.to_owned();
    for (committed, here) in
        [("ROLE auditlog LOGIN", format!("ROLE {OWNER} LOGIN")), ("OWNER auditlog;", format!("OWNER {OWNER};"))]
    {
        assert_eq!(script.matches(committed).count(), 1, "{committed}");
        script = script.replace(committed, &here);
    }
    let script = script.replace("/run/secrets/", &secrets);
    let secret = "it's a secret\n";
    for (file, text) in [("init.sql", &*script), ("owner_password", secret), ("service_password", secret)] {
        let path = folder.path().join(file);
        fs::write(&path, text).unwrap();
        // For whoever the server runs as, whatever this process's umask is.
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let psql = bin_dir().join("psql");
    let mut command = cluster.command(psql.to_str().unwrap());
    command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"]).arg(folder.path().join("init.sql"));
    let output = command.arg(cluster.url("postgres")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    cluster
}

/// A database that its owner has migrated and run the script on, and its URL for the service's role. The SQL is the administrator's.
async fn with_role() -> (Arc<Database>, Sql) {
    // Roles are of the whole cluster.
    static CLUSTER: std::sync::OnceLock<Cluster> = std::sync::OnceLock::new();
    static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _making = MAKING.lock().await;
    let mut database = Database::on(CLUSTER.get_or_init(initialized));
    let mut administrator = Sql::open(&database);
    let name = database.url.rsplit('/').next().unwrap();
    administrator.run(&format!("ALTER DATABASE {name} OWNER TO {OWNER}"));
    // From then on it is whose the database is.
    let version: u32 = administrator.value("SELECT current_setting('server_version_num') AS value").parse().unwrap();
    if version < 150_000 {
        administrator.run(&format!("ALTER SCHEMA public OWNER TO {OWNER}"));
    }
    let mut come_as = |role: &str| {
        let url = &mut Arc::get_mut(&mut database).unwrap().url;
        let (_, server) = url.split_once('@').unwrap();
        *url = format!("postgres://{role}@{server}");
        Arc::clone(&database)
    };
    let owned = come_as(OWNER);
    TestApp::start_on(Arc::clone(&owned), |_| {}).await.stop().await.unwrap().unwrap();
    let mut owner = Sql::open(&owned);
    owner.run(SCRIPT);
    owner.run(SCRIPT);
    drop((owned, owner));
    let database = come_as("auditlog_service");
    (database, administrator)
}

#[tokio::test]
async fn the_service_needs_no_more_than_the_script_grants() {
    let (database, mut owner) = with_role().await;
    let app = TestApp::start_on(Arc::clone(&database), |config| config.database.migrate = false).await;
    let root = Caller::root();
    let single = app.record(&root, P, event("clusterprofile", "1")).await.unwrap();
    app.batch(&root, P, vec![item("", event("k", "2"), ""); 500]).await.unwrap();
    app.note(&root, &single.name, "why", "").await.unwrap();
    let id = id_at(START_MILLIS, 9);
    let first = app.record_as(&root, P, event("k", "3"), &id).await.unwrap();
    assert_eq!(app.record_as(&root, P, event("k", "3"), &id).await.unwrap(), first);
    assert_eq!(app.get(&root, &single.name).await.unwrap().update_notes.len(), 1);
    for order in [Order::NewestFirst, Order::OldestFirst, Order::Log] {
        assert_eq!(app.walk(&root, ordered(P, order, 100)).await.len(), 502);
    }
    assert_eq!(
        owner.value(
            "SELECT string_agg(DISTINCT usename, ',') AS value FROM pg_stat_activity WHERE \
        datname = current_database() AND pid <> pg_backend_pid()"
        ),
        "auditlog_service"
    );

    // Five years on, by another replica of the same role: its months are made, and nothing more has to be granted.
    let later = START_MILLIS + 5 * 365 * 24 * 60 * 60 * 1000;
    let app = TestApp::start_at(database, later, |config| config.database.migrate = false).await;
    app.batch(&root, P, vec![item("", event("k", "4"), ""); 500]).await.unwrap();
    app.record(&root, P, event("k", "5")).await.unwrap();
    assert_eq!(app.walk(&root, list(P)).await.len(), 1003);
}

#[tokio::test]
async fn the_role_cannot_acknowledge_a_rollback_and_leaves_no_trace_of_it() {
    let (database, _owner) = with_role().await;
    let app = TestApp::start_on(Arc::clone(&database), |config| config.database.migrate = false).await;
    app.record(&Caller::root(), P, event("k", "1")).await.unwrap();
    let output = crate::rollback::try_acknowledge(&database, "acme", &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("run it as the owner of the tables"), "{said}");
    assert_eq!(app.walk(&Caller::root(), list("tenants/acme")).await.len(), 1);
}

/// A server that takes no more connections leaves those that are there, and readers take turns on them.
#[tokio::test]
async fn readers_wait_for_each_other_where_the_server_takes_no_more_connections() {
    let (database, mut administrator) = with_role().await;
    let name = database.url.rsplit('/').next().unwrap().to_owned();
    let app = TestApp::start_on(database, |config| config.database.migrate = false).await;
    let root = Caller::root();
    app.record(&root, P, event("k", "1")).await.unwrap();
    administrator.run(&format!("ALTER DATABASE {name} CONNECTION LIMIT 1"));
    administrator.run("BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE");
    let read = || app.list(&root, list(P));
    let reads = async { tokio::join!(read(), read(), read(), read(), read(), read()) };
    let unlock = async {
        // One with a deadline that is longer than a read waits before it tries to connect by itself.
        let mut late = root.call(list(P));
        late.set_timeout(Duration::from_millis(1500));
        let late = app.client.clone().list_events(late).await.unwrap_err();
        assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&late.code()), "{late:?}");
        administrator.run("COMMIT");
    };
    let ((a, b, c, d, e, f), ()) = tokio::join!(reads, unlock);
    for told in [a, b, c, d, e, f] {
        assert_eq!(told.unwrap().events.len(), 1);
    }
}

/// What is missing are its rights, and nothing that a migration could make.
#[tokio::test]
async fn a_role_without_its_rights_is_told_how_to_get_them() {
    let (database, mut administrator) = with_role().await;
    administrator.run("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM auditlog_service");
    for (migrate, way_out) in [(false, "deploy/postgres-role.sql"), (true, "AUDITLOG_DATABASE_MIGRATE=false")] {
        let start = TestApp::try_start(Arc::clone(&database), START_MILLIS, |config| config.database.migrate = migrate);
        let said = start.await.err().unwrap().to_string();
        assert!(said.contains("permission denied") && said.contains(way_out), "{said}");
    }
}

/// Where everybody may, and the schema is not the owner's to change that: so it is before version 15.
#[tokio::test]
async fn the_script_is_not_content_while_the_role_may_make_tables() {
    let (database, mut administrator) = with_role().await;
    let owner = format!("postgres://{OWNER}@{}", database.url.split_once('@').unwrap().1);
    let mut owner = Sql::postgres(&owner);
    administrator
        .run("ALTER SCHEMA public OWNER TO auditlog; GRANT CREATE ON SCHEMA public TO PUBLIC, auditlog_service");
    let way_out = format!("ALTER SCHEMA public OWNER TO {OWNER}");
    owner.refused(SCRIPT, &format!("tables in the schema public As the administrator of the server: {way_out};"));
    owner.run("ROLLBACK");
    administrator.run(&way_out);
    owner.run(SCRIPT);
    administrator.run("CREATE ROLE makers; GRANT CREATE ON SCHEMA public TO makers; GRANT makers TO auditlog_service");
    owner.refused(SCRIPT, "tables in the schema public It is a superuser, or a member of a role that may.");
    owner.run("ROLLBACK");
    administrator.run("REVOKE makers FROM auditlog_service");
    owner.run(SCRIPT);
    Sql::open(&database).refused("CREATE TABLE mine ()", "permission denied");
}

#[tokio::test]
async fn the_role_can_change_nothing_past_the_service() {
    let (database, mut owner) = with_role().await;
    let app = TestApp::start_on(Arc::clone(&database), |config| config.database.migrate = false).await;
    let name = app.record(&Caller::root(), P, event("clusterprofile", "1")).await.unwrap().name;
    app.note(&Caller::root(), &name, "why", "").await.unwrap();
    let partition = owner.value("SELECT tableoid::regclass::text AS value FROM events");
    owner.run("SELECT make_event_partitions(now() + interval '1 year')");
    let newest = owner
        .value("SELECT max(inhrelid::regclass::text) AS value FROM pg_inherits WHERE inhparent = 'events'::regclass");

    let mut role = Sql::open(&database);
    assert_eq!(role.value("SELECT current_user::text AS value"), "auditlog_service");
    role.run("SELECT make_event_partitions(now() + interval '2 years')");
    for table in ["events", "update_notes", &partition, &newest] {
        role.refused(&format!("DELETE FROM {table}"), "permission denied");
        role.refused(&format!("UPDATE {table} SET leaf_index = 1"), "permission denied");
        role.refused(&format!("TRUNCATE {table}"), "permission denied");
        role.refused(&format!("DROP TABLE {table}"), "must be owner");
        role.refused(&format!("ALTER TABLE {table} DISABLE TRIGGER ALL"), "must be owner");
        role.refused(&format!("CREATE INDEX i ON {table} (leaf_index)"), "must be owner");
    }
    for partition in [&partition, &newest] {
        role.refused(&format!("SELECT * FROM {partition}"), "permission denied");
        role.refused(&format!("INSERT INTO {partition} SELECT * FROM events"), "permission denied");
        role.refused(&format!("ALTER TABLE events DETACH PARTITION {partition}"), "must be owner");
    }
    for statement in [
        "DELETE FROM tree_heads",
        "TRUNCATE tree_heads",
        "UPDATE tree_heads SET tenant_id = 'other'",
        "UPDATE tree_heads SET epoch = 2",
        "DELETE FROM tree_tiles",
        "UPDATE tree_tiles SET tile_index = 9",
        "INSERT INTO log_epochs VALUES ('acme', 2, 1, decode(repeat('00', 32), 'hex'), now(), 'me', 'why')",
        "UPDATE schema_requirements SET min_binary_version = 9",
        "DELETE FROM __diesel_schema_migrations",
        "CREATE TABLE mine ()",
        "CREATE TEMPORARY TABLE mine ()",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA mine",
        "SELECT add_event_partition('mine', now(), now() + interval '1 month')",
        "SET session_replication_role = replica",
    ] {
        role.refused(statement, "permission denied");
    }
    role.refused("UPDATE tree_heads SET tree_size = 1", "only grow");
    role.refused("DROP TABLE tree_heads", "must be owner");
    role.refused("ALTER FUNCTION make_event_partitions RESET search_path", "must be owner");
    // And whatever its rights are by catalogue, they are these.
    let rights = owner.values(
        "SELECT table_name || ' ' || string_agg(privilege_type, ',' ORDER BY privilege_type) AS value \
         FROM information_schema.role_table_grants WHERE grantee IN ('auditlog_service', 'PUBLIC') \
         AND table_schema = 'public' GROUP BY table_name ORDER BY table_name COLLATE \"C\"",
    );
    assert_eq!(
        rights,
        [
            "__diesel_schema_migrations SELECT",
            "events INSERT,SELECT",
            "log_epochs SELECT",
            "schema_requirements SELECT",
            "signing_keys INSERT,SELECT",
            "tree_heads INSERT,SELECT",
            "tree_tiles INSERT,SELECT",
            "update_notes INSERT,SELECT"
        ]
    );
}
