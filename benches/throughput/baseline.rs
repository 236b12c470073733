//! The raw baselines: what a team gets that writes its own rows into the same table, with the same indexes and the same
//! durability, through the tools that the databases themselves bring.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use diesel::{
    Connection as _, QueryResult, RunQueryDsl, SqliteConnection,
    connection::SimpleConnection as _,
    query_builder::{AstPass, QueryFragment, QueryId},
    sql_types::{BigInt, Text},
    sqlite::Sqlite,
};

use crate::{
    load::Latencies,
    postgres::{Cluster, bin_dir},
    sample,
};

/// A database of the cluster with the service's schema, for baselines alone.
pub struct Raw<'c> {
    cluster: &'c Cluster,
    database: String,
}

impl<'c> Raw<'c> {
    pub fn create(cluster: &'c Cluster) -> Self {
        let url = cluster.create_database();
        migrate(&url);
        let database = url.rsplit('/').next().unwrap_or_default().to_owned();
        Self { cluster, database }
    }

    pub fn of(cluster: &'c Cluster, url: &str) -> Self {
        Self { cluster, database: url.rsplit('/').next().unwrap_or_default().to_owned() }
    }

    /// One-row INSERTs a second, with so many clients.
    pub fn insert_rate(&self, clients: usize, time: Duration) -> f64 {
        self.pgbench(&insert_script(), clients, time)
    }

    /// The latencies of one-row INSERTs at so many a second. They count from when a row was due.
    pub fn insert_latencies(&self, clients: usize, rate: f64, time: Duration) -> Latencies {
        let folder = tempfile::tempdir().expect("a folder");
        let prefix = folder.path().join("log").display().to_string();
        let rate = format!("{rate:.0}");
        self.pgbench_with(&["--log", "--log-prefix", &prefix, "--rate", &rate], &insert_script(), clients, time);
        let files = fs::read_dir(folder.path()).expect("pgbench's logs").map(|file| file.expect("a log").path());
        let logs: String = files.map(|file| fs::read_to_string(file).expect("a log")).collect();
        // Client, number of the transaction, its latency in microseconds, and more.
        let latency = |line: &str| line.split(' ').nth(2)?.parse().ok();
        Latencies(logs.lines().map(|line| latency(line).expect("a line of pgbench's log")).collect())
    }

    /// Runs a script over and over; gives how often it ran a second.
    pub fn pgbench(&self, script: &str, clients: usize, time: Duration) -> f64 {
        self.pgbench_with(&[], script, clients, time)
    }

