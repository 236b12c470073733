//! Takes a store away while a service runs on it, and gives it back.

use std::{fs, path::PathBuf, time::Duration};

use diesel::{
    Connection as _, PgConnection, RunQueryDsl as _, SqliteConnection, connection::SimpleConnection as _,
    result::QueryResult,
};

use crate::harness::{Backend, Database, TestApp};

/// A service that waits for its store for a moment only. It bounds whatever the service does, its start included.
pub async fn start_impatient(backend: Backend) -> TestApp {
    const MOMENT: Duration = Duration::from_secs(1);
    TestApp::start_with(backend, |config| config.database.statement_timeout = MOMENT).await
}

/// A connection of somebody else.
enum Other {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Other {
    fn connect(database: &Database) -> Self {
        match database.backend {
            Backend::Sqlite => Self::Sqlite(SqliteConnection::establish(path(database).to_str().unwrap()).unwrap()),
            Backend::Postgres => Self::Postgres(PgConnection::establish(&database.url).unwrap()),
        }
    }

    fn run(&mut self, sql: &str) {
        let done: QueryResult<()> = match self {
            Self::Sqlite(connection) => connection.batch_execute(sql),
            Self::Postgres(connection) => connection.batch_execute(sql),
        };
        done.unwrap();
    }
}

/// Somebody else holds the lock that every write needs and no read does, until this is dropped.
pub struct WriteLock(Other);

impl WriteLock {
    pub fn hold(database: &Database) -> Self {
        let mut other = Other::connect(database);
        other.run(match database.backend {
            Backend::Sqlite => "PRAGMA busy_timeout=10000; BEGIN IMMEDIATE",
            Backend::Postgres => "BEGIN; LOCK TABLE events, update_notes, tree_heads IN EXCLUSIVE MODE",
        });
        Self(other)
    }
}

impl Drop for WriteLock {
    fn drop(&mut self) {
        self.0.run("ROLLBACK");
    }
}

/// The database is gone, until this is dropped.
pub enum Away {
    Moved(PathBuf, PathBuf),
    Closed(PgConnection, String),
}

impl Away {
    pub fn take(database: &Database) -> Self {
        match database.backend {
            Backend::Sqlite => Self::move_away(path(database)),
            Backend::Postgres => Self::close(database),
        }
    }

    /// Of a SQLite database, the file beside it whose name ends so.
    pub fn take_beside(database: &Database, suffix: &str) -> Self {
        let mut path = path(database).into_os_string();
        path.push(suffix);
        Self::move_away(path.into())
    }

    fn move_away(path: PathBuf) -> Self {
        let aside = path.with_extension("aside");
        fs::rename(&path, &aside).unwrap();
        Self::Moved(path, aside)
    }

    /// Lets nobody in, and turns out those who are.
    fn close(database: &Database) -> Self {
        let (server, name) = database.url.rsplit_once('/').unwrap();
        let mut admin = PgConnection::establish(&format!("{server}/postgres")).unwrap();
        // One after the other: in one batch the first would be in force only with the second, and whoever was turned out would be
        // back before that.
        for sql in [
            format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"),
        ] {
            admin.batch_execute(&sql).unwrap();
        }
        Self::Closed(admin, name.to_owned())
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        match self {
            Self::Moved(path, aside) => fs::rename(aside, path).unwrap(),
            Self::Closed(admin, name) => {
                admin.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).unwrap();
            }
        }
    }
}

/// Runs SQL behind the service's back.
pub fn execute(database: &Database, sql: &str) -> usize {
    match Other::connect(database) {
        Other::Sqlite(mut connection) => diesel::sql_query(sql).execute(&mut connection).unwrap(),
        Other::Postgres(mut connection) => diesel::sql_query(sql).execute(&mut connection).unwrap(),
    }
}

fn path(database: &Database) -> PathBuf {
    database.url.strip_prefix("sqlite://").unwrap().into()
}