    fn pgbench_with(&self, options: &[&str], script: &str, clients: usize, time: Duration) -> f64 {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("script.sql");
        fs::write(&file, script).expect("a script");
        let output = Command::new(bin_dir().join("pgbench"))
            .args(["-n", "-M", "prepared", "-j", "2", "-c", &clients.to_string(), "-T", &time.as_secs().to_string()])
            .args(options)
            .args(["-h", &self.host(), "-U", "auditlog", "-f"])
            .arg(&file)
            .arg(&self.database)
            .output()
            .expect("pgbench");
        let text = String::from_utf8_lossy(&output.stdout);
        let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        rate.unwrap_or_else(|| panic!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Rows a second that psql's `\copy` stores from a file of so many rows.
    pub fn copy_in_rate(&self, rows: usize) -> f64 {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("rows.csv");
        let row = sample::sql_row().replace(":id", "id").replace(":n", "(id % 500)").replace(":p", "(id % 20)");
        let query = format!(
            "SELECT {row} FROM (SELECT (n * 2654435761 % 2147483647)::integer AS id FROM generate_series(1, {rows}) n) s"
        );
        self.psql(&format!("\\copy ({query}) to '{}' csv", file.display()), Stdio::null());
        let start = Instant::now();
        self.psql(&format!("\\copy events ({}) from '{}' csv", sample::COLUMNS, file.display()), Stdio::null());
        rows as f64 / start.elapsed().as_secs_f64()
    }

    /// Rows a second that psql's `\copy` sends as CSV, of so many rows.
    pub fn copy_out_rate(&self, rows: usize) -> f64 {
        let sink = File::create("/dev/null").expect("a sink");
        let query = format!(
            "SELECT {} FROM events WHERE tenant_id = 'bench' ORDER BY event_id DESC LIMIT {rows}",
            sample::COLUMNS
        );
        let start = Instant::now();
        self.psql(&format!("\\copy ({query}) to stdout csv"), sink.into());
        rows as f64 / start.elapsed().as_secs_f64()
    }

    pub fn psql(&self, command: &str, stdout: Stdio) {
        let status = Command::new(bin_dir().join("psql"))
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", &self.host(), "-U", "auditlog", "-d", &self.database])
            .args(["-c", command])
            .stdout(stdout)
            .status();
        assert!(status.expect("psql").success(), "{command}");
    }

    fn host(&self) -> String {
        self.cluster.folder().display().to_string()
    }
}

fn insert_script() -> String {
    format!(
        "\\set id random(1, 2147483647)\n\\set n random(1, 500)\n\\set p random(0, {})\n\
         INSERT INTO events ({}) VALUES ({});\n",
        sample::PROJECTS - 1,
        sample::COLUMNS,
        sample::sql_row()
    )
}

/// The service's tables in a SQLite file of its own.
pub struct RawSqlite {
    connection: SqliteConnection,
    rows: i64,
}

impl RawSqlite {
    /// With SQLite's own `wal_autocheckpoint` of 1000 pages, or another one.
    pub fn create(folder: &Path, autocheckpoint: Option<u32>) -> Self {
        let file = folder.join(format!("raw-{}.db", autocheckpoint.unwrap_or_default())).display().to_string();
        migrate(&format!("sqlite://{file}"));
        let mut connection = SqliteConnection::establish(&file).expect("a database");
        connection
            .batch_execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON")
            .expect("WAL");
        if let Some(pages) = autocheckpoint {
            connection.batch_execute(&format!("PRAGMA wal_autocheckpoint={pages}")).expect("a number of pages");
        }
        Self { connection, rows: 0 }
    }

    /// Rows a second, in transactions of so many.
    pub fn insert_rate(&mut self, rows_a_transaction: usize, time: Duration) -> f64 {
        let Self { connection, rows } = self;
        let (start, before) = (Instant::now(), *rows);
        while start.elapsed() < time {
            let transaction = connection.immediate_transaction(|connection| {
                for _ in 0..rows_a_transaction {
                    *rows += 1;
                    RawRow::new(*rows).execute(connection)?;
                }
                QueryResult::Ok(())
            });
            transaction.expect("a transaction");
        }
        (*rows - before) as f64 / start.elapsed().as_secs_f64()
    }
}

/// One row for SQLite, as long and as varied as what the service stores. Prepared once.
struct RawRow {
    event_id: String,
    leaf_index: i64,
    project_id: String,
    resource_id: String,
    actor_id: String,
}

impl RawRow {
    fn new(leaf_index: i64) -> Self {
        let n = u32::try_from(leaf_index).expect("fewer rows than u32 has numbers");
        let (millis, event) = (1_790_000_000_000_i64 + leaf_index / 20, sample::event(n));
        let hex = format!("{millis:012x}");
        Self {
            event_id: format!("{}-{}-7000-8000-{n:012x}", &hex[..8], &hex[8..]),
            leaf_index,
            project_id: sample::project(n),
            resource_id: event.resource.expect("an event has a resource").id,
            actor_id: event.actor.expect("an event has an actor").id,
        }
    }
}

impl QueryFragment<Sqlite> for RawRow {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        let bound = ["event_id", "leaf_index", "project_id", "resource_id", "actor_id"];
        let equal: Vec<&str> = sample::COLUMNS.split(", ").map(str::trim).filter(|c| !bound.contains(c)).collect();
        out.push_sql(&format!("INSERT INTO events ({}, {}) VALUES (", bound.join(", "), equal.join(", ")));
        out.push_bind_param::<Text, _>(&self.event_id)?;
        out.push_sql(", ");
        out.push_bind_param::<BigInt, _>(&self.leaf_index)?;
        for text in [&self.project_id, &self.resource_id, &self.actor_id] {
            out.push_sql(", ");
            out.push_bind_param::<Text, _>(text)?;
        }
        out.push_sql(&format!(", {})", sample::sqlite_values()));
        Ok(())
    }
}

impl QueryId for RawRow {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl RunQueryDsl<SqliteConnection> for RawRow {}

fn migrate(url: &str) {
    let binary = env!("CARGO_BIN_EXE_auditlog");
    let status = Command::new(binary).arg("migrate").env("AUDITLOG_DATABASE_URL", url).stdout(Stdio::null()).status();
    assert!(status.expect("the service's binary").success(), "migrating");
}
